"""`mtlkit data check`: what it prints, what it draws, and how it leaves."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from fixtures.commands import RECIPE, run, start
from PIL import Image
from typer.testing import CliRunner

from mtlkit_plugins.commands.data import app

CITY = RECIPE.replace(
    "{type: counted, size: [32, 64], train: 6, val: 2}",
    "{type: cityscapes, root: D, size: [32, 64]}",
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    """Streets in Cityscapes' layout: four to train on, two to validate on."""
    out = tmp_path_factory.mktemp("rendered") / "D"
    words = ["streets", "--train", 4, "--val", 2, "--size", "32x64", "--workers", 1]
    assert CliRunner().invoke(app, ["render", "--out", *map(str, [out, *words])]).exit_code == 0
    return out


@pytest.fixture
def city(counting, rendered, tmp_path) -> Path:
    """A recipe of files, to be spoilt."""
    shutil.copytree(rendered, tmp_path / "D")
    counting.write_text(CITY)
    return counting


def file_of(kind: str, split: str, index: int) -> Path:
    folder, end = {
        "image": ("leftImg8bit", "leftImg8bit"),
        "labels": ("gtFine", "gtFine_labelIds"),
        "disparity": ("disparity", "disparity"),
    }[kind]
    return Path(f"D/{folder}/{split}/streets/streets_{index:06d}_000000_{end}.png")


@pytest.mark.parametrize("workers", [1, 2])
def test_good_data_are_described_and_drawn(counting, tmp_path, capfd, workers) -> None:
    code, out, err = run(capfd, "data", "check", counting, "--workers", workers)
    assert code == 0
    assert "counted: samples of 32×64; train 6, val 2" in out
    for word in ("segmentation ", "depth ", "flat ", "distances "):
        assert f"\n{word}" in out
    assert "normals" not in out and "leakage" not in out
    assert "6 of 6" in out
    assert "reading" in err and "8/8" in err and "reading" not in out
    assert f"pictures     {Path('counting-data.png')}" in out
    with Image.open(tmp_path / "counting-data.png") as sheet:
        assert sheet.width > 3 * 256 and sheet.height > 6 * 128
    assert not (tmp_path / "cache").exists()  # nothing is kept


def test_all_labels_a_split_and_a_limit(counting, tmp_path, capfd) -> None:
    words = ("--all-labels", "--split", "train", "--limit", 2, "--workers", 1, "--out", "x.png")
    code, out, _ = run(capfd, "data", "check", counting, *words)
    assert code == 0
    assert "train 2 of 6" in out and " val " not in out
    for name in ("normals", "boundary", "camera"):
        assert f"\n{name} " in out
    assert [p.name for p in tmp_path.glob("*.png")] == ["x.png"]


def test_sizes_and_shared_images_of_files_are_told(city, capfd) -> None:
    shutil.copy(file_of("image", "train", 1), file_of("image", "val", 0))
    code, out, _ = run(capfd, "data", "check", city, "--workers", 1)
    assert code == 0
    assert "  train files: image 32×64 ×4, disparity 32×64 ×4, labels 32×64 ×4" in out
    assert "leakage: 1 validation image with the very pixels of a training image:" in out
    assert str(file_of("image", "train", 1)) in out and str(file_of("image", "val", 0)) in out


def test_every_bad_file_is_named_and_the_exit_code_is_4(city, tmp_path, capfd) -> None:
    for kind, index in (("image", 0), ("labels", 2), ("disparity", 2)):
        path = file_of(kind, "train", index)
        path.write_bytes(path.read_bytes()[:120])
    with Image.open(file_of("image", "train", 3)) as picture:
        small = picture.resize((32, 16))
    small.save(file_of("image", "train", 3))
    code, out, err = run(capfd, "data", "check", city, "--workers", 2)
    assert code == 4
    assert "image 32×64 ×3 and 16×32 ×1" in out
    assert f"{file_of('image', 'train', 3)} is 16×32; most are 32×64" in out
    for kind, index in (("image", 0), ("labels", 2), ("disparity", 2), ("labels", 3)):
        assert f"  {file_of(kind, 'train', index)}: " in out
    assert "5 problems with files or samples:" in out
    assert "3 of 6 samples cannot be used; they are named above" in err
    assert (tmp_path / "counting-data.png").exists()  # what can be read is drawn


def test_data_that_is_not_there_is_told_before_anything_is_read(city, tmp_path, capfd) -> None:
    shutil.rmtree(tmp_path / "D" / "gtFine" / "val")
    code, out, err = run(capfd, "data", "check", city)
    assert code == 4 and "lacks gtFine/val" in err and not out
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("out", ["nowhere/x.png", "."])
def test_a_sheet_that_has_no_place_is_told_before_anything_is_read(
    counting, tmp_path, capfd, out
) -> None:
    code, _, err = run(capfd, "data", "check", counting, "--out", out)
    assert code == 2 and f"--out: {out!r}: give a PNG file in a folder that exists" in err
    assert not (tmp_path / "decoded").exists()


@pytest.mark.slow
def test_ctrl_c_ends_it_in_words(counting, tmp_path) -> None:
    words = ("--set", "data.train=200", "--set", "data.seconds=0.1", "--workers", "2")
    with start(tmp_path, "data", "check", counting, *words) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "decoded").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped before all was read; nothing was written" in err and "Traceback" not in err
    assert not list(tmp_path.glob("*.png"))
