"""What every weighting promises as a module: totals, state, rests between solutions."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mtlkit.contracts import Balancer, GradientBalancer, GradientWeighting, Weighting
from mtlkit.testing.contract import (
    Contract,
    backward,
    number,
    require,
    require_equal,
    require_scalar,
)
from mtlkit.testing.jacobians import ZOO
from mtlkit.testing.updates import Problem, Step, advance, fresh, make_step, tasks_of, used

WEIGHTING = Contract("weighting")
PROBLEM = Problem.of(ZOO["nearly_opposed_3"])  # in conflict, and not without a way out
LOSSES = dict(zip(PROBLEM.names, PROBLEM.losses.unbind(), strict=True))
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(PROBLEM.names, n)]
IN_BUFFERS = "Keep state in buffers or parameters, and change it in training mode alone"


def check_weighting(weighting: Weighting) -> None:
    """Check all that a weighting promises, but for the properties that its card excuses it from.

    Args:
        weighting: with its arguments.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    WEIGHTING.run(weighting)


@WEIGHTING.promises
def the_total_is_a_scalar_that_rises_with_every_present_loss(weighting: Weighting) -> None:
    """The total is a finite scalar that rises with every loss, whichever tasks are present."""
    built = weighting.build_balancer(tasks_of(PROBLEM.names))
    seen = f"build_balancer returns {type(built).__name__}"
    require(isinstance(built, Balancer), f"{seen}. Derive it from mtlkit.Balancer")
    for training in (True, False):
        balancer = used(weighting, PROBLEM).train(training)
        for dtype, present in itertools.product((torch.float32, torch.float64), SUBSETS):
            losses = {n: LOSSES[n].to(dtype, copy=True).requires_grad_() for n in present}
            balancer.before_step()
            total = balancer.total(losses)
            require_scalar(total, f"the total of {present}")
            seen = f"the total of {present} is {number(total)}"
            require(total.isfinite(), f"{seen}. Return a finite scalar")
            backward(total)
            for name, loss in losses.items():
                seen = f"the weight of {name} among {present} is {loss.grad}"
                rises = loss.grad is not None and bool(loss.grad.isfinite() and loss.grad > 0)
                require(rises, f"{seen}. Give every loss that is present a weight above 0")


@WEIGHTING.promises
def totals_of_one_step_are_equal(weighting: Weighting) -> None:
    """Between `before_step` and `after_step` equal losses have equal totals."""
    balancer = used(weighting, PROBLEM)
    balancer.before_step()
    totals = balancer.total(LOSSES), balancer.total(LOSSES)
    require_equal(
        *totals, f"they are {number(totals[0])} and {number(totals[1])}. Draw in `before_step`"
    )


@WEIGHTING.promises
def evaluation_changes_no_state(weighting: Weighting) -> None:
    """In eval mode `total` changes no state."""
    balancer = used(weighting, PROBLEM).eval()
    before = copy.deepcopy(balancer.state_dict())
    for present in SUBSETS:
        balancer.total({n: 7 * LOSSES[n] for n in present})
    for key, value in balancer.state_dict().items():
        seen = f"{key} holds {type(value).__name__}"
        require(isinstance(value, Tensor), f"{seen}, which no checkpoint can. {IN_BUFFERS}")
        require_equal(value, before[key], f"{key} changes. {IN_BUFFERS}")


@WEIGHTING.promises
def state_lives_in_the_state_dict_as_tensors_that_move(weighting: Weighting) -> None:
    """All tensors of the balancer are parameters or buffers, and all are saved."""
    balancer = used(weighting, PROBLEM)
    held = {id(x) for x in (*balancer.parameters(), *balancer.buffers())}
    for module in balancer.modules():
        loose = [key for key, x in vars(module).items() if isinstance(x, torch.Tensor)]
        require(not loose, f"{loose} are plain attributes. Use register_buffer")
    saved = len(balancer.state_dict())
    require(len(held) == saved, f"{saved} of {len(held)} tensors are saved. Make none unpersistent")


