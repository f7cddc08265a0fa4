import pickle
import shutil

import numpy as np
import pytest
import torch
from fixtures.layouts_synthia import SIZE, path_of, put, write_synthia

from mtlkit.errors import MissingError, UsageError
from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.transforms import VOID
from mtlkit_plugins.datasets._cityscapes_labels import class_names
from mtlkit_plugins.datasets._synthia_labels import CLASSES, NAMES, id_to_class
from mtlkit_plugins.datasets.synthia import Synthia

EVERYTHING = frozenset(Synthia(root="/nowhere", size=SIZE).offers)
# By class: the id in a file; as domain adaptation from SYNTHIA to Cityscapes counts 16 classes.
IDS_OF_16 = (3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11)


def data_in(root, **fields):
    return Synthia(root=str(root), **({"size": SIZE} | fields))


def first_of(root, wants=EVERYTHING, **fields):
    return data_in(root, **fields).build_split("train", wants)[0]


def told(root, wants=EVERYTHING, split="train", **fields):
    with pytest.raises(MissingError) as caught:
        list(data_in(root, **fields).build_split(split, wants))
    return str(caught.value)


@pytest.mark.parametrize("depth_channels", [1, 3])
def test_a_sample_holds_what_was_written(tmp_path, depth_channels):
    written = write_synthia(tmp_path, depth_channels=depth_channels)[1]
    sample = first_of(tmp_path)
    assert sample.keys() == {"image"} | EVERYTHING
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), written["image"])
    expected = np.full(23, VOID)
    expected[list(IDS_OF_16)] = range(16)
    assert np.array_equal(sample["segmentation"].numpy(), expected[written["labels"]])
    metres = (written["depth"] / 100).astype(np.float32)
    metres[0, [0, 2]] = np.nan
    assert np.array_equal(sample["depth"][0].numpy(), metres, equal_nan=True)
    assert sample["segmentation"].dtype == torch.uint8 and sample["depth"].dtype == torch.float32


def test_classes_are_the_16_of_cityscapes():
    assert data_in("/nowhere").offers["segmentation"].classes == CLASSES == class_names(16)
    assert len(NAMES) == len(id_to_class()) == 23
    named = {NAMES[i]: CLASSES[c] for i, c in enumerate(id_to_class()) if c != VOID}
    assert {a: b for a, b in named.items() if a != b} == {"pedestrian": "person"}
    void = {NAMES[i] for i, c in enumerate(id_to_class()) if c == VOID}
    assert void == {
        *("void", "parking slot", "road work", "terrain", "truck", "train", "lane marking")
    }


def test_depth_beyond_the_limit_is_invalid(tmp_path):
    write_synthia(tmp_path)
    depth = first_of(tmp_path, max_depth_m=80)["depth"][0]
    assert depth[0, :4].isnan().all()
    assert depth[1:].isfinite().all()


def test_normals_boundary_and_camera_follow_from_what_was_read(tmp_path):
    write_synthia(tmp_path)
    sample = first_of(tmp_path)
    expected = normals_from_depth(sample["depth"], sample["camera"])
    assert torch.equal(sample["normals"].nan_to_num(), expected.nan_to_num())
    assert sample["normals"].isfinite().any()
    assert torch.equal(sample["boundary"], boundaries(sample["segmentation"]))
    scale = 64 / 1280
    camera = first_of(tmp_path, size=(38, 64))["camera"]
    matrix = [
        [532.740352 * scale, 0, 640.5 * scale - 0.5],
        [0, 532.740352 * scale, 380.5 * scale - 0.5],
        [0, 0, 1],
    ]
    assert torch.allclose(camera.as_subclass(torch.Tensor), torch.tensor(matrix))
    assert camera.canvas_size == (38, 64)


def test_every_fifth_number_validates_whatever_else_is_there(tmp_path):
    write_synthia(tmp_path, numbers=(3, 5, 7, 10, 11, 9399))
    numbers = {
        split: [int(files["image"].stem) for files in data_in(tmp_path).find(split, EVERYTHING)]
        for split in ("train", "val")
    }
    assert numbers == {"train": [3, 7, 11, 9399], "val": [5, 10]}


