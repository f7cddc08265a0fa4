"""What every edge promises, on every ordered pair of map tasks."""

from __future__ import annotations

import itertools

import pytest
from arguments import checked, make, registered

from mtlkit.testing import EDGE

MAPS = {
    name: make("task", name, name=name)
    for name, offered in registered("task").items()
    if not offered.vector
}
MAPS["far"] = make("task", "depth", name="far")  # an edge joins two tasks of one type too
PAIRS = list(itertools.permutations(MAPS, 2))
SOME = [("segmentation", "depth"), ("depth", "segmentation")]  # where options are tried
CASES = [
    pytest.param(*case.values, *pair, id="-".join((str(case.id), *pair)))
    for case in checked(EDGE)
    for pair in (SOME if case.values[1] else PAIRS)
]


@pytest.mark.parametrize(("name", "fields", "check", "source", "target"), CASES)
def test_an_edge_keeps_its_promises(name, fields, check, source, target):
    edge = make("edge", name, **{"from": source, "to": target, **fields})
    check(edge, MAPS[source], MAPS[target])
