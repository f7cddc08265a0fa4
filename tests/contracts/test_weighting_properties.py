"""Every registered weighting method has every property of the contract, or a true excuse."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from arguments import make, marks_of, methods, registered
from fixtures.jacobians import ZOO, normal
from fixtures.updates import Problem, Step, advance, fresh, make_step, used
from torch import Tensor

from mtlkit.contracts import PROPERTIES, GradientBalancer, Weighting

EXACT = 1e-6  # of directions; that of the solvers, tested by themselves, is 1e-9
SINGLE = 1e-4  # float32 has 1e-7, and the Gram matrix squares the condition of rows
SCALES = (1e-8, 1e8)
EASY = ("random_2", "lopsided_3", "random_6", "eight_decades_4", "lopsided_10")
HARD = ("in_a_plane_3", "dependent_3", "zero_3", "duplicate_3", "nearly_opposed_3", "opposed_pair")
OPPOSED = ("opposed_3", "opposed_6", "opposed_pair", "cancelling_pair", "opposed_giants")
KEPT = {"kept", "age"}  # of weights for steps between solutions, of which there are none here
METHODS = methods()
EVERY = pytest.mark.parametrize(("name", "fields"), METHODS)

Run = Callable[..., Step]


def runs(weighting: Weighting) -> dict[str, Run]:
    """Return what makes the step of a problem, by the state that the balancer is in before."""

    def run(make_balancer: Callable[..., Any], problem: Problem, present: Any = None) -> Step:
        balancer = make_balancer(weighting, problem)
        return make_step(balancer, problem.take(present) if present else problem)

    states = {"fresh": fresh, "used": used}
    if not fresh(weighting, Problem.of(ZOO["random_2"])).state_dict().keys() - KEPT:
        del states["used"]  # it has no state to act on
    return {state: partial(run, make_balancer) for state, make_balancer in states.items()}


def problems(*names: str) -> Iterator[tuple[str, Problem]]:
    for name in names:
        yield name, Problem.of(ZOO[name])


def has_same_direction(one: Step, other: Step) -> bool:
    """Return whether two directions are equal but for their lengths, or both 0 but for rounding."""
    norms = [float(step.direction.norm()) for step in (one, other)]
    vanish = [norm <= EXACT * step.size for norm, step in zip(norms, (one, other), strict=True)]
    if any(vanish):
        return all(vanish)
    turned = one.direction / norms[0] - other.direction / norms[1]
    return bool(turned.norm() <= EXACT)


def is_along(step: Step, line: Tensor) -> bool:
    """Return whether a direction is a line's times a positive number."""
    unit = line / line.norm()
    length = step.direction @ unit
    return bool(length > 0 and (step.direction - length * unit).norm() <= EXACT * step.size)


def faults_of_scale(run: Run) -> Iterator[str]:
    for name, problem in problems(*EASY, *HARD):
        step = run(problem)
        for c in SCALES:
            if not has_same_direction(run(problem.scaled(c)), step):
                yield f"{name} times {c:g}"


def faults_of_permutation(run: Run) -> Iterator[str]:
    for name, problem in problems(*EASY, *HARD):
        order = [*range(1, len(problem.names)), 0]
        step, turned = run(problem), run(problem.take(order))
        if not (turned.direction - step.direction).norm() <= EXACT * step.size:
            yield f"{name} in the order {order}"


def faults_of_duplicate(run: Run) -> Iterator[str]:
    for name, problem in problems(*EASY, *HARD):
        step = run(problem.with_copy())
        weights = step.weights
        if not (step.is_finite and (weights[0] - weights[-1]).abs() <= EXACT * weights.abs().max()):
            yield f"{name} with its first task again: {weights.tolist()}"


def faults_of_zero(run: Run) -> Iterator[str]:
    for name, problem in problems(*EASY[:-1], *HARD):
        padded, without = problem.with_zero(), list(range(len(problem.names)))
        if not has_same_direction(run(padded), run(padded, without)):
            yield f"{name} with a row of 0"


def faults_of_parallel(run: Run) -> Iterator[str]:
    line = normal(1, 9, 3)
    for factors in ([1.0, 3.0], [2.0, 2.0, 2.0], [1e-4, 1.0, 1e3], [0.1, 1.0, 2.0, 3.0, 5.0]):
        rows = line * torch.tensor(factors, dtype=line.dtype)[:, None]
        if not is_along(run(Problem.of(rows)), line[0]):
            yield f"one row times {factors}"


def faults_of_opposed(run: Run) -> Iterator[str]:
    for name, problem in problems(*OPPOSED):
        if not run(problem).is_finite:
            yield name


def faults_of_single(run: Run) -> Iterator[str]:
    for name, problem in problems("random_1", "lopsided_1", "eight_decades_1"):
        if not is_along(run(problem), problem.rows[0]):
            yield name


def faults_of_precision(run: Run) -> Iterator[str]:
    for name, problem in problems("random_2", "lopsided_3", "random_6"):
        exact, rounded = run(problem), run(problem.to(torch.float32))
        if not (rounded.direction - exact.direction).norm() <= SINGLE * exact.size:
            yield name


