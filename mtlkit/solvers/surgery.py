"""Gradients that are changed pair by pair, done on coefficients: PCGrad and GradVac."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtlkit.solvers.scaling import Rows, rounding


class Vaccination(NamedTuple):
    """What `gradvac` returns.

    Args:
        weights: of the rows, (T,).
        targets: φ̂_ij for the next step, (T,T), in [−1,1].
    """

    weights: Tensor
    targets: Tensor


def pcgrad(gram: Tensor, orders: Tensor) -> Tensor:
    """Return w, (T,), for d = Σ_i ĝ_i, each ĝ_i freed of its conflicts one by one: PCGrad.

    ĝ_i starts as g_i and loses its part along each g_j that it conflicts with when j's turn comes;
    these are the original g_j. Without conflicts w = 1. For T = 2 Jd ≥ 0; opposed rows give d = 0.

    Args:
        gram: G = J Jᵀ, (T,T), float64.
        orders: the turns; row i holds the other tasks than i, (T,T−1), int64, in random order.

    Source: Yu et al. 2020, arXiv 2001.06782, Algorithm 1; the released code has j = i take a turn
    too, the algorithm has not.
    """
    rows = Rows.of(gram)
    task = torch.arange(len(gram))
    parts = torch.eye(len(gram)).to(gram)  # row i: ĝ_i/n_i as lengths of the unit rows
    for other in orders.unbind(1):
        products = (parts @ rows.cosines)[task, other]
        parts[task, other] -= products.clamp(max=0)
    return rows.norms @ parts * rows.inverses


def gradvac(gram: Tensor, targets: Tensor, orders: Tensor, beta: float) -> Vaccination:
    """Return w, (T,), for d = Σ_i ĝ_i, each turned towards others up to a target, and new targets.

    ĝ_i starts as g_i. In j's turn, φ = cos(ĝ_i, g_j); if it is below φ̂_ij, so much of g_j is added
    that it becomes φ̂_ij; and φ̂_ij ← (1−β)φ̂_ij + βφ. With targets of 0 this is PCGrad. Nothing
    happens in turns without an angle, where ĝ_i or g_j is 0, and nothing is added for a target of
    1, which no sum reaches, or to a ĝ_i opposed to g_j but what makes it 0.

    Args:
        gram: G = J Jᵀ, (T,T), float64.
        targets: φ̂_ij, (T,T), float64, in [−1,1]; 0 at first.
        orders: the turns; row i holds the other tasks than i, (T,T−1), int64, in random order.
        beta: β of the moving average, in [0,1].

    Source: Wang et al. 2021, arXiv 2010.05874, eq. 2 and 3, Algorithm 1.
    """
    rows = Rows.of(gram)
    task = torch.arange(len(gram))
    parts, targets = torch.eye(len(gram)).to(gram), targets.clone()
    for other in orders.unbind(1):
        products = parts @ rows.cosines
        squared = (products * parts).sum(1)
        has_angle = (squared > rounding(rows) * parts.abs().sum(1) ** 2) & rows.seen[other]
        norm = torch.where(has_angle, squared, 1).sqrt()
        cosine = (products[task, other] / norm).clamp(-1, 1)
        target = targets[task, other]
        sine, target_sine = (1 - cosine**2).sqrt(), (1 - target**2).clamp(min=0).sqrt()
        added = norm * (target * sine / target_sine - cosine)
        is_below = has_angle & (cosine < target) & (target_sine > 0)
        parts[task, other] += torch.where(is_below, added, 0)
        targets[task, other] = torch.where(has_angle, torch.lerp(target, cosine, beta), target)
    return Vaccination(rows.norms @ parts * rows.inverses, targets)
