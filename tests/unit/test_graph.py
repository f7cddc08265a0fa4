"""Edges and paths: what `all` means, what a path walks, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mtlkit
from mtlkit.graph import build_graph, edge_problems, expand, graph_problems, shares
from mtlkit.model import MultiTaskModel
from mtlkit_plugins.edges.transfer import Alignment, CrossTaskConsistency, Perceptual
from mtlkit_plugins.tasks.classification import Classification
from mtlkit_plugins.tasks.depth import Depth

MAPS = {name: Depth(name=name) for name in "abcd"}
MIXED = {**MAPS, "weather": Classification(name="weather", classes=3)}


def xtc(*path: str, **fields: Any) -> CrossTaskConsistency:
    ends = {"path": path} if len(path) > 2 else {"source": path[0], "target": path[1]}
    return CrossTaskConsistency(**ends, widths=(2, 3), **fields)


def problems(*entries: mtlkit.Edge, tasks: Any = MIXED) -> list[tuple[int, str]]:
    return list(edge_problems(entries, expand(entries, tasks), tasks))


def test_all_expands_to_every_pair_and_exact_entries_win() -> None:
    edges = [xtc("all", "all", weight=0.1), xtc("a", "all", weight=0.2), xtc("a", "b", weight=0.3)]
    three = {name: MAPS[name] for name in "abc"}
    for listed in (edges, edges[::-1]):
        found = {edge.hops: edge.weight for edge in expand(listed, three)}
        assert found == {
            ("a", "b"): 0.3, ("a", "c"): 0.2, ("b", "a"): 0.1,
            ("b", "c"): 0.1, ("c", "a"): 0.1, ("c", "b"): 0.1,
        }  # fmt: skip


def test_all_passes_over_pairs_that_the_edge_cannot_join() -> None:
    found = {edge.hops for edge in expand([xtc("all", "all")], MIXED)}
    assert len(found) == 12 and not any("weather" in hops for hops in found)
    assert not problems(xtc("all", "all"))


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (
            xtc("a", "weather"),
            "xtc transfers maps, and task 'weather' predicts one vector per image. "
            "It can join: a, b, c, d",
        ),
        (xtc("weather", "all"), "`all` finds no two tasks that xtc can join. Remove the edge"),
        (
            xtc("a", "b", "c"),
            "a path walks the networks of edges, and some of its edges are not there. "
            "Add {from: a, to: b, type: xtc}, {from: b, to: c, type: xtc}",
        ),
    ],
)
def test_an_edge_that_cannot_be_is_refused_with_what_to_write(
    edge: mtlkit.Edge, message: str
) -> None:
    assert problems(edge) == [(0, message)]


def test_a_path_walks_edges_of_its_own_type_alone() -> None:
    entries = (
        xtc("a", "b"),
        Alignment(source="b", target="c", widths=(2, 3)),
        xtc("a", "b", "c"),
    )
    assert [i for i, _ in problems(*entries)] == [2]
    assert not problems(*entries, xtc("b", "c"))


def test_a_task_that_joins_nobody_has_no_better_end_to_name() -> None:
    alone = {"weather": MIXED["weather"], "a": MAPS["a"]}
    assert problems(xtc("a", "weather"), tasks=alone)[0][1].endswith("Remove the edge")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": "b"}, "`from` is missing"),
        ({"from": "a"}, "`to` is missing"),
        ({"path": ["a", "b"]}, "3 tasks at least"),
        ({"path": list("abcda")}, "a path of 4 hops is too long"),
        ({"path": ["a", "b", "c"], "from": "a"}, "a path names all its tasks"),
        ({"path": ["a", "b", "b"]}, "visits b twice"),
        ({"path": ["a", "b", "c", "b"]}, "visits b twice"),
    ],
)
def test_an_edge_names_two_ends_or_a_path_that_can_be_walked(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        CrossTaskConsistency.model_validate(fields)


@pytest.mark.parametrize("fields", [{"from": "a", "to": "b"}, {"path": ["a", "b", "a"]}])
def test_a_recipe_keeps_the_form_in_which_an_edge_was_written(fields: dict[str, Any]) -> None:
    edge = CrossTaskConsistency.model_validate(fields)
    kept = edge.model_dump(mode="json", by_alias=True)
    assert {key: kept[key] for key in ("from", "to", "path") if key in kept} == fields
    assert CrossTaskConsistency.model_validate(kept) == edge


def test_a_path_is_charged_to_its_first_task_and_counts_in_its_share() -> None:
    path = xtc("a", "b", "c", weight=0.05)
    assert path.charged_to == "a" and path.key == ("a", "b", "c", "xtc")
    assert shares([xtc("a", "b", weight=0.1), path]) == {"a": pytest.approx(0.15)}
    heavy = [xtc("a", "b", weight=0.6), xtc("b", "c"), xtc("a", "b", "c", weight=0.6)]
    assert "task 'a' weigh 1.2 together" in next(iter(graph_problems(heavy)))


def test_the_graph_holds_an_edge_and_a_path_between_the_same_ends() -> None:
    edges = [xtc("a", "b"), xtc("b", "c"), xtc("a", "c"), xtc("a", "b", "c"), xtc("a", "b", "a")]
    graph = build_graph(MAPS, edges)
    assert {data["edge"].hops for *_, data in graph.edges(data=True)} == {e.hops for e in edges}


class Pointwise(torch.nn.Module):
    """Predicts every task by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleDict({n: torch.nn.Conv2d(3, 1, 1) for n in MAPS})

    def forward(self, image: torch.Tensor) -> mtlkit.Output:
        """Return one map per task."""
        return mtlkit.Output({name: head(image) for name, head in self.heads.items()})


def test_a_path_runs_the_networks_of_its_edges_one_after_another() -> None:
    edges = [
        xtc("a", "b"),
        xtc("b", "c"),
        xtc("c", "a"),
        xtc("a", "b", "c"),
        xtc("a", "b", "c", "a"),
    ]
    model = MultiTaskModel(MAPS, edges, Pointwise())
    output = model(torch.rand(2, 3, 8, 8))
    step = output.predictions["a"]
    for hop in ("a_to_b_xtc", "b_to_c_xtc", "c_to_a_xtc"):
        step = model.edges[hop](step)
    assert torch.equal(output.transfers[("a", "b", "c", "a", "xtc")], step)
    assert list(model.edges) == ["a_to_b_xtc", "b_to_c_xtc", "c_to_a_xtc"]
    assert model.network(edges[-1]) is None


def test_what_a_path_and_an_edge_have_in_common_is_walked_once() -> None:
    edges = [xtc("a", "b"), xtc("b", "c"), xtc("a", "b", "c")]
    model = MultiTaskModel(MAPS, edges, Pointwise())
    runs = []
    model.edges["a_to_b_xtc"].register_forward_hook(lambda *_: runs.append(1))
    model(torch.rand(1, 3, 8, 8))
    assert len(runs) == 1
    model(torch.rand(1, 3, 8, 8), [edges[2]])
    assert len(runs) == 2


def test_a_frozen_transfer_passes_gradients_to_its_source_alone() -> None:
    edge = Perceptual(source="a", target="b", widths=(2, 3))
    model = MultiTaskModel(MAPS, [edge], Pointwise())
    model(torch.rand(1, 3, 8, 8)).transfers[edge.key].sum().backward()
    assert all(p.grad is None for p in model.edges.parameters())
    assert all(p.requires_grad for p in model.edges.parameters())
    assert model.architecture.heads["a"].weight.grad is not None
