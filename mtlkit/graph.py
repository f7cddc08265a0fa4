"""The task graph: tasks as nodes, edges as task transfers; expansion of `all`, checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import networkx as nx

from mtlkit.contracts import Edge, Task
from mtlkit.errors import suggest

ALL = "all"


def expand(edges: Sequence[Edge], tasks: Sequence[str]) -> list[Edge]:
    """Return the edges with `all` replaced by every ordered pair.

    An entry replaces less exact ones with equal ends and type: both ends named before one named
    before none.

    Args:
        edges: as the recipe lists them.
        tasks: names, in the recipe's order.
    """
    chosen: dict[tuple[str, ...], tuple[int, Edge]] = {}
    for edge in edges:
        exactness = (edge.source != ALL) + (edge.target != ALL)
        for source, target in _pairs(edge, tasks):
            one = edge.model_copy(update={"source": source, "target": target})
            if one.key not in chosen or chosen[one.key][0] < exactness:
                chosen[one.key] = (exactness, one)
    return [edge for _, edge in chosen.values()]


def _pairs(edge: Edge, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
    sources = tasks if edge.source == ALL else [edge.source]
    targets = tasks if edge.target == ALL else [edge.target]
    for source, target in itertools.product(sources, targets):
        if source != target or ALL not in (edge.source, edge.target):
            yield source, target


def shares(edges: Sequence[Edge]) -> dict[str, float]:
    """Return Λ of each task that edges are charged to: the sum of their weights.

    Args:
        edges: expanded.
    """
    total: dict[str, float] = {}
    for edge in edges:
        total[edge.charged_to] = total.get(edge.charged_to, 0.0) + edge.weight
    return total


def build_graph(tasks: Mapping[str, Task], edges: Sequence[Edge]) -> nx.MultiDiGraph:
    """Return the graph with `task` on nodes and `edge` on edges, keyed by edge type.

    Args:
        tasks: by name.
        edges: expanded.
    """
    graph = nx.MultiDiGraph()
    for name, task in tasks.items():
        graph.add_node(name, task=task)
    for edge in edges:
        graph.add_edge(edge.hops[0], edge.hops[-1], key=edge.type_name(), edge=edge)
    return graph


def network_name(edge: Edge) -> str:
    """Return the name of an edge's network in the state dict.

    Args:
        edge: with two hops.
    """
    return f"{edge.source}_to_{edge.target}_{edge.type_name()}"


def graph_problems(tasks: Sequence[str], edges: Sequence[Edge]) -> Iterator[str]:
    """Return sentences about the graph as a whole.

    Args:
        tasks: names.
        edges: expanded, with known ends.
    """
    for task, share in shares(edges).items():
        if share > 1 + 1e-9:
            yield (
                f"the edges charged to task {task!r} weigh {share:g} together, which leaves its "
                "own loss a negative share. Lower their weights to a sum of at most 1"
            )
    names = [network_name(edge) for edge in edges if len(edge.hops) == 2]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"two edges would both be saved as {name!r}. Rename a task"


def raw_end_problems(
    tasks: Mapping[str, Any], edges: Sequence[Any]
) -> Iterator[tuple[tuple[int, str], str]]:
    """Return (position, key) and a sentence for each edge end that names no task.

    Works on plain data, so that these mistakes are listed beside those of the schema.

    Args:
        tasks: the recipe's `tasks`, unchecked.
        edges: the recipe's `edges`, unchecked.
    """
    seen: list[Any] = []
    for i, edge in enumerate(edges):
        if not isinstance(edge, dict):
            continue
        same = [edge.get(key) for key in ("from", "to", "type", "path")]
        if same in seen:
            yield (i, "from"), "this edge is listed twice. Remove one"
        seen.append(same)
        for key in ("from", "to"):
            end = edge.get(key)
            if isinstance(end, str) and end != ALL and end not in tasks:
                yield (i, key), f"no task is called {end!r}; {suggest(end, map(str, tasks))}"
        if ALL in (edge.get("from"), edge.get("to")) and len(tasks) == 1:
            yield (
                (i, "from"),
                "`all` means every other task, and there is one task. Remove the edge",
            )
        if edge.get("from") == edge.get("to") and edge.get("from") not in (ALL, None):
            yield (i, "to"), f"an edge from {edge['from']!r} to itself transfers nothing. Remove it"
