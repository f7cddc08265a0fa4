"""Some edges a step, in the step itself: gradients, moments, resume, and all weightings' levels."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.tiny import load as load_tiny
from rich.console import Console

import mtlkit
from mtlkit.graph import walked
from mtlkit.hookspecs import hookimpl
from mtlkit.report.explain import explain
from mtlkit.structures import EdgeKey

TASKS = {
    "segmentation": {"classes": 7},
    "depth": {},
    "normals": {},
}
ALL = {"from": "all", "to": "all", "type": "xtc", "weight": 0.05, "widths": [2, 3]}
PATH = {"path": ["depth", "normals", "segmentation"], "type": "xtc", "weight": 0.02}
HEAVY = {"from": "depth", "to": "normals", "type": "xtc", "weight": 0.2, "widths": [2, 3]}


def load(tiny: Path, **settings: Any) -> mtlkit.Recipe:
    """Return a recipe of three tasks, six edges between them and a path, two of all in a step."""
    chosen = {
        "tasks": {name: dict(fields) for name, fields in TASKS.items()},
        "edges": [dict(ALL), dict(HEAVY), dict(PATH)],
        "train__edges_per_step": 2,
        "train__pictures": 0,
    }
    return load_tiny(tiny, **{**chosen, **settings})


class Gradients:
    """Notes at each step which networks have a gradient, and which ran."""

    def __init__(self) -> None:
        self.with_gradient: list[set[str]] = []
        self.ran: list[set[str]] = []

    @hookimpl
    def mtlkit_step_end(self, run: mtlkit.Run, step: Any) -> None:
        edges = run.model.edges.items()
        moved = {n for n, net in edges if any(p.grad is not None for p in net.parameters())}
        self.with_gradient.append(moved)
        drawn = run.learner.sampler.draw(step.step)
        keys = [edge for edge in run.model.edge_list if edge.key in drawn]
        self.ran.append({name for edge in keys for name in walked(edge)})


@pytest.mark.parametrize(  # each level of weighting, and batches where they are held differently
    ("weighting", "accumulate"),
    [("equal", 1), ("uncertainty", 2), ("pcgrad", 1), ("mgda", 1), ("mgda", 2), ("gradnorm", 2)],
)
def test_networks_that_do_not_run_have_no_gradient_not_even_of_zeros(
    tiny: Path, tmp_path: Path, weighting: str, accumulate: int
) -> None:
    recipe = load(tiny, weighting={"type": weighting}, train__accumulate=accumulate)
    run, seen = mtlkit.Run(recipe, out=tmp_path), Gradients()
    run.track(seen)
    run.fit()
    assert seen.with_gradient == seen.ran
    assert all(0 < len(names) < len(run.model.edges) for names in seen.ran)
    for name, network in run.model.edges.items():
        steps = sum(name in names for names in seen.ran)
        states = [run.learner.mover.optimizer.state.get(p, {}) for p in network.parameters()]
        assert {int(state.get("step", 0)) for state in states} == {steps}, name


def test_networks_that_do_not_run_cost_nothing(tiny: Path) -> None:
    run = mtlkit.Run(load(tiny))
    calls: list[str] = []
    for name, network in run.model.edges.items():
        network.register_forward_hook(lambda *_, name=name: calls.append(name))
    batch = next(iter(run.loader("train")[0]))
    drawn = run.learner.sampler.draw(1)
    run.step(batch)
    edges = [edge for edge in run.model.edge_list if edge.key in drawn]
    assert sorted(calls) == sorted({name for edge in edges for name in walked(edge)})


def test_the_mean_of_the_drawn_losses_is_the_full_loss(tiny: Path) -> None:
    run = mtlkit.Run(load(tiny))
    batch = next(iter(run.loader("train")[0]))
    run.objective.eval()

    @cache  # 400 draws are few different ones
    def losses_of(*drawn: tuple[EdgeKey, float]) -> dict[str, torch.Tensor]:
        return run.objective(batch, dict(drawn)).tasks

    with torch.no_grad():
        full = run.objective(batch).tasks
        parts = [losses_of(*run.learner.sampler.draw(step).items()) for step in range(400)]
    for name, expected in full.items():
        found = torch.stack([losses[name] for losses in parts]).double()
        error = found.std() / len(found) ** 0.5
        assert abs(found.mean() - expected) < 4 * error + 1e-6, name


def test_a_resumed_run_draws_the_same_edges(tiny: Path, tmp_path: Path) -> None:
    whole = mtlkit.Run(load(tiny), out=tmp_path / "whole")
    whole.fit()
    half = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "parts")
    half.fit()
    rest = mtlkit.Run(load(tiny), out=tmp_path / "parts", resume=half.folder)
    rest.fit()
    found = rest.model.state_dict()
    different = [n for n, x in whole.model.state_dict().items() if not torch.equal(x, found[n])]
    assert different == []


def test_with_room_for_all_edges_a_run_is_the_same_to_the_bit(tiny: Path, tmp_path: Path) -> None:
    states = []
    for count in (None, 99):
        run = mtlkit.Run(load(tiny, train__edges_per_step=count), out=tmp_path / str(count))
        run.fit()
        states.append(run.model.state_dict())
    different = [n for n, x in states[0].items() if not torch.equal(x, states[1][n])]
    assert different == []


def test_explain_tells_what_a_step_costs_with_the_draw_and_without(tiny: Path) -> None:
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(explain(load(tiny)))
    text = console.export_text()
    cells = (re.split(r" *[│┃] *", line) for line in text.splitlines())
    rows = {row[1]: row for row in cells if len(row) > 3}
    whole, drawn = rows["training"], rows["training, 2 of 7 edges a step, mean"]
    assert int(drawn[2].replace(",", "")) < int(whole[2].replace(",", ""))
    assert "2 of 7 edges are drawn for each step" in text
    assert "depth → normals → segmentation" in text and "xtc 0.02 via normals" in text
