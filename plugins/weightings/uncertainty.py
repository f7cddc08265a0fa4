"""Uncertainty weighting: a learned log-variance per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl

Form = Literal["xtasc", "kendall", "kendall_typed"]

# (a, b) of a·exp(−s)·L + b·s
UNIFORM = {"xtasc": (0.5, 1.0), "kendall": (0.5, 0.5)}
TYPED = {"gaussian": (0.5, 0.5), "laplace": (1.0, 1.0), "categorical": (1.0, 0.5)}


class Uncertainty(Weighting):
    """Every task's loss is divided by a learned variance exp(s), whose logarithm is a penalty.

    `xtasc` is 0.5·exp(−s)·L + s, which settles at the weight 1/L; `kendall` is
    0.5·exp(−s)·L + 0.5·s, which settles at 1/(2L); `kendall_typed` follows the task's likelihood:
    gaussian as `kendall`, laplace exp(−s)·L + s, categorical exp(−s)·L + 0.5·s. The total may be
    negative.

    The optimizer moves s, without weight decay; `optimizer.groups: [{match: balancer, lr: …}]`
    gives it a learning rate of its own, which it needs where losses are far from 1.

    Source: Kendall, Gal and Cipolla 2018, arXiv 1705.07115, eqs. 7 and 10; `xtasc` is the released
    code of XTasC-Net (module.py), which uses one form for every task.
    """

    card: ClassVar[Card] = Card(
        title="Uncertainty weighting",
        paper="Kendall, Gal and Cipolla, CVPR 2018, arXiv 1705.07115",
        invariant="At rest a task's weight is a constant over its loss: 1/L, or 1/(2L), by form.",
        use="For losses of different scale that are likelihoods; it costs one number per task. A "
        "bad choice for short runs with losses far from 1, since s must first travel to log L, and "
        "where a task is overfitted: its weight grows as its training loss vanishes.",
        exceptions={
            "scale": "s starts at `init` and is learned from the size of the losses, so its way to "
            "rest depends on their scale; the direction does not at the start, nor at rest"
        },
    )

    type: Literal["uncertainty"] = "uncertainty"
    form: Form = Field("xtasc", description="factors of the weighted loss and of the penalty")
    init: float = Field(0.0, description="s of every task at the start; the weight is exp(−s)")

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module with one learned number per task.

        Args:
            tasks: by name, in the recipe's order.
        """
        if self.form == "kendall_typed":
            factors = {name: TYPED[task.likelihood] for name, task in tasks.items()}
        else:
            factors = dict.fromkeys(tasks, UNIFORM[self.form])
        return UncertaintyBalancer(factors, self.init)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        if self.form == "kendall_typed":
            return "Σ_t a_t·exp(−s_t)·L_t + b_t·s_t, with a_t and b_t by the task's likelihood"
        a, b = UNIFORM[self.form]
        return f"Σ_t {a:g}·exp(−s_t)·L_t + {'' if b == 1 else f'{b:g}·'}s_t"


class UncertaintyBalancer(Balancer):
    """Holds s of every task, learned with the model.

    Args:
        factors: by task, a and b of a·exp(−s)·L + b·s.
        init: s at the start.
    """

    def __init__(self, factors: Mapping[str, tuple[float, float]], init: float) -> None:
        super().__init__()
        self.factors = dict(factors)
        self.log_variance = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(init)) for name in factors}
        )

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ a·exp(−s)·L + b·s over the tasks present.

        Args:
            losses: scalars by task, those present in this step.
        """
        return torch.stack([self._weighed(name, loss) for name, loss in losses.items()]).sum()

    def _weighed(self, name: str, loss: Tensor) -> Tensor:
        a, b = self.factors[name]
        s = self.log_variance[name]
        weighed: Tensor = a * torch.exp(-s) * loss + b * s
        return weighed


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return uncertainty weighting."""
    return [Uncertainty]
