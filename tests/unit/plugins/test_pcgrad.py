from __future__ import annotations

import itertools

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
)

from mtlkit_plugins.weightings.pcgrad import PCGrad


def operated(rows, order):
    """Return what each order of the others makes of the first row, by Algorithm 1 on vectors."""
    row = rows[0]
    for other in order:
        if row @ rows[other] < 0:
            row = row - row @ rows[other] / rows[other].square().sum() * rows[other]
    return row


def test_without_conflicts_every_weight_is_one():
    g = gradients_of([[1, 0, 0.1], [1, 1, 0], [0, 1, 1]])
    assert balancer_of(PCGrad()).weights(g).tolist() == [1, 1, 1]


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e8])
def test_two_tasks_lose_all_of_their_conflict_at_any_scale(scale):
    g = gradients_of([[scale, 0], [-scale, scale]])
    # (1,0) becomes (½,½) and (−1,1) becomes (0,1)
    assert balancer_of(PCGrad()).weights(g).tolist() == pytest.approx([2, 1.5])


@pytest.mark.parametrize("seed", range(10))
def test_two_tasks_are_not_hurt(seed):
    g = problem(2, seed)
    assert (g.rows @ direction(balancer_of(PCGrad()).weights(g), g)).min() >= -1e-12


def test_every_order_of_the_others_comes_and_none_has_the_task_itself():
    rows = torch.tensor([[1.0, 0, 0], [-1, 1, 0], [-1, -1, 0.5]]).double()
    g = gradients_of(rows)
    balancer = balancer_of(PCGrad())
    found = {tuple(direction(balancer.weights(g), g).round(decimals=9).tolist()) for _ in range(80)}
    parts = [
        [operated(rows[[i, *others]], order) for order in itertools.permutations((1, 2))]
        for i, others in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
    ]
    sums = {
        tuple(torch.stack(choice).sum(0).round(decimals=9).tolist())
        for choice in itertools.product(*parts)
    }
    assert found == sums and len(sums) > 1


def test_zero_gradients_divide_nothing():
    g = gradients_of([[1, 0], [0, 0], [-1, 1]])
    weights = balancer_of(PCGrad()).weights(g)
    assert weights[[0, 2]].tolist() == pytest.approx([2, 1.5]) and weights.isfinite().all()


def test_the_order_of_tasks_is_of_no_consequence():
    g = problem(4, 1)
    turned = part(g, NAMES[::-1])
    straight, back = balancer_of(PCGrad()), balancer_of(PCGrad(), NAMES[::-1])
    for _ in range(3):
        assert torch.allclose(back.weights(turned).flip(0), straight.weights(g), rtol=1e-12)


def test_a_restored_balancer_draws_the_same_orders():
    g = problem(4, 2)
    balancer = balancer_of(PCGrad())
    balancer.weights(g)
    again = restored(PCGrad(), balancer)
    for _ in range(5):
        assert torch.equal(again.weights(g), balancer.weights(g))
