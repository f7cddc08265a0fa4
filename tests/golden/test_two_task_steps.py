"""Two tasks and a pair of edges learn as they did before there were graphs of N.

two_task_steps.json was first written from commit a4657da, before paths, phases and drawn edges, by
what is now make_two_task_steps.py. Writing it today gives the same text.
"""

from __future__ import annotations

import json

import pytest
from make_two_task_steps import FILE, METHODS, losses_of

EXPECTED = json.loads(FILE.read_text(encoding="utf-8"))


def test_every_method_is_in_the_file():
    assert sorted(METHODS) == sorted(EXPECTED)


@pytest.mark.parametrize("method", METHODS)
def test_three_steps_of_two_tasks_give_the_losses_that_they_always_gave(tiny, method):
    found = losses_of(tiny, method)
    assert len(found) == len(EXPECTED[method]) == 3
    for losses, expected in zip(found, EXPECTED[method], strict=True):
        # another machine may sum in another order
        assert losses == pytest.approx(expected, rel=1e-9)
