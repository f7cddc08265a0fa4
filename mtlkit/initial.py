"""The objective as a run begins with it."""

from __future__ import annotations

from pathlib import Path

from mtlkit import checkpoint
from mtlkit.objective import Objective, build_objective
from mtlkit.recipe import Recipe

NotLoaded = tuple[list[str], list[str]] | None
"""Names of weights that did not fit `train.init_from`; None without it."""


def initial_objective(recipe: Recipe, *, is_fresh: bool) -> tuple[Objective, NotLoaded]:
    """Return the objective, and what did not fit of the checkpoint that it begins from.

    Args:
        recipe: the run.
        is_fresh: whether it begins from initial weights; a checkpoint makes them redundant.

    Raises:
        MissingError: `train.init_from` or the encoder's weights are not there.
    """
    if not is_fresh:
        return build_objective(_without_weights(recipe)), None
    objective = build_objective(recipe)
    if recipe.train.init_from is None:
        return objective, None
    source = checkpoint.find(Path(recipe.train.init_from))
    found = checkpoint.load_partly(objective.model, checkpoint.load(source)["model"])
    return objective, found


def _without_weights(recipe: Recipe) -> Recipe:
    """Return the recipe with an encoder that reads no file."""
    if recipe.encoder is None:
        return recipe
    return recipe.model_copy(update={"encoder": recipe.encoder.untrained()})
