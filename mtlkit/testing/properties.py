"""The properties of weightings, each tried on a zoo of Jacobians; a card may excuse from some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtlkit.contracts import PROPERTIES, Weighting
from mtlkit.testing.contract import require
from mtlkit.testing.jacobians import ZOO, normal
from mtlkit.testing.updates import Problem, Step, fresh, make_step, used
from mtlkit.testing.weightings import WEIGHTING

EXACT = 1e-6  # of directions; that of the solvers, tested by themselves, is 1e-9
SINGLE = 1e-4  # float32 has 1e-7, and the Gram matrix squares the condition of rows
SCALES = (1e-8, 1e8)
EASY = ("random_2", "lopsided_3", "random_6", "eight_decades_4", "lopsided_10")
HARD = ("in_a_plane_3", "dependent_3", "zero_3", "duplicate_3", "nearly_opposed_3", "opposed_pair")
OPPOSED = ("opposed_3", "opposed_6", "opposed_pair", "cancelling_pair", "opposed_giants")
KEPT = {"kept", "age"}  # of weights for steps between solutions, of which there are none here

Run = Callable[..., Step]


def faults(weighting: Weighting, law: str) -> Iterator[str]:
    """Yield where in the zoo a property does not hold, of a fresh balancer and of a used one.

    Args:
        weighting: with its arguments.
        law: a name of `PROPERTIES`.
    """
    for state, run in _runs(weighting).items():
        yield from (f"{state}: {fault}" for fault in LAWS[law](run))


def _holds(weighting: Weighting, law: str) -> None:
    """Check a property, unless the card excuses from it."""
    excuses = weighting.card.exceptions
    unknown = sorted(excuses.keys() - PROPERTIES.keys())
    require(not unknown, f"its card excuses from {unknown}, which are none of {[*PROPERTIES]}")
    if law in excuses:
        return
    found = "; ".join(faults(weighting, law))
    advice = "Mend it, or say in `card.exceptions` why it cannot hold"
    require(not found, f"not so for {found}. {advice}")


def _runs(weighting: Weighting) -> dict[str, Run]:
    """Return what makes the step of a problem, by the state that the balancer is in before."""

    def run(make_balancer: Callable[..., Any], problem: Problem, present: Any = None) -> Step:
        balancer = make_balancer(weighting, problem)
        return make_step(balancer, problem.take(present) if present else problem)

    states = {"fresh": fresh, "used": used}
    if not fresh(weighting, Problem.of(ZOO["random_2"])).state_dict().keys() - KEPT:
        del states["used"]  # it has no state to act on
    return {state: partial(run, make_balancer) for state, make_balancer in states.items()}


def _problems(*names: str) -> Iterator[tuple[str, Problem]]:
    for name in names:
        yield name, Problem.of(ZOO[name])


def _has_same_direction(one: Step, other: Step) -> bool:
    """Return whether two directions are equal but for their lengths, or both 0 but for rounding."""
    norms = [float(step.direction.norm()) for step in (one, other)]
    vanish = [norm <= EXACT * step.size for norm, step in zip(norms, (one, other), strict=True)]
    if any(vanish):
        return all(vanish)
    turned = one.direction / norms[0] - other.direction / norms[1]
    return bool(turned.norm() <= EXACT)


def _is_along(step: Step, line: Tensor) -> bool:
    """Return whether a direction is a line's times a positive number."""
    unit = line / line.norm()
    length = step.direction @ unit
    return bool(length > 0 and (step.direction - length * unit).norm() <= EXACT * step.size)


def _faults_of_scale(run: Run) -> Iterator[str]:
    for name, problem in _problems(*EASY, *HARD):
        step = run(problem)
        for c in SCALES:
            if not _has_same_direction(run(problem.scaled(c)), step):
                yield f"{name} times {c:g}"


def _faults_of_permutation(run: Run) -> Iterator[str]:
    for name, problem in _problems(*EASY, *HARD):
        order = [*range(1, len(problem.names)), 0]
        step, turned = run(problem), run(problem.take(order))
        if not (turned.direction - step.direction).norm() <= EXACT * step.size:
            yield f"{name} in the order {order}"


def _faults_of_duplicate(run: Run) -> Iterator[str]:
    for name, problem in _problems(*EASY, *HARD):
        step = run(problem.with_copy())
        weights = step.weights
        if not (step.is_finite and (weights[0] - weights[-1]).abs() <= EXACT * weights.abs().max()):
            yield f"{name} with its first task again: {weights.tolist()}"


def _faults_of_zero(run: Run) -> Iterator[str]:
    for name, problem in _problems(*EASY[:-1], *HARD):
        padded, without = problem.with_zero(), list(range(len(problem.names)))
        if not _has_same_direction(run(padded), run(padded, without)):
            yield f"{name} with a row of 0"


def _faults_of_parallel(run: Run) -> Iterator[str]:
    line = normal(1, 9, 3)
    for factors in ([1.0, 3.0], [2.0, 2.0, 2.0], [1e-4, 1.0, 1e3], [0.1, 1.0, 2.0, 3.0, 5.0]):
        rows = line * torch.tensor(factors, dtype=line.dtype)[:, None]
        if not _is_along(run(Problem.of(rows)), line[0]):
            yield f"one row times {factors}"


def _faults_of_opposed(run: Run) -> Iterator[str]:
    for name, problem in _problems(*OPPOSED):
        if not run(problem).is_finite:
            yield name


def _faults_of_single(run: Run) -> Iterator[str]:
    for name, problem in _problems("random_1", "lopsided_1", "eight_decades_1"):
        if not _is_along(run(problem), problem.rows[0]):
            yield name


def _faults_of_precision(run: Run) -> Iterator[str]:
    for name, problem in _problems("random_2", "lopsided_3", "random_6"):
        exact, rounded = run(problem), run(problem.to(torch.float32))
        if not (rounded.direction - exact.direction).norm() <= SINGLE * exact.size:
            yield name


LAWS: dict[str, Callable[[Run], Iterator[str]]] = {
    "scale": _faults_of_scale,
    "permutation": _faults_of_permutation,
    "duplicate": _faults_of_duplicate,
    "zero": _faults_of_zero,
    "parallel": _faults_of_parallel,
    "opposed": _faults_of_opposed,
    "single": _faults_of_single,
    "precision": _faults_of_precision,
}
for _law, _promise in PROPERTIES.items():
    _sentence = f"{_promise[:1].upper()}{_promise[1:]}."
    WEIGHTING.add(partial(_holds, law=_law), True, f"property_{_law}", _sentence)
