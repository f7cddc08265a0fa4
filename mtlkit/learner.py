"""What learns: objective, balancer and optimizer, and one optimizer step from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit import checkpoint
from mtlkit.contracts import GradientBalancer
from mtlkit.denominators import with_counts
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
from mtlkit.initial import initial_objective
from mtlkit.monitor import Monitor, check_weights
from mtlkit.nn import statistics_kept
from mtlkit.optimization import (
    build_optimizer,
    clip_gradients,
    has_gradients,
    is_finite,
    set_learning_rate,
)
from mtlkit.parallel import Parallel
from mtlkit.phases import Phases
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe
from mtlkit.records import WEIGHTING
from mtlkit.sampling import Draw, build_sampler
from mtlkit.structures import Batch, Losses

LEAST_SCALE = 2**-6
"""Of fp16 gradients; it starts at 2¹⁶ and halves with every step that is not finite."""


class Learner:
    """Everything that a step changes.

    Args:
        recipe: what to build.
        reaches: from the check, which task's loss reaches which parameter in each phase.
        placement: device and precision.
        is_fresh: whether it begins from initial weights; a checkpoint makes them redundant.

    Raises:
        MissingError: `train.init_from` or the encoder's weights are not there.
    """

    def __init__(
        self,
        recipe: Recipe,
        reaches: Sequence[Reach],
        placement: Placement,
        *,
        is_fresh: bool,
    ) -> None:
        self.recipe, self.placement, self.reaches = recipe, placement, reaches
        objective, self.not_loaded = initial_objective(recipe, is_fresh=is_fresh)
        to_device(objective, placement)
        self.objective, self.model = objective, objective.model
        self.balancer = recipe.weighting.build_balancer(recipe.tasks)
        at_gradients = isinstance(self.balancer, GradientBalancer)  # their state is on the CPU
        if not at_gradients:
            self.balancer.to(placement.device)
        for parameter in self.balancer.parameters():  # one optimizer moves all that learns
            parameter.data = parameter.data.to(placement.device)
        self.skips, self.ranks = recipe.train.on_nonfinite == "skip_task", Ranks.here()
        others = (objective.auxiliary_losses, self.balancer)
        self.optimizer = build_optimizer(recipe.optimizer, self.model, others)
        self.phases = Phases(recipe.train, self.model, others)
        self._begin_phase(0)
        self.sampler = build_sampler(recipe)
        self.scaler = gradient_scaler(placement)
        names = [*loss_names(recipe), "loss/total"]
        self.monitor = Monitor(names, placement.device, self.skips)
        where = torch.device("cpu") if at_gradients else placement.device
        self.numbers = Monitor(number_names(list(recipe.tasks)), where, skips=True)
        self.left_out = Counter[str]()  # steps of this epoch that a task was left out of

    @property
    def reach(self) -> Reach:
        """Which task's loss reaches which parameter in this phase."""
        return self.reaches[self.phases.index]

    def begin_epoch(self, epoch: int) -> None:
        """Let the parameters of the epoch's phase learn, and no others.

        Args:
            epoch: 1 for the first.
        """
        phase, _ = self.recipe.train.phase_of(epoch)
        if phase != self.phases.index:
            self._begin_phase(phase)

    def _begin_phase(self, index: int) -> None:
        self.phases.begin(index)
        conditions = Conditions(self.recipe.train.accumulate, self.ranks, self.skips)
        self.backward = build_backward(
            self.balancer,
            self.objective,
            self.reach,
            conditions,
            is_partial=self.phases.is_partial,
        )
        self.parallel = Parallel(self.objective, self.backward, self.ranks)

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
        self.phases.keep_still()
        set_learning_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        one = torch.ones((), device=self.placement.device)  # the scale lives where this does
        scale = self.scaler.scale(one) if self.scaler.is_enabled() else None
        self.backward.begin(len(batches), scale)
        counted, values = self.with_counts(batches), []
        drawn = None if self.sampler is None else self.sampler.draw(number)
        for batch in counted:
            losses = self._losses(batch, drawn, batch is counted[-1])
            values.append(loss_values(losses))
            self.backward.add(losses)
            losses = losses.detached()  # or graphs would outlive the next forward pass
        report = self.backward.finish()
        if drawn is not None:
            self.model.forget_others(drawn)
        self.objective.edge_norm.update(values, self.ranks)
        if report.numbers:
            values[-1]["loss/total"] = report.total
        for found in values:
            self.monitor.add(found, number)
        self.numbers.add(report.numbers, number)
        self._note(report, number)
        if self._move():
            self.objective.after_step()
            self.balancer.after_step(lambda: self._again(counted, drawn))
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
        check_weights(self.model, step)

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "auxiliary_losses": self.objective.auxiliary_losses.state_dict(),
            "edge_norm": self.objective.edge_norm.state_dict(),
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
        for name in ("auxiliary_losses", "edge_norm"):
            module = getattr(self.objective, name)
            checkpoint.load_weights(module, state.get(name, module.state_dict()), source)
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
        return with_counts(self.objective, batches, self.ranks, self.placement.device)

    def _losses(self, batch: Batch, drawn: Draw, is_last: bool) -> Losses:
        with autocast(self.placement):
            return self.parallel(move(batch, self.placement.device), drawn, is_last)

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
    def _again(self, batches: Sequence[Batch], drawn: Draw) -> dict[str, Tensor]:
        """Return the step's losses once more, of all ranks; no running statistics move."""
        sums: dict[str, Tensor] = {}
        with statistics_kept(self.objective), autocast(self.placement):
            for batch in batches:
                losses: Losses = self.objective(move(batch, self.placement.device), drawn)
                for name in losses.present:
                    part = losses.tasks[name] / len(batches)
                    sums[name] = sums[name] + part if name in sums else part
        return {name: self.ranks.mean_(sums[name]) for name in sorted(sums)}
