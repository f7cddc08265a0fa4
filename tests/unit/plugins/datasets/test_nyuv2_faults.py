"""What a damaged or wrong NYUv2 folder is told: the file's name, and what to do."""

import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from fixtures import damage
from fixtures.layouts_nyuv2 import MAT, map_class, put, write_hdf5, write_nyuv2
from pydantic import ValidationError

from mtlkit.errors import MissingError, UsageError
from mtlkit_plugins.datasets.nyuv2 import NYUv2

SIZE = (12, 16)
ALL = frozenset(NYUv2(root="", size=SIZE).offers)
CURE = re.compile(
    r"\. (Give|Get|Copy|Correct|Write|Unpack|Remove|Divide|Run|Save)\b|, or (write|copy|rename) "
)
FILES = [
    *(("mat", name) for name in (MAT, "splits.mat", "classMapping40.mat")),
    *(("npy", f"train/{name}/1.npy") for name in ("image", "label", "depth", "normal")),
    *(("png", f"{name}/0001.png") for name in ("images", "segmentation", "normals", "edge")),
    *(("png", name) for name in ("depth/0001.npy", "gt_sets/train.txt")),
]


def read_all(root: Path, **fields) -> None:
    """Read every training sample; the layout is given, so that no file decides it."""
    list(NYUv2(root=str(root), **({"size": SIZE} | fields)).build_split("train", ALL))


def told(root: Path, **fields) -> str:
    with pytest.raises((MissingError, UsageError)) as caught:
        read_all(root, **fields)
    text = str(caught.value)
    assert CURE.search(text), text
    return text


@pytest.mark.parametrize("name", damage.EVERY)
@pytest.mark.parametrize(("layout", "file"), FILES)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, layout, file, name):
    write_nyuv2(tmp_path, layout, size=(24, 32))
    path = tmp_path / file
    damage.EVERY[name](path)
    if path.suffix == ".txt" and name in ("cut_short", "only_its_start"):
        read_all(tmp_path) if name == "only_its_start" else told(tmp_path, layout=layout)
    else:
        assert path.name.split(".")[0] in told(tmp_path, layout=layout)


def changed(value, place, number):
    value = value.copy()
    value[place] = number
    return value


ONES = np.ones(SIZE, np.float32)
IMAGE = np.full((*SIZE, 3), 0.5, np.float32)
NORMALS = np.tile(np.float32([0, 0, -1]), (*SIZE, 1))
CORNER = (0, 0)
ARRAYS = {
    "an image of integers": ("image", np.int32(IMAGE * 255), r"holds int32 from 127 to 127.*Div"),
    "an image up to 255": ("image", IMAGE * 255, r"from 127.5 to 127.5.*Divide"),
    "an image below 0": ("image", changed(IMAGE, CORNER, -0.1), r"from -0\.1.* to 0\.5"),
    "an image with NaN": ("image", changed(IMAGE, CORNER, np.nan), r"from nan to nan"),
    "a grey image": ("image", ONES, r"shape \(height, width, 3\), this file \(12, 16\)"),
    "an image with channels first": ("image", IMAGE.transpose(2, 0, 1), r"this file \(3, 12, 16\)"),
    "an image of four channels": ("image", np.ones((*SIZE, 4), np.float32), r"this file"),
    "no pixels": ("image", np.ones((0, 16, 3), np.float32), r"must hold an array"),
    "a batch": ("depth", np.ones((1, *SIZE, 1)), r"must hold an array"),
    "words": ("depth", np.full(SIZE, "far"), r"holds <U3, expected numbers"),
    "complex numbers": ("depth", ONES * 1j, r"holds complex64, expected numbers"),
    "depth of another size": ("depth", ONES[1:], r"is 11×16 .*its image 12×16"),
    "depth of NaN alone": ("depth", ONES * np.nan, r"no depth that is finite; expected metres"),
    "infinite depth alone": ("depth", ONES * np.inf, r"no depth that is finite; expected metres"),
    "negative depth": ("depth", -ONES, r"depth that is negative; expected metres, 0 or NaN where"),
    "depth of three channels": ("depth", NORMALS, r"has 3 channels, expected 1"),
    "a class 13": ("label", changed(ONES, CORNER, 13), r"class ids: 13\.0 \(known: 0 to 12"),
    "a class −2": ("label", changed(ONES, CORNER, -2), r"unknown class ids: -2"),
    "void as 255": ("label", changed(ONES, CORNER, 255), r"unknown class ids: 255"),
    "blended classes": ("label", changed(ONES, CORNER, 1.5), r"not whole, so no class ids"),
    "a class NaN": ("label", changed(ONES, CORNER, np.nan), r"not whole, so no class ids"),
    "classes of another size": ("label", np.ones((12, 9)), r"is 12×9 .*its image 12×16"),
    "classes one-hot": ("label", NORMALS, r"has 3 channels, expected 1"),
    "normals with NaN": ("normal", changed(NORMALS, CORNER, np.nan), r"not finite or longer"),
    "normals as bytes": ("normal", np.uint8((NORMALS + 1) * 127), r"not finite or longer"),
    "normals of two channels": ("normal", NORMALS[..., :2], r"has 2 channels, expected 3"),
    "normals away from the camera": ("normal", -NORMALS, r"away from .*normal_axes: \[x, y, z\]"),
}


