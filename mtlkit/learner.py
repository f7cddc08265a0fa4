"""What learns: objective, balancer and optimizer, and one optimizer step from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit import checkpoint
from mtlkit.contracts import GradientBalancer
from mtlkit.device import (
    Placement,
    autocast,
    gradient_scaler,
    move,
    restore_rng,
    rng_state,
    to_device,
)
from mtlkit.errors import CheckpointError, DivergedError
from mtlkit.evaluation import loss_names, loss_values
from mtlkit.gradients import Conditions, Reach, Report, build_backward, number_names
from mtlkit.monitor import Monitor
from mtlkit.nn import statistics_kept
from mtlkit.objective import Objective, build_objective
from mtlkit.optimization import (
    build_optimizer,
    clip_gradients,
    has_gradients,
    is_finite,
    set_learning_rate,
)
from mtlkit.parallel import Parallel
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe
from mtlkit.records import WEIGHTING
from mtlkit.structures import Batch, Counts, Losses, mean_counts

LEAST_SCALE = 2**-6
"""Of fp16 gradients; it starts at 2¹⁶ and halves with every step that is not finite."""


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
        self.balancer = recipe.weighting.build_balancer(recipe.tasks)
        at_gradients = isinstance(self.balancer, GradientBalancer)  # their state is on the CPU
        if not at_gradients:
            self.balancer.to(placement.device)
        for parameter in self.balancer.parameters():  # one optimizer moves all that learns
            parameter.data = parameter.data.to(placement.device)
        self.skips, self.ranks = recipe.train.on_nonfinite == "skip_task", Ranks.here()
        conditions = Conditions(recipe.train.accumulate, self.ranks, self.skips)
        self.backward = build_backward(self.balancer, objective, reach, conditions)
        self.parallel = Parallel(objective, self.backward, self.ranks)
        others = (objective.auxiliary_losses, self.balancer)
        self.optimizer = build_optimizer(recipe.optimizer, self.model, others)
        self.scaler = gradient_scaler(placement)
        names = [*loss_names(recipe), "loss/total"]
        self.monitor = Monitor(names, placement.device, self.skips)
        where = torch.device("cpu") if at_gradients else placement.device
        self.numbers = Monitor(number_names(list(recipe.tasks)), where, skips=True)
        self.left_out = Counter[str]()  # steps of this epoch that a task was left out of

    def step(self, batches: Sequence[Batch], number: int, factor: float) -> Losses:
        """Take one optimizer step, and return the losses of the last batch.

        Args:
            batches: those whose gradients are accumulated; on any device.
            number: of the step, 1 for the first.
            factor: what the learning rates are multiplied by.

        Raises:
            DivergedError: at gradient level, a task's loss or gradient is no number and
                `train.on_nonfinite` says stop; no weight has moved.
        """
        self.objective.train()
        self.balancer.train()
        set_learning_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        one = torch.ones((), device=self.placement.device)  # the scale lives where this does
        scale = self.scaler.scale(one) if self.scaler.is_enabled() else None
        self.backward.begin(len(batches), scale)
        counted, values = self.with_counts(batches), []
        for batch in counted:
            losses = self._losses(batch, batch is counted[-1])
            values.append(loss_values(losses))
            self.backward.add(losses)
            losses = losses.detached()  # or graphs would outlive the next forward pass
        report = self.backward.finish()
        if report.numbers:
            values[-1]["loss/total"] = report.total
        for found in values:
            self.monitor.add(found, number)
        self.numbers.add(report.numbers, number)
        self._note(report, number)
        if self._move():
            self.objective.after_step()
            self.balancer.after_step(lambda: self._again(counted))
        return losses

    def read_line(self) -> dict[str, float]:
        """Return the means since the last line, and begin a new one.

        Raises:
            DivergedError: a loss was no number; names it and its step.
        """
        self._check_scale()
        return self.monitor.read_line() | self.numbers.read_line()

    def read_epoch(self) -> dict[str, float]:
        """Return the means over the epoch with what was left out of it, and begin a new one.

        Raises:
            DivergedError: a loss was no number; names it and its step.
        """
        left_out = {f"{WEIGHTING}left_out/{name}": float(n) for name, n in self.left_out.items()}
        self.left_out.clear()
        return self.monitor.read_epoch() | self.numbers.read_epoch() | left_out

    def check_finite(self, step: int) -> None:
        """Refuse a state that must not be kept: losses or weights that are no numbers.

        Args:
            step: steps done, for the message.

        Raises:
            DivergedError: names what is not finite.
        """
        self.monitor.check()
        self._check_scale()
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
            "scaler": self.scaler.state_dict(),
            "monitor": self.monitor.state(),
            "numbers": self.numbers.state(),
            "left_out": dict(self.left_out),
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
            self.numbers.restore(state["numbers"])
            self.left_out = Counter(state["left_out"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
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

    def with_counts(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return the batches with the denominators of the whole step, of all ranks.

        Args:
            batches: of the step, before they move.
        """
        counts = mean_counts([self.objective.counts(batch) for batch in batches])
        counts = self._over_ranks(counts)
        labelled = frozenset(name for name, c in counts.items() if bool(c.valid > 0))
        return [replace(batch, counts=counts, labelled=labelled) for batch in batches]

    def _losses(self, batch: Batch, is_last: bool) -> Losses:
        with autocast(self.placement):
            return self.parallel(move(batch, self.placement.device), is_last)

    def _note(self, report: Report, number: int) -> None:
        """Count the tasks that were left out, or stop there."""
        if report.left_out and not self.skips:
            self.monitor.check()
            names = ", ".join(report.left_out)
            raise DivergedError(f"the gradient of {names} is not finite at step {number}")
        self.left_out.update(report.left_out)

    def _move(self) -> bool:
        """Move what learns along its gradients, unless these are no numbers; return whether."""
        if not has_gradients(self.optimizer):
            return False
        self.scaler.unscale_(self.optimizer)
        if self.recipe.train.clip is not None:
            clip_gradients(self.optimizer, self.recipe.train.clip)
        if self.skips and not self.scaler.is_enabled() and not is_finite(self.optimizer):
            self.left_out["all tasks"] += 1
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return True

    def _check_scale(self) -> None:
        """Refuse to go on where no fp16 gradient is finite, and so no step is taken."""
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise DivergedError(
                "gradients in fp16 are not finite, however small their scale, so that nothing "
                "learns. Write train.precision: bf16 or fp32"
            )

    @torch.no_grad()
    def _again(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the step's losses once more, of all ranks; no running statistics move."""
        sums: dict[str, Tensor] = {}
        with statistics_kept(self.objective), autocast(self.placement):
            for batch in batches:
                losses: Losses = self.objective(move(batch, self.placement.device))
                for name in losses.present:
                    part = losses.tasks[name] / len(batches)
                    sums[name] = sums[name] + part if name in sums else part
        return {name: self.ranks.mean_(sums[name]) for name in sorted(sums)}

    def _over_ranks(self, counts: dict[str, Counts]) -> dict[str, Counts]:
        """Return the means over the ranks, in one message."""
        if self.ranks.count == 1 or not counts:
            return counts
        flat = torch.stack([x for c in counts.values() for x in c]).to(self.placement.device)
        mean = self.ranks.mean_(flat).cpu().view(len(counts), -1)
        return {name: Counts(*row.unbind()) for name, row in zip(counts, mean, strict=True)}


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