@WEIGHTING.promises
def epochs_without_a_step_are_survived(weighting: Weighting) -> None:
    """`after_epoch` without a step before leaves all weights finite."""
    for make_balancer in (fresh, used):
        balancer = make_balancer(weighting, PROBLEM)
        for _ in range(3):
            balancer.after_epoch()
        _require_finite(make_step(balancer, PROBLEM), "after three empty epochs")


@WEIGHTING.promises
def a_task_without_loss_and_gradient_leaves_all_weights_finite(weighting: Weighting) -> None:
    """A task whose loss and gradient are 0 for a while leaves all weights finite."""
    empty = torch.tensor([1.0, 0.0, 1.0]).double()  # nothing was valid in the batch
    problem = Problem(PROBLEM.names, PROBLEM.rows * empty[:, None], PROBLEM.losses * empty)
    for make_balancer in (fresh, used):
        balancer = make_balancer(weighting, PROBLEM)
        _require_finite(advance(balancer, problem, problem), "beside a loss of 0")
        balancer.after_epoch()
        _require_finite(advance(balancer, PROBLEM, problem), "after a loss of 0")


@WEIGHTING.promises
def a_loss_that_is_not_finite_spoils_no_weight_of_another_task(weighting: Weighting) -> None:
    """Beside a loss of NaN or infinity the other tasks have finite weights above 0."""
    for value in (math.nan, math.inf):
        balancer = used(weighting, PROBLEM)
        losses = {n: loss.clone().requires_grad_() for n, loss in LOSSES.items()}
        balancer.before_step()
        backward(balancer.total({**losses, "t1": torch.tensor(value).double()}))
        for name in ("t0", "t2"):
            weight = losses[name].grad
            is_good = weight is not None and bool(weight.isfinite() and weight > 0)
            require(is_good, f"beside {value} the weight of {name} is {weight}")


@WEIGHTING.promises_once
def weights_are_used_again_for_the_steps_between_solutions(weighting: Weighting) -> None:
    """With `every: 3`, weights of gradients are solved in every third step and kept between."""
    if not isinstance(weighting, GradientWeighting):
        return
    balancer = fresh(weighting.model_copy(update={"every": 3}), PROBLEM)
    steps = [advance(balancer, PROBLEM.earlier(left), PROBLEM) for left in range(7)]
    for first, *others in (steps[:3], steps[3:6]):
        for other in others:
            require_equal(other.weights, first.weights, "they change. Hand `every` to the balancer")
            require_equal(other.private, first.private, "private weights change between solutions")
    differ = not torch.equal(steps[3].weights, steps[0].weights)
    require(differ, "the fourth step has the weights of the first: nothing is solved again")


@WEIGHTING.promises_once
def weights_that_are_kept_survive_a_restart(weighting: Weighting) -> None:
    """With `every: 2`, kept weights of gradients are in the state dict."""
    if not isinstance(weighting, GradientWeighting):
        return
    weighting = weighting.model_copy(update={"every": 2})
    balancer, restored = fresh(weighting, PROBLEM), fresh(weighting, PROBLEM)
    first = make_step(balancer, PROBLEM)
    restored.load_state_dict(copy.deepcopy(balancer.state_dict()))
    again = make_step(restored, PROBLEM.earlier(2))
    require_equal(again.weights, first.weights, f"the restored ones differ. {IN_BUFFERS}")


@WEIGHTING.promises
def explain_can_write_the_total(weighting: Weighting) -> None:
    """`as_maths` is one line with an L in it."""
    text = weighting.as_maths
    require("L" in text and "\n" not in text, f"it is {text!r}. Write the total in terms of L_t")


