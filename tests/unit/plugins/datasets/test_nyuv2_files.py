"""What NYUv2's lists and files may hold, and what is refused of a list."""

import re

import numpy as np
import pytest
from fixtures.layouts_nyuv2 import put, write_nyuv2

from mtlkit.errors import MissingError
from mtlkit_plugins.datasets.nyuv2 import NYUv2

SIZE = (12, 16)
ALL = frozenset(NYUv2(root="", size=SIZE).offers)


def samples(root):
    return list(NYUv2(root=str(root), size=SIZE).build_split("train", ALL))


def told(root):
    with pytest.raises(MissingError) as caught:
        samples(root)
    return str(caught.value)


LISTS = {
    "a name of both lists": ("0001\n0002\n", r"shares 1 names with val\.txt: 0002"),
    "a name twice": ("0001\n0003\n0001\n", r"train\.txt:3: '0001' is there twice\. Remove one"),
    "nothing": ("\n \n", r"lists no sample"),
    "a folder": ("../0001\n", r"train\.txt:1: '\.\./0001' is no file's name without folder"),
    "a folder of Windows": ("images\\0001\n", r"txt:1: .* has a backslash\. Write /"),
    "a name without files": ("0001\n0009\n", r"missing: images/0009\.jpg, "),
    "a name with its ending": ("\n0001.PNG\n", r"txt:2: '0001\.PNG' is no file's name .* ending"),
    "another encoding": ("ÿ", r"is not text in UTF-8\. Save it as UTF-8"),
    "two bytes a letter": ("0\x000\x000\x001\x00", r"is not text in UTF-8\. Save it as UTF-8"),
}


@pytest.mark.parametrize(("text", "pattern"), LISTS.values(), ids=LISTS)
def test_a_wrong_list_is_named_with_what_to_do(tmp_path, text, pattern):
    write_nyuv2(tmp_path, "png")
    (tmp_path / "gt_sets/train.txt").write_text(text, encoding="latin-1")
    assert re.search(pattern, told(tmp_path))


def test_a_list_may_come_from_any_editor(tmp_path):
    write_nyuv2(tmp_path, "png")
    path = tmp_path / "gt_sets/train.txt"
    before = samples(tmp_path)
    path.write_bytes(("\ufeff" + path.read_text().replace("\n", " \r\n")).encode() + b"\t\r\n")
    after = samples(tmp_path)
    assert len(after) == len(before) == 2
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("unknown", [0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["npy", "png"])
def test_depth_that_is_no_number_is_not_known(tmp_path, layout, unknown):
    write_nyuv2(tmp_path, layout)
    depth = np.full((*SIZE, 1), 2, np.float32)
    depth[0, 0] = unknown
    put(tmp_path / {"npy": "train/depth/0.npy", "png": "depth/0001.npy"}[layout], depth)
    found = samples(tmp_path)[0]["depth"][0]
    assert found[0, 0].isnan() and found.isnan().sum() == 1 and found[1, 1] == 2


def test_images_that_rounding_took_out_of_their_range_are_put_back(tmp_path):
    write_nyuv2(tmp_path, "npy")
    image = np.full((*SIZE, 3), 0.5, np.float32)
    image[0, 0] = (-0.0009, 1.0009, 1)
    put(tmp_path / "train/image/0.npy", image)
    assert samples(tmp_path)[0]["image"][:, 0, 0].tolist() == [0, 1, 1]


def test_normals_that_lean_away_a_little_are_those_of_a_slope(tmp_path):
    write_nyuv2(tmp_path, "npy")
    leaning = np.float32([0, -(0.96**0.5), 0.2])
    put(tmp_path / "train/normal/0.npy", np.tile(leaning, (*SIZE, 1)))
    assert np.allclose(samples(tmp_path)[0]["normals"][:, 0, 0], leaning)
