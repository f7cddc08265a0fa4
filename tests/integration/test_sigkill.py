"""A run that dies without warning."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from kill_and_resume import differing, killed_and_whole


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "workers"), [("fp32", 0), ("bf16", 2)])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    tiny: Path, tmp_path: Path, precision: str, workers: int
) -> None:
    random.seed(workers)
    settings = [
        "data.train=24",
        "train.epochs=3",
        "train.checkpoint_every=2",
        "train.threads=1",
        f"train.precision={precision}",
        f"loader.workers={workers}",
    ]
    whole, broken, killed = killed_and_whole(tiny, settings, 5, 6, tmp_path / "runs")
    assert killed >= 3
    assert differing(whole, broken) == []
    lines = [len((folder / "metrics.jsonl").read_text().splitlines()) for folder in (whole, broken)]
    assert lines == [42, 42]
