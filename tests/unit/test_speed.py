import json
import math

import pytest
import torch

import mtlkit
from mtlkit.device import place
from mtlkit.flops import step_flops
from mtlkit.speed import matrix_peak
from mtlkit.stopwatch import OTHER, PHASES, HostClock


class Hand:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_speed_shares_and_mfu_are_those_of_the_time_and_images_since_the_last_line(recipe):
    run, hand = mtlkit.Run(recipe), Hand()
    run.learner.watch.clock = HostClock(hand)
    needed, peak = step_flops(recipe, run.reach, 0), matrix_peak(run.placement)
    run.speed.read_line()
    for seconds, images in ((4.0, 8), (40.0, 16)):
        hand.now += 0.0625 * seconds  # what comes after a line: trackers, checkpoints
        for phase, share in (("data", 0.125), ("forward", 0.25), ("backward", 0.5)):
            with run.learner.watch(phase):
                hand.now += share * seconds
        hand.now += 0.0625 * seconds
        run.speed.count(images)
        line = run.speed.read_line()
        assert line["images_per_second"] == images / seconds
        assert [line[name] for name in PHASES] == [0.125, 0.25, 0.5, 0.0, 0.0]
        assert line[OTHER] == 0.125
        assert line["mfu"] == pytest.approx(images * needed / seconds / peak)


@pytest.mark.parametrize("weighting", ["{type: famo}", "{type: pcgrad}"])
def test_the_lines_of_a_run_have_shares_that_sum_to_one(tiny, tmp_path, weighting):
    settings = {"weighting": weighting, "train.epochs": "1"}
    recipe = mtlkit.load_recipe(tiny, overrides=settings, blocked=["progress"])
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    run.fit()
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [x["metrics"] for x in map(json.loads, lines) if x["split"] == "train"]
    assert len(found) == 3
    for line in found:
        shares = [line[f"speed/{name}"] for name in (*PHASES, OTHER)]
        assert math.fsum(shares) == pytest.approx(1)
        assert all(share > 0 for share in shares[:-1])
        assert line["speed/images_per_second"] > 0 and line["speed/mfu"] > 0


def test_the_matrix_peak_is_measured_once_and_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    low, full = (matrix_peak(place("cpu", precision)) for precision in ("bf16", "fp32"))
    assert torch.equal(torch.get_rng_state(), before)
    assert low > 1e9 and full > 1e9
    assert matrix_peak(place("cpu", "fp32")) == full


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
def test_on_a_gpu_the_lines_of_a_run_have_shares_that_sum_to_one(tiny, tmp_path):
    settings = {"train.device": "cuda", "train.precision": "auto", "train.epochs": "1"}
    recipe = mtlkit.load_recipe(tiny, overrides=settings, blocked=["progress"])
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    run.fit()
    assert matrix_peak(run.placement) > 1e12
    line = json.loads((run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[1])
    shares = [line["metrics"][f"speed/{name}"] for name in (*PHASES, OTHER)]
    assert math.fsum(shares) == pytest.approx(1, abs=1e-3) and shares[1] > 0
    assert 0 < line["metrics"]["speed/mfu"] < 1
