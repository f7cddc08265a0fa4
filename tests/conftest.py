"""Fixtures that every test may use: caches and run folders of its own, fixed seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import mtlkit

FIXTURES = Path(__file__).parent / "fixtures"
TINY = """
name: tiny
seed: 3
data: {type: streets, size: [32, 64], train: 6, val: 3}
loader: {batch_size: 2}
plugins: [tiny_encoder.py]
encoder: {type: tiny}
architecture: {type: shared_encoder, width: 8}
tasks:
  segmentation: {classes: 7}
  depth: {loss: l1}
edges:
  - {from: segmentation, to: depth, type: xtc, weight: 0.01, widths: [4, 8]}
  - {from: depth, to: segmentation, type: xtc, weight: 0.01, widths: [4, 8]}
weighting: {type: uncertainty, form: xtasc}
optimizer: {type: adam, lr: 1.0e-3, betas: [0.9, 0.99]}
schedule: {type: step, every: 80, gamma: 0.5}
train:
  epochs: 2
  device: cpu
  precision: fp32
  keep_best: {metric: loss/total, mode: min}
  log_every: 1
  pictures: 2
"""


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
