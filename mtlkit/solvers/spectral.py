"""Weights from the inverse or the spectrum of the Gram matrix: IMTL-G and Aligned-MTL."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.solvers.scaling import Rows, rounding


def impartial(gram: Tensor) -> Tensor:
    """Return α, (T,), Σα = 1, for d = Jᵀα with equal projections on the unit rows: IMTL-G.

    α = v/Σv, v = C⁺1/n, in closed form; it may be negative. Independent rows, duplicates and
    parallel ones get equal projections. For other dependent rows only d = 0 may have them; then
    they are equal in the sense of least squares. Where no direction is fair to any row (all
    opposed), or the fair one is parallel to Σα = 1, the weights are 0.

    Args:
        gram: G = J Jᵀ, (T,T), float64.

    Source: Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR, §3.1, there by an inverse
    of differences, which dependent rows do not have; v = G⁺n is the same if G is invertible.
    """
    rows = Rows.of(gram)
    inverse = torch.linalg.pinv(rows.cosines, rtol=rounding(rows), hermitian=True)
    lengths = inverse.sum(1) * rows.seen
    weights = lengths * rows.inverses
    is_lost = lengths.sum() <= rounding(rows)  # Σx = xᵀCx, ≥ 1/T where 1 has a part in C's range
    is_parallel = weights.sum().abs() <= rounding(rows) * weights.abs().sum()
    return torch.zeros_like(weights) if is_lost or is_parallel else weights / weights.sum()


def aligned(gram: Tensor, preference: Tensor) -> Tensor:
    """Return α = Bw, (T,), with B = √λ_min·VΛ^(−½)Vᵀ for G = VΛVᵀ: Aligned-MTL.

    So all singular values of BJ equal the least of J, or are 0, to ε·λ_max/λ_min. Eigenvalues up to
    λ_max·T·1e-13 count as 0: rows, too, that are shorter than 3e-7·√T of the longest. G = 0 gives
    zeros; T = 1 gives w.

    Args:
        gram: G = J Jᵀ, (T,T), float64.
        preference: w, (T,), float64, 1/T each for the mean.

    Source: Senushkin et al. 2023, arXiv 2305.19000, Algorithm 1; the released code counts
    eigenvalues up to λ_max·T·1.2e-7 as 0.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values > values[-1] * rounding(Rows.of(gram))
    if not kept.any():
        return torch.zeros_like(preference)
    values, vectors = values[kept], vectors[:, kept]
    balance: Tensor = vectors * (values[0] / values).sqrt() @ vectors.T
    return balance @ preference
