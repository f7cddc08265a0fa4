"""`train.compile`: the same model, part by part; torch's own compiler is not what is tested."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mtlkit
from mtlkit.errors import UsageError


def load(tiny: Path, **settings: Any) -> mtlkit.Recipe:
    changes = {key.replace("__", "."): value for key, value in settings.items()}
    return mtlkit.load_recipe(tiny, {"train.epochs": 1, **changes}, blocked=["progress"])


class Traced:
    """Compiles parts by another backend than that which takes minutes to make kernels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts = list[nn.Module]()
        self.backend: Any = "eager"
        compile_one = nn.Module.compile

        def traced(module: nn.Module, **options: Any) -> None:
            self.parts.append(module)
            compile_one(module, backend=self.backend, fullgraph=True, **options)

        monkeypatch.setattr(nn.Module, "compile", traced)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    yield Traced(monkeypatch)
    torch.compiler.reset()


@pytest.mark.parametrize("method", ["uncertainty", "pcgrad"])
def test_every_part_is_one_graph_and_a_run_ends_with_the_same_weights(
    tiny: Path, tmp_path: Path, compiler: Traced, method: str
) -> None:
    ends = []
    for compiles in (False, True):
        recipe = load(tiny, train__compile=compiles, weighting={"type": method})
        run = mtlkit.Run(recipe, out=tmp_path / "runs")
        assert run.fit().status == "done"
        ends.append(run.model.state_dict())
    assert len(compiler.parts) == 1 + 2 * 2 + 2  # encoder, trunks and heads, transfer networks
    assert list(ends[0]) == list(ends[1])
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_parts_that_no_loss_reaches_keep_no_gradient(
    tiny: Path, tmp_path: Path, compiler: Traced
) -> None:
    run = mtlkit.Run(load(tiny, train__compile=True, edges=[]), out=tmp_path / "runs")
    (batch,) = itertools.islice(run.loader("train")[0], 1)
    del batch.labels["depth"]
    run.step(batch)
    decoders = run.model.architecture.decoders
    assert all(p.grad is None for p in decoders["depth"].parameters())
    assert all(p.grad is not None for p in decoders["segmentation"].parameters())


def test_what_cannot_be_compiled_is_told_in_a_sentence(
    tiny: Path, tmp_path: Path, compiler: Traced
) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler is found")

    compiler.backend = fails
    run = mtlkit.Run(load(tiny, train__compile=True), out=tmp_path / "runs")
    (batch,) = itertools.islice(run.loader("train")[0], 1)
    for use in (lambda: run.step(batch), run.evaluate):
        with pytest.raises(UsageError, match=r"train.compile: .*no compiler is found.*: false"):
            use()


@pytest.mark.skipif(
    "MTLKIT_TEST_COMPILE" not in os.environ, reason="takes minutes: MTLKIT_TEST_COMPILE=1 pytest"
)
def test_kernels_of_the_compiler_give_the_same_losses(tiny: Path, tmp_path: Path) -> None:
    losses = []
    for compiles in (False, True):
        run = mtlkit.Run(load(tiny, train__compile=compiles), out=tmp_path / "runs")
        (batch,) = itertools.islice(run.loader("train")[0], 1)
        losses.append([float(x.detach()) for x in run.step(batch).tasks.values()])
    torch.compiler.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
