"""In which forms photos and labels of a user's own may be stored."""

import numpy as np
import pytest
import torch
from fixtures.layouts_folder import SIZE, fields, put, write_folder
from fixtures.layouts_synthia import put as put_deep
from PIL import Image

from mtlkit.errors import MissingError
from mtlkit_plugins.datasets.folder import Folder

GREY = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], -1)


def image_of(root, **changes):
    data = Folder(**fields(root, **changes))
    image = data.build_split("train", frozenset({"depth"}))[0]["image"]
    assert image.dtype == data.image_dtype
    return image.permute(1, 2, 0).numpy()


def stored(root, picture, ending="png", **options):
    path = root / f"train/photos/a.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return f"{{split}}/photos/{{id}}.{ending}"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P"])
def test_photos_of_any_form_of_8_bits_are_read_in_colour(tmp_path, mode):
    write_folder(tmp_path)
    grey = {"1": np.where(GREY > 99, 255, 0).astype(np.uint8)}.get(mode, GREY)
    shown = COLOURS if mode.startswith("RGB") else np.stack([grey] * 3, -1)
    source = Image.fromarray(GREY) if mode == "P" else Image.fromarray(shown)
    pattern = stored(tmp_path, source.convert(mode))
    assert np.array_equal(image_of(tmp_path, images=pattern), shown)


def test_photos_for_print_are_read_in_colour(tmp_path):
    write_folder(tmp_path)
    picture = Image.fromarray(COLOURS).convert("CMYK")
    pattern = stored(tmp_path, picture, "tif")
    assert np.array_equal(image_of(tmp_path, images=pattern), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_photos_that_can_be_seen_through_are_refused(tmp_path, mode):
    write_folder(tmp_path)
    if mode == "P":
        pattern = stored(tmp_path, Image.new("P", SIZE[::-1], 0), transparency=0)
    else:
        pattern = stored(tmp_path, Image.new(mode, SIZE[::-1], (9,) * (len(mode) - 1) + (254,)))
    with pytest.raises(MissingError, match=r"a\.png: holds transparency.*convert\('RGB'\)"):
        image_of(tmp_path, images=pattern)


@pytest.mark.parametrize(("orientation", "is_fine"), [(0, True), (1, True), (2, False), (9, True)])
def test_only_an_orientation_that_turns_is_refused(tmp_path, orientation, is_fine):
    write_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pattern = stored(tmp_path, Image.fromarray(COLOURS), exif=exif)
    if is_fine:
        assert np.array_equal(image_of(tmp_path, images=pattern), COLOURS)
    else:
        with pytest.raises(MissingError, match=f"EXIF orientation {orientation}"):
            image_of(tmp_path, images=pattern)


def test_images_may_be_arrays_of_floats_or_bytes(tmp_path):
    write_folder(tmp_path)
    images = "{split}/photos/{id}.npy"
    floats = COLOURS / np.float32(255)
    floats[0, 0] = (-0.0005, 1.0005, 0.5)
    put(tmp_path / "train/photos/a.npy", floats)
    assert np.array_equal(image_of(tmp_path, images=images), floats.clip(0, 1))
    put(tmp_path / "train/photos/a.npy", COLOURS)
    assert np.allclose(image_of(tmp_path, images=images), COLOURS / 255)
    put(tmp_path / "train/photos/a.npy", floats + 0.01)
    with pytest.raises(MissingError, match=r"a\.npy: holds float32 from .* expected floats in"):
        image_of(tmp_path, images=images)


def label_of(root, **part):
    maps = {"x": part}
    return Folder(**fields(root, maps=maps)).build_split("train", frozenset({"x"}))[0]["x"]


def test_numbers_in_the_other_byte_order_are_read_as_they_are(tmp_path):
    write_folder(tmp_path, ids=("a",))
    numbers = (np.arange(1, 193).reshape(SIZE) * 300).astype(">u2")
    (tmp_path / "train/x").mkdir()
    Image.frombytes("I;16B", SIZE[::-1], numbers.tobytes()).save(tmp_path / "train/x/a.tif")
    with Image.open(tmp_path / "train/x/a.tif") as picture:
        assert picture.mode == "I;16B"
    label = label_of(tmp_path, kind="depth", files="{split}/x/{id}.tif", scale=1)
    assert np.array_equal(label[0].numpy(), numbers.astype(np.float32))
    parity = (numbers // 300 % 2).astype(">u2")
    Image.frombytes("I;16B", SIZE[::-1], parity.tobytes()).save(tmp_path / "train/x/a.tif")
    label = label_of(tmp_path, kind="classes", files="{split}/x/{id}.tif", classes=["a", "b"])
    assert np.array_equal(label.numpy(), parity)


def test_a_mask_of_0_and_255_is_refused_with_both_cures(tmp_path):
    write_folder(tmp_path, ids=("a",))
    put(tmp_path / "train/x/a.png", np.where(GREY > 99, 255, 0).astype(np.uint8))
    part = {"kind": "classes", "files": "{split}/x/{id}.png"}
    with pytest.raises(MissingError, match=r"holds 255.* void: \[255\]; .* \{object: 255\}"):
        label_of(tmp_path, **part, classes=["background", "object"])
    label = label_of(tmp_path, **part, classes={"background": 0, "object": 255})
    assert torch.equal(label.as_subclass(torch.Tensor), torch.from_numpy((GREY > 99) * 1).byte())


def test_normals_of_16_bits_are_finer_than_bytes(tmp_path):
    write_folder(tmp_path, ids=("a",))
    normal = np.array([0.6, 0.001, -0.8])
    numbers = np.rint((normal + 1) / 2 * 65535).astype(np.uint16)
    put_deep(tmp_path / "train/x/a.png", np.tile(numbers, (*SIZE, 1)))
    label = label_of(tmp_path, kind="normals", files="{split}/x/{id}.png")
    assert label[:, 0, 0].tolist() == pytest.approx(normal, abs=1e-4)
