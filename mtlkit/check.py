"""What can be known of a recipe before data is read: everything built and run on meta tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlkit.contracts import Balancer
from mtlkit.data import meta_batch
from mtlkit.errors import Fault, MtlkitError, PluginError, RecipeError
from mtlkit.evaluation import directions, keep_best_faults
from mtlkit.gradients import Conditions, Reach, build_backward, probe
from mtlkit.objective import Objective, build_objective
from mtlkit.optimization import build_optimizer
from mtlkit.order import BatchOrder
from mtlkit.phases import Phases
from mtlkit.recipe import Recipe
from mtlkit.structures import Losses, Output


@dataclass(frozen=True)
class Checked:
    """What the check learnt.

    Args:
        objective: on the meta device.
        losses: of one meta batch with every label.
        reaches: which task's loss reaches which parameter, for each phase of the training.
    """

    objective: Objective
    losses: Losses
    reaches: tuple[Reach, ...]

    @property
    def reach(self) -> Reach:
        """That of the last phase."""
        return self.reaches[-1]


def check_recipe(recipe: Recipe) -> Checked:
    """Build every part on the meta device and run every edge at the recipe's size.

    Args:
        recipe: valid in itself.

    Raises:
        RecipeError: all that cannot work, each at its line.
        PluginError: a part fails, or returns something else than its contract says.
    """
    with recipe.loaded.blaming("the encoder or the metrics of this recipe fail"):
        faults = [*_size_faults(recipe), *keep_best_faults(recipe)]
        directions(recipe)  # builds the metrics
    if faults:
        raise RecipeError(faults)
    height, width = recipe.size
    with recipe.loaded.blaming(
        f"the model of this recipe fails on a batch of 2×3×{height}×{width}"
    ):
        objective = build_objective(recipe, "meta")
        losses = objective(meta_batch(recipe))
    _check_losses(losses)
    _check_shapes(recipe, losses.output)
    faults = list(_batch_of_one_faults(recipe, objective))
    reaches, found = _phases(recipe, objective, losses)
    if faults + found:
        raise RecipeError(faults + found)
    return Checked(objective, losses, reaches)


def _size_faults(recipe: Recipe) -> Iterator[Fault]:
    if recipe.encoder is None:
        return
    with torch.device("meta"):
        divisor = recipe.encoder.build_encoder()[1].divisor
    wrong = [side for side in recipe.size if side % divisor]
    if wrong:
        near = [max(divisor, round(side / divisor) * divisor) for side in recipe.size]
        height, width = recipe.size
        message = (
            f"{height}×{width} does not divide by {divisor}, which encoder "
            f"{recipe.encoder.type_name()!r} needs. The nearest good size is {near}"
        )
        yield recipe.fault((*recipe.place_of(0), "size"), message)


def _check_losses(losses: Losses) -> None:
    for name, loss in (losses.terms | losses.tasks).items():
        if loss.ndim:
            shape = tuple(loss.shape)
            raise PluginError(
                f"the loss {name} has shape {shape}, it must be a scalar. Reduce it with "
                "nn.masked_mean"
            )
    for name, loss in losses.tasks.items():
        if not loss.requires_grad:
            raise PluginError(
                f"task {name!r}: its loss has no gradient. Compute it from the prediction, which "
                "must not be detached"
            )


def _check_shapes(recipe: Recipe, output: Output) -> None:
    images, size = 2, tuple(recipe.size)
    for name, task in recipe.tasks.items():
        if task.channels < 1:
            raise PluginError(
                f"task {name!r}: predicts {task.channels} channels. Predict at least 1"
            )
        wanted = (images, task.channels) if task.vector else (images, task.channels, *size)
        _check_shape(output.predictions[name].shape, wanted, f"task {name!r}: the prediction")
    for key, transferred in output.transfers.items():
        wanted = tuple(output.predictions[key[-2]].shape)
        _check_shape(transferred.shape, wanted, f"edge {' → '.join(key[:-1])}: the transfer")


def _check_shape(found: torch.Size, wanted: tuple[int, ...], what: str) -> None:
    if tuple(found) != wanted:
        raise PluginError(
            f"{what} has shape {tuple(found)}, it must have {wanted}. Mend the plugin"
        )


def _batch_of_one_faults(recipe: Recipe, objective: Objective) -> Iterator[Fault]:
    """Yield a fault where batch norm would have one value per channel."""
    if recipe.loader.batch_size > 1:
        return
    try:
        objective(meta_batch(recipe, 1))
    except ValueError as error:
        message = f"a batch of 1 cannot be trained ({error}). Write 2, or a larger data.size"
        yield recipe.fault(("loader", "batch_size"), message)


def check_batches(recipe: Recipe, order: BatchOrder) -> None:
    """Refuse a training split whose batches cannot be trained.

    Args:
        recipe: the run.
        order: of the training split.

    Raises:
        RecipeError: there is no batch, or the last one has a single sample and batch norm fails.
    """
    where = ("loader", "drop_last")
    if order.batches == 0:
        message = f"leaves no batch of {order.count} samples. Write false, or a smaller batch_size"
        raise RecipeError([recipe.fault(where, message)])
    if order.batch_size > 1 and order.count % order.batch_size == 1 and not order.drop_last:
        try:
            build_objective(recipe, "meta")(meta_batch(recipe, 1))
        except ValueError as error:
            message = (
                f"the last batch has one sample, which cannot be trained ({error}). Write true"
            )
            raise RecipeError([recipe.fault(where, message)]) from None


def _phases(
    recipe: Recipe, objective: Objective, losses: Losses
) -> tuple[tuple[Reach, ...], list[Fault]]:
    """Return the reach in each phase, and faults of the parts that learning needs."""
    with recipe.loaded.blaming("the weighting of this recipe fails"):
        balancer = recipe.weighting.build_balancer(recipe.tasks)
        _check_balancer(recipe, balancer)
    others = (objective.auxiliary_losses, balancer)
    faults = list(_optimizer_faults(recipe, objective, others))
    try:
        phases = Phases(recipe.train, objective.model, others)
    except MtlkitError as error:
        return (), [*faults, recipe.fault(("train", "phases"), str(error))]
    reaches, conditions = [], Conditions(recipe.train.accumulate)
    for index, part in enumerate(phases.parts):
        phases.begin(index)
        here = objective(meta_batch(recipe)) if phases.is_partial else losses
        reaches.append(reach := probe(objective, here))
        if not any(reach.tasks.values()) and not reach.own:
            names = ", ".join((*part.only, *part.freeze))
            message = f"no loss moves what learns in this phase ({names}). Remove the phase"
            faults.append(recipe.fault(("train", "phases", index), message))
        try:
            partial = phases.is_partial
            build_backward(balancer, objective, reach, conditions, is_partial=partial)
        except MtlkitError as error:
            faults.append(recipe.fault(("weighting",), str(error)))
    return tuple(reaches), faults


def _check_balancer(recipe: Recipe, balancer: Balancer) -> None:
    """Refuse what is no balancer, and a total that is no scalar or that moves nothing."""
    who = f"weighting {recipe.weighting.type_name()!r}"
    if not isinstance(balancer, Balancer):
        found = type(balancer).__name__
        message = f"build_balancer() returned {found}. Derive it from mtlkit.Balancer"
        raise PluginError(f"{who}: {message}")
    losses = {name: torch.ones((), requires_grad=True) for name in recipe.tasks}
    total = balancer.eval().total(losses)
    if not isinstance(total, Tensor) or total.ndim:
        found = f"shape {tuple(total.shape)}" if isinstance(total, Tensor) else type(total).__name__
        raise PluginError(f"{who}: total() returned {found}. Return a scalar tensor")
    if not total.requires_grad:
        message = "total() has no gradient, so that nothing would learn. Detach no loss"
        raise PluginError(f"{who}: {message}")
    balancer.train()


def _optimizer_faults(
    recipe: Recipe, objective: Objective, others: tuple[nn.Module, nn.Module]
) -> Iterator[Fault]:
    """Yield a fault where optimizer groups match nothing or torch refuses the settings."""
    try:
        build_optimizer(recipe.optimizer, objective.model, others)
    except MtlkitError as error:
        yield recipe.fault(("optimizer", "groups"), str(error))
    except ValueError as error:  # torch's own rules, such as nesterov without momentum
        yield recipe.fault(("optimizer",), f"torch refuses it: {error}. Change these keys")
