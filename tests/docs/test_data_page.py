"""What docs/data.md shows works, on rendered data."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_blocks import ROOT, write_files
from fixtures.commands import run

PAGE = ROOT / "docs" / "data.md"
FEW = ("--workers", 1, "--limit", 6)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the page's recipes, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    write_files(tmp_path, PAGE)
    return tmp_path


def settings(*words: str) -> list[str]:
    return [part for word in words for part in ("--set", word)]


def test_the_four_commands(page, capfd, monkeypatch) -> None:
    render = ("streets", "--out", "D", "--train", 4, "--val", 2, "--size", "32x64")
    assert run(capfd, "data", "render", *render, "--workers", 1)[0] == 0
    monkeypatch.setenv("CITYSCAPES_ROOT", "D")
    small = settings("data.size=[32,64]", "loader.workers=0", "loader.batch_size=2")
    small += settings("train.epochs=1", "train.device=cpu", "architecture.width=8")
    for command in (("check",), ("data", "check"), ("data", "prepare"), ("run",)):
        code, _, err = run(capfd, *command, "city.yaml", *small)
        assert code == 0, err
    assert (page / "city-data.png").is_file()
    code, out, _ = run(capfd, "data", "clear", "city.yaml", *small)
    assert code == 0 and out.startswith("deleted 2 files")


def test_several_data_sets(page, capfd) -> None:
    code, out, _ = run(capfd, "data", "check", "mixed.yaml", *FEW)
    assert code == 0
    assert "streets: samples of 64×128" in out and "indoors: samples of 64×128" in out
    assert "classes of things" in out
    rows = [line.split() for line in out.splitlines()]
    for name in ("segmentation", "things", "depth"):
        assert [name, "6", "of", "12", "50.0", "%"] in rows


def test_partial_labels(page, capfd) -> None:
    code, out, _ = run(capfd, "data", "check", "partial.yaml", "--split", "train")
    assert code == 0
    assert out.count(" 30 of 60  50.0 %") == 2


@pytest.mark.parametrize("recipe", ["mixed.yaml", "partial.yaml"])
def test_its_recipes_can_work(page, capfd, recipe) -> None:
    assert run(capfd, "check", recipe)[0] == 0
    small = settings("train.epochs=1", "train.pictures=1", "architecture.width=8")
    code, _, err = run(capfd, "run", recipe, *small)
    assert code == 0, err


def test_the_contact_sheet_is_small(page) -> None:
    assert (ROOT / "docs" / "images" / "contact_sheet.png").stat().st_size < 300_000
