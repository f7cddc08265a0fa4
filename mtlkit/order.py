"""Which samples make which batch: a function of seed and epoch, so that no worker holds a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from mtlkit.device import seeded_draws

Key = tuple[int, int, int]
"""(epoch, number in the split, how often the sample came before in the epoch).

The samples of several data sets are numbered on.
"""


class BatchOrder(Sampler[list[Key]]):
    """Which samples make which batch; a function of (seed, epoch).

    Several data sets are mixed evenly, so that every batch has its share of each. With ratios an
    epoch has as many samples as there are in all, and a data set that has too few comes again.

    Args:
        counts: samples of each data set.
        batch_size: samples of a batch.
        seed: shuffles; None keeps the order, and ratios have no say.
        drop_last: leave out an incomplete last batch.
        ratios: of each data set's samples; none: every sample once.
    """

    def __init__(
        self,
        counts: Sequence[int],
        batch_size: int,
        seed: int | None,
        drop_last: bool,
        ratios: Sequence[float] = (),
    ) -> None:
        self.counts, self.count = tuple(counts), sum(counts)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.shares = _shares(self.counts, ratios) if ratios else self.counts
        self.epoch, self.start = 0, 0

    def begin_at(self, epoch: int, start: int) -> None:
        """Choose what the next iteration gives.

        Args:
            epoch: 1 for the first.
            start: batches of the epoch to leave out at its beginning.
        """
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        full, rest = divmod(self.count, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        order = list(range(self.count))
        if self.seed is not None:
            with seeded_draws(self.seed, self.epoch):
                order = self._mixed()
        keys = self._keys(order)
        for i in range(self.start, self.batches):
            yield keys[i * self.batch_size : (i + 1) * self.batch_size]

    def _keys(self, order: Sequence[int]) -> list[Key]:
        turns = Counter[int]()
        keys: list[Key] = []
        for index in order:
            keys.append((self.epoch, index, turns[index]))
            turns[index] += 1
        return keys

    def _mixed(self) -> list[int]:
        """Return the numbers of an epoch's samples; draws from torch's generator."""
        placed: list[tuple[float, int, int]] = []
        start = 0
        for part, (count, share) in enumerate(zip(self.counts, self.shares, strict=True)):
            rounds = -(-share // count) if count else 0  # a ratio may ask for more than there are
            drawn = [start + i for _ in range(rounds) for i in torch.randperm(count).tolist()]
            placed += [((i + 0.5) / share, part, n) for i, n in enumerate(drawn[:share])]
            start += count
        return [number for *_, number in sorted(placed, key=lambda place: place[:2])]


def _shares(counts: Sequence[int], ratios: Sequence[float]) -> tuple[int, ...]:
    """Return how many samples of each set make an epoch, by largest remainders."""
    total, weight = sum(counts), sum(ratios)
    exact = [
        total * ratio / weight if count else 0.0
        for count, ratio in zip(counts, ratios, strict=True)
    ]
    shares = [int(x) for x in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for i in by_rest[: total - sum(shares)]:
        shares[i] += 1
    return tuple(shares)
