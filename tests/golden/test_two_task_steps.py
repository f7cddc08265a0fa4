"""Two tasks and a pair of edges learn as they did before there were graphs of N.

The numbers are the losses of the last batch of three steps of two batches each, in float64, made
by the code as it was before paths, phases and drawn edges.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures import two_ranks

EXPECTED = json.loads((Path(__file__).parent / "two_task_steps.json").read_text())


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_three_steps_of_two_tasks_give_the_losses_that_they_always_gave(tiny, method):
    learner = two_ranks.learner_of(tiny, "xtascnet", method, 2)
    for number, expected in enumerate(EXPECTED[method]):
        losses = learner.step(two_ranks.parts_of(number), number + 1, 1.0)
        found = {n: float(x.detach()) for n, x in {**losses.tasks, **losses.terms}.items()}
        assert found == pytest.approx(expected, rel=1e-5)
