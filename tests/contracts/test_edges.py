"""What every edge promises, on every ordered pair of map tasks."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from arguments import label_of, make, prediction_of, registered, variants

import mtlkit

MAPS = {
    name: make("task", name, name=name)
    for name, offered in registered("task").items()
    if not offered.vector
}
MAPS["far"] = make("task", "depth", name="far")  # an edge joins two tasks of one type too
PAIRS = pytest.mark.parametrize(("source", "target"), list(itertools.permutations(MAPS, 2)))
EVERY = pytest.mark.parametrize(("name", "fields"), variants("edge"))
PLAIN = pytest.mark.parametrize("name", registered("edge"))
SIZE = (9, 14)


def edge_of(name, source, target, fields=None):
    return make("edge", name, **{"from": source, "to": target}, **(fields or {}))


def transfer_of(edge, labelled=True):
    """Return both ends of an edge with live predictions, its network and what it transfers."""
    source, target = MAPS[edge.source], MAPS[edge.target]
    torch.manual_seed(0)
    network = edge.build_network(source, target)
    predictions = [
        prediction_of(t, i, size=SIZE).requires_grad_() for i, t in enumerate((source, target))
    ]
    read = predictions[0].detach() if edge.detach_input else predictions[0]
    transferred = network(source.as_input(read))
    labels = [label_of(task, size=SIZE) if labelled else None for task in (source, target)]
    ends = [
        mtlkit.End(task, prediction, label, is_labelled=labelled)
        for task, prediction, label in zip((source, target), predictions, labels, strict=True)
    ]
    return mtlkit.Transfer(*ends, network, transferred)


@PAIRS
@PLAIN
@pytest.mark.parametrize("size", [(16, 32), (33, 47), (5, 6)])
def test_the_network_turns_one_prediction_into_the_other(name, source, target, size):
    edge = edge_of(name, source, target)
    network = edge.build_network(MAPS[source], MAPS[target])
    prediction = prediction_of(MAPS[source], size=size)
    with torch.no_grad():
        transferred = network(MAPS[source].as_input(prediction))
    assert transferred.shape == prediction_of(MAPS[target], size=size).shape


@PAIRS
@EVERY
def test_the_loss_trains_the_network_and_its_source_and_never_the_target(
    name, fields, source, target
):
    edge = edge_of(name, source, target, fields)
    transfer = transfer_of(edge)
    loss = edge.loss(transfer)
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    assert transfer.target.prediction.grad is None
    assert any(bool(p.grad.any()) for p in transfer.network.parameters() if p.grad is not None)
    grad = transfer.source.prediction.grad
    if edge.detach_input:
        assert grad is None
    else:
        assert grad.isfinite().all() and grad.any()


@PAIRS
@EVERY
def test_the_loss_is_zero_on_the_graph_where_nothing_can_be_compared(name, fields, source, target):
    edge = edge_of(name, source, target, fields)
    transfer = transfer_of(edge, labelled=False)
    loss = edge.loss(transfer)
    assert loss.requires_grad
    if edge.applies(transfer):
        assert loss.isfinite()
        return
    assert loss == 0
    loss.backward()
    assert all(not p.grad.any() for p in transfer.network.parameters() if p.grad is not None)


@PAIRS
@EVERY
def test_the_loss_runs_without_values(name, fields, source, target):
    edge = edge_of(name, source, target, fields)
    tasks = MAPS[source], MAPS[target]
    with torch.device("meta"):
        network = edge.build_network(*tasks)
        ends = []
        for task in tasks:
            label = label_of(task, size=SIZE)
            meta = mtlkit.Label(label.value.to("meta"), label.valid.to("meta"))
            prediction = torch.empty(2, task.channels, *SIZE, requires_grad=True)
            ends.append(mtlkit.End(task, prediction, meta, is_labelled=True))
        transferred = network(tasks[0].as_input(ends[0].prediction))
        loss = edge.loss(mtlkit.Transfer(*ends, network, transferred))
    assert loss.is_meta and loss.shape == () and loss.requires_grad


@PAIRS
@PLAIN
def test_explain_names_both_ends(name, source, target):
    text = edge_of(name, source, target).as_maths(MAPS[source], MAPS[target])
    assert source in text and target in text and "\n" not in text


@EVERY
def test_copies_and_pickles_are_equal(name, fields):
    edge = edge_of(name, "a", "b", fields)
    assert pickle.loads(pickle.dumps(edge)) == edge == copy.deepcopy(edge)
    assert edge != edge_of(name, "b", "a", fields)


@EVERY
def test_it_is_charged_to_one_of_its_ends_and_keeps_its_fields(name, fields):
    edge = edge_of(name, "a", "b", fields)
    assert edge.charged_to == {"source": "a", "target": "b"}[edge.charge]
    assert edge.key == ("a", "b", name) and 0 <= edge.weight <= 1
    assert type(edge).model_validate(edge.model_dump(by_alias=True)) == edge
