"""What can be known of a recipe before data is read: everything built and run on meta tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mtlkit.data import meta_batch
from mtlkit.errors import Fault, MtlkitError, PluginError, RecipeError
from mtlkit.evaluation import keep_best_faults
from mtlkit.gradients import Backward, Reach, last_shared, probe
from mtlkit.objective import Objective, build_objective
from mtlkit.optimization import build_optimizer
from mtlkit.recipe import Recipe
from mtlkit.structures import Losses


@dataclass(frozen=True)
class Checked:
    """What the check learnt.

    Args:
        objective: on the meta device.
        losses: of one meta batch with every label.
        reach: which task's loss reaches which parameter.
    """

    objective: Objective
    losses: Losses
    reach: Reach


def check_recipe(recipe: Recipe) -> Checked:
    """Build every part on the meta device and run every edge at the recipe's size.

    Args:
        recipe: valid in itself.

    Raises:
        RecipeError: all that cannot work, each at its line.
        PluginError: a part fails, or returns something else than its contract says.
    """
    faults = [*_size_faults(recipe), *keep_best_faults(recipe)]
    if faults:
        raise RecipeError(faults)
    objective, losses = _run_on_meta(recipe)
    _check_shapes(recipe, losses)
    reach = probe(objective, losses)
    faults = list(_build_faults(recipe, objective, reach))
    if faults:
        raise RecipeError(faults)
    return Checked(objective, losses, reach)


def _size_faults(recipe: Recipe) -> Iterator[Fault]:
    if recipe.encoder is None:
        return
    with torch.device("meta"):
        divisor = recipe.encoder.build_encoder()[1].divisor
    wrong = [side for side in recipe.data.size if side % divisor]
    if wrong:
        near = [max(divisor, round(side / divisor) * divisor) for side in recipe.data.size]
        height, width = recipe.data.size
        message = (
            f"{height}×{width} does not divide by {divisor}, which encoder "
            f"{recipe.encoder.type_name()!r} needs. The nearest good size is {near}"
        )
        yield recipe.fault(("data", "size"), message)


def _run_on_meta(recipe: Recipe) -> tuple[Objective, Losses]:
    height, width = recipe.data.size
    try:
        objective = build_objective(recipe, "meta")
        return objective, objective(meta_batch(recipe))
    except MtlkitError:
        raise
    except Exception as error:  # whatever a plugin's code raises
        reason = str(error).split("\n")[0]
        raise PluginError(
            f"the model of this recipe fails on a batch of 2×3×{height}×{width}: "
            f"{type(error).__name__}: {reason}. Mend the plugin{_culprit(recipe, error)}"
        ) from error


def _culprit(recipe: Recipe, error: BaseException) -> str:
    """Return " x, line n" of the innermost frame that lies in a plugin's file."""
    modules = {plugin.module.__file__: plugin.name for plugin in recipe.loaded.loaded}
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file in modules:
            place = f" {modules[file]}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _check_shapes(recipe: Recipe, losses: Losses) -> None:
    images, size = 2, tuple(recipe.data.size)
    output = losses.output
    for name, task in recipe.tasks.items():
        wanted = (images, task.channels) if task.vector else (images, task.channels, *size)
        _check_shape(output.predictions[name].shape, wanted, f"task {name!r}: the prediction")
        if losses.tasks[name].ndim:
            raise PluginError(
                f"task {name!r}: the loss must be a scalar. Reduce with nn.masked_mean"
            )
    for key, transferred in output.transfers.items():
        wanted = tuple(output.predictions[key[-2]].shape)
        _check_shape(transferred.shape, wanted, f"edge {' → '.join(key[:-1])}: the transfer")


def _check_shape(found: torch.Size, wanted: tuple[int, ...], what: str) -> None:
    if tuple(found) != wanted:
        raise PluginError(
            f"{what} has shape {tuple(found)}, it must have {wanted}. Mend the plugin"
        )


def _build_faults(recipe: Recipe, objective: Objective, reach: Reach) -> Iterator[Fault]:
    """Yield a fault where optimizer groups match nothing or the weighting cannot work."""
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    others = (objective.auxiliary_losses, balancer)
    try:
        build_optimizer(recipe.optimizer, objective.model, others)
    except MtlkitError as error:
        yield recipe.fault(("optimizer", "groups"), str(error))
    try:
        Backward(balancer, last_shared(objective, reach))
    except MtlkitError as error:
        yield recipe.fault(("weighting",), str(error))
    if Backward.needs_whole_steps(balancer) and recipe.train.accumulate > 1:
        message = "weighting by gradients sees one batch a step in this release. Write 1"
        yield recipe.fault(("train", "accumulate"), message)