CHECKS: dict[str, Callable[[Run], Iterator[str]]] = {
    "scale": faults_of_scale,
    "permutation": faults_of_permutation,
    "duplicate": faults_of_duplicate,
    "zero": faults_of_zero,
    "parallel": faults_of_parallel,
    "opposed": faults_of_opposed,
    "single": faults_of_single,
    "precision": faults_of_precision,
}
CARDS = {name: kind.card for name, kind in registered("weighting").items()}
HELD = [
    pytest.param(*case.values, law, id=f"{case.id}-{law}", marks=case.marks)
    for case in METHODS
    for law in PROPERTIES
    if law not in CARDS[case.values[0]].exceptions
]
EXCUSED = [
    pytest.param(name, law, id=f"{name}-{law}", marks=marks_of("weighting", name))
    for name, card in CARDS.items()
    for law in card.exceptions
]


def faults(weighting: Weighting, law: str) -> Iterator[str]:
    """Yield where in the zoo a property does not hold, of a fresh balancer and of a used one."""
    for state, run in runs(weighting).items():
        yield from (f"{state}: {fault}" for fault in CHECKS[law](run))


def test_every_property_is_tested():
    assert CHECKS.keys() == PROPERTIES.keys()


@pytest.mark.parametrize(("name", "fields", "law"), HELD)
def test_a_method_has_every_property_that_it_is_not_excused_from(name, fields, law):
    found = list(faults(make("weighting", name, **fields), law))
    assert not found, f"{name}: {PROPERTIES[law]}; not so for: {'; '.join(found)}"


@pytest.mark.parametrize(("name", "law"), EXCUSED)
def test_an_excuse_is_needed(name, law):
    cases = [case.values[1] for case in METHODS if case.values[0] == name]
    assert law in CHECKS, f"{name} is excused from {law!r}, which is none of {', '.join(CHECKS)}"
    assert any(any(faults(make("weighting", name, **fields), law)) for fields in cases), (
        f"{name} is excused from {law!r} ({PROPERTIES[law]}), and has it: take the excuse away"
    )


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS.keys())
def test_a_card_says_all(card):
    said = (card.title, card.paper, card.invariant, card.use, *card.exceptions.values())
    assert all(text.strip() for text in said)


@EVERY
def test_every_weight_and_direction_of_the_zoo_is_finite(name, fields):
    weighting = make("weighting", name, **fields)
    for (entry, jacobian), c in zip(ZOO.items(), itertools.cycle((1e-8, 1.0, 1e8))):
        problem = Problem.of(jacobian).scaled(c)
        balancer = fresh(weighting, problem)
        for now in (problem, problem.earlier(1), problem):
            assert advance(balancer, now, problem).is_finite, f"{entry} times {c:g}"
            balancer.after_epoch()


@EVERY
def test_a_restored_balancer_goes_on_bit_for_bit(name, fields):
    weighting, problem = make("weighting", name, **fields), Problem.of(ZOO["nearly_opposed_3"])
    balancer = used(weighting, problem)
    restored = fresh(weighting, problem, seed=1)
    restored.load_state_dict(copy.deepcopy(balancer.state_dict()))
    for left in (2, 1):
        there = advance(balancer, problem.earlier(left), problem.earlier(left - 1))
        here = advance(restored, problem.earlier(left), problem.earlier(left - 1))
        assert torch.equal(there.direction, here.direction)
        assert torch.equal(there.weights, here.weights)
        assert torch.equal(there.private, here.private)
        balancer.after_epoch(), restored.after_epoch()
    assert all(torch.equal(x, restored.state_dict()[k]) for k, x in balancer.state_dict().items())


@EVERY
def test_a_step_of_some_tasks_is_finite_and_moves_no_state_of_the_others(name, fields):
    weighting, problem = make("weighting", name, **fields), Problem.of(ZOO["nearly_opposed_3"])
    for present in [s for n in (1, 2) for s in itertools.combinations(range(3), n)]:
        balancer = used(weighting, problem)
        absent = [i for i in range(3) if i not in present]
        before, begun = copy.deepcopy(balancer.state_dict()), copy.deepcopy(balancer)
        begun.before_step()
        of_steps = {key for key, x in begun.state_dict().items() if not torch.equal(x, before[key])}
        step = advance(balancer, problem.take(present), problem.earlier(-1).take(present))
        assert step.is_finite and step.weights.shape == (len(present),)
        for key, after in balancer.state_dict().items():
            pairs = zip(
                _of_tasks(key, before[key], absent), _of_tasks(key, after, absent), strict=True
            )
            moved = not all(torch.equal(*pair) for pair in pairs)
            assert not moved or key in of_steps, f"{key} of {absent} moved"


def _of_tasks(key: str, state: Tensor, tasks: list[int]) -> Iterator[Tensor]:
    """Yield the parts of a state that are of these of three tasks; no other size is 3."""
    if any(part in [f"t{i}" for i in tasks] for part in key.split(".")):
        yield state
    for dimension, size in enumerate(state.shape):
        if size == 3:
            yield state.index_select(dimension, torch.tensor(tasks))


@EVERY
def test_weights_of_gradients_are_float64_on_the_cpu(name, fields):
    problem = Problem.of(ZOO["nearly_opposed_3"]).to(torch.float32)
    balancer = fresh(make("weighting", name, **fields), problem)
    step = make_step(balancer, problem)
    assert step.weights.shape == step.private.shape == (3,)
    assert step.direction.dtype == torch.float32
    if isinstance(balancer, GradientBalancer):
        for weights in (step.weights, step.private):
            assert weights.dtype == torch.float64 and weights.device.type == "cpu"
