"""Steps on a CUDA device are those of the CPU, and wait for the device only where they must."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.device_steps import assert_same_lines, lines_of, run_of

pytestmark = pytest.mark.cuda
AT_GRADIENTS = ["pcgrad", "gradnorm", "db_mtl", "graddrop", "imtl"]
FEATURES = {"weighting": {"type": "mgda", "at": "features"}}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"weighting": {"type": name}} for name in ("uncertainty", "rlw", "famo")},
    **{name: {"weighting": {"type": name}} for name in ("pcgrad", "gradnorm", "db_mtl")},
    "features": FEATURES,
    "edge_norm": {"edges__0__edge_norm": "ema", "edges__1__edge_norm": "ema"},
    "recomputed": {"train__memory": "checkpoint"},
    "accumulated": {"train__accumulate": 2, "train__clip": 0.5},
    "accumulated rows": {"train__accumulate": 2, "weighting": {"type": "pcgrad"}},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_steps_on_the_device_are_those_of_the_cpu(
    tiny: Path, device: str, settings: dict[str, Any]
) -> None:
    there, here = (lines_of(run_of(tiny, name, **settings)) for name in (device, "cpu"))
    assert_same_lines(there, here)


def test_a_step_that_draws_on_the_device_sees_what_the_cpu_sees(tiny: Path, device: str) -> None:
    """A device's generator draws other numbers, so steps are alike up to the first draw."""
    there, here = (
        lines_of(run_of(tiny, name, weighting={"type": "graddrop"})) for name in (device, "cpu")
    )
    assert there[0] == pytest.approx(here[0], rel=1e-4, abs=1e-4)
    assert len({line["loss/total"] for line in there}) == len(there)
    assert all(math.isfinite(x) for line in there for x in line.values())


def test_two_runs_draw_the_same_on_the_device(tiny: Path, device: str) -> None:
    runs = [run_of(tiny, device, weighting={"type": "graddrop"}) for _ in range(2)]
    assert_same_lines(*map(lines_of, runs))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        *(({"weighting": {"type": name}}, []) for name in ("uncertainty", "rlw", "famo", "dwa")),
        ({"train__precision": "fp16", "train__clip": 1.0}, []),
        ({"train__memory": "checkpoint", "train__edges_per_step": 1}, []),
        ({"edges__0__edge_norm": "ema", "train__accumulate": 2}, []),
        (FEATURES, ["solution.py"]),
        *(({"weighting": {"type": name}}, ["solution.py"]) for name in AT_GRADIENTS),
    ],
    ids=str,
)
def test_a_step_waits_for_the_device_once_at_gradient_level_and_never_elsewhere(
    tiny: Path, gpu: str, settings: dict[str, Any], expected: list[str]
) -> None:
    run = run_of(tiny, gpu, train__log_every=99, **settings)
    batches = itertools.cycle(list(run.loader("train")[0]))

    def step() -> None:
        run.step(*itertools.islice(batches, run.recipe.train.accumulate))

    for _ in range(2):  # these make what later ones use again, and draw each edge once
        step()
    assert waits(step) + waits(step) == expected * 2


def test_a_wait_is_seen_and_tells_its_file(gpu: str) -> None:
    x = torch.ones(2, device=gpu)
    assert waits(lambda: x.sum()) == []
    assert waits(lambda: x.tolist()) == [Path(__file__).name]


def waits(work: Callable[[], object]) -> list[str]:
    """Return the files of which a line waits for the device; some do so in a backward pass."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # which itself warns of being a prototype
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    marked = [x for x in told if "called a synchronizing CUDA operation" in str(x.message)]
    return [Path(x.filename).name for x in marked]


@pytest.mark.skipif(
    "MTLKIT_TEST_COMPILE" not in os.environ, reason="takes minutes: MTLKIT_TEST_COMPILE=1 pytest"
)
@pytest.mark.parametrize("method", ["uncertainty", "pcgrad"])
def test_compiled_kernels_take_the_same_steps(tiny: Path, device: str, method: str) -> None:
    plain, compiled = (
        lines_of(run_of(tiny, device, train__compile=compiles, weighting={"type": method}))
        for compiles in (False, True)
    )
    torch.compiler.reset()
    assert_same_lines(compiled, plain)
