"""Gradient surgery on coefficients is the surgery of the papers on vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtlkit.solvers import gradvac, pcgrad
from mtlkit.testing.jacobians import ZOO, in_turn, normal

EXACT = 1e-9
each = pytest.mark.parametrize("jacobian", ZOO.values(), ids=ZOO.keys())


def operated(jacobian: Tensor, orders: Tensor) -> Tensor:
    """Return PCGrad's direction by Algorithm 1, on vectors."""
    parts = []
    for part, order in zip(jacobian, orders, strict=True):
        for other in jacobian[order]:
            if part @ other < 0:
                part = part - part @ other / other.square().sum() * other
        parts.append(part)
    return torch.stack(parts).sum(0)


@each
def test_pcgrad_on_coefficients_is_pcgrad_on_vectors(jacobian):
    orders = in_turn(len(jacobian)).flip(1)
    weights = pcgrad(jacobian @ jacobian.T, orders)
    size = weights.abs() @ jacobian.norm(dim=1)
    assert (jacobian.T @ weights - operated(jacobian, orders)).norm() <= 1e-12 * size


def test_pcgrad_of_two_rows_has_a_closed_form():
    jacobian = torch.tensor([[3.0, 1], [-1, 0.5]]).double() * 1e-8
    gram = jacobian @ jacobian.T
    weights = pcgrad(gram, in_turn(2))
    assert torch.allclose(weights, 1 - gram[0, 1] / gram.diagonal())
    assert (gram @ weights).min() > 0


def vaccinated(jacobian: Tensor, targets: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Return GradVac's direction on vectors, each turned by its angles, and the angles found."""
    parts, found = [], targets.clone()
    for i, part in enumerate(jacobian):
        for j in orders[i].tolist():
            length, other = part.norm(), jacobian[j] / jacobian[j].norm()
            found[i, j] = part @ other / length
            if found[i, j] < targets[i, j]:
                upright = part - part @ other * other  # kept, so that the tangent gives the rest
                part = upright + other * upright.norm() / targets[i, j].acos().tan()
                assert part @ other / part.norm() == pytest.approx(float(targets[i, j]))
        parts.append(part)
    return torch.stack(parts).sum(0), found


@pytest.mark.parametrize("count", range(1, 11))
def test_gradvac_turns_each_row_to_its_target(count):
    jacobian, orders = ZOO[f"eight_decades_{count}"], in_turn(count)
    targets = 0.9 * torch.tanh(normal(count, count, 4))
    before = targets.clone()
    weights, new = gradvac(jacobian @ jacobian.T, targets, orders, 0.25)
    direction, found = vaccinated(jacobian, targets, orders)
    size = weights.abs() @ jacobian.norm(dim=1)
    assert (jacobian.T @ weights - direction).norm() <= EXACT * size
    assert torch.allclose(new, 0.75 * targets + 0.25 * found)
    assert torch.equal(targets, before)


@each
def test_gradvac_with_targets_of_zero_is_pcgrad(jacobian):
    gram, orders = jacobian @ jacobian.T, in_turn(len(jacobian))
    weights, targets = gradvac(gram, torch.zeros_like(gram), orders, 0.01)
    size = weights.abs() @ jacobian.norm(dim=1)
    assert (jacobian.T @ (weights - pcgrad(gram, orders))).norm() <= EXACT * size
    assert targets.isfinite().all() and targets.abs().max() <= 0.011


@pytest.mark.parametrize("target", [-1.0, 1.0])
@each
def test_gradvac_survives_targets_that_no_sum_reaches(jacobian, target):
    gram = jacobian @ jacobian.T
    weights, targets = gradvac(gram, torch.full_like(gram, target), in_turn(len(gram)), 1.0)
    assert weights.isfinite().all() and targets.abs().max() <= 1


@pytest.mark.parametrize("count", [2, 3, 6])
def test_turns_move_with_their_tasks(count):
    jacobian, turns = normal(count, 8, 2), in_turn(count)
    targets = normal(count, count, 6).tanh()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    gram, moved = jacobian @ jacobian.T, jacobian[order] @ jacobian[order].T
    new_turns = order.argsort()[turns[order]]
    assert torch.allclose(pcgrad(gram, turns)[order], pcgrad(moved, new_turns))
    weights, new = gradvac(gram, targets, turns, 0.1)
    others, renewed = gradvac(moved, targets[order][:, order], new_turns, 0.1)
    assert torch.allclose(weights[order], others)
    assert torch.allclose(new[order][:, order], renewed)
