"""Convex quadratic programs of a few variables, by active sets."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.solvers.scaling import ROUNDING

ROUNDS = 10
"""Variables enter at most this often each; three times are usual (Lawson and Hanson 1974)."""
RIDGE = 1e-14
"""Added to H's diagonal of about 1: above its rounding, below `ROUNDING`, to which H is known."""


def minimise(curvature: Tensor, linear: Tensor, equality: Tensor, start: Tensor) -> Tensor:
    """Return a minimiser of ½xᵀHx − bᵀx over x ≥ 0 with Ax = 1, (n,).

    A variable enters the positive ones as long as the objective falls with it by more than
    rounding, and leaves them where a minimum over them would make it negative. Every round lowers
    the objective, so that no set of positive variables comes twice and the end is exact.

    Args:
        curvature: H, (n,n), float64, positive semi-definite, about 1 on the diagonal.
        linear: b, (n,), such that the objective is bounded below.
        equality: A, (k,n), k = 0 or 1, ≥ 0.
        start: feasible, (n,); columns of H at its positive variables are independent.

    Source: Lawson and Hanson 1974, Solving Least Squares Problems, ch. 23 (NNLS); with A, Wolfe
    1976, Finding the Nearest Point in a Polytope.
    """
    size, count = len(linear), len(equality)
    corner = linear.new_zeros(count, count)
    system = torch.cat([torch.cat([curvature, equality.T], 1), torch.cat([equality, corner], 1)])
    right = torch.cat([linear, linear.new_ones(count)])
    point = _settle(system, right, torch.cat([start, corner.sum(1)]), start > 0)
    useless = torch.zeros_like(start, dtype=torch.bool)  # rounding let them in, to leave at once
    for _ in range(ROUNDS * size):
        fall = (right - system @ point)[:size]
        noise = (system.abs() @ point.abs() + right.abs())[:size] * ROUNDING * size
        positive = point[:size] > 0
        fall = fall.masked_fill(positive | useless | (fall <= noise), 0)
        entering = fall.argmax()
        if fall[entering] <= 0:
            break
        grown = positive.clone()
        grown[entering] = True
        point = _settle(system, right, point, grown)
        is_stuck = torch.equal(point[:size] > 0, positive)
        useless = (useless | grown) & ~positive if is_stuck else torch.zeros_like(useless)
    return point[:size]


def _settle(system: Tensor, right: Tensor, point: Tensor, free: Tensor) -> Tensor:
    """Return the minimiser, with A's multiplier, over a part of `free` where it is positive."""
    size = len(free)
    while True:
        target = _solve(system, right, free)
        crossing = free & ~(target[:size] > 0)
        if not crossing.any():
            return target
        x, y = point[:size], target[:size]
        share = torch.where(x > 0, x / (x - y), 0).masked_fill(~crossing, torch.inf)
        free = free & (share > share.min())
        point = torch.cat([(x + share.min() * (y - x)) * free, target[size:]])


def _solve(system: Tensor, right: Tensor, free: Tensor) -> Tensor:
    """Return the solution in the free variables and A's multiplier; the other variables are 0.

    The ridge makes of a dependent variable, along which the objective falls without end, a far
    target in the right direction; a refinement takes its error out of the other solutions.
    """
    used = torch.cat([free, free.new_ones(len(right) - len(free))])
    matrix = torch.where(used & used[:, None], system, torch.eye(len(right)).to(system))
    vector = (right * used)[:, None]
    ridge = torch.cat([RIDGE * free, right.new_zeros(len(right) - len(free))]).diag()
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix + ridge)
    solution: Tensor = torch.linalg.lu_solve(factors, pivots, vector)
    rest: Tensor = torch.linalg.lu_solve(factors, pivots, vector - matrix @ solution)
    return (solution + rest).squeeze(1)
