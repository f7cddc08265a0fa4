"""Weights that share one direction fairly: Nash-MTL and FairGrad."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtlkit.solvers.convex import min_norm
from mtlkit.solvers.scaling import Rows, cancels

NEWTON_STEPS = 200  # ten are usual, and some dozens next to a mix of rows that cancels
PRECISION = 1e-9  # relative, of the last step: the error after it is of the order of its square


def nash(gram: Tensor) -> Tensor:
    """Return α > 0, (T,), with Gα = 1/α: Nash-MTL.

    So g_i·d = 1/α_i > 0 and ‖d‖² is the number of rows. Rescaling a loss leaves d as it is. See
    `fair` for the stopping rule and for rows that cancel. T = 1 gives d = g/‖g‖.

    Args:
        gram: G = J Jᵀ, (T,T), float64.

    Source: Navon et al. 2022, arXiv 2202.01017, Claim 3.1, there by a sequence of convex programs.
    """
    return fair(gram, 1.0)


def fair(gram: Tensor, a: float) -> Tensor:
    """Return α > 0, (T,), with Gα = α^(−1/a): FairGrad.

    In lengths x = nα the equation is Cx = s·x^(−1/a), s = n^(1/a − 1), where the convex function
    ½xᵀCx − Σ s·x^(1−1/a)/(1−1/a) has its minimum. Newton's steps on it end when the last one
    changed no x_i by more than 1e-9 of itself, or after 200. For the equation to have a solution no
    mix of the rows may cancel; where one does (rows opposed, say), the mix of unit rows is
    returned: α ≥ 0 with d = 0, but for rounding, and α = 0 for rows outside it.

    Args:
        gram: G = J Jᵀ, (T,T), float64.
        a: α of α-fairness, > 0; 1 is Nash-MTL, more is nearer to equal progress.

    Source: Ban and Ji 2024, arXiv 2402.15638, there by least squares on the residual.
    """
    rows = Rows.of(gram)
    mix = min_norm(rows.cosines)
    if cancels(rows, mix):
        return mix * rows.inverses
    # A row of norm 0 stands as a unit row orthogonal to all, which changes nothing for them.
    curvature = rows.cosines + (~rows.seen).double().diag()
    pull = torch.where(rows.seen, rows.norms, 1) ** (1 / a - 1)
    x = pull ** (a / (a + 1))  # the solution if all rows are orthogonal
    for _ in range(NEWTON_STEPS):
        force = pull * x ** (-1 / a)
        hessian = curvature + (force / (a * x)).diag()
        step, fault = torch.linalg.solve_ex(hessian, force - curvature @ x)
        if fault:
            break
        change = step / x
        x = x + _damping(-float(change.min()), a) * step
        if change.abs().max() <= PRECISION:
            break
    return x * rows.inverses


def _damping(shrinkage: float, a: float) -> float:
    """Return the largest share of a step that cannot go beyond the minimum along it, in (0,1].

    The second derivative of a term in x^(1−1/a) grows as (1 − τr)^(−1−1/a) along the share τ, r
    being the largest relative decrease of an x_i; the slope is then below 0 up to where the
    integral of that is 1. For a = 1 it is the 1/(1 + r) of self-concordant functions. At most 99 %
    of an x_i are lost, so that rounding cannot make it 0.
    """
    if shrinkage <= 0:
        return 1.0
    return min(0.99, -math.expm1(-a * math.log1p(shrinkage / a))) / shrinkage