@pytest.mark.parametrize(("folder", "values", "pattern"), ARRAYS.values(), ids=ARRAYS)
def test_a_wrong_array_is_named_with_what_to_do(tmp_path, folder, values, pattern):
    write_nyuv2(tmp_path, "npy")
    path = tmp_path / "train" / folder / "1.npy"
    put(path, values)
    assert re.match(f"{re.escape(str(path))}: .*{pattern}", told(tmp_path))


BYTES = np.ones(SIZE, np.uint8)
PICTURES = {
    "a grey image": ("images/0001.png", BYTES, r"holds 8-bit grey pixels, expected 8-bit RGB"),
    "an image with alpha": ("images/0001.png", np.ones((*SIZE, 4), np.uint8), r"holds RGBA pixels"),
    "an image of another size": ("images/0001.png", np.ones((9, 9, 3), np.uint8), r"its image 9×9"),
    "a class 41": ("segmentation/0001.png", BYTES * 41, r"class ids: 41 \(known: 0 to 40\)"),
    "classes of 16 bits": ("segmentation/0001.png", np.uint16(BYTES), r"holds 16-bit grey pixels"),
    "coloured classes": ("segmentation/0001.png", np.ones((*SIZE, 3), np.uint8), r"8-bit RGB pix"),
    "depth of NaN alone": ("depth/0001.npy", ONES * np.nan, r"holds no depth that is finite"),
    "grey normals": ("normals/0001.png", BYTES, r"holds 8-bit grey pixels, expected 8-bit RGB"),
    "normals away": ("normals/0001.png", np.uint8((1 - NORMALS) * 127), r"point away from"),
    "coloured edges": ("edge/0001.png", np.ones((*SIZE, 3), np.uint8), r"8-bit RGB pixels, expec"),
    "edges of another size": ("edge/0001.png", BYTES[1:], r"is 11×16 .*its image 12×16"),
    "negative edges": ("edge/0001.npy", -ONES, r"negative numbers or NaN"),
    "edges NaN": ("edge/0001.npy", ONES * np.nan, r"negative numbers or NaN"),
    "edges of three channels": ("edge/0001.npy", NORMALS**2, r"has 3 channels, expected 1"),
}


@pytest.mark.parametrize(("file", "values", "pattern"), PICTURES.values(), ids=PICTURES)
def test_a_wrong_picture_is_named_with_what_to_do(tmp_path, file, values, pattern):
    write_nyuv2(tmp_path, "png")
    put(tmp_path / file, values)
    text = told(tmp_path)
    assert re.search(pattern, text)
    assert ("0001" in text) and str(tmp_path) in text


