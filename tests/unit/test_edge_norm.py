"""Losses of edges in units of the task's own: running means, their ratio, and what they outlive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mtlkit
from mtlkit.edge_norm import DECAY, EdgeNorm
from mtlkit.ranks import Ranks
from mtlkit_plugins.edges.transfer import CrossTaskConsistency

ONE = Ranks()


def edge(**fields: str) -> CrossTaskConsistency:
    return CrossTaskConsistency(source="a", target="b", widths=(2,), **fields)


def told(norm: EdgeNorm, *steps: dict[str, float]) -> EdgeNorm:
    for losses in steps:
        norm.update([{f"loss/{n}": torch.tensor(x) for n, x in losses.items()}], ONE)
    return norm


def factor(norm: EdgeNorm, one: CrossTaskConsistency) -> float:
    return float(norm.scaled(one, torch.ones(())))


def test_the_factor_is_the_ratio_of_the_running_means() -> None:
    one = edge(edge_norm="ema")
    steps = [{"a/direct": 4.0, "a_to_b/xtc": 0.5}, {"a/direct": 2.0, "a_to_b/xtc": 1.5}]
    norm = told(EdgeNorm([one]), *steps)
    direct, transfer = DECAY * 4 + (1 - DECAY) * 2, DECAY * 0.5 + (1 - DECAY) * 1.5
    assert factor(norm, one) == pytest.approx(direct / transfer)


def test_charged_to_its_target_it_counts_in_the_targets_unit() -> None:
    one = edge(edge_norm="ema", charge="target")
    norm = told(EdgeNorm([one]), {"a/direct": 9.0, "b/direct": 3.0, "a_to_b/xtc": 1.0})
    assert factor(norm, one) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"a/direct": 1.0},
        {"a_to_b/xtc": 1.0},
        {"a/direct": 1.0, "a_to_b/xtc": 0.0},
        {"a/direct": float("nan"), "a_to_b/xtc": 1.0},
    ],
)
def test_until_both_means_are_known_the_factor_is_one(losses: dict[str, float]) -> None:
    one = edge(edge_norm="ema")
    assert factor(told(EdgeNorm([one]), losses), one) == 1.0


def test_a_loss_that_is_no_number_moves_no_mean() -> None:
    one = edge(edge_norm="ema")
    good = {"a/direct": 4.0, "a_to_b/xtc": 2.0}
    norm = told(EdgeNorm([one]), good, {"a/direct": float("inf"), "a_to_b/xtc": 2.0})
    assert factor(norm, one) == 2.0


def test_an_edge_without_norm_keeps_its_loss_to_the_bit() -> None:
    norm, loss = EdgeNorm([edge()]), torch.tensor(0.1)
    assert norm.scaled(edge(), loss) is loss and not norm.state_dict()["means"].numel()


def test_the_batches_of_a_step_count_as_one() -> None:
    one = edge(edge_norm="ema")
    norm = EdgeNorm([one])
    parts = [{"a/direct": 2.0, "a_to_b/xtc": 1.0}, {"a/direct": 4.0, "a_to_b/xtc": 1.0}]
    norm.update([{f"loss/{n}": torch.tensor(x) for n, x in part.items()} for part in parts], ONE)
    assert factor(norm, one) == 3.0


def normed(tiny: Path, **settings: object) -> mtlkit.Recipe:
    edges = [
        {"from": "segmentation", "to": "depth", "type": "xtc", "widths": [2], "edge_norm": "ema"},
        {"from": "depth", "to": "segmentation", "type": "xtc", "widths": [2], "edge_norm": "ema"},
    ]
    return mtlkit.load_recipe(tiny, {"edges": edges, **settings}, blocked=["progress"])


def test_a_run_measures_its_edges_and_a_resumed_one_remembers(tiny: Path, tmp_path: Path) -> None:
    whole = mtlkit.Run(normed(tiny), out=tmp_path / "whole")
    whole.fit()
    half = mtlkit.Run(normed(tiny, **{"train.epochs": 1}), out=tmp_path / "parts")
    half.fit()
    assert half.folder is not None
    rest = mtlkit.Run(normed(tiny), out=tmp_path / "parts", resume=half.folder)
    assert torch.equal(rest.objective.edge_norm.means, half.objective.edge_norm.means)
    rest.fit()
    found = [run.objective.edge_norm.means for run in (whole, rest)]
    assert found[0].isfinite().all() and torch.equal(*found)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, rest.model.state_dict()[name]), name


def test_in_the_mixed_loss_an_edge_weighs_as_much_as_the_tasks_own(tiny: Path) -> None:
    recipe = normed(tiny, weighting={"type": "equal"})
    run = mtlkit.Run(recipe)
    batch = next(iter(run.loader("train")[0]))
    plain = run.objective(batch)
    share, term = recipe.all_edges[0].weight, "segmentation_to_depth/xtc"
    direct, transfer = plain.terms["segmentation/direct"], plain.terms[term]
    run.objective.edge_norm.update([{f"loss/{n}": x for n, x in plain.terms.items()}], ONE)
    scaled = run.objective(batch)
    expected = (1 - share) * direct + share * transfer * (direct / transfer)
    torch.testing.assert_close(scaled.tasks["segmentation"].detach(), expected)
    torch.testing.assert_close(scaled.terms[term], transfer)  # the log tells it in its own unit
