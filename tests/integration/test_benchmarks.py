"""The benchmarks of steps, predictions, metrics and start-up run, and refuse unequal ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
QUICK = ["--quick", "--rounds", "1", "--images", "2", "--threads", "1"]
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """What imports a file of the folder by its name; none stays imported."""
    monkeypatch.syspath_prepend(FOLDER)
    yield import_module
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def lines(load: Load, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., list[str]]:
    """What runs a script with arguments and returns the lines that it prints."""

    def run(name: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        load(name).main()
        printed: str = capsys.readouterr().out
        return printed.splitlines()

    return run


def verdicts(lines: list[str]) -> list[str]:
    """What the lines judge."""
    return [line.split("  ")[1] for line in lines if "meets" in line or "misses by" in line]


def quick_case(load: Load) -> object:
    return load("_xtasc").Case(images=2, device="cpu", threads=1, is_quick=True)


def test_the_steps_in_fp32_have_the_losses_of_the_naive_step(load) -> None:
    script = load("training_step")
    steps = {way: script.build_step(way, quick_case(load)) for way in ("naive", "fp32")}
    losses = {way: [script.floats(step()), script.floats(step())] for way, step in steps.items()}
    assert set(losses["naive"][0]) == {"segmentation", "depth"}
    assert losses["naive"][0] != losses["naive"][1]  # the step moved the weights
    script.check(losses)


@pytest.mark.parametrize(("number", "factor"), [(0, 1 + 1e-4), (1, 1 + 1e-2)])
def test_steps_of_other_losses_are_refused(load, number: int, factor: float) -> None:
    script = load("training_step")
    losses = {way: [{"depth": 0.5}, {"depth": 0.4}] for way in ("naive", "fp32")}
    script.check(losses)
    losses["fp32"][number]["depth"] *= factor
    with pytest.raises(AssertionError, match=f"fp32, step {number + 1}: the loss of depth is"):
        script.check(losses)


@pytest.mark.slow
def test_the_training_step_is_judged_by_time_and_share_of_the_peak(lines) -> None:
    assert verdicts(lines("training_step", *QUICK, "--no-peaks")) == [
        "fp32 / naive",
        "bf16 / naive",
        "bf16 / naive, goal",
        "bf16, share of the GEMM's rate",
    ]


@pytest.mark.slow
def test_the_memory_of_a_way_is_measured_in_a_process_of_its_own(load, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training_step.py", *QUICK])
    script = load("training_step")
    peak = script.memory("fp32", script.parse())
    assert 1 < peak < 2000  # MiB; torch itself is there before


def test_memory_is_held_against_the_naive_step(load) -> None:
    script = load("training_step")
    first, second = script.peak_verdicts({"naive": 100.0, "fp32": 90.0, "bf16": 84.0})
    assert first.endswith("≤ 0.90: meets")
    assert second.endswith("≤ 0.70: misses by 20%")


def test_inference_is_judged_in_both_precisions(lines) -> None:
    assert verdicts(lines("inference", *QUICK)) == ["fp32 / naive", "bf16 / naive"]


def test_other_predictions_are_refused(load) -> None:
    script = load("inference")
    predictions = {name: dict(way()) for name, way in script.build_ways(quick_case(load)).items()}
    script.check(predictions)
    predictions["fp32"]["depth"] = predictions["fp32"]["depth"] * 1.001
    with pytest.raises(AssertionError, match="depth: fp32 differs from the naive prediction"):
        script.check(predictions)


def test_metrics_are_judged_against_loops(lines) -> None:
    assert verdicts(lines("evaluation", *QUICK, "--batches", "1")) == ["mtlkit / loops"]


def test_loops_and_metrics_give_equal_numbers_of_every_kind(load) -> None:
    script = load("evaluation")
    ways = script.build_ways(quick_case(load), 2)
    numbers = {name: way() for name, way in ways.items()}
    assert len(numbers["loops"]) == 4 + 2 * 8
    assert 0.3 < numbers["loops"]["segmentation/miou"] < 1
    script.check(numbers)
    with pytest.raises(AssertionError, match="depth/rmse_m: mtlkit gives"):
        script.check(numbers | {"mtlkit": numbers["mtlkit"] | {"depth/rmse_m": 0.0}})


@pytest.mark.slow
def test_what_needs_no_torch_is_judged_against_importing_it(lines) -> None:
    judged = verdicts(lines("startup", "--rounds", "1", "--no-check"))
    assert judged == ["import mtlkit / import torch", "mtlkit --help / import torch"]


def test_a_verdict_tells_the_median_its_spread_and_by_how_much_it_misses(load) -> None:
    script = load("_verdicts")
    ratios = script.over([2.0, 4.0, 3.0], [10.0, 10.0, 10.0])
    assert script.at_most("a / b", ratios, 0.3).split()[3:] == [
        "0.30",
        "(0.20",
        "to",
        "0.40)",
        "≤",
        "0.30:",
        "meets",
    ]
    assert script.at_most("a / b", ratios, 0.2).endswith("≤ 0.20: misses by 50%")
    assert script.at_least("a / b", ratios, 0.3).endswith("≥ 0.30: meets")
    assert script.at_least("a / b", ratios, 0.6).endswith("≥ 0.60: misses by 50%")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="follows processes in /proc")
def test_a_long_run_keeps_no_file_open_and_leaves_nothing_behind(load) -> None:
    script = load("long_run")
    samples: list[Any] = []
    ended = script.train(100, samples)
    assert ended.code == 0 and not ended.is_any, ended.line
    assert samples[-1].step == 100
    files = [sample.files for sample in samples if 10 < sample.step < 100]
    assert median(files[-10:]) <= median(files[:10])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="follows processes in /proc")
def test_a_run_that_gets_ctrl_c_leaves_nothing_behind(load) -> None:
    ended = load("long_run").train(2000, [], stop_at=20)
    assert ended.code == 130 and not ended.is_any, ended.line


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="follows processes in /proc")
def test_what_a_run_leaves_behind_is_found(load, tmp_path) -> None:
    script = load("long_run")
    (tmp_path / "left.txt").touch()
    (tmp_path / "torchinductor_somebody").mkdir()
    before = script.shared_names()
    code = "import subprocess; subprocess.Popen(['sleep', '30'])"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        process.wait()
        found = script.remains(process, before, tmp_path)
        os.killpg(process.pid, signal.SIGKILL)
    assert (found.code, found.processes, found.temporary) == (0, ["sleep"], ["left.txt"])
    assert "1 processes sleep" in found.line and "1 temporary files left.txt" in found.line
