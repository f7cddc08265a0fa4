"""Norms and cosines of the rows behind a Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-13
"""Error per task that is taken for rounding in a cosine: 450 ε, as G sums over 10⁷ parameters."""


@dataclass(frozen=True)
class Rows:
    """The rows of J, by length and angle.

    Args:
        norms: n_i = ‖g_i‖, (T,), ≥ 0.
        inverses: 1/n_i, 0 for a row of norm 0, (T,).
        cosines: C, C_ij = g_i·g_j/(n_i n_j), (T,T); 1 on the diagonal, 0 in the row and the column
            of a row of norm 0.
    """

    norms: Tensor
    inverses: Tensor
    cosines: Tensor

    @property
    def seen(self) -> Tensor:
        """Rows that take part, (T,), boolean."""
        return self.norms > 0

    @classmethod
    def of(cls, gram: Tensor) -> Rows:
        """Return the rows behind a Gram matrix.

        Args:
            gram: G, (T,T), float64, symmetric.
        """
        norms = gram.diagonal().sqrt()
        inverses = torch.where(norms > 0, 1 / norms, 0)
        cosines = (gram * inverses * inverses[:, None]).clamp(-1, 1)
        return cls(norms, inverses, cosines.fill_diagonal_(0) + (norms > 0).double().diag())


def rounding(rows: Rows) -> float:
    """Return the relative error of a sum over the rows, ≥ 0.

    Args:
        rows: T of them.
    """
    return ROUNDING * len(rows.norms)


def cancels(rows: Rows, lengths: Tensor) -> bool:
    """Return whether Σ_i lengths_i·g_i/n_i is 0 but for rounding.

    Args:
        rows: T of them.
        lengths: of the terms, (T,), ≥ 0.
    """
    squared = lengths @ rows.cosines @ lengths
    return bool(squared <= rounding(rows) * lengths.sum() ** 2)
