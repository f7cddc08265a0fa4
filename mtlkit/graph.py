"""The task graph: tasks as nodes, edges as task transfers; expansion of `all`, checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import networkx as nx

from mtlkit.contracts import Edge, Task
from mtlkit.errors import suggest

ALL = "all"


def expand(edges: Sequence[Edge], tasks: Mapping[str, Task]) -> list[Edge]:
    """Return the edges with `all` replaced by every ordered pair that the edge can join.

    An entry replaces less exact ones with equal ends and type: both ends named before one named
    before none.

    Args:
        edges: as the recipe lists them.
        tasks: by name, in the recipe's order.
    """
    chosen: dict[tuple[str, ...], tuple[int, Edge]] = {}
    for edge in edges:
        exactness = (edge.source != ALL) + (edge.target != ALL)
        for one in _each(edge, tasks):
            if one.key not in chosen or chosen[one.key][0] < exactness:
                chosen[one.key] = (exactness, one)
    return [edge for _, edge in chosen.values()]


def _each(edge: Edge, tasks: Mapping[str, Task]) -> Iterator[Edge]:
    if ALL not in edge.hops:
        yield edge
        return
    sources = tasks if edge.source == ALL else [edge.source]
    targets = tasks if edge.target == ALL else [edge.target]
    for source, target in itertools.product(sources, targets):
        if source != target and edge.refusal(tasks[source], tasks[target]) is None:
            yield edge.model_copy(update={"source": source, "target": target})


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
    """Return the graph with `task` on nodes and `edge` on edges, keyed by the edge's key.

    Args:
        tasks: by name.
        edges: expanded.
    """
    graph = nx.MultiDiGraph()
    for name, task in tasks.items():
        graph.add_node(name, task=task)
    for edge in edges:
        graph.add_edge(edge.hops[0], edge.hops[-1], key=edge.key, edge=edge)
    return graph


def network_name(hops: Sequence[str], kind: str) -> str:
    """Return the name of an edge's network in the state dict.

    Args:
        hops: source and target.
        kind: the edge's type.
    """
    return f"{'_to_'.join(hops)}_{kind}"


def walked(edge: Edge) -> list[str]:
    """Return the names of the networks that an edge runs: its own, or those along a path.

    Args:
        edge: expanded.
    """
    return [network_name(pair, edge.type_name()) for pair in itertools.pairwise(edge.hops)]


def graph_problems(edges: Sequence[Edge]) -> Iterator[str]:
    """Return sentences about the graph as a whole.

    Args:
        edges: expanded, with known ends.
    """
    for task, share in shares(edges).items():
        if share > 1 + 1e-9:
            yield (
                f"the edges charged to task {task!r} weigh {share:g} together, which leaves its "
                "own loss a negative share. Lower their weights to a sum of at most 1"
            )
    names = [network_name(edge.hops, edge.type_name()) for edge in edges]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"two edges would both be called {name!r}. Rename a task"


def edge_problems(
    entries: Sequence[Edge], edges: Sequence[Edge], tasks: Mapping[str, Task]
) -> Iterator[tuple[int, str]]:
    """Yield the position of each entry that cannot be, and a sentence.

    Args:
        entries: as the recipe lists them, with known ends.
        edges: the same, expanded.
        tasks: by name.
    """
    networks = {network_name(edge.hops, edge.type_name()) for edge in edges if not edge.is_path}
    for i, entry in enumerate(entries):
        kind = entry.type_name()
        if ALL in entry.hops:
            if not any(_each(entry, tasks)):
                yield i, f"`all` finds no two tasks that {kind} can join. Remove the edge"
            continue
        lacking = []
        for source, target in itertools.pairwise(entry.hops):
            reason = entry.refusal(tasks[source], tasks[target])
            if reason is not None:
                able = _able(entry, tasks)
                cure = f"It can join: {', '.join(able)}" if able else "Remove the edge"
                yield i, f"{reason}. {cure}"
            elif network_name((source, target), kind) not in networks:
                lacking.append(f"{{from: {source}, to: {target}, type: {kind}}}")
        if lacking:
            message = "a path walks the networks of edges, and some of its edges are not there"
            yield i, f"{message}. Add {', '.join(lacking)}"


def _able(edge: Edge, tasks: Mapping[str, Task]) -> list[str]:
    """Return the names of the tasks that an edge can join with any other."""
    pairs = [
        (a, b) for a, b in itertools.permutations(tasks, 2) if not edge.refusal(tasks[a], tasks[b])
    ]
    return [name for name in tasks if any(name in pair for pair in pairs)]


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
        path = edge.get("path") if isinstance(edge.get("path"), list) else []
        ends = [(key, edge.get(key)) for key in ("from", "to") if edge.get(key) != ALL]
        for key, end in [*ends, *(("path", hop) for hop in path or [])]:
            if isinstance(end, str) and end not in tasks:
                yield (i, key), f"no task is called {end!r}; {suggest(end, map(str, tasks))}"
        if ALL in (edge.get("from"), edge.get("to")) and len(tasks) == 1:
            yield (
                (i, "from"),
                "`all` means every other task, and there is one task. Remove the edge",
            )
        if edge.get("from") == edge.get("to") and edge.get("from") not in (ALL, None, ""):
            yield (i, "to"), f"an edge from {edge['from']!r} to itself transfers nothing. Remove it"
