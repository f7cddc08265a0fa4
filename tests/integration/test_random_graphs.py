"""What holds for every task graph, tried on graphs drawn at random."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from fixtures.random_graphs import Graph, batch_of, graphs, objective_of
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from mtlkit.contracts import Edge
from mtlkit.graph import shares, walked
from mtlkit.objective import Objective, task_losses

EVERY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ALWAYS_THE_SAME = settings(EVERY, derandomize=True, max_examples=500, phases=[Phase.generate])


def losses_of(graph: Graph) -> dict[str, torch.Tensor]:
    return objective_of(graph)(batch_of(graph)).tasks


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-6, atol=1e-9, msg=name)


def reached(loss: torch.Tensor, objective: Objective) -> set[str]:
    """Return the parts of the model, such as edges.NETWORK, in which a loss has a gradient."""
    named = dict(objective.model.named_parameters())
    grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    found = [name for name, g in zip(named, grads, strict=True) if g is not None and bool(g.any())]
    return {part_of(name) for name in found}


def on_graph(loss: torch.Tensor, objective: Objective) -> set[str]:
    """Return the parts that a loss is connected with: rectifiers may let no value back to them."""
    named = dict(objective.model.named_parameters())
    grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {part_of(name) for name, g in zip(named, grads, strict=True) if g is not None}


def part_of(name: str) -> str:
    """Return a parameter's part: architecture.shared, architecture.decoders.TASK, edges.NETWORK."""
    depth = 3 if name.startswith("architecture.decoders.") else 2
    return ".".join(name.split(".")[:depth])


def networks_of(edge: Edge) -> set[str]:
    return {f"edges.{name}" for name in walked(edge)}


KINDS_OF_GRAPHS = {
    "a path": lambda graph: any(edge.is_path for edge in graph.edges),
    "a cycle": lambda graph: any(e.is_path and e.hops[0] == e.hops[-1] for e in graph.edges),
    "a network that labels train": lambda graph: any(map(graph.learns_alone, graph.edges)),
    "a network without labels": lambda graph: any(
        not edge.trains_network and not graph.learns_alone(edge) for edge in graph.edges
    ),
    "a task beside edges that has none": lambda graph: (
        bool(graph.edges) and len(shares(graph.edges)) < len(graph.tasks)
    ),
}


@pytest.mark.parametrize("kind", KINDS_OF_GRAPHS)
def test_graphs_of_every_kind_are_drawn(kind: str) -> None:
    assert KINDS_OF_GRAPHS[kind](find(graphs(), KINDS_OF_GRAPHS[kind], settings=ALWAYS_THE_SAME))


@EVERY
@given(graphs())
def test_each_tasks_loss_is_a_convex_mixture(graph: Graph) -> None:
    def leaf() -> torch.Tensor:
        return torch.ones((), dtype=torch.float64, requires_grad=True)

    direct = {name: leaf() for name in graph.by_name}
    transfers = {edge.key: leaf() for edge in graph.edges}
    share = shares(graph.edges)
    for name, loss in task_losses(graph.by_name, graph.edges, direct, transfers, {}).items():
        leaves = {name: direct[name]} | transfers
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        found = {
            key: float(g) / graph.by_name[name].weight
            for key, g in zip(leaves, grads, strict=True)
            if g is not None
        }
        mine = {edge.key: edge.weight for edge in graph.edges if edge.charged_to == name}
        assert found == pytest.approx({name: 1 - share.get(name, 0.0)} | mine)
        assert all(-1e-12 <= part <= 1 + 1e-12 for part in found.values())
        assert sum(found.values()) == pytest.approx(1)


@EVERY
@given(graphs())
def test_a_loss_reaches_only_what_its_own_terms_are_made_of(graph: Graph) -> None:
    objective = objective_of(graph)
    for name, loss in objective(batch_of(graph)).tasks.items():
        mine = [edge for edge in graph.edges if edge.charged_to == name]
        allowed = {"architecture.shared", f"architecture.decoders.{name}"}
        allowed |= {f"architecture.decoders.{edge.hops[0]}" for edge in mine}
        allowed = allowed.union(*(networks_of(edge) for edge in mine if edge.trains_network))
        assert reached(loss, objective) <= allowed, name


@EVERY
@given(graphs())
def test_the_loss_of_a_labelled_task_reaches_its_decoder_and_networks(graph: Graph) -> None:
    objective = objective_of(graph)
    share = shares(graph.edges)
    for name, loss in objective(batch_of(graph)).tasks.items():
        if graph.has_label(name) and share.get(name, 0.0) < 1:
            needed = {"architecture.shared", f"architecture.decoders.{name}"}
            mine = [edge for edge in graph.edges if edge.charged_to == name]
            needed = needed.union(*map(networks_of, filter(graph.trains, mine)))
            assert needed <= on_graph(loss, objective), name


@EVERY
@given(graphs())
def test_an_edge_with_a_label_of_its_target_reaches_every_network_on_its_way(graph: Graph) -> None:
    objective = objective_of(graph)
    parts = objective(batch_of(graph)).parts
    for edge in filter(graph.trains, graph.edges):
        assert networks_of(edge) <= on_graph(parts[edge.term], objective), edge.term


@EVERY
@given(graphs())
def test_an_own_loss_moves_the_networks_of_edges_with_both_labels_and_nothing_else(
    graph: Graph,
) -> None:
    objective = objective_of(graph)
    own = objective(batch_of(graph)).own
    learning = [edge for edge in graph.edges if graph.learns_alone(edge)]
    assert (own is not None) == bool(learning)
    if own is not None:
        assert on_graph(own, objective) == set().union(*map(networks_of, learning))


@EVERY
@given(graphs(), st.randoms())
def test_the_order_of_tasks_and_edges_changes_nothing(graph: Graph, random: object) -> None:
    tasks, edges = list(graph.tasks), list(graph.edges)
    random.shuffle(tasks)
    random.shuffle(edges)
    other = Graph(tuple(tasks), tuple(edges), graph.labelled)
    assert_same(dict(sorted(losses_of(other).items())), dict(sorted(losses_of(graph).items())))


@EVERY
@given(graphs(), st.integers(0, 99))
def test_a_weight_of_zero_is_no_edge(graph: Graph, which: int) -> None:
    needed = {
        (pair, edge.type_name())
        for edge in graph.edges
        if edge.is_path
        for pair in itertools.pairwise(edge.hops)
    }
    free = [e for e in graph.edges if e.is_path or (e.hops, e.type_name()) not in needed]
    assume(free)
    chosen = free[which % len(free)]
    rest = [edge for edge in graph.edges if edge is not chosen]
    weightless = chosen.model_copy(update={"weight": 0.0})
    kept = [weightless if edge is chosen else edge for edge in graph.edges]
    assert_same(losses_of(graph.with_edges(kept)), losses_of(graph.with_edges(rest)))


@EVERY
@given(graphs())
def test_a_task_without_edges_has_the_loss_of_its_single_task_model(graph: Graph) -> None:
    found = losses_of(graph)
    free = [task for task in graph.tasks if task.name not in shares(graph.edges)]
    assume(free)
    for task in free:
        alone = Graph((task,), (), graph.labelled)
        assert_same({task.name: found[task.name]}, losses_of(alone))
