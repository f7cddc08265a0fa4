"""Fixtures that every test may use: caches and run folders of its own, fixed seeds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from fixtures.tiny import TINY

import mtlkit

# consoles keep a width that the environment names when they are made, as that of xdist does
os.environ.pop("COLUMNS", None)
import mtlkit.actions

FIXTURES = Path(__file__).parent / "fixtures"
collect_ignore = ["fixtures/third_party"]  # tested once it is installed


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for the whole session: scenes are rendered once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _alone(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test from the user's cache and from the seeds of others."""
    monkeypatch.setenv("MTLKIT_CACHE", str(shared_cache))
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A recipe file: XTasC-Net on six scenes of 32×64 pixels."""
    shutil.copy(FIXTURES / "tiny_encoder.py", tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def recipe(tiny: Path) -> mtlkit.Recipe:
    """The recipe of `tiny`."""
    return mtlkit.load_recipe(tiny, blocked=["progress"])
