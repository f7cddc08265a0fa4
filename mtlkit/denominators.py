"""Denominators of losses over a whole step: all its batches, on all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mtlkit.objective import Objective
from mtlkit.ranks import Ranks
from mtlkit.structures import Batch, Counts, mean_counts


def with_counts(
    objective: Objective, batches: Sequence[Batch], ranks: Ranks, weights: Sequence[float] = ()
) -> Sequence[Batch]:
    """Return the batches with the denominators of the whole step.

    Args:
        objective: tells what each task reads.
        batches: of the step and of this rank; on the CPU, so that nothing waits for the device.
        ranks: that take the step together.
        weights: of the batches; none: 1 each.
    """
    parts = [objective.counts(batch) for batch in batches]
    for part, weight in zip(parts, weights, strict=False):
        part |= {name: Counts(*(weight * x for x in c)) for name, c in part.items()}
    counts = _over_ranks(mean_counts([*parts]), ranks)
    labelled = frozenset(name for name, c in counts.items() if bool(c.valid > 0))
    return [replace(batch, counts=counts, labelled=labelled) for batch in batches]


def _over_ranks(counts: dict[str, Counts], ranks: Ranks) -> dict[str, Counts]:
    """Return the means over the ranks, in one message."""
    if ranks.count == 1 or not counts:
        return counts
    mean = ranks.mean_(torch.stack([x for c in counts.values() for x in c])).view(len(counts), -1)
    return {name: Counts(*row.unbind()) for name, row in zip(counts, mean, strict=True)}