@WEIGHTING.promises
def every_weight_and_direction_is_finite(weighting: Weighting) -> None:
    """Weights are finite for hard Jacobians (opposed, dependent, 0) from 1e-8 to 1e8 in size."""
    for (entry, jacobian), c in zip(ZOO.items(), itertools.cycle((1e-8, 1.0, 1e8)), strict=False):
        problem = Problem.of(jacobian).scaled(c)
        balancer = fresh(weighting, problem)
        for now in (problem, problem.earlier(1), problem):
            _require_finite(advance(balancer, now, problem), f"for {entry} times {c:g}")
            balancer.after_epoch()


@WEIGHTING.promises
def a_restored_balancer_goes_on_bit_for_bit(weighting: Weighting) -> None:
    """A balancer that loads the state dict of another goes on as that one does."""
    balancer, restored = used(weighting, PROBLEM), fresh(weighting, PROBLEM, seed=1)
    restored.load_state_dict(copy.deepcopy(balancer.state_dict()))
    for left in (2, 1):
        now, then = PROBLEM.earlier(left), PROBLEM.earlier(left - 1)
        there, here = (advance(one, now, then) for one in (balancer, restored))
        for name in ("direction", "weights", "private"):
            sentence = f"its {name} differ after a restart. {IN_BUFFERS}"
            require_equal(getattr(here, name), getattr(there, name), sentence)
        balancer.after_epoch()
        restored.after_epoch()
    for key, value in balancer.state_dict().items():
        require_equal(value, restored.state_dict()[key], f"{key} differs after a restart")


@WEIGHTING.promises
def a_step_of_some_tasks_moves_no_state_of_the_others(weighting: Weighting) -> None:
    """A step of some tasks has finite weights for them, and moves no state of the absent ones."""
    for present in [s for n in (1, 2) for s in itertools.combinations(range(3), n)]:
        balancer = used(weighting, PROBLEM)
        absent = [i for i in range(3) if i not in present]
        before, begun = copy.deepcopy(balancer.state_dict()), copy.deepcopy(balancer)
        begun.before_step()
        of_steps = {key for key, x in begun.state_dict().items() if not torch.equal(x, before[key])}
        step = advance(balancer, PROBLEM.take(present), PROBLEM.earlier(-1).take(present))
        _require_finite(step, f"where tasks {present} are present")
        count = len(step.weights)
        require(count == len(present), f"{count} weights for {len(present)} tasks")
        for key, after in balancer.state_dict().items():
            pairs = zip(
                _of_tasks(key, before[key], absent), _of_tasks(key, after, absent), strict=True
            )
            moved = not all(torch.equal(*pair) for pair in pairs)
            sentence = f"{key} of tasks {absent}, which are absent, moves. Index by present names"
            require(not moved or key in of_steps, sentence)


@WEIGHTING.promises
def weights_of_gradients_are_float64_on_the_cpu(weighting: Weighting) -> None:
    """There is one weight per task, and weights of gradients are float64 on the CPU."""
    problem = PROBLEM.to(torch.float32)
    balancer = fresh(weighting, problem)
    step = make_step(balancer, problem)
    shapes = tuple(step.weights.shape), tuple(step.private.shape)
    require(shapes == ((3,), (3,)), f"three tasks have weights of the shapes {shapes}")
    direction = step.direction.dtype
    require(direction == torch.float32, f"the direction of float32 rows is {direction}")
    if isinstance(balancer, GradientBalancer):
        for weights in (step.weights, step.private):
            is_exact = weights.dtype == torch.float64 and weights.device.type == "cpu"
            require(is_exact, f"they are {weights.dtype} on {weights.device}")


def _require_finite(step: Step, when: str) -> None:
    """Require finite weights and a finite direction."""
    sentence = f"{when}, the weights are {step.weights.tolist()}. Divide by nothing that may be 0"
    require(step.is_finite, sentence)


def _of_tasks(key: str, state: Tensor, tasks: list[int]) -> Iterator[Tensor]:
    """Yield the parts of a state that are of these of three tasks; no other size is 3."""
    if any(part in [f"t{i}" for i in tasks] for part in key.split(".")):
        yield state
    for dimension, size in enumerate(state.shape):
        if size == 3:
            yield state.index_select(dimension, torch.tensor(tasks))
