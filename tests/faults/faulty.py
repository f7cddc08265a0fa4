"""A table's row of a broken situation, and what every refusal has in common."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mtlkit import cli

RECIPE = """\
name: tiny
plugins: [tiny_encoder.py]
data: {type: streets, size: [32, 64], train: 2, val: 2}
loader: {batch_size: 2}
encoder: {type: tiny}
architecture: {type: shared_encoder, width: 8}
tasks:
  segmentation: {classes: 7}
  depth: {}
edges:
  - {from: segmentation, to: depth, type: xtc, widths: [4, 8]}
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-3}
schedule: {type: constant}
train: {epochs: 1, device: cpu, precision: fp32, pictures: 0}
"""
EDGE = "  - {from: segmentation, to: depth, type: xtc, widths: [4, 8]}\n"


@dataclass(frozen=True)
class Case:
    """A broken situation, the command that meets it, and what it must say."""

    name: str
    command: str
    code: int
    says: tuple[str, ...]
    recipe: str | bytes = RECIPE
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def edited(*changes: tuple[str, str]) -> str:
    """Return the good recipe with the first occurrence of each text replaced."""
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def wrong(name: str, key: str, old: str, new: str, *says: str, command: str = "check") -> Case:
    """Return the case of a recipe with one edit, told at the line of the edit."""
    text = edited((old, new))
    pairs = zip(RECIPE.split("\n"), text.split("\n"), strict=False)
    line = next(i for i, (a, b) in enumerate(pairs, 1) if a != b)
    says = (f"recipe.yaml:{line}: {key}: ", *says)
    return Case(name, f"{command} recipe.yaml", 2, says, text)


def run(command: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit code of a command line and all that it printed."""
    before = sys.argv
    sys.argv = ["mtlkit", *shlex.split(command)]
    try:
        cli.main()
    except SystemExit as leaving:
        assert isinstance(leaving.code, int)
        captured = capfd.readouterr()
        return leaving.code, captured.out + captured.err
    finally:
        sys.argv = before
    raise AssertionError("main() leaves by SystemExit")


def snapshot(folder: Path) -> dict[str, str]:
    """Return everything in a folder, files with their hash."""
    paths = [p for p in folder.rglob("*") if "__pycache__" not in p.parts]
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths
    }


def assert_told(code: int, said: str, case: Case) -> None:
    """Fail where the exit code is another, a fragment is missing, or it says too much."""
    assert code == case.code, said
    for fragment in case.says:
        assert fragment in said
    assert "Traceback" not in said and "this is a bug" not in said
    assert len(said.strip().split("\n")) <= 8
    assert max(map(len, said.split("\n"))) <= 600


def lay_out(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files of a case and set its environment."""
    recipe = case.recipe if isinstance(case.recipe, bytes) else case.recipe.encode()
    (folder / "recipe.yaml").write_bytes(recipe)
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
