import pickle
import shutil

import numpy as np
import pytest
import torch
from fixtures.layouts_vkitti2 import COLOURS, SIZE, UNDEFINED, path_of, put, write_vkitti2
from PIL import Image

from mtlkit.errors import MissingError, UsageError
from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.transforms import VOID, ClassMap, DepthMap
from mtlkit_plugins.datasets._vkitti2_labels import CLASSES
from mtlkit_plugins.datasets.vkitti2 import VirtualKitti2

EVERYTHING = frozenset(VirtualKitti2(root="/nowhere", size=SIZE).offers)


def data_in(root, **fields):
    return VirtualKitti2(root=str(root), **({"size": SIZE} | fields))


def first_of(root, wants=EVERYTHING, **fields):
    return data_in(root, **fields).build_split("train", wants)[0]


def images_in(root, split, **fields):
    found = data_in(root, **fields).find(split, EVERYTHING)
    return [str(files["image"].relative_to(root)) for files in found]


def told(root, wants=EVERYTHING, split="train", **fields):
    with pytest.raises(MissingError) as caught:
        list(data_in(root, **fields).build_split(split, wants))
    return str(caught.value)


def test_a_sample_holds_what_was_written(tmp_path):
    written = write_vkitti2(tmp_path)["Scene01/clone/0/0"]
    sample = first_of(tmp_path)
    assert sample.keys() == {"image"} | EVERYTHING
    assert np.allclose(sample["image"].permute(1, 2, 0).numpy(), written["image"], atol=3)
    ids = written["classes"]
    assert np.array_equal(sample["segmentation"].numpy(), np.where(ids == UNDEFINED, VOID, ids))
    metres = (written["depth"] / 100).astype(np.float32)
    metres[0, [0, 2]] = np.nan
    assert np.array_equal(sample["depth"][0].numpy(), metres, equal_nan=True)
    assert sample["depth"][0, 0, 1] == np.float32(655.34)
    assert isinstance(sample["segmentation"], ClassMap) and isinstance(sample["depth"], DepthMap)
    assert sample["segmentation"].dtype == torch.uint8 and sample["depth"].dtype == torch.float32


def test_the_fourteen_classes_are_in_the_order_of_the_colours():
    spec = data_in("/nowhere").offers["segmentation"]
    assert spec.classes == CLASSES and len(CLASSES) == 14
    at = dict(zip(CLASSES, COLOURS, strict=False))
    assert at["guard rail"] == (250, 100, 255) and at["car"] == (255, 127, 80)
    assert (CLASSES[0], CLASSES[6], CLASSES[13]) == ("terrain", "guard rail", "van")
    assert data_in("/nowhere").offers["depth"].unit == "m"


@pytest.mark.parametrize(("limit", "kept"), [(80, [False, True]), (80.01, [True, True])])
def test_depth_beyond_the_limit_is_invalid_and_depth_at_it_is_not(tmp_path, limit, kept):
    write_vkitti2(tmp_path)
    numbers = np.full(SIZE, 8000, np.uint16)
    numbers[0, :2] = (8001, 8000)
    put(path_of(tmp_path, "depth"), numbers)
    depth = first_of(tmp_path, max_depth_m=limit)["depth"][0]
    assert depth[0, :2].isfinite().tolist() == kept
    assert (depth[1:] == 80).all()


def test_normals_and_boundary_are_derived_from_what_was_read(tmp_path):
    write_vkitti2(tmp_path)
    sample = first_of(tmp_path)
    expected = normals_from_depth(sample["depth"], sample["camera"])
    assert torch.equal(sample["normals"].nan_to_num(), expected.nan_to_num())
    assert sample["normals"].isfinite().any()
    assert torch.equal(sample["boundary"], boundaries(sample["segmentation"]))
    alone = first_of(tmp_path, frozenset({"normals", "boundary"}))
    assert alone.keys() == {"image", "normals", "boundary"}


