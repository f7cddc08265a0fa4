"""Smooth Tchebycheff scalarisation: the worst task, measured by where it began, softly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl

from ._losses import index_of, logs_of


class SmoothTchebycheff(Weighting):
    """T·μ·log Σ_t exp(log(L_t/n_t)/μ), n_t the task's mean loss over the last warm-up epoch.

    The warm-up minimises Σ_t log L_t. A task that its last epoch does not show keeps the mean of
    the last one that did; one that the warm-up never shows goes on as in it, to the end of the
    first epoch that does. T counts the present tasks that are past it. A loss of 0 or below, or one
    that is not finite, has no logarithm: its task gets weight 0 in that step and counts as absent.

    The total's scale changes when the warm-up ends, so `keep_best` needs another metric than
    loss/total. A run that is not longer than the warm-up trains with Σ_t log L_t alone.

    Source: Lin et al. 2024, arXiv 2402.19078, and STCH_MTL/LibMTL/weighting/STCH.py of the released
    code, whose warm-up is one epoch longer than its setting, and which adds 1e-20 to what it takes
    logarithms of.
    """

    card: ClassVar[Card] = Card(
        title="STCH",
        paper="Lin et al., ICML 2024, arXiv 2402.19078",
        invariant="A task's loss and its n times the same c leave the total; for μ → 0 the total "
        "is T·max log(L/n).",
        use="To lift the task that has improved least since the warm-up; it costs nothing. A bad "
        "choice where a task is noisy or cannot improve, for it then takes the others' weight; μ "
        "and the length of the warm-up need tuning.",
    )

    type: Literal["stch"] = "stch"
    mu: float = Field(1.0, gt=0, description="μ: smaller is nearer to the worst task alone")
    warmup_epochs: int = Field(
        4, ge=1, description="epochs of Σ log L; n is measured in the last, so there must be one"
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that measures n.

        Args:
            tasks: by name, in the recipe's order.
        """
        return SmoothTchebycheffBalancer(tuple(tasks), self.mu, self.warmup_epochs)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        smooth = f"T·{self.mu:g}·log Σ_t (L_t/n_t)^(1/{self.mu:g})"
        return f"Σ_t log L_t for {self.warmup_epochs} epochs, then {smooth}"


class SmoothTchebycheffBalancer(Balancer):
    """Holds n of every task, and this epoch's sums.

    Args:
        names: the tasks.
        mu: μ.
        warmup_epochs: epochs before n is fixed.
    """

    nadir: Tensor  # n, (T,), float64; 0: not known
    sums: Tensor  # of this epoch's usable losses, (T,), float64
    counts: Tensor  # how many they are, (T,), int64
    epochs: Tensor  # that are done, int64

    def __init__(self, names: tuple[str, ...], mu: float, warmup_epochs: int) -> None:
        super().__init__()
        self.names = names
        self.mu = mu
        self.warmup_epochs = warmup_epochs
        self.register_buffer("nadir", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(names), dtype=torch.int64))
        self.register_buffer("epochs", torch.tensor(0, dtype=torch.int64))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ log L_t in the warm-up, then the smooth maximum; in training losses are counted.

        Args:
            losses: scalars by task, those present in this step.
        """
        values = torch.stack(list(losses.values()))
        logs = logs_of(values)
        index = index_of(losses, self.names, self.nadir)
        if self.training:
            self.sums[index] += torch.where(logs.usable, values.detach(), 0.0).double()
            self.counts[index] += logs.usable
        nadir = self.nadir[index]
        is_past = logs.usable & (nadir > 0) & (self.epochs >= self.warmup_epochs)
        warm = torch.where(is_past, 0.0, logs.values).sum()
        levels = logs.values - torch.where(is_past, nadir, 1.0).log()
        return (warm + is_past.sum() * self._smooth_max(levels, is_past)).to(values.dtype)

    def after_epoch(self) -> None:
        """Take the epoch's means for n, of tasks that are in their warm-up."""
        self.epochs += 1
        is_warming = (self.epochs <= self.warmup_epochs) | (self.nadir == 0)
        means = self.sums / self.counts.clamp(min=1)
        self.nadir.copy_(torch.where(is_warming & (self.counts > 0), means, self.nadir))
        self.sums.zero_()
        self.counts.zero_()

    def _smooth_max(self, levels: Tensor, chosen: Tensor) -> Tensor:
        """Return μ·log Σ exp(level/μ) over the chosen ones, 0 if there are none."""
        lowest = torch.finfo(levels.dtype).min  # -inf would give NaN where none is chosen
        peak = torch.where(chosen, levels / self.mu, lowest).logsumexp(0)
        return self.mu * torch.where(chosen.any(), peak, 0.0)


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return the smooth Tchebycheff scalarisation."""
    return [SmoothTchebycheff]
