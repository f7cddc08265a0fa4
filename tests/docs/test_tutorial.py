"""The tutorial from top to bottom: what it shows works, is short, and leaves mtlkit as it is."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks, command, small, write_files
from fixtures.commands import forget_plugins
from fixtures.environments import call, environment, pip

PAGE = ROOT / "docs" / "tutorial.md"
STEPS = [block for block in blocks() if block.page == PAGE]
LINES, FILES = 80, 3


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, as the page's reader has it."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    forget_plugins(modules)


def state_of_mtlkit() -> dict[str, str]:
    """Return every source file of mtlkit and its plugins, with its hash."""
    files = [path for part in ("mtlkit", "plugins") for path in (ROOT / part).rglob("*.py")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def written(folder: Path) -> dict[str, int]:
    """Return the files that an author wrote, and their lines."""
    ends = (".py", ".yaml", ".toml")
    files = [path for path in folder.iterdir() if path.suffix in ends]
    return {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}


def follow(step: Block, capfd: pytest.CaptureFixture[str]) -> str:
    """Do what a block says, its runs made small; return what its last command printed."""
    said = ""
    if step.file is not None:
        Path(step.file).write_text(step.text, encoding="utf-8")
    for line in step.text.splitlines() if step.language == "console" else ():
        program, *words = shlex.split(line)
        capfd.readouterr()
        if program == "mtlkit":
            extra = small() if words[0] == "run" else []
            assert command(*words, *extra) == 0, (line, capfd.readouterr().err)
        elif program == "python":
            done = subprocess.run([sys.executable, *words], check=False, capture_output=True)
            assert done.returncode == 0, (line, done.stdout)
        said = capfd.readouterr().out
    return said


def test_the_tutorial_trains_a_new_task_in_three_files_and_80_lines(
    empty: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    before, said = state_of_mtlkit(), ""
    end = next(i for i, step in enumerate(STEPS) if step.file == "pyproject.toml")
    for step in STEPS[:end]:
        if step.mark == "prints":
            assert said == step.text
        else:
            said = follow(step, capfd)
    assert state_of_mtlkit() == before
    assert len(written(empty)) == FILES and sum(written(empty).values()) <= LINES, written(empty)
    alone, beside = sorted((empty / "runs" / "depth_order").iterdir())
    assert (alone / "predictions.png").is_file() and (beside / "predictions.png").is_file()
    lines = [json.loads(line) for line in (beside / "metrics.jsonl").read_text().splitlines()]
    validation = [line["metrics"] for line in lines if line["split"] == "val"][-1]
    assert 0 <= validation["depth_order/wrong"] <= 1
    train = [line["metrics"] for line in lines if line["split"] == "train"][-1]
    edges = [name for name in train if name.endswith("/xtc")]
    assert len(edges) == 6 and len([name for name in edges if "depth_order" in name]) == 4


@pytest.mark.slow
def test_the_tutorial_makes_a_package_that_is_found(empty: Path) -> None:
    assert command("new", "task", "depth_order") == 0
    write_files(empty, PAGE)
    published = {name: n for name, n in written(empty).items() if not name.endswith(".yaml")}
    assert len(published) == FILES and sum(published.values()) <= LINES, published
    python, said = environment(empty / "venv"), {}
    console = [step for step in STEPS if step.language == "console"][-1]
    for line in console.text.splitlines():
        program, *words = shlex.split(line)
        if program == "pip":
            pip(python, empty, *words)
        else:  # -P: what is installed, and not the file in this folder
            done = call(python, empty, "-P", "-m", program, *words)
            assert done.returncode == 0, done.stdout + done.stderr
            said[words[0]] = done.stdout
    assert "task depth_order" in said["plugins"] and "mtlkit-depth-order" in said["plugins"]
    assert "good. 3 tasks, 6 edges" in said["check"]