def test_a_wall_seen_from_the_front_has_normals_towards_the_camera(tmp_path):
    write_vkitti2(tmp_path)
    put(path_of(tmp_path, "depth"), np.full(SIZE, 1000, np.uint16))
    normals = first_of(tmp_path)["normals"][:, 1:-1, 1:-1]
    assert torch.allclose(normals, torch.tensor([0.0, 0, -1])[:, None, None], atol=1e-6)


@pytest.mark.parametrize("size", [(375, 1242), (320, 1024), (15, 50)])
def test_the_camera_is_the_official_one_scaled_to_the_sample(tmp_path, size):
    write_vkitti2(tmp_path)
    camera = first_of(tmp_path, frozenset({"camera"}), size=size)["camera"]
    y, x = size[0] / 375, size[1] / 1242
    expected = [
        [725.0087 * x, 0, 621 * x - 0.5],  # half a pixel, as centres are at whole numbers
        [0, 725.0087 * y, 187.5 * y - 0.5],
        [0, 0, 1],
    ]
    assert torch.allclose(camera.as_subclass(torch.Tensor), torch.tensor(expected), atol=1e-4)
    assert camera.canvas_size == size


def test_scenes_are_either_trained_on_or_validated_on(tmp_path):
    write_vkitti2(tmp_path, scenes=("Scene01", "Scene02", "Scene06", "Scene18", "Scene20"))
    for held_out in (("Scene18",), ("Scene01", "Scene20")):
        train, val = (images_in(tmp_path, x, val_scenes=held_out) for x in ("train", "val"))
        assert {name.split("/")[0] for name in val} == set(held_out)
        assert not {n.split("/")[0] for n in train} & set(held_out)
        assert len(train) + len(val) == 10


def test_variations_and_cameras_are_those_asked_for_in_one_order(tmp_path):
    write_vkitti2(tmp_path, variations=("clone", "fog", "15-deg-left"), cameras=(0, 1))
    assert len(images_in(tmp_path, "train")) == 2
    asked = {"variations": ("fog", "15-deg-left"), "cameras": (1, 0)}
    assert images_in(tmp_path, "train", **asked) == [
        f"Scene01/{variation}/frames/rgb/Camera_{camera}/rgb_0000{frame}.jpg"
        for variation in ("15-deg-left", "fog")
        for camera in (0, 1)
        for frame in (0, 1)
    ]


@pytest.mark.parametrize(
    ("wants", "kinds"),
    [
        ((), ()),
        (("camera",), ()),
        (("segmentation",), ("classes",)),
        (("boundary",), ("classes",)),
        (("depth",), ("depth",)),
        (("normals",), ("depth",)),
    ],
)
def test_only_files_that_wanted_labels_come_from_must_exist(tmp_path, wants, kinds):
    write_vkitti2(tmp_path)
    for kind in {"classes", "depth"} - set(kinds):
        for path in tmp_path.rglob(f"*/{path_of(tmp_path, kind).parents[1].name}"):
            shutil.rmtree(path)
    assert first_of(tmp_path, frozenset(wants)).keys() == {"image", *wants}


def test_a_sample_may_lack_labels_if_that_is_allowed(tmp_path):
    write_vkitti2(tmp_path)
    path_of(tmp_path, "depth").unlink()
    sample = first_of(tmp_path, missing_labels="allow")
    assert sample.keys() == {"image", "segmentation", "boundary", "camera"}
    assert "missing_labels: allow" in told(tmp_path)


def test_a_smaller_sample_shows_the_nearest_pixels(tmp_path):
    depth = write_vkitti2(tmp_path)["Scene01/clone/0/0"]["depth"]
    sample = first_of(tmp_path, size=(5, 25))
    assert np.allclose(sample["depth"][0, 1:].numpy(), depth[4::3, 1::2] / 100)
    assert np.array_equal(sample["segmentation"].shape, (5, 25))


