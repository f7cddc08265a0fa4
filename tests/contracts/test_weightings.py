"""What every weighting promises, at loss level and at gradient level."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from arguments import make, registered, variants
from torch import nn

import mtlkit
from mtlkit.gradients import Backward

NAMES = ("a", "b", "c")
TASKS = {
    "a": make("task", "segmentation", name="a"),
    "b": make("task", "depth", name="b"),
    "c": make("task", "depth", name="c"),
}
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(NAMES, n)]
SLOPES = {"a": 3.0, "b": 1.0, "c": 0.2}
FIRST = {"a": 2.0, "b": 0.7, "c": 0.05}
EVERY = pytest.mark.parametrize(("name", "fields"), variants("weighting"))


def balancer_of(name, fields, names=NAMES):
    return make("weighting", name, **fields).build_balancer({n: TASKS[n] for n in names})


def step(balancer, values):
    """Run one backward pass of an engine; return the total and the weight of each task."""
    shared = nn.Parameter(torch.ones(2, 2))
    leaves = {name: torch.zeros((), requires_grad=True) for name in values}
    tasks = {
        name: value + leaves[name] + SLOPES[name] * (shared.sum() - 4)
        for name, value in values.items()
    }
    losses = mtlkit.Losses(tasks, {}, None, frozenset(tasks), mtlkit.Output({}))
    total = Backward(balancer, shared)(losses, 1.0)
    weights = {name: float(leaf.grad) for name, leaf in leaves.items()}
    expected = sum(weights[name] * SLOPES[name] for name in values)
    torch.testing.assert_close(shared.grad, torch.full((2, 2), expected))
    return total, weights


def trained(balancer, epochs=3):
    """Return the balancer after some epochs in which the tasks learn at different speeds."""
    optimizer = torch.optim.SGD([*balancer.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
    balancer.train()
    for epoch in range(1, epochs + 1):
        for _ in range(2):
            optimizer.zero_grad()
            step(balancer, {n: FIRST[n] * SLOPES[n] ** -(epoch / 9) for n in NAMES})
            optimizer.step()
            balancer.after_step(lambda: {n: torch.tensor(FIRST[n]) for n in NAMES})
        balancer.after_epoch()
    return balancer


@EVERY
@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_total_is_a_scalar_with_a_gradient_for_every_present_task(
    name, fields, present, training
):
    balancer = trained(balancer_of(name, fields)).train(training)
    losses = {n: torch.tensor(FIRST[n], requires_grad=True) for n in present}
    total = balancer.total(losses)
    total.backward()
    assert total.shape == () and total.isfinite()
    assert all(loss.grad.isfinite() and loss.grad > 0 for loss in losses.values())


@EVERY
@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
def test_a_step_weighs_every_present_task_by_a_finite_positive_number(name, fields, present):
    balancer = trained(balancer_of(name, fields))
    total, weights = step(balancer, {n: FIRST[n] for n in present})
    assert total.isfinite() and not total.requires_grad
    assert set(weights) == set(present)
    assert all(0 < weight < 1e6 for weight in weights.values())


@EVERY
def test_a_step_without_any_task_is_nothing(name, fields):
    balancer = trained(balancer_of(name, fields))
    before = copy.deepcopy(balancer.state_dict())
    losses = mtlkit.Losses({}, {}, None, frozenset(), mtlkit.Output({}))
    assert Backward(balancer, nn.Parameter(torch.ones(2, 2)))(losses, 1.0) == 0
    assert all(torch.equal(x, before[key]) for key, x in balancer.state_dict().items())


@EVERY
def test_a_restored_balancer_goes_on_identically(name, fields):
    balancer, restored = trained(balancer_of(name, fields)), balancer_of(name, fields)
    restored.load_state_dict(copy.deepcopy(balancer.state_dict()))
    for _ in range(3):
        there, here = step(balancer, FIRST), step(restored, FIRST)
        assert torch.equal(there[0], here[0]) and there[1] == here[1]
        balancer.after_epoch(), restored.after_epoch()
    assert all(torch.equal(x, restored.state_dict()[k]) for k, x in balancer.state_dict().items())


@EVERY
@pytest.mark.parametrize("order", list(itertools.permutations(NAMES))[1:], ids="".join)
def test_the_order_of_tasks_changes_no_weight(name, fields, order):
    straight, turned = trained(balancer_of(name, fields)), trained(balancer_of(name, fields, order))
    expected = step(straight, FIRST)
    found = step(turned, {n: FIRST[n] for n in order})
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)


@EVERY
def test_evaluation_changes_no_state(name, fields):
    balancer = trained(balancer_of(name, fields)).eval()
    before = copy.deepcopy(balancer.state_dict())
    for present in SUBSETS:
        balancer.total({n: torch.tensor(7.0) for n in present})
    assert all(torch.equal(x, before[key]) for key, x in balancer.state_dict().items())


@EVERY
def test_the_scale_of_the_total_is_that_of_the_losses_in_order(name, fields):
    balancer = trained(balancer_of(name, fields)).eval()
    small = balancer.total({n: torch.tensor(FIRST[n]) for n in NAMES})
    large = balancer.total({n: torch.tensor(2 * FIRST[n]) for n in NAMES})
    assert large > small


@EVERY
def test_state_lives_in_the_state_dict_as_tensors_that_move(name, fields):
    balancer = balancer_of(name, fields)
    held = {id(x) for x in (*balancer.parameters(), *balancer.buffers())}
    loose = [key for key, x in vars(balancer).items() if isinstance(x, torch.Tensor)]
    assert loose == [] and len(held) == len(balancer.state_dict())


@pytest.mark.parametrize("name", registered("weighting"))
def test_explain_can_write_the_total(name):
    text = make("weighting", name).as_maths
    assert "L" in text and "\n" not in text
