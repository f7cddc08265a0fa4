import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels as official_labels
from PIL import Image

from mtlkit.errors import MissingError
from mtlkit.transforms import VOID, Augmentation
from mtlkit_plugins.datasets._cityscapes_labels import CATEGORIES, LABELS
from mtlkit_plugins.datasets.cityscapes import Cityscapes

EVERYTHING = frozenset({"segmentation", "depth"})
SIZE = (32, 64)
STEM = "{kind}/{split}/{city}/{city}_000000_000019_{ending}.png"


def path_of(root: Path, kind: str, split: str = "train", city: str = "aachen") -> Path:
    endings = {
        "leftImg8bit": "leftImg8bit",
        "gtFine": "gtFine_labelIds",
        "disparity": "disparity",
    }
    return root / STEM.format(kind=kind, split=split, city=city, ending=endings[kind])


def put(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def put_sample(root: Path, size=SIZE, **where) -> dict[str, np.ndarray]:
    """Write one sample and return what is in its files."""
    generator = np.random.default_rng(0)
    numbers = generator.integers(0, 32258, size).astype(np.uint16)
    numbers[0, :4] = (0, 1, 2, 32257)
    label_ids = np.arange(size[0] * size[1]).reshape(size).astype(np.uint8) % 34
    files = {
        "leftImg8bit": generator.integers(0, 256, (*size, 3)).astype(np.uint8),
        "gtFine": label_ids,
        "disparity": numbers,
    }
    for kind, values in files.items():
        put(path_of(root, kind, **where), values)
    return files


def sample_of(root: Path, **fields) -> dict[str, torch.Tensor]:
    data = Cityscapes(root=str(root), **({"size": SIZE} | fields))
    return data.build_split("train", EVERYTHING)[0]


def test_disparity_is_p_less_1_over_65536_and_p_up_to_1_is_invalid(tmp_path):
    numbers = put_sample(tmp_path)["disparity"].astype(np.float64)
    depth = sample_of(tmp_path)["depth"]
    expected = np.where(numbers > 1, (numbers - 1) / 65536, np.nan)
    assert np.array_equal(depth[0].numpy(), expected, equal_nan=True)
    assert depth[0, 0, :2].isnan().all()
    assert depth[0, 0, 2:4].tolist() == [1 / 65536, 32256 / 65536]
    assert depth.shape == (1, *SIZE)
    assert depth.dtype == torch.float32


def test_official_validity_keeps_p_1_with_value_0(tmp_path):
    put_sample(tmp_path)
    first = sample_of(tmp_path, disparity_valid="official")["depth"][0, 0, :4]
    assert first[0].isnan()
    assert first[1:].tolist() == [0, 1 / 65536, 32256 / 65536]


def test_numbers_beyond_15_bits_are_read_exactly(tmp_path):
    put_sample(tmp_path)
    put(path_of(tmp_path, "disparity"), np.full(SIZE, 65535, np.uint16))
    assert (sample_of(tmp_path)["depth"] == 65534 / 65536).all()


def test_the_label_table_is_the_official_one():
    assert len(LABELS) == 34
    for label in official_labels:
        if label.id < 0:
            continue
        ours = LABELS[label.id]
        assert (ours.name, ours.colour, ours.has_instances) == (
            label.name,
            label.color,
            label.hasInstances,
        )
        assert ours.train_id == (VOID if label.ignoreInEval else label.trainId)
        assert ours.category == (VOID if label.category == "void" else label.categoryId - 1)
        assert label.category in (*CATEGORIES, "void")


@pytest.mark.parametrize("classes", [7, 19])
@pytest.mark.parametrize("class_map", ["category", "strict"])
def test_every_label_id_becomes_its_class(tmp_path, classes, class_map):
    label_ids = put_sample(tmp_path)["gtFine"]
    ours = sample_of(tmp_path, classes=classes, class_map=class_map)["segmentation"]
    expected = np.full(256, VOID)
    for label in official_labels:
        left_out = class_map == "strict" and label.ignoreInEval
        if label.id >= 0 and label.category != "void" and not left_out:
            expected[label.id] = label.categoryId - 1 if classes == 7 else label.trainId
    assert np.array_equal(ours.numpy(), expected[label_ids])


def test_numbers_that_are_no_label_ids_are_void(tmp_path):
    put_sample(tmp_path)
    put(path_of(tmp_path, "gtFine"), np.full(SIZE, 34, np.uint8))
    assert (sample_of(tmp_path)["segmentation"] == VOID).all()


def test_offers_name_classes_and_unit_without_any_file():
    offers = Cityscapes(root="/nowhere", size=SIZE, classes=19).offers
    assert offers["segmentation"].classes[:2] == ("road", "sidewalk")
    assert len(offers["segmentation"].classes) == 19
    assert offers["depth"].unit == "disparity/256"
    assert Cityscapes(root="/nowhere", size=SIZE).offers["segmentation"].classes == CATEGORIES


@pytest.mark.parametrize("size", [(4, 8), (8, 16), (16, 32), (32, 64), (96, 192)])
def test_the_nearest_pixel_is_the_one_that_pillow_takes(tmp_path, size):
    files = put_sample(tmp_path)
    sample = sample_of(tmp_path, size=size)
    turned = (size[1], size[0])
    image = Image.fromarray(files["leftImg8bit"]).resize(turned, Image.Resampling.NEAREST)
    numbers = Image.fromarray(files["disparity"].astype(np.int32))
    numbers = np.array(numbers.resize(turned, Image.Resampling.NEAREST))
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), np.array(image))
    expected = np.where(numbers > 1, (numbers - 1) / 65536, np.nan)
    assert np.array_equal(sample["depth"][0].numpy(), expected, equal_nan=True)