def test_a_split_survives_pickling_and_has_a_fingerprint(tmp_path):
    write_vkitti2(tmp_path)
    split = data_in(tmp_path).build_split("val", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[1]["segmentation"], split[1]["segmentation"])
    before = data_in(tmp_path).fingerprint("val", EVERYTHING)
    put(path_of(tmp_path, "depth", "Scene18/clone/0/0"), np.ones((9, 9), np.uint16))
    assert data_in(tmp_path).fingerprint("val", EVERYTHING) != before


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match=r"split 'test': no such split, .*known: train, val"):
        data_in("/nowhere").build_split("test", EVERYTHING)


@pytest.mark.parametrize(
    "fields",
    [
        {"variations": ()},
        {"variations": ("snow",)},
        {"cameras": (2,)},
        {"cameras": ()},
        {"val_scenes": ()},
        {"val_scenes": ("Scene03",)},
        {"max_depth_m": 0},
    ],
)
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        data_in("/nowhere", **fields)


def test_a_recipe_that_leaves_no_scene_to_train_on_has_a_problem():
    every = ("Scene01", "Scene02", "Scene06", "Scene18", "Scene20")
    assert any("val_scenes" in text for text in data_in("/x", val_scenes=every).problems(None))
    assert not list(data_in("/x", val_scenes=every[1:]).problems(None))


WRONG = {
    "depth of 8 bits": ("depth", np.zeros(SIZE, np.uint8), "8-bit grey pixels, expected 16-bit"),
    "depth in colour": ("depth", np.zeros((*SIZE, 3), np.uint8), "8-bit RGB pixels, expected 16"),
    "depth of another size": ("depth", np.ones((9, 50), np.uint16), "is 9×50 .* its image 15×50"),
    "grey classes": ("classes", np.zeros(SIZE, np.uint8), "8-bit grey pixels, expected 8-bit RGB"),
    "classes of another size": ("classes", np.zeros((15, 9, 3), np.uint8), "is 15×9 .*Give"),
    "an unknown colour": (
        "classes",
        np.full((*SIZE, 3), (211, 0, 200), np.uint8),
        r"colours of no class: \(211, 0, 200\)\. Give",
    ),
    "a grey image": ("image", np.zeros(SIZE, np.uint8), "8-bit grey pixels, expected 8-bit RGB"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_of_another_kind_is_named(tmp_path, case):
    write_vkitti2(tmp_path)
    kind, values, says = WRONG[case]
    path = path_of(tmp_path, kind)
    put(path, values)
    with pytest.raises(MissingError, match=f"{path.name}: .*{says}"):
        first_of(tmp_path)


def test_classes_saved_as_jpeg_are_refused(tmp_path):
    write_vkitti2(tmp_path)
    path = path_of(tmp_path, "classes")
    Image.open(path).save(path, "jpeg")
    assert "colours of no class" in told(tmp_path)


def test_missing_scenes_variations_and_cameras_are_named(tmp_path):
    assert "is not a folder. Give the folder that holds Scene01" in told(tmp_path / "nowhere")
    write_vkitti2(tmp_path, scenes=("Scene18",))
    for split in ("train", "val"):
        assert "no scene to train on: Scene18 is all there is" in told(tmp_path, split=split)
    write_vkitti2(tmp_path, scenes=("Scene02",))
    text = told(tmp_path, val_scenes=("Scene01",))
    assert "lacks Scene01 of data.val_scenes; it holds Scene02, Scene18. Unpack" in text
    text = told(tmp_path, variations=("fog",), cameras=(1,))
    assert "no rgb_*.jpg in Scene02/fog/frames/rgb/Camera_1. Unpack" in text


def test_archives_in_folders_of_their_own_are_told_with_what_the_root_holds(tmp_path):
    write_vkitti2(tmp_path / "vkitti_2.0.3_rgb")
    text = told(tmp_path)
    assert (
        "holds none of Scene01, Scene02, " in text and "it holds vkitti_2.0.3_rgb. Unpack" in text
    )
    assert "frames/ holds rgb, depth and classSegmentation, and give the folder" in text
    shutil.rmtree(tmp_path / "vkitti_2.0.3_rgb/Scene01/clone/frames/depth")
    assert "frames/ holds rgb, depth and classSegmentation" in told(tmp_path / "vkitti_2.0.3_rgb")
