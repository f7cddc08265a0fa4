"""The backward passes of a step, and which task's loss reaches which parameter."""

from __future__ import annotations

from mtlkit.contracts import Balancer, GradientBalancer
from mtlkit.gradients.backward import Backward, Conditions, LossLevel, Report
from mtlkit.gradients.level import GradientLevel
from mtlkit.gradients.reach import Reach, probe
from mtlkit.gradients.solution import number_names
from mtlkit.objective import Objective

__all__ = [
    "Backward",
    "Conditions",
    "LossLevel",
    "Reach",
    "Report",
    "build_backward",
    "number_names",
    "probe",
]


def build_backward(
    balancer: Balancer,
    objective: Objective,
    reach: Reach,
    conditions: Conditions,
    *,
    is_partial: bool = False,
) -> Backward:
    """Return the backward passes that a balancer asks for.

    Args:
        balancer: how the losses become one update.
        objective: whose parameters get gradients; on any device.
        reach: from `probe`, of an objective of the same recipe.
        conditions: how steps are taken.
        is_partial: whether a phase freezes parameters. Where no two tasks share any of the others,
            there is nothing to solve, and the losses are added.

    Raises:
        UsageError: the balancer looks where this model or these steps do not allow it to.
    """
    if isinstance(balancer, GradientBalancer) and (reach.shared or not is_partial):
        parameters = dict(objective.named_parameters())
        return GradientLevel(balancer, parameters, reach, conditions)
    return LossLevel(balancer, conditions)