def test_an_antialiased_image_keeps_its_mean_and_leaves_labels_alone(tmp_path):
    image = put_sample(tmp_path)["leftImg8bit"]
    smooth = sample_of(tmp_path, size=(8, 16), image_resize="antialias")
    sharp = sample_of(tmp_path, size=(8, 16))
    assert smooth["image"].shape == sharp["image"].shape == (3, 8, 16)
    assert smooth["image"].float().mean() == pytest.approx(image.mean(), abs=2)
    assert smooth["image"].float().std() < sharp["image"].float().std() / 2
    assert torch.equal(smooth["segmentation"], sharp["segmentation"])


def test_samples_are_sorted_by_city_and_name(tmp_path):
    for city in ("zurich", "aachen", "ulm"):
        put_sample(tmp_path, city=city)
    images = []
    for level, city in enumerate(("aachen", "ulm", "zurich")):
        put(path_of(tmp_path, "leftImg8bit", city=city), np.full((*SIZE, 3), level, np.uint8))
        images.append(level)
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split("train", frozenset())
    assert [int(sample["image"][0, 0, 0]) for sample in split] == images


def test_only_wanted_files_must_exist(tmp_path):
    put_sample(tmp_path)
    path_of(tmp_path, "disparity").unlink()
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split(
        "train", frozenset({"segmentation"})
    )
    assert split[0].keys() == {"image", "segmentation"}


def test_a_split_survives_pickling(tmp_path):
    put_sample(tmp_path)
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split("train", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[0]["image"], split[0]["image"])


def test_a_flip_and_a_crop_move_validity_with_the_pixels(tmp_path):
    put_sample(tmp_path)
    numbers = np.tile(np.where(np.arange(64) < 20, 0, 5000).astype(np.uint16), (32, 1))
    put(path_of(tmp_path, "disparity"), numbers)
    labels = np.where(numbers == 0, 0, 7).astype(np.uint8)
    put(path_of(tmp_path, "gtFine"), labels)
    torch.manual_seed(0)
    for _ in range(8):
        varied = Augmentation(flip=0.5, scale_crop=(1.0, 1.2, 1.5))(sample_of(tmp_path))
        assert torch.equal(varied["depth"][0].isnan(), varied["segmentation"] == VOID)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"data\.root: '.*nowhere' is not a folder\. Give"):
        sample_of(tmp_path / "nowhere")


def test_all_missing_folders_are_named_with_what_to_unpack(tmp_path):
    put(path_of(tmp_path, "leftImg8bit"), np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(MissingError) as caught:
        sample_of(tmp_path)
    text = str(caught.value)
    assert "disparity/train, gtFine/train" in text
    assert "disparity_trainvaltest.zip, gtFine_trainvaltest.zip" in text


def test_a_folder_without_images_is_named(tmp_path):
    for kind in ("leftImg8bit", "gtFine", "disparity"):
        (tmp_path / kind / "train").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"leftImg8bit/train: holds no"):
        sample_of(tmp_path)


def test_missing_files_are_counted_and_the_first_named(tmp_path):
    for city in "abcde":
        put_sample(tmp_path, city=city)
        path_of(tmp_path, "disparity", city=city).unlink()
    with pytest.raises(MissingError) as caught:
        sample_of(tmp_path)
    text = str(caught.value)
    assert "5 of 15 files are missing" in text
    assert "disparity/train/a/a_000000_000019_disparity.png" in text
    assert "/d_000000" not in text


@pytest.mark.parametrize("kind", ["leftImg8bit", "gtFine", "disparity"])
@pytest.mark.parametrize("share", [0, 0.2, 0.8])
def test_a_damaged_file_is_named(tmp_path, kind, share):
    put_sample(tmp_path)
    path = path_of(tmp_path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(MissingError, match=rf"{path.name}: cannot be read as an image"):
        sample_of(tmp_path)


def test_a_disparity_of_8_bits_is_refused(tmp_path):
    put_sample(tmp_path)
    put(path_of(tmp_path, "disparity"), np.zeros(SIZE, np.uint8))
    with pytest.raises(MissingError, match=r"disparity\.png: holds 8-bit grey pixels, expected 16"):
        sample_of(tmp_path)


def test_coloured_labels_are_refused(tmp_path):
    put_sample(tmp_path)
    put(path_of(tmp_path, "gtFine"), np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(MissingError, match=r"labelIds\.png: holds 8-bit RGB pixels, expected 8"):
        sample_of(tmp_path)
