"""Phases of a training: what learns, what stays, and that a run goes on in the right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import mtlkit
from mtlkit.check import check_recipe
from mtlkit.errors import InterruptedRun, RecipeError
from mtlkit.hookspecs import hookimpl
from mtlkit.phases import rate_factor

PERCEPTUAL = [
    {"from": "segmentation", "to": "depth", "type": "perceptual", "weight": 0.1, "widths": [4, 8]},
    {"from": "depth", "to": "segmentation", "type": "perceptual", "weight": 0.1, "widths": [4, 8]},
]
TWO = [{"epochs": 1, "only": "model.edges"}, {"epochs": 2, "freeze": "model.edges"}]


def load(tiny: Path, phases: Any = TWO, **settings: Any) -> mtlkit.Recipe:
    chosen = {"edges": PERCEPTUAL, "train.epochs": None, "train.phases": phases}
    more = {key.replace("__", "."): value for key, value in settings.items()}
    return mtlkit.load_recipe(tiny, {**chosen, **more}, blocked=["progress"])


class Watch:
    """Keeps a copy of the model at the end of every epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    @hookimpl
    def mtlkit_epoch_end(self, run: mtlkit.Run, epoch: Any) -> None:
        state = {**run.model.state_dict(), **run.learner.balancer.state_dict()}
        self.seen.append({name: x.clone() for name, x in state.items()})


def epochs_of(recipe: mtlkit.Recipe, out: Path) -> list[dict[str, torch.Tensor]]:
    """Return everything that learns, before the run and after every epoch."""
    run, watch = mtlkit.Run(recipe, out=out), Watch()
    first = {**run.model.state_dict(), **run.learner.balancer.state_dict()}
    run.track(watch)
    before = {name: x.clone() for name, x in first.items()}
    assert run.fit().status == "done"
    return [before, *watch.seen]


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("weighting", ["uncertainty", "pcgrad", "gradnorm", "mgda"])
def test_networks_learn_from_labels_first_and_the_rest_with_them_as_they_are(
    tiny: Path, tmp_path: Path, weighting: str
) -> None:
    start, first, second, third = epochs_of(
        load(tiny, weighting={"type": weighting}), tmp_path / "runs"
    )
    in_first = moved(start, first)
    assert in_first and all(name.startswith("edges.") for name in in_first)
    in_rest = moved(first, third)
    assert not any(name.startswith("edges.") for name in in_rest)
    assert any("encoder" in name for name in in_rest)
    assert any("decoders.depth" in name for name in moved(first, second))


def test_running_statistics_of_what_is_frozen_stay_as_they_are(tiny: Path, tmp_path: Path) -> None:
    phases = [{"epochs": 1, "freeze": ["architecture.encoder"]}]
    start, end = epochs_of(load(tiny, phases), tmp_path / "runs")
    names = moved(start, end)
    assert not any("encoder" in name for name in names)
    assert any("running_mean" in name for name in start if "encoder" in name)
    assert any("running_mean" in name for name in names)  # of what learns


def test_a_run_stopped_in_the_second_phase_ends_with_the_same_bits(
    tiny: Path, tmp_path: Path
) -> None:
    recipe = load(tiny, weighting={"type": "graddrop"})

    class StopAt:
        @hookimpl
        def mtlkit_step_end(self, run: mtlkit.Run, step: Any) -> None:
            if step.step == 5:
                raise InterruptedRun("stopped")

    whole = epochs_of(recipe, tmp_path / "whole")[-1]
    run = mtlkit.Run(load(tiny, weighting={"type": "graddrop"}, train__checkpoint_every=1),
                     out=tmp_path / "parts")  # fmt: skip
    run.track(StopAt())
    with pytest.raises(InterruptedRun):
        run.fit()
    assert run.folder is not None
    again = mtlkit.Run(load(tiny, weighting={"type": "graddrop"}, train__checkpoint_every=1),
                       out=tmp_path / "parts", resume=run.folder)  # fmt: skip
    assert again.fit().status == "done"
    state = {**again.model.state_dict(), **again.learner.balancer.state_dict()}
    assert moved(whole, state) == set()


class Validations:
    """Keeps what every epoch's validation told."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    @hookimpl
    def mtlkit_epoch_end(self, run: mtlkit.Run, epoch: Any) -> None:
        self.seen.append(dict(epoch.val))


@pytest.mark.parametrize(("metric", "mode"), [("loss/total", "min"), ("depth/delta2", "max")])
def test_the_best_epoch_is_one_of_the_last_phase_although_the_first_had_a_better_one(
    tiny: Path, tmp_path: Path, metric: str, mode: str
) -> None:
    last = "architecture.encoder"
    phases = [{"epochs": 1, "freeze": last}, {"epochs": 2, "only": last}]
    ruinous = {"type": "adam", "lr": 0.01, "groups": [{"match": last, "lr": 1.0}]}
    keep = {"metric": metric, "mode": mode}
    recipe = load(tiny, phases, edges=[], optimizer=ruinous, train__keep_best=keep)
    run, told = mtlkit.Run(recipe, out=tmp_path), Validations()
    run.track(told)
    outcome = run.fit()
    by_epoch = {epoch: values[metric] for epoch, values in enumerate(told.seen, start=1)}
    best_of = {"min": min, "max": max}[mode]
    assert best_of(by_epoch, key=by_epoch.__getitem__) == 1
    assert outcome.best_epoch == best_of((2, 3), key=by_epoch.__getitem__)
    assert outcome.best[metric] == by_epoch[outcome.best_epoch]


def test_the_schedule_begins_anew_in_every_phase(tiny: Path) -> None:
    recipe = load(
        tiny, [{"epochs": 2}, {"epochs": 4}], schedule={"type": "cosine"}, edges=[]
    )  # the same cosine over 2 and over 4 epochs
    assert rate_factor(recipe, 1, 0.0) == rate_factor(recipe, 3, 0.0) == 1.0
    assert rate_factor(recipe, 2, 0.5) == pytest.approx(rate_factor(recipe, 6, 0.0))
    assert recipe.train.length == 6


def test_reach_is_known_for_every_phase(tiny: Path) -> None:
    first, second = check_recipe(load(tiny)).reaches
    assert first.own and not any(first.tasks.values())
    assert not second.own and second.shared


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"epochs": 1, "only": "edge"}], "'edge' matches no parameter; module paths begin with"),
        ([{"epochs": 1, "freeze": "*"}], r"no loss moves what learns in this phase \(\*\)"),
        ([{"epochs": 1, "only": "edges", "freeze": "model.edges"}], "no loss moves what learns"),
    ],
)
def test_a_phase_in_which_nothing_learns_is_refused(tiny: Path, phases: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_recipe(load(tiny, phases))


@pytest.mark.parametrize(
    ("epochs", "phases", "message"),
    [
        (None, [], "`epochs` is missing. Add it"),
        (3, [{"epochs": 1}], "epochs are those of the phases. Remove `epochs`, or `phases`"),
    ],
)
def test_a_training_has_one_length(
    tiny: Path, epochs: int | None, phases: Any, message: str
) -> None:
    settings = {"train.epochs": epochs, "train.phases": phases}
    with pytest.raises(RecipeError, match=re.escape(message)):
        mtlkit.load_recipe(tiny, settings)