N, (H, W) = 4, SIZE
MATS = {
    "no images": ({"images": None}, r"has no array images"),
    "images transposed": ({"images": np.ones((N, H, W, 3), np.uint8)}, r"expected \(N,3"),
    "images of 16 bits": ({"images": np.ones((N, 3, W, H), np.uint16)}, r"of uint16, expected"),
    "fewer depths": ({"depths": np.ones((N - 1, W, H), np.float32)}, r"do not belong together"),
    "depths of another size": ({"depths": np.ones((N, H, W), np.float32)}, r"depths has shape \(4"),
    "depths of integers": ({"depths": np.ones((N, W, H), np.uint16)}, r"of uint16, exp.*float"),
    "depths with NaN": (
        {"depths": np.full((N, W, H), np.nan)},
        r"depths\[0\]: holds no depth that",
    ),
    "negative depths": ({"depths": -np.ones((N, W, H))}, r"depths\[0\]: holds depth that is neg"),
    "labels of floats": ({"labels": np.ones((N, W, H))}, r"of float64, expected .* of integers"),
    "an id 895": ({"labels": np.full((N, W, H), 895, np.uint16)}, r"labels\[0\]: .*895 \(known: 0"),
    "no samples": ({"images": np.ones((0, 3, W, H), np.uint8)}, r"has shape \(0, 3"),
}


@pytest.mark.parametrize(("change", "pattern"), MATS.values(), ids=MATS)
def test_a_wrong_mat_file_is_named_with_what_to_do(tmp_path, change, pattern):
    write_nyuv2(tmp_path, "mat")
    with h5py.File(tmp_path / MAT) as file:
        arrays = {name: values[()] for name, values in file.items()} | change
    write_hdf5(tmp_path / MAT, {name: x for name, x in arrays.items() if x is not None})
    assert re.search(f"{MAT}.*{pattern}", told(tmp_path))


def test_damage_within_an_array_is_told_when_the_sample_is_read(tmp_path):
    write_nyuv2(tmp_path, "mat", count=1)
    with h5py.File(tmp_path / MAT) as file:
        chunk = file["depths"].id.get_chunk_info(0)
        offset = chunk.byte_offset if chunk.byte_offset > 512 else chunk.byte_offset + 512
    content = bytearray((tmp_path / MAT).read_bytes())
    content[offset : offset + chunk.size] = bytes(chunk.size)
    (tmp_path / MAT).write_bytes(content)
    assert re.search(f"{MAT}: cannot be read", told(tmp_path))


BESIDE = {
    "no test samples": ("splits", {"testNdxs": None}, r"has no whole numbers testNdxs"),
    "an empty split": ("splits", {"trainNdxs": np.zeros((0, 1))}, r"no whole numbers trainNdxs"),
    "a sample 0": ("splits", {"trainNdxs": [[0], [1]]}, r"lists samples 0 to 4, .* 1 to 4"),
    "a sample too many": ("splits", {"trainNdxs": [[5], [1]]}, r"lists samples 1 to 5, .* 1 to 4"),
    "a sample of both": ("splits", {"trainNdxs": [[1], [2]]}, r"lists a sample twice"),
    "half a sample": ("splits", {"trainNdxs": [[1.5], [3]]}, r"has no whole numbers trainNdxs"),
    "words": ("splits", {"trainNdxs": "one"}, r"has no whole numbers trainNdxs"),
    "a shorter map": ("classMapping40", {"mapClass": [[1, 40]]}, r"has 2 entries .*expected 894"),
    "a class 41": ("classMapping40", {"mapClass": map_class()[None] + 1}, r"from 2 to 41, expec"),
    "another map": ("classMapping40", {"mapClass": None}, r"has no whole numbers mapClass"),
}


@pytest.mark.parametrize(("name", "change", "pattern"), BESIDE.values(), ids=BESIDE)
def test_wrong_files_beside_mat_are_named_with_what_to_do(tmp_path, name, change, pattern):
    write_nyuv2(tmp_path, "mat")
    path = tmp_path / f"{name}.mat"
    found = scipy.io.loadmat(path) | change
    variables = {k: v for k, v in found.items() if not k.startswith("__") and v is not None}
    scipy.io.savemat(path, variables)
    assert re.match(f"{re.escape(str(path))}: .*{pattern}", told(tmp_path))


def test_a_gap_in_the_numbers_is_told(tmp_path):
    write_nyuv2(tmp_path, "npy", count=3)
    for path in tmp_path.glob("train/*/1.npy"):
        path.unlink()
    assert "train: lacks 1.npy in all folders, next is 2.npy" in told(tmp_path)


