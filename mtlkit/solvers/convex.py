"""Directions that are the solution of a convex program: MGDA, CAGrad and UPGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.solvers.quadratic import minimise
from mtlkit.solvers.scaling import Rows, cancels

NEWTON_STEPS = 50  # fewer than ten are usual; the bound keeps a step from hanging
PRECISION = 1e-13  # of ‖d − g_0‖, relative


def min_norm(gram: Tensor) -> Tensor:
    """Return α ≥ 0, Σα = 1, (T,), for the shortest d = Jᵀα: MGDA.

    So g_i·d ≥ ‖d‖² for every row, and d = 0 exactly if some mix of the rows cancels. Ends with an
    exact active set. Among the α of dependent rows one is returned; d is the same for all. T = 1
    gives α = 1; no row, zeros.

    Args:
        gram: G = J Jᵀ, (T,T), float64.

    Source: Sener and Koltun 2018, arXiv 1810.04650, eq. 3, there by Frank-Wolfe steps; Désidéri
    2012.
    """
    rows = Rows.of(gram)
    return rows.inverses * _shortest(rows)


def _shortest(rows: Rows) -> Tensor:
    """Return what the shortest mix of the rows is made of, (T,), as lengths of the unit rows."""
    if not rows.seen.any():
        return torch.zeros_like(rows.norms)
    shortest = rows.norms.masked_fill(~rows.seen, torch.inf).argmin()
    shares = rows.inverses * rows.norms[shortest]  # of weight 1 in a length of 1, ≤ 1
    start = torch.zeros_like(shares)
    start[shortest] = 1
    lengths = minimise(rows.cosines, torch.zeros_like(shares), shares[None], start)
    return lengths / (lengths @ rows.inverses)


def conflict_averse(gram: Tensor, c: float) -> Tensor:
    """Return w, (T,), for d = g_0 + c‖g_0‖·g_w/‖g_w‖, which raises min_i g_i·d the most: CAGrad.

    g_0 is the mean of all rows; g_w is their mix by weights of the simplex. Dually, d is the point
    nearest to g_0 with every g_i·d ≥ t, for the largest t that keeps ‖d − g_0‖ ≤ c‖g_0‖; that
    distance is convex in t, so Newton's steps approach t from above without a line search, each
    with an exact active set, until the distance is right to 1e-13 or after 50 steps.

    g_0 = 0 or c = 0 give g_0. If g_w = 0 for the best mix, its direction is free and so is part of
    d: then t = 0, and d is the point nearest to g_0 with Jd ≥ 0, ‖d − g_0‖ ≤ c‖g_0‖.

    Args:
        gram: G = J Jᵀ, (T,T), float64.
        c: ≥ 0, below 1 for the paper's convergence.

    Source: Liu et al. 2021, arXiv 2110.14048, eq. 3 and Algorithm 1; the released code may divide
    d by 1 + c² on top.
    """
    rows = Rows.of(gram)
    mean = rows.seen.to(gram) / len(gram)
    lengths = rows.norms * mean
    slopes = rows.cosines @ lengths  # g_0·g_i/n_i
    radius = c * (lengths @ slopes).clamp(min=0).sqrt()
    if radius > 0 and not cancels(rows, lengths):
        mean = mean + rows.inverses * _furthest(rows, slopes, radius)
    return mean


def _furthest(rows: Rows, slopes: Tensor, radius: Tensor) -> Tensor:
    """Return what d − g_0 is made of, (T,), as lengths of the unit rows, ≥ 0."""
    free = slopes.new_zeros(0, len(slopes))
    lengths = minimise(rows.cosines, -slopes, free, torch.zeros_like(slopes))  # for t = 0
    bound = slopes.new_zeros(())
    if lengths @ rows.cosines @ lengths < radius**2:
        mix = _shortest(rows)
        if cancels(rows, mix):
            return lengths
        bound = mix @ slopes + radius * (mix @ rows.cosines @ mix).sqrt()  # duality: t is below
    for _ in range(NEWTON_STEPS):
        lengths = minimise(rows.cosines, bound * rows.inverses - slopes, free, lengths)
        distance = (lengths @ rows.cosines @ lengths).sqrt()
        if distance <= radius * (1 + PRECISION):
            break
        bound = bound - (distance - radius) * distance / (lengths @ rows.inverses)
    return lengths * (radius / distance)


def upgrad(gram: Tensor) -> Tensor:
    """Return w, (T,), for the mean of the rows' projections onto {x: Jx ≥ 0}: UPGrad.

    So Jd ≥ 0, w_i ≥ 1/T, and d is the mean of the rows where none conflict. The projection of g_i
    is Jᵀv, v the minimiser of vᵀGv over v ≥ e_i; each ends with an exact active set. Among the v of
    dependent rows one is taken; the projection is the same for all. Opposed rows give d = 0.

    Args:
        gram: G = J Jᵀ, (T,T), float64.

    Source: Quinton and Rey 2024, arXiv 2406.16232, there with a general QP solver.
    """
    rows = Rows.of(gram)
    free = gram.new_zeros(0, len(gram))
    total = rows.norms.clone()
    for norm, cosines in zip(rows.norms, rows.cosines, strict=True):
        total += norm * minimise(rows.cosines, -cosines, free, torch.zeros_like(cosines))
    return total * rows.inverses / len(gram)
