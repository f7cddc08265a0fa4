"""The gradient level: a gradient per task at what the tasks share, one solution, one update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlkit.contracts import DirectionBalancer, GradientBalancer
from mtlkit.errors import UsageError
from mtlkit.gradients.backward import Backward, Conditions, Report, present_tasks
from mtlkit.gradients.cut import Cut, health
from mtlkit.gradients.reach import Reach
from mtlkit.gradients.rows import Rows
from mtlkit.gradients.solution import Seen, Solution, decide
from mtlkit.structures import Losses

MAPS = ("features", "decoder_entry")
"""Places that are maps and no parameters."""


class GradientLevel(Backward):
    """Every task's pass goes through its own head once.

    Through the trunk goes either every task's pass, into a row of its own (`Rows`), or, where the
    weights are known at `Output.features`, one pass for all (`Cut`).

    Args:
        balancer: solves for the weights.
        parameters: of the objective, by name.
        reach: which task reaches which of them.
        conditions: how steps are taken.

    Raises:
        UsageError: the balancer looks where this model has nothing, or where these steps do not
            allow it to.
    """

    def __init__(
        self,
        balancer: GradientBalancer,
        parameters: Mapping[str, nn.Parameter],
        reach: Reach,
        conditions: Conditions,
    ) -> None:
        super().__init__(balancer, conditions)
        refuse_what_cannot_be(balancer, reach, conditions)
        self.solver, self.ranks, self.watch = balancer, conditions.ranks, conditions.watch
        tasks = {task for found in reach.tasks.values() for task in found}
        self.shared = {name: parameters[name] for name in reach.shared}
        self.own = [parameters[name] for name in sorted(reach.own)]
        self.private = {task: [parameters[n] for n in reach.private(task)] for task in tasks}
        self.reaches = {task: {n for n in reach.shared if task in reach.tasks[n]} for task in tasks}
        self.looked_at = [self.shared[name] for name in _looked_at(balancer, reach)]
        self.cut = Cut(parameters, reach, balancer.at) if reach.has_cut else None
        self.rows: Rows | None = None  # made when first needed: it is large
        if isinstance(balancer, DirectionBalancer):
            first = next(iter(self.shared.values()))
            balancer.prepare(sum(p.numel() for p in self.shared.values()), first)

    def begin(self, batches: int = 1, scale: Tensor | None = None) -> None:
        """Begin a step; gradients are None.

        Args:
            batches: that will be added.
            scale: what all gradients are multiplied by (fp16), a scalar.

        Raises:
            UsageError: the balancer looks at maps, and there are several batches of them.
        """
        super().begin(batches, scale)
        self.is_due = self.solver.is_due
        at = self.solver.at
        if batches > 1 and self.is_due and at in MAPS:
            raise UsageError(f"at: {at}: needs a step of one batch, not {batches}")
        is_seen_there = at in MAPS or (at == "last_shared" and batches == 1)
        self.passes_cut = self.cut is not None and (is_seen_there or not self.is_due)
        self.sums: dict[str, Tensor] = {}
        self.solution = Solution()
        if not self.passes_cut:
            self._make_rows().begin()

    def add(self, losses: Losses) -> None:
        """Back-propagate the losses of one batch.

        Args:
            losses: with their graph, which is freed.
        """
        if losses.own is not None and losses.own.requires_grad:
            torch.autograd.backward(losses.own, self.start_of(losses.own), retain_graph=True)
        # in a phase that freezes a task's parameters its loss may be a constant
        present = {n: loss for n, loss in present_tasks(losses).items() if loss.requires_grad}
        if not present:
            return
        values = self.values(list(present.values())) * self.share
        for name, value in zip(present, values.unbind(), strict=True):
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        if self.passes_cut:
            self._through_cut(present, losses.output.features)
        else:
            self._into_rows(present)

    def finish(self) -> Report:
        """End the step: all gradients are in place."""
        self.ranks.mean_gradients_(self.own)
        if not self.sums:
            return Report(torch.zeros(()))
        if not self.passes_cut:
            with self.watch("weighting"):
                self._finish_rows(self._make_rows())
        elif self.ranks.count > 1:
            private = [p for task in self.solution.weights for p in self.private[task]]
            self.ranks.mean_gradients_([*self._reached_by(self.solution.weights), *private])
        if self.scale is not None:  # the scaler divides every gradient, the balancer's too
            for parameter in self.balancer.parameters():
                if parameter.grad is not None:
                    parameter.grad *= self.scale.to(parameter.grad)
        solution = self.solution
        total = self.balancer.total(solution.losses) if solution.losses else torch.zeros(())
        return Report(total.detach(), solution.left_out, solution.numbers)

    def _make_rows(self) -> Rows:
        if self.rows is None:
            self.rows = Rows(len(self.solver.names), list(self.shared.values()))
        return self.rows

    def _through_cut(self, present: Mapping[str, Tensor], features: Sequence[Tensor]) -> None:
        """Take each task's pass through its head, and one pass of their sum through the trunk."""
        assert self.cut is not None
        maps = [x for x in features if x.requires_grad]
        heads = self.cut.heads(present, maps, [self.start_of(x) for x in present.values()])
        with self.watch("weighting"):
            losses = torch.stack([self.sums[task] for task in present])
            signs = [health([*head.features, *head.below], losses) for head in heads.values()]
            sign = self.ranks.mean_(torch.stack(signs))
            gram = self.cut.gramian(heads, maps, self.ranks) if self.is_due else None
            found = decide(self.solver, Seen(list(present), losses, sign, gram, scale=self.scale))
        self.cut.send(heads, maps, found.weights)
        self.solution = self.solution.joined(found)

    def _into_rows(self, present: Mapping[str, Tensor]) -> None:
        """Take each task's pass through everything; what is shared adds to its row."""
        rows = self._make_rows()
        for i, (task, loss) in enumerate(present.items()):
            rows.take(task)
            is_last = i + 1 == len(present)
            torch.autograd.backward(loss, self.start_of(loss), retain_graph=not is_last)

    def _finish_rows(self, rows: Rows) -> None:
        """Weigh the rows, and make one gradient of them."""
        tasks = list(rows.slots)
        self.ranks.mean_(rows.used)
        self.ranks.mean_gradients_([p for task in tasks for p in self.private[task]])
        self.solution = decide(self.solver, self._seen(tasks, rows))
        weights = self.solution.weights
        if self.solution.direction is not None:
            rows.buffer[0].copy_(self.solution.direction)
        else:
            rows.combine([weights[task].shared if task in weights else 0.0 for task in tasks])
        rows.release(self._reached_by(weights))
        for task in tasks:
            self._weigh_private(task)

    def _seen(self, tasks: list[str], rows: Rows) -> Seen:
        """Return what the rows and the private gradients say."""
        losses = torch.stack([self.sums[task] for task in tasks])
        private = [health([p.grad for p in self.private[task]], losses) for task in tasks]
        sign = torch.stack(private)
        columns = rows.columns(self.looked_at)
        gram = rows.gramian(columns) if self.is_due else None
        if gram is None or columns != slice(0, rows.buffer.shape[1]):
            sign = sign + rows.used.sum(1)  # else the products tell
        wanted = rows.used if isinstance(self.solver, DirectionBalancer) else None
        return Seen(tasks, losses, sign, gram, wanted, self.scale)

    def _weigh_private(self, task: str) -> None:
        """Multiply the gradients of a task's own parameters; None where it is left out."""
        weights = self.solution.weights.get(task)
        if weights is None:
            for parameter in self.private[task]:
                parameter.grad = None
            return
        grads = [p.grad for p in self.private[task] if p.grad is not None]
        if grads and weights.private != 1:
            torch._foreach_mul_(grads, weights.private)

    def _reached_by(self, tasks: Mapping[str, object]) -> list[nn.Parameter]:
        """Return the shared parameters that a task of these reaches."""
        names = set[str]().union(*(self.reaches[task] for task in tasks))
        return [parameter for name, parameter in self.shared.items() if name in names]


