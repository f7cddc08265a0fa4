"""Damaged files of every data set, met by `mtlkit run`: named, with a cure, left as they are."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import RECIPE, run, snapshot
from fixtures import damage
from fixtures.layouts_cityscapes import write_cityscapes
from fixtures.layouts_folder import fields, write_folder
from fixtures.layouts_nyuv2 import write_nyuv2
from fixtures.layouts_synthia import write_synthia
from fixtures.layouts_vkitti2 import write_vkitti2
from PIL import Image
from ruamel.yaml import YAML

SIZE = (24, 32)  # of the files; what is read is 32×64
CLASSES = {"cityscapes": 7, "folder": 2, "synthia": 16, "vkitti2": 14}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "cityscapes": lambda root: write_cityscapes(root, SIZE),
    "folder": lambda root: write_folder(root, size=SIZE),
    "mat": lambda root: write_nyuv2(root, "mat", size=SIZE),
    "npy": lambda root: write_nyuv2(root, "npy", size=SIZE),
    "png": lambda root: write_nyuv2(root, "png", size=SIZE),
    "synthia": lambda root: write_synthia(root, size=SIZE),
    "vkitti2": lambda root: write_vkitti2(root, size=SIZE),
}


def swapped(path: Path) -> None:
    """Give a file height and width in the other order."""
    if path.suffix == ".npy":
        np.save(path, np.load(path).swapaxes(0, 1))
        return
    with Image.open(path) as picture:
        turned = picture.transpose(Image.Transpose.TRANSPOSE)
    turned.save(path)


def in_8_bits(path: Path) -> None:
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(path)


def in_16_bits(path: Path) -> None:
    Image.fromarray(np.full(SIZE, 9, np.uint16)).save(path)


def an_unknown_class(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, np.full(SIZE, 77, np.float32))
    else:
        Image.fromarray(np.full(SIZE, 77, np.uint8)).save(path)


def an_unknown_colour(path: Path) -> None:
    Image.fromarray(np.full((*SIZE, 3), 77, np.uint8)).save(path)


def no_depth_but_nan(path: Path) -> None:
    np.save(path, np.full((*SIZE, 1), np.nan, np.float32))


def negative_depth(path: Path) -> None:
    np.save(path, np.full((*SIZE, 1), -1, np.float32))


def one_axis(path: Path) -> None:
    np.save(path, np.ones(7, np.float32))


def of_objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


FILES = {  # by data set and what a file holds: where the first training sample has it
    ("cityscapes", "image"): "leftImg8bit/train/*/*.png",
    ("cityscapes", "classes"): "gtFine/train/*/*_labelIds.png",
    ("cityscapes", "depth"): "disparity/train/*/*.png",
    ("folder", "image"): "train/rgb/a.png",
    ("folder", "depth"): "train/depth/a.png",
    ("mat", "all"): "nyu_depth_v2_labeled.mat",
    ("mat", "splits"): "splits.mat",
    ("mat", "ids"): "classMapping40.mat",
    ("npy", "image"): "train/image/0.npy",
    ("npy", "classes"): "train/label/0.npy",
    ("npy", "depth"): "train/depth/0.npy",
    ("png", "classes"): "segmentation/*.png",
    ("png", "depth"): "depth/*.npy",
    ("png", "list"): "gt_sets/train.txt",
    ("synthia", "image"): "RGB/*1.png",
    ("synthia", "classes"): "GT/LABELS/*1.png",
    ("synthia", "depth"): "Depth/Depth/*1.png",
    ("vkitti2", "image"): "Scene01/clone/frames/rgb/Camera_0/*.jpg",
    ("vkitti2", "classes"): "Scene01/clone/frames/classSegmentation/Camera_0/*.png",
    ("vkitti2", "depth"): "Scene01/clone/frames/depth/Camera_0/*.png",
}
HAPPENS = [
    *[(d, h, damage.garbage) for d, h in FILES],
    *[(d, h, damage.empty) for d, h in FILES if h in ("image", "ids", "list")],
    *[(d, h, damage.gone) for d, h in FILES if h != "image" or d == "npy"],  # else one sample less
    *[(d, h, damage.cut_short) for d, h in FILES if h in ("image", "all") and d != "vkitti2"],
    *[(d, h, damage.a_folder) for d, h in FILES if h == "depth" or d == "mat"],
    *[(d, h, damage.a_dangling_link) for d, h in FILES if h in ("image", "classes")],
    *[(d, h, swapped) for d, h in FILES if h in ("depth", "classes") and d != "folder"],
    *[(d, "depth", in_8_bits) for d in ("cityscapes", "synthia", "vkitti2")],
    *[(d, "classes", in_16_bits) for d in ("cityscapes", "synthia", "vkitti2", "png")],
    *[(d, "classes", an_unknown_class) for d in ("cityscapes", "npy", "png")],
    ("vkitti2", "classes", an_unknown_colour),
    ("npy", "depth", no_depth_but_nan),
    ("npy", "depth", negative_depth),
    ("png", "depth", negative_depth),
    *[("npy", h, f) for h in ("image", "depth") for f in (one_axis, of_objects)],
]
CURES = (
    "Give",
    "Unpack",
    "Copy",
    "copy",
    "Write",
    "write",
    "Download",
    "download",
    "Mend",
    "Add",
    "Get",
    "Correct",
    "Save",
)


def recipe_of(kind: str, root: Path) -> str:
    """Return a recipe that reads a data set."""
    data = {"root": str(root), "size": [32, 64]}
    if kind == "folder":
        chosen = {**fields(root), "size": [32, 64], "labels": ["segmentation", "depth"]}
        data = {key: list(x) if isinstance(x, tuple) else x for key, x in chosen.items()}
    data["type"] = kind if kind in CLASSES else "nyuv2"
    if kind not in CLASSES:
        data["layout"] = kind
    recipe = YAML(typ="safe").load(RECIPE)
    recipe["data"] = data
    recipe["tasks"]["segmentation"]["classes"] = CLASSES.get(kind, 13)
    recipe["loader"] = {"batch_size": 2, "cache": "none"}
    path = root.parent / "recipe.yaml"
    YAML(typ="safe").dump(recipe, path)
    return str(path)


@pytest.fixture(params=list(WRITERS))
def good(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A data set without any fault."""
    root = tmp_path / "data"
    WRITERS[request.param](root)
    return recipe_of(request.param, root), root


