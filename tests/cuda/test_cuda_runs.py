"""Whole runs on a CUDA device: in fp16, stopped and resumed, fed by workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fixtures.tiny import load
from torch import Tensor, nn

import mtlkit
from mtlkit.ahead import ahead

pytestmark = pytest.mark.cuda
BRIEF = {"train__keep_best": None, "train__pictures": 0}


@pytest.mark.parametrize("method", ["uncertainty", "pcgrad", "graddrop"])
def test_a_run_in_fp16_learns_what_one_in_fp32_does_and_goes_on_with_its_scale(
    tiny: Path, tmp_path: Path, device: str, method: str
) -> None:
    settings = {"train__device": device, "weighting": {"type": method}, **BRIEF}
    low, full = (
        mtlkit.Run(load(tiny, **settings, train__precision=x), out=tmp_path)
        for x in ("fp16", "fp32")
    )
    scaler = low.learner.mover.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**10})  # no step overflows
    losses, expected = (
        {n: x for n, x in run.fit().last.items() if n.startswith("loss/")} for run in (low, full)
    )
    assert len(losses) > 2
    assert losses == pytest.approx(expected, rel=0.1)
    assert scaler.state_dict()["_growth_tracker"] == low.position.step == 6  # all were taken
    settings |= {"train__precision": "fp16", "train__epochs": 3}
    resumed = mtlkit.Run(load(tiny, **settings), resume=low.folder)
    assert resumed.learner.mover.scaler.state_dict() == scaler.state_dict()
    assert resumed.fit().step == 9
    assert all(x.isfinite().all() for x in resumed.model.parameters())


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a device add in the same order every time."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("method", ["uncertainty", "graddrop"])
def test_a_resumed_run_with_dropout_is_the_undisturbed_one_bit_for_bit(
    tiny: Path, tmp_path: Path, device: str, method: str
) -> None:
    settings = {"train__device": device, "weighting": {"type": method}, **BRIEF}

    def fitted(epochs: int, folder: Path | None = None) -> mtlkit.Run:
        recipe = load(tiny, train__epochs=epochs, **settings)
        run = mtlkit.Run(recipe, out=tmp_path, resume=folder)
        for stage in run.model.architecture.encoder.stages:
            stage.append(nn.Dropout(0.5))
        run.fit()
        return run

    whole, half = fitted(2), fitted(1)
    torch.manual_seed(99)  # of the device's generator, too
    rest = fitted(2, half.folder)
    for name, x in whole.model.state_dict().items():
        assert torch.equal(rest.model.state_dict()[name], x), name


def test_batches_that_workers_pin_arrive_as_those_of_no_workers(tiny: Path, device: str) -> None:
    found = []
    for workers in (0, 2):
        run = mtlkit.Run(load(tiny, train__device=device, loader__workers=workers))
        loader, order = run.loader("train")
        order.begin_at(1, 0)
        batches = list(loader)
        assert all(x.is_pinned() is (device != "cpu") for batch in batches for x in tensors(batch))
        parts = ahead(([x] for x in batches), run.learner.ready, run.placement.device)
        found.append([x for (batch,) in parts for x in tensors(batch)])
    assert len(found[0]) == len(found[1]) >= 3 * 5
    for x, same in zip(*found, strict=True):
        assert x.device.type == device
        assert torch.equal(x, same)


def tensors(batch: mtlkit.Batch) -> list[Tensor]:
    """Return the image, then values and masks of every label."""
    labels = [batch.labels[name] for name in sorted(batch.labels)]
    return [batch.image, *(x for label in labels for x in (label.value, label.valid))]
