"""The benchmarks run, refuse unequal ways, and judge what they measured."""

from __future__ import annotations

import os
import re
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
import torch

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


@pytest.fixture
def torchjd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The smallest arguments of weighting_step.py, which compares with an extra."""
    pytest.importorskip("torchjd")
    monkeypatch.setenv("CITYSCAPES_ROOT", "unused")  # the script would set it for good
    return ["--quick", "--rounds", "1", "--tasks", "2"]


def verdicts(lines: list[str]) -> list[str]:
    """What the lines judge."""
    return [line.split("  ")[1] for line in lines if "meets" in line or "misses by" in line]


def quick_case(load: Load) -> object:
    return load("_xtasc").Case(images=2, device="cpu", threads=1, is_quick=True)


@pytest.mark.parametrize("way", ["fp32", "bf16"])
def test_the_steps_have_the_losses_of_the_naive_step(load, way: str) -> None:
    script = load("training_step")
    steps = {name: script.build_step(name, quick_case(load)) for name in ("naive", way)}
    losses = {name: [script.floats(step()), script.floats(step())] for name, step in steps.items()}
    assert set(losses["naive"][0]) == {"segmentation", "depth"}
    assert losses["naive"][0] != losses["naive"][1]  # the step moved the weights
    script.check(losses)


@pytest.mark.parametrize(
    ("way", "number", "allowed", "refused"),
    [
        ("fp32", 0, 5e-6, 1e-4),
        ("fp32", 1, 5e-4, 1e-2),
        ("bf16", 0, 2e-2, 4e-2),
        ("bf16", 1, 2e-2, 4e-2),
    ],
)
def test_steps_of_other_losses_are_refused(load, way, number, allowed, refused) -> None:
    script = load("training_step")
    losses = {name: [{"depth": 0.5}, {"depth": 0.4}] for name in ("naive", way)}
    losses[way][number]["depth"] *= 1 + allowed
    script.check(losses)
    losses[way][number]["depth"] = losses["naive"][number]["depth"] * (1 + refused)
    with pytest.raises(AssertionError, match=f"{way}, step {number + 1}: the loss of depth is"):
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
    for way, factor in {"bf16": 1.3, "fp32": 1.001}.items():
        predictions[way]["depth"] = predictions[way]["depth"] * factor
        with pytest.raises(AssertionError, match=f"depth: {way} differs from the naive prediction"):
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
    ratios = script.over([2.0, 4.0, 3.0, 3.0, 3.0], [10.0] * 5)
    words = script.at_most("a / b", ratios, 0.3).split()
    assert " ".join(words) == "a / b 0.30 (0.20 to 0.40) ≤ 0.30: meets"
    assert script.at_most("a / b", ratios, 0.2).endswith("≤ 0.20: misses by 50%")
    assert script.at_least("a / b", ratios, 0.3).endswith("≥ 0.30: meets")
    assert script.at_least("a / b", ratios, 0.6).endswith("≥ 0.60: misses by 50%")


def test_a_verdict_of_few_rounds_says_so_and_one_of_a_single_measurement_does_not(load) -> None:
    script = load("_verdicts")
    line = script.at_most("a / b", [0.2] * 4, 0.3)
    assert line.endswith("≤ 0.30: meets, with 4 of the 5 rounds that it takes")
    line = script.at_least("a / b", [0.2], 0.4)
    assert line.endswith("≥ 0.40: misses by 50%, with 1 of the 5 rounds that it takes")
    assert script.at_most("a / b, peak", 0.2, 0.3).endswith("≤ 0.30: meets")
    assert script.untargeted("a / b", [0.2]).endswith("0.20")


@pytest.mark.slow
def test_weightings_are_judged_against_their_rivals_in_every_part(lines, torchjd) -> None:
    asked = [*torchjd, "--threads", "1", "--no-peaks", "--methods", "equal", "pcgrad"]
    judged = verdicts(lines("weighting_step", *asked))
    rivals = [line.removeprefix("pcgrad / ").split()[0] for line in judged]
    assert rivals == ["equal", "plain", "torchjd", "plain", "torchjd"]


def test_weightings_of_other_gradients_are_refused(load, torchjd, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["weighting_step.py", *torchjd])
    script = load("weighting_step")
    _, part, _ = script.parts(script.parse())
    stages = {way: part.stage(way) for way in ("mtlkit", "plain")}
    script.check(stages, ["pcgrad"])
    with torch.no_grad():
        stages["plain"].shared[-1].add_(0.1)
    with pytest.raises(AssertionError, match="pcgrad: plain differs by"):
        script.check(stages, ["pcgrad"])


@pytest.mark.slow
def test_the_memory_of_a_weighting_is_measured_in_a_process_of_its_own(
    load, torchjd, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["weighting_step.py", *torchjd])
    script = load("weighting_step")
    _, part, _ = script.parts(script.parse())
    assert 1 < script.memory(part, ("torchjd one", "pcgrad")) < 2000


@pytest.mark.slow
def test_twice_the_tasks_are_judged_where_edges_are_drawn(lines) -> None:
    asked = ["--quick", "--rounds", "1", "--threads", "1", "--no-peaks", "--tasks", "1", "2"]
    assert verdicts(lines("task_scaling", *asked)) == ["N a step, 2 over 1 tasks"]


def test_tasks_have_an_edge_to_each_other_and_as_many_as_tasks_are_drawn(load, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["task_scaling.py", "--quick"])
    script = load("task_scaling")
    recipes = {way: script.recipe_of((5, way), script.parse()) for way in script.WAYS}
    assert [len(recipe.all_edges) for recipe in recipes.values()] == [0, 20, 20]
    assert [recipe.train.edges_per_step for recipe in recipes.values()] == [None, None, 5]


@pytest.mark.slow
def test_the_memory_of_many_tasks_is_measured_in_a_process_of_its_own(load, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["task_scaling.py", "--quick", "--threads", "1"])
    script = load("task_scaling")
    assert 1 < script.memory((2, "all pairs"), script.parse()) < 2000


@pytest.mark.slow
def test_ranks_are_timed_over_the_same_images_and_over_twice_as_many(lines) -> None:
    asked = ["--quick", "--rounds", "1", "--steps", "1", "--threads", "1"]
    _, *rows = lines("scaling_ranks", *asked)
    assert [row[:25].split() for row in rows] == [
        ["one", "rank", "1", "4"],
        ["same", "a", "step", "2", "4"],
        ["same", "a", "rank", "2", "8"],
    ]
    assert rows[0].endswith(" 1.00")
    assert all(float(row.split()[-1]) > 0 for row in rows)


@pytest.mark.slow
def test_every_cache_reads_files_and_is_told_as_times_of_the_plain_reader(lines) -> None:
    asked = ["--quick", "--images", "2", "--names", "1", "--workers", "0", "--rounds", "1"]
    _, *rows = (line.split() for line in lines("data_loading", *asked))
    assert [row[0] for row in rows] == ["plain", "none", "ram", "disk"]
    assert rows[0][-1] == "1.0"
    assert all(float(number) > 0 for row in rows for number in row[1:3])


def test_a_scene_of_each_kind_is_rendered_and_judged(lines) -> None:
    found = lines("scene_rendering", "--scenes", "1", "--repeats", "1")
    assert [line.split(":")[0] for line in found] == ["streets", "rooms"]
    assert all(re.search(r" (meets|misses) 100 ms$", line) for line in found)


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
    assert found.line.endswith("left behind: processes sleep, temporary files left.txt")


def test_a_run_is_judged_by_its_exit_code_and_by_what_it_leaves_behind(load) -> None:
    ended = load("long_run").Ended
    line = ended(130, [], [], []).verdict("after Ctrl-C", 130)
    assert line.split("  ")[1] == "after Ctrl-C"
    assert line.endswith("exit code 130, left behind: nothing: meets")
    assert ended(0, [], [], []).verdict("after Ctrl-C", 130).endswith("nothing: misses")
    assert ended(130, [], ["psm_1"], []).verdict("", 130).endswith("memory psm_1: misses")


def test_a_long_run_of_few_steps_is_refused_in_words(lines, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        lines("long_run", "--steps", "20")
    told = capsys.readouterr().err
    assert told.endswith("argument --steps: 20 are too few, give at least 100\n")
