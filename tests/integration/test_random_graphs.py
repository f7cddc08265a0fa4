"""What holds for every task graph, tried on graphs drawn at random."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from fixtures.random_graphs import Graph, batch_of, graphs, objective_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlkit.graph import shares, walked
from mtlkit.objective import task_losses

EVERY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def losses_of(graph: Graph) -> dict[str, torch.Tensor]:
    return objective_of(graph)(batch_of(graph)).tasks


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-6, atol=1e-9, msg=name)


@EVERY
@given(graphs())
def test_each_tasks_loss_is_a_convex_mixture(graph: Graph) -> None:
    def leaf() -> torch.Tensor:
        return torch.ones((), dtype=torch.float64, requires_grad=True)

    direct = {name: leaf() for name in graph.by_name}
    transfers = {edge.key: leaf() for edge in graph.edges}
    for name, loss in task_losses(graph.by_name, graph.edges, direct, transfers, {}).items():
        leaves = [*direct.values(), *transfers.values()]
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        parts = [float(g) / graph.by_name[name].weight for g in grads if g is not None]
        assert all(-1e-12 <= part <= 1 + 1e-12 for part in parts)
        assert sum(parts) == pytest.approx(1)


@EVERY
@given(graphs())
def test_a_loss_reaches_only_what_its_own_terms_are_made_of(graph: Graph) -> None:
    objective = objective_of(graph)
    losses = objective(batch_of(graph))
    named = dict(objective.model.named_parameters())
    for name, loss in losses.tasks.items():
        allowed, mine = (
            {"architecture.shared", f"architecture.decoders.{name}"},
            [edge for edge in graph.edges if edge.charged_to == name],
        )
        allowed |= {f"architecture.decoders.{edge.hops[0]}" for edge in mine}
        trained = [edge for edge in mine if edge.trains_network]
        allowed |= {f"edges.{network}" for edge in trained for network in walked(edge)}
        grads = torch.autograd.grad(
            loss, list(named.values()), retain_graph=True, allow_unused=True
        )
        found = {n for n, g in zip(named, grads, strict=True) if g is not None and bool(g.any())}
        outside = {n for n in found if not any(n.startswith(f"{part}.") for part in allowed)}
        assert outside == set(), name


@EVERY
@given(graphs())
def test_an_own_loss_moves_the_networks_of_its_edges_and_nothing_else(graph: Graph) -> None:
    objective = objective_of(graph)
    own = objective(batch_of(graph)).own
    if own is None:
        return
    named = dict(objective.model.named_parameters())
    grads = torch.autograd.grad(own, list(named.values()), allow_unused=True)
    found = {n for n, g in zip(named, grads, strict=True) if g is not None}
    mine = [walked(edge)[0] for edge in graph.edges if not edge.trains_network]
    assert all(any(n.startswith(f"edges.{name}.") for name in mine) for n in found)


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
    if not free:
        return
    chosen = free[which % len(free)]
    rest = [edge for edge in graph.edges if edge is not chosen]
    weightless = chosen.model_copy(update={"weight": 0.0})
    kept = [weightless if edge is chosen else edge for edge in graph.edges]
    assert_same(losses_of(graph.with_edges(kept)), losses_of(graph.with_edges(rest)))


@EVERY
@given(graphs())
def test_a_task_without_edges_has_the_loss_of_its_single_task_model(graph: Graph) -> None:
    found = losses_of(graph)
    for task in graph.tasks:
        if task.name not in shares(graph.edges):
            alone = Graph((task,), (), graph.labelled)
            assert_same({task.name: found[task.name]}, losses_of(alone))
