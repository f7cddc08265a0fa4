"""Damaged files of Cityscapes: each refusal names the file and says what to do."""

import json
import re

import numpy as np
import pytest
from fixtures.layouts_cityscapes import CAMERA, SIZE, path_of, put, put_camera, write_sample

from mtlkit.errors import MissingError
from mtlkit_plugins.datasets.cityscapes import Cityscapes

METRES = {"depth": "metres"}
EVERYTHING = frozenset({"segmentation", "depth"})


def told(root, **fields):
    """Return why the first sample is refused, when it is found or read."""
    data = Cityscapes(root=str(root), **({"size": SIZE} | fields))
    with pytest.raises(MissingError) as caught:
        data.build_split("train", EVERYTHING)[0]
    return str(caught.value)


def test_a_missing_root_is_named(tmp_path):
    assert "nowhere' is not a folder. Give" in told(tmp_path / "nowhere")


def test_all_missing_folders_are_named_with_what_to_unpack(tmp_path):
    put(path_of(tmp_path, "leftImg8bit"), np.zeros((*SIZE, 3), np.uint8))
    text = told(tmp_path, **METRES)
    assert "camera/train, disparity/train, gtFine/train" in text
    assert "disparity_trainvaltest.zip, gtFine_trainvaltest.zip" in text


def test_a_folder_without_images_is_named(tmp_path):
    for kind in ("leftImg8bit", "gtFine", "disparity"):
        (tmp_path / kind / "train").mkdir(parents=True)
    assert "leftImg8bit/train: holds no" in told(tmp_path)


def test_missing_files_are_counted_and_the_first_named(tmp_path):
    for city in "abcde":
        write_sample(tmp_path, city=city)
        path_of(tmp_path, "disparity", city=city).unlink()
    text = told(tmp_path)
    assert "5 of 15 files are missing" in text
    assert "disparity/train/a/a_000000_000019_disparity.png" in text
    assert "/d_000000" not in text


def grey(level=0, dtype=np.uint8, size=SIZE):
    return np.full(size, level, dtype)


COLOURED = np.zeros((*SIZE, 3), np.uint8)
WRONG = {
    "disparity of 8 bits": ("disparity", grey(), "8-bit grey pixels, expected 16-bit"),
    "disparity in colour": ("disparity", COLOURED, "8-bit RGB pixels, expected 16-bit"),
    "coloured labels": ("gtFine", COLOURED, "8-bit RGB pixels, expected 8-bit grey"),
    "labels of 16 bits": ("gtFine", grey(7, np.uint16), "16-bit grey pixels, expected 8-bit grey"),
    "a grey image": ("leftImg8bit", grey(), "8-bit grey pixels, expected 8-bit RGB"),
    "labels of another size": ("gtFine", grey(size=(16, 64)), "is 16×64 .* its image 32×64"),
    "turned disparity": ("disparity", grey(9, np.uint16, (64, 32)), "is 64×32 .* its image 32×64"),
    "an unknown label": ("gtFine", grey(34), r"unknown class ids: 34 \(known: 0 to 33\)"),
    "train ids with void": ("gtFine", grey(255), "unknown class ids: 255"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_of_another_kind_is_named(tmp_path, case):
    write_sample(tmp_path)
    kind, values, says = WRONG[case]
    path = path_of(tmp_path, kind)
    put(path, values)
    assert re.search(rf"{path.name}: .*{says}.*\. (Unpack|Give)", told(tmp_path))


def camera(part, **values):
    return {**CAMERA, part: {**CAMERA[part], **values}}


CAMERAS = {
    "no calibration": ({}, "lacks 'intrinsic'"),
    "a list": ([1, 2], "cannot be read"),
    "a part that is a number": ({**CAMERA, "extrinsic": 3}, "cannot be read"),
    "no baseline": ({**CAMERA, "extrinsic": {}}, "lacks 'baseline'"),
    "a focal length of 0": (camera("intrinsic", fx=0), "must be above 0"),
    "a negative baseline": (camera("extrinsic", baseline=-0.2), "must be above 0"),
    "an undefined focal length": (camera("intrinsic", fy=float("nan")), "all numbers finite"),
    "an infinite centre": (camera("intrinsic", u0=float("inf")), "all numbers finite"),
    "a word": (camera("intrinsic", v0="middle"), "cannot be read"),
    "nothing": (camera("intrinsic", v0=None), "cannot be read"),
    "a number without end": (camera("intrinsic", v0=10**400), "cannot be read"),
}


@pytest.mark.parametrize("case", CAMERAS)
def test_a_wrong_calibration_is_named(tmp_path, case):
    write_sample(tmp_path)
    values, says = CAMERAS[case]
    path = path_of(tmp_path, "camera")
    put_camera(path, values)
    text = told(tmp_path, **METRES)
    assert f"{path.name}: " in text and says in text and "Unpack or copy this file again" in text


def test_a_calibration_without_end_is_named(tmp_path):
    write_sample(tmp_path)
    path = path_of(tmp_path, "camera")
    path.write_text("[" * 100_000, encoding="utf-8")
    assert f"{path.name}: cannot be read" in told(tmp_path, **METRES)
    path.write_bytes(json.dumps(CAMERA).encode("utf-16"))
    assert f"{path.name}: cannot be read" in told(tmp_path, **METRES)


def test_archives_in_folders_of_their_own_are_told_with_what_the_root_holds(tmp_path):
    write_sample(tmp_path / "leftImg8bit_trainvaltest")
    text = told(tmp_path)
    assert "disparity/train, gtFine/train; it holds leftImg8bit_trainvaltest. Unpack" in text
    assert "cityscapes-dataset.com into one folder" in text
