"""What is probed: a recipe with its edges, or with all that one type gives; or a checkpoint."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from mtlkit import checkpoint
from mtlkit.actions import Source, load_run
from mtlkit.circumstances import NAMES
from mtlkit.contracts import Edge
from mtlkit.engine import Run
from mtlkit.errors import RecipeError, UsageError, suggest
from mtlkit.graph import ALL
from mtlkit.listing import find_recipe
from mtlkit.recipe import Recipe
from mtlkit.records import Position

USUAL_TYPE = "xtc"


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Args:
        kind: type of the edges to try where the recipe has none; None: `USUAL_TYPE`.
        warm_up: training steps before the first probe; None: as many as is usual.
        probes: points of the training to probe at.
        between: training steps between probes.
        val_batches: validation batches that losses are measured on.
        write: the recipe to write; None: none.
    """

    kind: str | None = None
    warm_up: int | None = None
    probes: int = 10
    between: int = 5
    val_batches: int = 4
    write: Path | None = None


@dataclass(frozen=True)
class Subject:
    """What is probed.

    Args:
        run: with every edge that is tried.
        path: of the recipe; names it, and plugin files are looked for beside it.
        text: of the recipe as it was written, without settings of the command line.
        is_trained: whether its weights are those of a checkpoint.
    """

    run: Run
    path: Path
    text: str
    is_trained: bool


def subject_of(source: Source, kind: str | None) -> Subject:
    """Return what is to be probed.

    Args:
        source: a recipe, or a run folder or checkpoint in its place.
        kind: type of the edges where the recipe has none; None: `USUAL_TYPE`.

    Raises:
        UsageError: there is no edge to try.
    """
    place = Path(source.recipe)
    if place.is_dir() or place.suffix == ".pt":
        return _trained(source, checkpoint.find(place), kind)
    path = find_recipe(source.recipe)
    recipe = source.load()
    if recipe.edges and kind is not None:
        raise UsageError(
            f"--type {kind}: {path} has edges of its own, and these are tried. Leave --type out, "
            "or the edges"
        )
    if not recipe.edges:
        recipe = _joined(source, recipe, kind or USUAL_TYPE)
    return Subject(Run(recipe), path, path.read_text(encoding="utf-8-sig"), False)


def _joined(source: Source, recipe: Recipe, kind: str) -> Recipe:
    """Return the recipe with every edge of a type."""
    known = recipe.loaded.types("edge")
    if kind not in known:
        raise UsageError(f"--type {kind}: no such type of edge; {suggest(kind, known)}")
    if len(recipe.tasks) == 1:
        only = next(iter(recipe.tasks))
        raise UsageError(
            f"{source.recipe}: an edge joins two tasks, and {only!r} is the only one. Add a task"
        )
    pairs = itertools.permutations(recipe.tasks.values(), 2)
    every = {"from": ALL, "to": ALL, "type": kind}
    with contextlib.suppress(ValidationError):  # told below, with what is missing
        edge = known[kind].model_validate(every)
        assert isinstance(edge, Edge)  # as every type of this kind is
        if all(edge.refusal(*pair) is not None for pair in pairs):
            raise UsageError(
                f"{source.recipe}: {kind} can join no two of {', '.join(recipe.tasks)}. Choose "
                "another --type, or add a task"
            )
    try:
        return replace(source, settings=[*source.settings, f"edges=[{json.dumps(every)}]"]).load()
    except RecipeError as error:
        reasons = "; ".join(fault.message for fault in error.faults)
        raise UsageError(
            f"--type {kind}: cannot join all tasks of {source.recipe}: {reasons}. Or write the "
            "edges into the recipe"
        ) from None


def _trained(source: Source, found: Path, kind: str | None) -> Subject:
    state = checkpoint.load(found)
    if kind is not None:
        raise UsageError(f"--type {kind}: is for recipes. The edges of a checkpoint are its own")
    run = load_run(found, source)
    if not run.recipe.all_edges:
        raise UsageError(
            f"{found}: was trained without edges, so that there are no transfer networks to try. "
            "Give its recipe"
        )
    run.learner.restore(state, found)
    place = {key: n for key, n in state["position"].items() if key not in NAMES}
    run.position = Position(**place)
    return Subject(run, found.parent / "recipe.yaml", state["recipe"], True)
