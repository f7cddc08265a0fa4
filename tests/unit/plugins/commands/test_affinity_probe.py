"""One step ahead: the sign of what it measures, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.tiny import TINY

import mtlkit
from mtlkit_plugins.commands._affinity.chart import Chart, Estimate, Reading
from mtlkit_plugins.commands._affinity.lookahead import STEP
from mtlkit_plugins.commands._affinity.pulls import Pull, cosine, norm, of_mean_log
from mtlkit_plugins.commands._affinity.study import Study
from mtlkit_plugins.commands._affinity.subject import Wish

FIXTURES = Path(__file__).parents[3] / "fixtures"
EDGES = """\
  - {from: segmentation, to: depth, type: helping}
  - {from: depth, to: segmentation, type: harming}
  - {from: segmentation, to: depth, type: learning}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe whose edges have a known effect."""
    folder = tmp_path_factory.mktemp("known")
    for name in ("tiny_encoder.py", "two_sided.py"):
        shutil.copy(FIXTURES / name, folder)
    before, rest = TINY.split("edges:\n")
    text = before + "edges:\n" + EDGES + rest[rest.index("weighting:") :]
    text = text.replace("[tiny_encoder.py]", "[tiny_encoder.py, two_sided.py]")
    (folder / "known.yaml").write_text(text, encoding="utf-8")
    return folder


def study(folder: Path, wish: Wish, **settings: Any) -> Study:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    recipe = mtlkit.load_recipe(folder / "known.yaml", named, blocked=["progress"])
    return Study(mtlkit.Run(recipe), wish)


def state(run: mtlkit.Run) -> dict[str, Any]:
    return copy.deepcopy(run.learner.state())


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def by_type(chart: Chart) -> dict[str, mtlkit.Edge]:
    return {edge.type_name(): edge for edge in chart.edges}


def test_known_edges_have_the_right_sign_and_cosine(folder) -> None:
    found = study(folder, Wish(warm_up=4, probes=3, between=1, val_batches=2))
    for _ in (*found.warm_up(), *found.probes()):
        pass
    chart, edges = found.chart, by_type(found.chart)
    helping, harming = chart.effect(edges["helping"]), chart.effect(edges["harming"])
    assert helping.is_help and chart.effect_on(edges["helping"], "depth").is_help
    assert harming.is_harm and chart.effect_on(edges["harming"], "segmentation").is_harm
    # they are the tasks' own gradients, and no probe saw another point
    assert chart.cosine(edges["helping"], "depth") == pytest.approx((1, 0), abs=1e-6)
    assert chart.cosine(edges["harming"], "segmentation") == pytest.approx((-1, 0), abs=1e-6)
    assert chart.probes == 3 and len(chart.readings[edges["helping"].key]) == 3
    assert chart.images == 2  # of three, whose last batch is a single sample


def test_an_edge_that_teaches_its_network_alone_moves_nothing(folder) -> None:
    found = study(folder, Wish(warm_up=1, probes=2, between=0, val_batches=1))
    for _ in (*found.warm_up(), *found.probes()):
        pass
    edge = by_type(found.chart)["learning"]
    assert found.chart.is_still(edge) and found.chart.effect(edge) == (0, 0)
    assert not found.chart.effect(edge).is_help
    assert math.isnan(found.chart.cosine(edge, "depth").mean)


def test_on_its_own_batch_a_step_does_what_its_length_promises(folder) -> None:
    found = study(folder, Wish(warm_up=4, probes=2, between=0, val_batches=1))
    for _ in found.warm_up():
        pass
    group = next(found.groups)
    found.lookahead.validation = found.lookahead.ready(group)
    list(found.lookahead.probe(group, found.chart))
    assert found.chart.own[0].effect == pytest.approx(STEP, rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"train__accumulate": 2}, {"weighting__type": "equal"}])
def test_a_probe_leaves_the_run_as_it_was_bit_for_bit(folder, settings) -> None:
    if "weighting__type" in settings:
        settings = {"weighting": {"type": "equal"}}
    found = study(folder, Wish(warm_up=2, probes=2, between=0, val_batches=1), **settings)
    for _ in found.warm_up():
        pass
    before, group = state(found.run), next(found.groups)
    gradients = [copy.deepcopy(p.grad) for p in found.run.model.parameters()]
    readings = list(found.lookahead.probe(group, found.chart))
    assert len(readings) == 4 and same(state(found.run), before)
    after = [p.grad for p in found.run.model.parameters()]
    assert same([g is None for g in after], [g is None for g in gradients])
    assert all(torch.equal(a, b) for a, b in zip(after, gradients, strict=True) if a is not None)
    assert any(reading.effect != 0 for reading in found.chart.own)


def test_a_probe_that_is_stopped_half_way_leaves_the_run_as_it_was(folder) -> None:
    found = study(folder, Wish(warm_up=1, probes=2, between=0, val_batches=1))
    for _ in found.warm_up():
        pass
    before = state(found.run)
    probing = found.lookahead.probe(next(found.groups), found.chart)
    next(probing)
    probing.close()
    assert same(state(found.run), before)


def test_the_same_probe_measures_the_same(folder) -> None:
    found = study(folder, Wish(warm_up=1, probes=2, between=0, val_batches=1))
    for _ in found.warm_up():
        pass
    group = next(found.groups)
    for _ in range(2):
        list(found.lookahead.probe(group, found.chart))
    assert found.chart.own[0] == found.chart.own[1]
    assert all(one == other for one, other in found.chart.readings.values())


def test_steps_between_probes_move_the_weights_and_the_schedule_has_room(folder) -> None:
    wish = Wish(warm_up=1, probes=2, between=2, val_batches=1)
    found = study(folder, wish, train__epochs=1, schedule={"type": "cosine"})
    for _ in (*found.warm_up(), *found.probes()):
        pass
    assert found.run.position.step == 3
    assert found.chart.losses[0] != found.chart.losses[1]
    assert found.run.epochs * found.run.steps_per_epoch > 3


def test_a_loss_that_is_no_number_is_told(folder) -> None:
    found = study(folder, Wish(warm_up=0, probes=2, between=0, val_batches=1))
    with torch.no_grad():
        next(found.run.model.architecture.parameters()).fill_(torch.nan)
    with pytest.raises(mtlkit.errors.DivergedError, match="mtlkit doctor"):
        list(found.probes())


def test_labels_that_are_not_there_are_told(folder) -> None:
    hidden = {"mode": "random_share", "share": {"segmentation": 0.0, "depth": 0.0}}
    found = study(folder, Wish(warm_up=0, probes=2), data__labels_per_image=hidden)
    with pytest.raises(mtlkit.errors.MissingError, match="a training batch has no label"):
        list(found.probes())


def test_a_phase_that_freezes_the_architecture_is_told(folder) -> None:
    phases = [{"epochs": 1, "only": "edges"}]
    found = study(folder, Wish(warm_up=0, probes=2), train__epochs=None, train__phases=phases)
    with pytest.raises(mtlkit.errors.UsageError, match="freezes the architecture"):
        list(found.probes())


def test_the_mean_of_logs_weighs_losses_by_their_size() -> None:
    one = Pull(4.0, [torch.tensor([4.0, 0.0]), None])
    other = Pull(0.5, [torch.tensor([0.0, 1.0]), torch.tensor([2.0])])
    found = of_mean_log([one, other, Pull(0.0, [torch.tensor([9.0, 9.0]), None])])
    assert same(found, [torch.tensor([0.5, 1.0]), torch.tensor([2.0])])
    assert norm(found) == pytest.approx(math.sqrt(0.25 + 1 + 4))


def test_a_cosine_is_taken_over_chosen_weights() -> None:
    one = [torch.tensor([1.0, 0.0]), torch.tensor([5.0]), None]
    other = [torch.tensor([1.0, 1.0]), torch.tensor([-5.0]), torch.tensor([1.0])]
    assert cosine(one, other, [True, False, True]) == pytest.approx(1 / math.sqrt(3))
    assert cosine(one, other, [False, False, True]) is None


def test_an_effect_counts_from_one_standard_error() -> None:
    assert Estimate(0.2, 0.1).is_help and not Estimate(0.1, 0.1).is_help
    assert Estimate(-0.2, 0.1).is_harm and not Estimate(-0.1, 0.1).is_harm
    assert not Estimate(math.nan, math.nan).is_help and not Estimate(1.0, math.nan).is_help
    assert Reading({"a": 0.1, "b": 0.3}).effect == pytest.approx(0.2)
