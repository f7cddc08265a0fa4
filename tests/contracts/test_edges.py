"""What every edge promises, with each map task as a source and as a target."""

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
RING = list(itertools.pairwise([*MAPS, next(iter(MAPS))]))  # each once a source, once a target
SOME = [("segmentation", "depth"), ("depth", "segmentation")]  # where options are tried
THE_LOSS = EDGE.check("the_loss_trains_network_and_source_and_never_the_target")


def pairs_of(fields, check):
    """Return the pairs on which a check is run: one check, of network and loss, on all."""
    if fields:
        return SOME
    return PAIRS if check == THE_LOSS else RING


CASES = [
    pytest.param(*case.values, *pair, id="-".join((str(case.id), *pair)))
    for case in checked(EDGE)
    for pair in pairs_of(*case.values[1:])
]


@pytest.mark.parametrize(("name", "fields", "check", "source", "target"), CASES)
def test_an_edge_keeps_its_promises(name, fields, check, source, target):
    edge = make("edge", name, **{"from": source, "to": target, **fields})
    check(edge, MAPS[source], MAPS[target])