def refuse_what_cannot_be(balancer: GradientBalancer, reach: Reach, conditions: Conditions) -> None:
    """Refuse to look where there is nothing to see.

    Args:
        balancer: where it looks.
        reach: of the model.
        conditions: how steps are taken.

    Raises:
        UsageError: with what to write instead.
    """
    at = balancer.at
    if not reach.shared:
        raise UsageError(
            "the tasks share no parameter whose gradients can be compared. Write {type: equal}"
        )
    if at == "last_shared" and reach.last_shared is None:
        raise UsageError("at: last_shared: the tasks share no weight of all. Write at: shared")
    if at == "trunk" and not reach.trunk.intersection(reach.shared):
        raise UsageError("at: trunk: this architecture tells no trunk. Write at: shared")
    if at in MAPS:
        if reach.is_chained:
            raise UsageError(
                f"at: {at}: a feature map of this architecture depends on another, so gradients "
                "would count twice. Return views of them (nn.cut), or write at: shared"
            )
        if not reach.has_cut:
            raise UsageError(
                f"at: {at}: in this model losses reach the trunk past its features, or there is "
                "no trunk that ends in features. Write at: shared"
            )
        if conditions.accumulate > 1:
            raise UsageError(
                f"at: {at}: needs the maps of the whole step at once, and train.accumulate is "
                f"{conditions.accumulate}. Write at: shared, or train.accumulate: 1"
            )


def _looked_at(balancer: GradientBalancer, reach: Reach) -> list[str]:
    """Return the names of the shared parameters whose gradients are compared."""
    if balancer.at == "last_shared" and reach.last_shared is not None:
        return [reach.last_shared]
    if balancer.at == "trunk":
        return [name for name in reach.shared if name in reach.trunk]
    return reach.shared