@pytest.mark.parametrize(
    ("wants", "folder"),
    [("segmentation", "GT"), ("boundary", "GT"), ("depth", "Depth"), ("normals", "Depth")],
)
def test_only_files_that_wanted_labels_come_from_must_exist(tmp_path, wants, folder):
    write_synthia(tmp_path)
    shutil.rmtree(tmp_path / ("Depth" if folder == "GT" else "GT"))
    assert first_of(tmp_path, frozenset({wants})).keys() == {"image", wants}
    assert first_of(tmp_path, frozenset({"camera"})).keys() == {"image", "camera"}
    shutil.rmtree(tmp_path / folder)
    assert f"lacks {folder}/" in told(tmp_path, frozenset({wants}))


def test_a_sample_may_lack_labels_if_that_is_allowed(tmp_path):
    write_synthia(tmp_path)
    path_of(tmp_path, "labels").unlink()
    sample = first_of(tmp_path, missing_labels="allow")
    assert sample.keys() == {"image", "depth", "normals", "camera"}
    assert "missing_labels: allow" in told(tmp_path)


def test_a_split_survives_pickling(tmp_path):
    write_synthia(tmp_path)
    split = data_in(tmp_path).build_split("val", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert len(again) == 2
    assert torch.equal(again[1]["segmentation"], split[1]["segmentation"])


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match=r"split 'test': no such split, .*known: train, val"):
        data_in("/nowhere").build_split("test", EVERYTHING)


@pytest.mark.parametrize("fields", [{"classes": 7}, {"max_depth_m": -1}])
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        data_in("/nowhere", **fields)


def colours(level=0, dtype=np.uint16, size=SIZE):
    return np.full((*size, 3), level, dtype)


DIFFERING = np.dstack([np.full(SIZE, level, np.uint16) for level in (1, 2, 3)])
WRONG = {
    "labels of 8 bits": ("labels", colours(0, np.uint8), "8-bit RGB pixels, expected 16-bit RGB"),
    "grey labels": ("labels", np.zeros(SIZE, np.uint16), "16-bit grey pixels, expected 16-bit RGB"),
    "labels of another size": ("labels", colours(size=(9, 32)), "is 9×32 .* its image 19×32"),
    "an unknown class": ("labels", colours(23), r"unknown class ids: 23 \(known: 0 to 22\)"),
    "a far too large class": ("labels", colours(65535), "unknown class ids: 65535"),
    "depth of 8 bits": ("depth", colours(0, np.uint8), "8-bit RGB pixels, expected 16-bit RGB"),
    "depth whose channels differ": ("depth", DIFFERING, "its channels differ"),
    "depth of another size": ("depth", colours(9, size=(19, 8)), "is 19×8 .* its image 19×32"),
    "an image of 16 bits": ("image", colours(300), "16-bit RGB pixels, expected 8-bit RGB"),
    "a grey image": ("image", np.zeros(SIZE, np.uint8), "8-bit grey pixels, expected 8-bit RGB"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_of_another_kind_is_named(tmp_path, case):
    write_synthia(tmp_path)
    kind, values, says = WRONG[case]
    path = path_of(tmp_path, kind)
    put(path, values)
    with pytest.raises(MissingError, match=rf"{path.name}: .*{says}.*\. (Unpack|Give)"):
        first_of(tmp_path)


def test_an_image_without_a_number_is_named(tmp_path):
    write_synthia(tmp_path)
    path_of(tmp_path, "image").rename(tmp_path / "RGB" / "0000001 copy.png")
    assert "0000001 copy.png: its name is no number" in told(tmp_path)


def test_missing_folders_and_empty_splits_are_named(tmp_path):
    assert "is not a folder. Give the folder that holds RGB" in told(tmp_path / "nowhere")
    write_synthia(tmp_path / "RAND_CITYSCAPES", numbers=(5,))
    text = told(tmp_path)
    assert (
        "lacks RGB, Depth/Depth, GT/LABELS; it holds RAND_CITYSCAPES. Give the folder RAND" in text
    )
    text = told(tmp_path / "RAND_CITYSCAPES")
    assert "holds no image for train, whose number is no multiple of 5. Unpack" in text
