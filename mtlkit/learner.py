"""What learns: objective, balancer and optimizer, and one optimizer step from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit import checkpoint
from mtlkit.compiled import arrange
from mtlkit.contracts import GradientBalancer
from mtlkit.denominators import with_counts
from mtlkit.device import Placement, autocast, move, to_device
from mtlkit.errors import CheckpointError, DivergedError
from mtlkit.evaluation import loss_names, loss_values
from mtlkit.generators import generators, restore_generators
from mtlkit.gradients import Conditions, Reach, Report, build_backward, number_names
from mtlkit.host_memory import keep_freed_memory
from mtlkit.initial import initial_objective
from mtlkit.monitor import Monitor, check_weights
from mtlkit.mover import Mover
from mtlkit.order import Weights
from mtlkit.parallel import Parallel, synced, weighed
from mtlkit.phases import Phases
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe
from mtlkit.recompute import statistics_kept
from mtlkit.records import WEIGHTING
from mtlkit.sampling import Draw, build_sampler
from mtlkit.stopwatch import Stopwatch
from mtlkit.structures import Batch, Losses


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
        self, recipe: Recipe, reaches: Sequence[Reach], placement: Placement, *, is_fresh: bool
    ) -> None:
        self.recipe, self.placement, self.reaches = recipe, placement, reaches
        objective, self.not_loaded = initial_objective(recipe, is_fresh=is_fresh)
        to_device(objective, placement)
        if recipe.train.sync_batchnorm:
            synced(objective, placement.device, Ranks.here())
        arrange(objective.model, recipe.train)
        keep_freed_memory(placement.device)
        self.objective, self.model = objective, objective.model
        self.balancer = recipe.weighting.build_balancer(recipe.tasks)
        if not isinstance(self.balancer, GradientBalancer):  # the state of these is on the CPU
            self.balancer.to(placement.device)
        for parameter in self.balancer.parameters():  # one optimizer moves all that learns
            parameter.data = parameter.data.to(placement.device)
        self.ranks, self.watch = Ranks.here(), Stopwatch.on(placement.device)
        self.skips = recipe.train.on_nonfinite == "skip_task"
        others = (objective.auxiliary_losses, self.balancer)
        self.mover = Mover(recipe, self.model, others, placement)
        self.phases = Phases(recipe.train, self.model, others)
        self._begin_phase(0)
        self.sampler = build_sampler(recipe)
        names = [*loss_names(recipe), "loss/total"]
        self.monitor = Monitor(names, placement.device, self.skips, self.ranks)
        numbers = number_names(list(recipe.tasks))  # of a balancer on the CPU, too
        self.numbers = Monitor(numbers, placement.device, skips=True)
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
        conditions = Conditions(self.recipe.train.accumulate, self.ranks, self.skips, self.watch)
        self.backward = build_backward(
            self.balancer,
            self.objective,
            self.reach,
            conditions,
            is_partial=self.phases.is_partial,
        )
        self.parallel = Parallel(self.objective, self.backward, self.ranks)

    def step(
        self, batches: Sequence[Batch], number: int, factor: float, weights: Weights = ()
    ) -> Losses:
        """Take one optimizer step, and return the losses of the last batch.

        Args:
            batches: those whose gradients are accumulated: from `ready`, or as a loader gives them.
            number: of the step, 1 for the first.
            factor: what the learning rates are multiplied by.
            weights: of the batches, as in `order.Group`; none: 1 each.

        Raises:
            DivergedError: at gradient level, a task's loss or gradient is no number and
                `train.on_nonfinite` says stop; no weight has moved.
        """
        self.objective.train()
        self.balancer.train()
        self.phases.keep_still()
        with self.watch("optimizer"):
            self.backward.begin(len(batches), self.mover.begin(factor))
        weights = weights or [1.0] * len(batches)
        if not batches[0].counts:
            batches = self.ready(batches, weights)
        values = list[dict[str, Tensor]]()
        drawn = None if self.sampler is None else self.sampler.draw(number)
        for batch, weight in zip(batches, weights, strict=True):
            with nullcontext() if weight else statistics_kept(self.objective):
                losses = self._losses(batch, drawn, batch is batches[-1])
            values.append(loss_values(losses))
            with self.watch("backward"):
                self.backward.add(weighed(losses, weight))
            losses = losses.detached()  # or graphs would outlive the next forward pass
        with self.watch("backward"):
            report = self.backward.finish()
            self.parallel.finish()
        if drawn is not None:
            self.model.forget_others(drawn)
        self.ranks.mean_statistics_(self.objective)
        self.objective.edge_norm.update(values, self.ranks, weights)
        self._count(values, weights, report, number)
        self._note(report, number)
        if self._move():
            with self.watch("weighting"):
                self.objective.after_step()
                self.balancer.after_step(lambda: self._again(batches, weights, drawn))
        return losses

    def read_line(self) -> dict[str, float]:
        """Return the means since the last line, and begin a new one.

        Raises:
            DivergedError: a loss was no number; names it and its step.
        """
        self.mover.check_scale()
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
        self.mover.check_scale()
        check_weights(self.model, step)

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "auxiliary_losses": self.objective.auxiliary_losses.state_dict(),
            "edge_norm": self.objective.edge_norm.state_dict(),
            "balancer": self.balancer.state_dict(),
            "optimizer": self.mover.optimizer.state_dict(),
            "scaler": self.mover.scaler.state_dict(),
            "monitor": self.monitor.state(),
            "numbers": self.numbers.state(),
            "left_out": dict(self.left_out),
            **generators(self.ranks),
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
        checkpoint.load_optimizer(self.mover.optimizer, state["optimizer"], source)
        try:
            self.monitor.restore(state["monitor"])
            self.numbers.restore(state["numbers"])
            self.left_out = Counter(state["left_out"])
            if self.mover.scaler.is_enabled():
                self.mover.scaler.load_state_dict(state["scaler"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{source}: is damaged: {error}. Start a new run") from None
        restore_generators(state, self.ranks)

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

    def ready(self, batches: Sequence[Batch], weights: Weights = ()) -> Sequence[Batch]:
        """Return a step's batches on the device, with the denominators of all of them on all ranks.

        Args:
            batches: in the host's memory, so that their masks are counted without waiting.
            weights: of the batches; none: 1 each.
        """
        counted = with_counts(self.objective, batches, self.ranks, weights)
        return [move(batch, self.placement.device) for batch in counted]

    def _losses(self, batch: Batch, drawn: Draw, is_last: bool) -> Losses:
        with self.watch("forward"), autocast(self.placement):
            return self.parallel(batch, drawn, is_last)

    def _count(
        self,
        values: Sequence[dict[str, Tensor]],
        weights: Weights,
        report: Report,
        number: int,
    ) -> None:
        """Count the losses of the batches that are this rank's, and the step's numbers."""
        own = [found if weight else {} for found, weight in zip(values, weights, strict=True)]
        if report.numbers:
            own[-1] = own[-1] | {"loss/total": report.total}
        for found in own:
            self.monitor.add(found, number)
        self.numbers.add(report.numbers, number)

    def _note(self, report: Report, number: int) -> None:
        """Count the tasks that were left out, or stop there."""
        if report.left_out and not self.skips:
            self.monitor.check()
            names = ", ".join(report.left_out)
            raise DivergedError(f"the gradient of {names} is not finite at step {number}")
        self.left_out.update(report.left_out)

    def _move(self) -> bool:
        """Move what learns along its gradients, unless these are no numbers; return whether."""
        with self.watch("optimizer"):
            has_moved = self.mover.move()
        if has_moved is None:
            self.left_out["all tasks"] += 1
        return bool(has_moved)

    @torch.no_grad()
    def _again(self, batches: Sequence[Batch], weights: Weights, drawn: Draw) -> dict[str, Tensor]:
        """Return the step's losses once more, of all ranks; no running statistics move."""
        sums: dict[str, Tensor] = {}
        with statistics_kept(self.objective), autocast(self.placement):
            for batch, weight in zip(batches, weights, strict=True):
                losses: Losses = self.objective(batch, drawn)
                for name in losses.present:
                    part = losses.tasks[name] * (weight / len(batches))
                    sums[name] = sums[name] + part if name in sums else part
        return {name: self.ranks.mean_(sums[name]) for name in sorted(sums)}
