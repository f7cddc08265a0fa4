"""`mtlkit profile` and benchmarks on a CUDA device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.tiny import load
from typer.testing import CliRunner

import mtlkit
from mtlkit_plugins.commands._profile.study import Study, Wish
from mtlkit_plugins.commands.profile import app

pytestmark = pytest.mark.cuda
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WAITING = "waiting for the host"
PARTS = {"encoder", "decoder of segmentation", "decoder of depth"}


@pytest.mark.parametrize("method", ["uncertainty", "pcgrad"])
def test_every_part_has_the_time_of_its_kernels_and_the_rest_is_waiting(
    tiny: Path, device: str, method: str
) -> None:
    run = mtlkit.Run(load(tiny, train__device=device, weighting={"type": method}))
    study = Study(run, Wish(steps=2, warmup=1))
    for _ in study.steps():
        pass
    chart = study.chart()
    rows = {row.label: row for row in chart.rows}
    assert rows.keys() >= PARTS | {"data", "losses", "weighting", "optimizer"}
    for part in PARTS:
        assert rows[part].forward_seconds > 0 and rows[part].backward_seconds > 0
    assert chart.rows[-1].label == ("between the phases" if device == "cpu" else WAITING)
    # kernels of a queue do not overlap, so that their times add up to no more than the step
    assert sum(row.seconds for row in chart.rows) == pytest.approx(chart.seconds, rel=0.05)
    assert 0 < chart.mfu < 1 and chart.memory is not None and chart.memory > 0


def test_the_command_prints_where_the_time_goes_and_keeps_the_kernels(
    tiny: Path, tmp_path: Path, gpu: str
) -> None:
    options = ["--steps", "2", "--warmup", "1", "--device", gpu, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [str(tiny), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert all(words in result.stdout for words in (*PARTS, WAITING, "most memory of the device"))
    (path,) = tmp_path.glob("tiny-profile/*/trace.json")
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "judged"), [("training_step", 6), ("inference", 2), ("evaluation", 1)]
)
def test_benchmarks_run_and_compare_the_same_numbers(device: str, name: str, judged: int) -> None:
    options = ["--device", device, "--quick", "--rounds", "1", "--images", "2"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    verdicts = [x for x in done.stdout.splitlines() if "meets" in x or "misses by" in x]
    assert len(verdicts) == judged, done.stdout
