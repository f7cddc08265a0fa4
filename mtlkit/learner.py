"""What learns: objective, balancer and optimizer, and one optimizer step from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mtlkit import checkpoint
from mtlkit.device import Placement, autocast, move, restore_rng, rng_state, to_device
from mtlkit.errors import CheckpointError, DivergedError
from mtlkit.evaluation import loss_names, loss_values
from mtlkit.gradients import Backward, Reach, last_shared
from mtlkit.monitor import Monitor
from mtlkit.objective import Objective, build_objective
from mtlkit.optimization import build_optimizer, clip_gradients, set_learning_rate
from mtlkit.recipe import Recipe
from mtlkit.structures import Batch, Losses, mean_counts


class Learner:
    """Everything that a step changes.

    Args:
        recipe: what to build.
        reach: from the check, which task's loss reaches which parameter.
        placement: device and precision.
        is_fresh: whether it begins from initial weights; a checkpoint makes them redundant.

    Raises:
        MissingError: `train.init_from` or the encoder's weights are not there.
    """

    def __init__(
        self, recipe: Recipe, reach: Reach, placement: Placement, *, is_fresh: bool
    ) -> None:
        self.recipe, self.placement = recipe, placement
        objective = build_objective(recipe if is_fresh else _without_weights(recipe))
        self.not_loaded = _initialise(objective, recipe) if is_fresh else None
        to_device(objective, placement)
        self.objective, self.model = objective, objective.model
        self.balancer = recipe.weighting.build_balancer(recipe.tasks).to(placement.device)
        self.backward = Backward(self.balancer, last_shared(objective, reach))
        others = (objective.auxiliary_losses, self.balancer)
        self.optimizer = build_optimizer(recipe.optimizer, self.model, others)
        self.monitor = Monitor([*loss_names(recipe), "loss/total"], placement.device)

    def step(self, batches: Sequence[Batch], number: int, factor: float) -> Losses:
        """Take one optimizer step, and return the losses of the last batch.

        Args:
            batches: those whose gradients are accumulated; on any device.
            number: of the step, 1 for the first.
            factor: what the learning rates are multiplied by.
        """
        self.objective.train()
        self.balancer.train()
        set_learning_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        for batch in self._with_counts(batches):
            here = move(batch, self.placement.device)
            with autocast(self.placement):
                losses: Losses = self.objective(here)
            total = self.backward(losses, 1 / len(batches))
            values = {"loss/total": total} if losses.present else {}
            self.monitor.add(values | loss_values(losses), number)
        if self.recipe.train.clip is not None:
            clip_gradients(self.optimizer, self.recipe.train.clip)
        self.optimizer.step()
        self.objective.after_step()
        self.balancer.after_step(lambda: self.objective(here).tasks)
        return losses

    def check_finite(self, step: int) -> None:
        """Refuse a state that must not be kept: losses or weights that are no numbers.

        Args:
            step: steps done, for the message.

        Raises:
            DivergedError: names what is not finite.
        """
        self.monitor.check()
        named = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        floats = {name: x.detach() for name, x in named.items() if x.is_floating_point()}
        finite = torch.stack([x.isfinite().all() for x in floats.values()])
        if not bool(finite.all()):
            bad = [n for n, good in zip(floats, finite.tolist(), strict=True) if not good]
            raise DivergedError(f"the weights {bad[0]} are not finite after step {step}")

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "auxiliary_losses": self.objective.auxiliary_losses.state_dict(),
            "balancer": self.balancer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "monitor": self.monitor.state(),
            "rng": rng_state(),
        }

    def restore(self, state: Mapping[str, Any], source: Path) -> None:
        """Go on from `state()`.

        Args:
            state: of a checkpoint of the same recipe.
            source: the checkpoint, for messages.

        Raises:
            CheckpointError: it does not fit or is damaged.
        """
        self.load_weights(state, source)
        auxiliary = self.objective.auxiliary_losses
        checkpoint.load_weights(auxiliary, state["auxiliary_losses"], source)
        checkpoint.load_optimizer(self.optimizer, state["optimizer"], source)
        try:
            self.monitor.restore(state["monitor"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{source}: is damaged: {error}. Start a new run") from None
        restore_rng(state["rng"])

    def load_weights(self, state: Mapping[str, Any], source: Path) -> None:
        """Take model and balancer from a checkpoint, for evaluation.

        Args:
            state: of a checkpoint of the same recipe.
            source: the checkpoint, for messages.

        Raises:
            CheckpointError: it does not fit.
        """
        checkpoint.load_weights(self.model, state["model"], source)
        checkpoint.load_weights(self.balancer, state["balancer"], source)

    def _with_counts(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Give each batch the denominators of the whole step, counted before it moves."""
        counts = mean_counts([self.objective.counts(batch) for batch in batches])
        labelled = frozenset(name for name, c in counts.items() if bool(c.valid > 0))
        return [replace(batch, counts=counts, labelled=labelled) for batch in batches]


def _without_weights(recipe: Recipe) -> Recipe:
    """Return the recipe with an encoder that reads no file."""
    if recipe.encoder is None:
        return recipe
    return recipe.model_copy(update={"encoder": recipe.encoder.untrained()})


def _initialise(objective: Objective, recipe: Recipe) -> tuple[list[str], list[str]] | None:
    """Take what fits of another checkpoint's weights; return the names that did not fit."""
    if recipe.train.init_from is None:
        return None
    source = checkpoint.find(Path(recipe.train.init_from))
    return checkpoint.load_partly(objective.model, checkpoint.load(source)["model"])
