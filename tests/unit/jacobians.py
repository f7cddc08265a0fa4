"""Jacobians, easy and degenerate, for tests of the solvers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mtlkit.solvers import min_norm

CANCELS = 1e-5  # a mix of unit rows shorter than this is 0 but for rounding; none is near it


def in_turn(count: int) -> Tensor:
    """Return for every task the others, from the next one on: (T,T−1)."""
    return (torch.arange(count)[:, None] + torch.arange(1, count)) % count


def normal(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def zoo() -> Iterator[tuple[str, Tensor]]:
    """Yield Jacobians, (T,D), float64, with their names."""
    for count in range(1, 11):
        rows = normal(count, 16, count)
        decades = 10 ** (8 * torch.rand(count, 1, generator=torch.Generator().manual_seed(1)) - 4)
        yield f"random_{count}", rows
        yield f"lopsided_{count}", rows - 0.5
        yield f"eight_decades_{count}", rows * decades.double()
    for count in (3, 6, 10):
        rows, few = normal(count, 16, 50 + count), normal(count, count - 1, count)
        repulsive = torch.eye(count).double() - (1 - 1e-3) / count
        yield f"in_a_plane_{count}", normal(count, 2, count)
        yield f"dependent_{count}", few
        yield f"dependent_of_many_sizes_{count}", few * 10 ** torch.linspace(-4, 4, count)[:, None]
        yield f"repulsive_{count}", repulsive
        for name, second in {
            "zero": 0 * rows[0],
            "duplicate": rows[0],
            "parallel": 3.7 * rows[0],
            "opposed": -3.7 * rows[0],
            "nearly_parallel": rows[0] + 1e-3 * rows[2],
            "nearly_opposed": 1e-3 * rows[2] - rows[0],
            "thinly_cancelling": -1e-3 * rows[2] - rows[0],
        }.items():
            yield f"{name}_{count}", torch.cat([rows[:1], second[None], rows[2:]])
    line = torch.tensor([[1.0, 2, -2]], dtype=torch.float64)
    yield "opposed_pair", torch.cat([line, -3 * line])
    yield "cancelling_pair", torch.cat([line, -line])
    yield "all_parallel", torch.cat([line, 3 * line, 0.1 * line])
    yield "opposed_giants", torch.tensor([[1e4, 2e4, 0], [-1e4, -2e4, 0], [0, 0, 1e-4]]).double()


ZOO = dict(zoo())


def units(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Return norms, (T,), and rows of norm 1, 0 for rows of 0."""
    norms = jacobian.norm(dim=1)
    return norms, torch.where(norms[:, None] > 0, jacobian / norms[:, None], 0)


def cancelling(jacobian: Tensor) -> bool:
    """Return whether a mix of the rows other than 0 cancels."""
    _, unit = units(jacobian)
    return bool((unit.T @ min_norm(unit @ unit.T)).norm() < CANCELS)