def test_the_files_are_good_before_they_are_damaged(good, capfd) -> None:
    recipe, _ = good
    code, said = run(f"run {recipe}", capfd)
    assert code == 0, said


@pytest.mark.parametrize(
    ("kind", "holds", "happens"), HAPPENS, ids=[f"{d}-{h}-{f.__name__}" for d, h, f in HAPPENS]
)
def test_a_damaged_file_is_named_with_a_cure(
    kind: str, holds: str, happens: Callable[[Path], None], tmp_path: Path, capfd
) -> None:
    root = tmp_path / "data"
    WRITERS[kind](root)
    recipe = recipe_of(kind, root)
    path = sorted(root.glob(FILES[kind, holds]))[0]
    happens(path)
    before = snapshot(root)
    code, said = run(f"run {recipe}", capfd)
    assert code == 4, said
    assert path.stem in said or path.parent.name in said, said
    assert any(word in said for word in CURES), said
    assert "Traceback" not in said and "this is a bug" not in said
    assert snapshot(root) == before


@pytest.mark.parametrize("kind", list(WRITERS))
def test_an_empty_root_is_told_with_what_should_be_there(kind: str, tmp_path: Path, capfd) -> None:
    root = tmp_path / "data"
    root.mkdir()
    code, said = run(f"run {recipe_of(kind, root)}", capfd)
    assert code == 4, said
    assert str(root) in said and "Traceback" not in said
    assert any(word in said for word in CURES), said


@pytest.mark.parametrize("kind", ["cityscapes", "npy", "vkitti2"])
def test_a_skipped_sample_is_named_and_counted_and_the_run_goes_on(
    kind: str, tmp_path: Path, capfd
) -> None:
    root = tmp_path / "data"
    WRITERS[kind](root)
    path = sorted(root.glob(FILES[kind, "depth"]))[0]
    damage.garbage(path)
    code, said = run(f"run {recipe_of(kind, root)} --set loader.on_bad_sample=skip", capfd)
    assert code == 0, said
    assert said.count(path.name) == 1 and "skipped" in said
    lines = next(tmp_path.glob("runs/*/*/metrics.jsonl")).read_text().splitlines()
    assert any('"data/skipped_samples": ' in line for line in lines)


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk that takes no file above 1 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_is_full_while_samples_are_kept_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("[32, 64], train: 2", "[128, 256], train: 12"), encoding="utf-8"
    )
    code, said = run("run recipe.yaml", capfd)
    assert code == 4, said
    assert str(tmp_path / "cache") in said and "MTLKIT_CACHE" in said and "Traceback" not in said
