from __future__ import annotations

import pytest
import torch
from fixtures.gradient_level import (
    NAMES,
    balancer_of,
    direction,
    gradients_of,
    part,
    problem,
    restored,
    state_of,
)

from mtlkit_plugins.weightings.gradvac import GradVac
from mtlkit_plugins.weightings.pcgrad import PCGrad


def cosine(one, other):
    return float(one @ other / one.norm() / other.norm())


def with_targets(value, **fields):
    balancer = balancer_of(GradVac(**fields))
    balancer.targets.fill_(value)
    return balancer


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e8])
@pytest.mark.parametrize("target", [-0.2, 0.0, 0.5])
def test_two_gradients_get_exactly_the_cosine_aimed_at(target, scale):
    first, second = scale * torch.tensor([[1.0, 0], [-1.0, 0.4]], dtype=torch.float64)
    g = gradients_of(torch.stack([first, second]))
    weights = with_targets(target).weights(g)
    # d = (1 + u)·g_1 + (1 + v)·g_2, where g_1 + v·g_2 and g_2 + u·g_1 have the cosine
    u, v = (weights - 1).tolist()
    assert cosine(first + v * second, second) == pytest.approx(target)
    assert cosine(second + u * first, first) == pytest.approx(target)


@pytest.mark.parametrize("seed", range(5))
def test_targets_of_zero_that_do_not_move_are_pcgrad(seed):
    vaccinated, operated = balancer_of(GradVac(beta=0.0)), balancer_of(PCGrad())
    for step in range(3):
        g = problem(4, 10 * seed + step)
        assert torch.allclose(vaccinated.weights(g), operated.weights(g), rtol=1e-9)


def test_a_cosine_above_its_target_is_left_alone():
    g = gradients_of([[1, 0.1], [1, 0]])
    assert with_targets(0.5).weights(g).tolist() == [1, 1]


def test_targets_move_by_beta_towards_the_cosine_before_the_turn():
    balancer = balancer_of(GradVac(beta=0.25), ("a", "b"))
    for expected in (-0.6 * 0.25, -0.6 * (0.25 + 0.75 * 0.25)):
        balancer.weights(gradients_of([[2, 0], [-3, 4]]))
        assert balancer.targets[0, 1] == pytest.approx(expected)
        assert balancer.targets[1, 0] == pytest.approx(expected)
    assert balancer.targets.diagonal().tolist() == [0, 0]


def test_only_pairs_of_present_tasks_move():
    balancer = with_targets(0.1, beta=0.5)
    balancer.weights(part(problem(4, 3), ("d", "b")))
    moved = balancer.targets != 0.1
    assert moved.nonzero().tolist() == [[1, 3], [3, 1]]


@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_parallel_opposed_and_zero_gradients_stay_finite(beta):
    g = gradients_of([[0.1, 0.7, 0.3], [0.3, 2.1, 0.9], [-0.1, -0.7, -0.3], [0, 0, 0]])
    balancer = balancer_of(GradVac(beta=beta))
    for _ in range(20):
        weights = balancer.weights(g)
        assert direction(weights, g).isfinite().all() and weights.isfinite().all()
    assert balancer.targets.abs().max() <= 1


def test_the_order_of_tasks_is_of_no_consequence():
    straight = balancer_of(GradVac(beta=0.3))
    back = balancer_of(GradVac(beta=0.3), NAMES[::-1])
    for seed in range(4):
        g = problem(4, seed)
        turned = back.weights(part(g, NAMES[::-1])).flip(0)
        assert torch.allclose(turned, straight.weights(g), rtol=1e-9)


def test_a_restored_balancer_gives_the_identical_next_weights():
    weighting = GradVac(beta=0.3)
    balancer = balancer_of(weighting)
    for seed in range(3):
        balancer.weights(problem(4, seed))
    again = restored(weighting, balancer)
    assert torch.equal(again.weights(problem(4, 9)), balancer.weights(problem(4, 9)))
    assert torch.equal(state_of(again)["targets"], balancer.targets)