@pytest.mark.parametrize("library", ["h5py", "scipy.io"])
def test_a_missing_library_is_told_with_the_command(tmp_path, monkeypatch, library):
    write_nyuv2(tmp_path, "mat")
    monkeypatch.setitem(sys.modules, library, None)
    assert "pip install 'mtlkit[nyuv2]'" in told(tmp_path)


@pytest.mark.parametrize("layout", ["npy", "png"])
def test_other_layouts_need_no_library(tmp_path, monkeypatch, layout):
    write_nyuv2(tmp_path, layout)
    for library in ("h5py", "scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, library, None)
    read_all(tmp_path)


def test_an_image_that_is_not_whole_has_no_camera(tmp_path):
    write_nyuv2(tmp_path, "npy", size=(16, 32))
    assert "image/0.npy: is 16×32 (height×width), so no whole image" in told(tmp_path)
    read = NYUv2(root=str(tmp_path), size=SIZE).build_split("train", ALL - {"camera"})
    assert read[0].keys() == {"image"} | ALL - {"camera"}


def test_a_folder_in_no_layout_is_told_what_was_looked_for(tmp_path):
    text = told(tmp_path)
    assert "mat: nyu_depth_v2_labeled.mat; npy: train/image or val/image; png: gt_sets" in text


def test_a_folder_in_two_layouts_must_be_told_which(tmp_path):
    write_nyuv2(tmp_path, "npy")
    write_nyuv2(tmp_path, "png")
    assert "several layouts: npy, png. Write which as data.layout" in told(tmp_path)
    read_all(tmp_path, layout="png")


@pytest.mark.parametrize("layout", ["auto", "mat", "npy", "png"])
def test_a_missing_root_is_named(tmp_path, layout):
    assert re.match(r"data\.root: '.*gone' is not a folder", told(tmp_path / "gone", layout=layout))


@pytest.mark.parametrize("layout", ["mat", "npy", "png"])
def test_an_empty_folder_is_named(tmp_path, layout):
    assert str(tmp_path) in told(tmp_path, layout=layout)


@pytest.mark.parametrize("layout", ["mat", "npy", "png"])
def test_an_unknown_split_is_refused(tmp_path, layout):
    write_nyuv2(tmp_path, layout)
    with pytest.raises(UsageError, match=r"split 'test': no such split, .*known: train, val"):
        NYUv2(root=str(tmp_path), size=SIZE).build_split("test", ALL)


MISMATCHES = {
    "40 classes of arrays": ("npy", {"classes": 40}, "classes: 40 is not in layout npy"),
    "raw depth of arrays": ("npy", {"depth": "raw"}, "depth: raw is about layout mat"),
    "raw depth of pictures": ("png", {"depth": "raw"}, "depth: raw is about layout mat"),
    "axes of mat": ("mat", {"normal_axes": ("x", "-y", "-z")}, "normal_axes is about files"),
    "edges of arrays": ("npy", {"edges": "classes"}, "edges: classes is about layout png"),
}


@pytest.mark.parametrize(("layout", "fields", "sentence"), MISMATCHES.values(), ids=MISMATCHES)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_setting_that_the_layout_does_not_have_is_told(
    tmp_path, recipe, layout, fields, sentence, is_named
):
    write_nyuv2(tmp_path, layout)
    fields = fields | {"layout": layout if is_named else "auto"}
    assert f"data.{sentence}" in told(tmp_path, **fields)
    (found,) = NYUv2(root=str(tmp_path), size=SIZE, **fields).problems(recipe)
    assert found.startswith(sentence)


def test_a_folder_that_is_not_there_is_no_problem_of_a_recipe(tmp_path, recipe):
    data = NYUv2(root=str(tmp_path / "gone"), size=SIZE, classes=40)
    assert list(data.problems(recipe)) == []
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("axes", [("x", "x", "z"), ("x", "-x", "y")])
def test_normal_axes_must_be_three_different_ones(axes):
    with pytest.raises(ValidationError, match="takes x, y and z, each once"):
        NYUv2(root="", size=SIZE, normal_axes=axes)
