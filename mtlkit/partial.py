"""Labels hidden from training, for studies of partial labels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlkit.sections import LabelsPerImage


def hidden_labels(choice: LabelsPerImage, labels: Sequence[str], count: int) -> dict[str, Tensor]:
    """Return for each label which images are to seem to lack it, (count,) bool.

    Args:
        choice: how labels are chosen.
        labels: that are read, sorted; what is chosen among unless `choice.among` says otherwise.
        count: of images.
    """
    among = sorted(choice.among) if choice.among is not None else labels
    if choice.mode == "random_one":
        turn = _shuffled(count, choice.seed, "") % max(1, len(among))
        kept = {name: turn == i for i, name in enumerate(among)}
    else:
        kept = {name: _share_of(choice, name, count) for name in among}
    return {name: ~is_kept for name, is_kept in kept.items()}


def _share_of(choice: LabelsPerImage, name: str, count: int) -> Tensor:
    if isinstance(choice.share, Mapping):
        share = choice.share.get(name, 1.0)
    else:
        share = choice.share
    return _shuffled(count, choice.seed, name) < round(share * count)


def _shuffled(count: int, seed: int, name: str) -> Tensor:
    """Return 0 to count − 1 in an order that depends on seed and name alone."""
    generator = torch.Generator().manual_seed((seed ^ zlib.crc32(name.encode())) % 2**63)
    return torch.randperm(count, generator=generator)
