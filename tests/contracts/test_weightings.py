"""What every weighting promises as a module: totals, state, rests between solutions."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from arguments import make, marks_of, methods, registered
from fixtures.jacobians import ZOO
from fixtures.updates import Problem, advance, fresh, make_step, used

from mtlkit.contracts import GradientWeighting

PROBLEM = Problem.of(ZOO["nearly_opposed_3"])  # in conflict, and not without a way out
LOSSES = dict(zip(PROBLEM.names, PROBLEM.losses.unbind(), strict=True))
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(PROBLEM.names, n)]
EVERY = pytest.mark.parametrize(("name", "fields"), methods())
OF_GRADIENTS = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=marks_of("weighting", name))
        for name, kind in registered("weighting").items()
        if issubclass(kind, GradientWeighting)
    ],
)


@EVERY
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_total_is_a_scalar_that_rises_with_every_present_loss(name, fields, training):
    balancer = used(make("weighting", name, **fields), PROBLEM).train(training)
    for dtype, present in itertools.product((torch.float32, torch.float64), SUBSETS):
        losses = {n: LOSSES[n].to(dtype, copy=True).requires_grad_() for n in present}
        balancer.before_step()
        total = balancer.total(losses)
        total.backward()
        assert total.shape == () and total.isfinite()
        assert all(loss.grad.isfinite() and loss.grad > 0 for loss in losses.values()), losses


@EVERY
def test_totals_of_one_step_are_equal(name, fields):
    balancer = used(make("weighting", name, **fields), PROBLEM)
    balancer.before_step()
    assert torch.equal(balancer.total(LOSSES), balancer.total(LOSSES))


@EVERY
def test_evaluation_changes_no_state(name, fields):
    balancer = used(make("weighting", name, **fields), PROBLEM).eval()
    before = copy.deepcopy(balancer.state_dict())
    for present in SUBSETS:
        balancer.total({n: 7 * LOSSES[n] for n in present})
    assert all(torch.equal(x, before[key]) for key, x in balancer.state_dict().items())


@EVERY
def test_state_lives_in_the_state_dict_as_tensors_that_move(name, fields):
    balancer = used(make("weighting", name, **fields), PROBLEM)
    held = {id(x) for x in (*balancer.parameters(), *balancer.buffers())}
    for module in balancer.modules():
        assert [key for key, x in vars(module).items() if isinstance(x, torch.Tensor)] == []
    assert len(held) == len(balancer.state_dict())


@EVERY
def test_epochs_without_a_step_are_survived(name, fields):
    for make_balancer in (fresh, used):
        balancer = make_balancer(make("weighting", name, **fields), PROBLEM)
        for _ in range(3):
            balancer.after_epoch()
        assert make_step(balancer, PROBLEM).is_finite


@EVERY
def test_a_task_without_loss_and_gradient_leaves_all_weights_finite(name, fields):
    empty = torch.tensor([1.0, 0.0, 1.0]).double()  # nothing was valid in the batch
    problem = Problem(PROBLEM.names, PROBLEM.rows * empty[:, None], PROBLEM.losses * empty)
    for make_balancer in (fresh, used):
        balancer = make_balancer(make("weighting", name, **fields), PROBLEM)
        assert advance(balancer, problem, problem).is_finite
        balancer.after_epoch()
        assert advance(balancer, PROBLEM, problem).is_finite


@EVERY
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_spoils_no_weight_of_another_task(name, fields, value):
    balancer = used(make("weighting", name, **fields), PROBLEM)
    losses = {n: loss.clone().requires_grad_() for n, loss in LOSSES.items()}
    balancer.before_step()
    balancer.total({**losses, "t1": torch.tensor(value).double()}).backward()
    assert all(losses[n].grad.isfinite() and losses[n].grad > 0 for n in ("t0", "t2"))


@OF_GRADIENTS
def test_weights_are_used_again_for_the_steps_between_solutions(name):
    balancer = fresh(make("weighting", name, every=3), PROBLEM)
    steps = [advance(balancer, PROBLEM.earlier(left), PROBLEM) for left in range(7)]
    for first, *others in (steps[:3], steps[3:6]):
        assert all(torch.equal(other.weights, first.weights) for other in others)
        assert all(torch.equal(other.private, first.private) for other in others)
    assert not torch.equal(steps[3].weights, steps[0].weights)


@OF_GRADIENTS
def test_weights_that_are_kept_survive_a_restart(name):
    weighting = make("weighting", name, every=2)
    balancer, restored = fresh(weighting, PROBLEM), fresh(weighting, PROBLEM)
    first = make_step(balancer, PROBLEM)
    restored.load_state_dict(copy.deepcopy(balancer.state_dict()))
    again = make_step(restored, PROBLEM.earlier(2))
    assert torch.equal(again.weights, first.weights)


@pytest.mark.parametrize("name", registered("weighting"))
def test_explain_can_write_the_total(name):
    text = make("weighting", name).as_maths
    assert "L" in text and "\n" not in text
