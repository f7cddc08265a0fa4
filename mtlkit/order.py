"""Which samples make which batch: a function of seed and epoch, so that no worker holds a state.

Batches are the same however many ranks there are: ranks share them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.data import Sampler

from mtlkit.device import seeded_draws
from mtlkit.ranks import Ranks

Key = tuple[int, int, int]
"""(epoch, number in the split, how often the sample came before in the epoch).

The samples of several data sets are numbered on.
"""


Weights = Sequence[float]
"""What the losses of a rank's batches are multiplied by; see `Group`."""


@dataclass(frozen=True)
class Group:
    """The batches of a step, dealt out to ranks like cards.

    Where the last group of an epoch is too small, some ranks lack a last batch. Such a rank takes
    the group's last one, too, so that all ranks take the same passes, and its losses count 0 there.

    Args:
        batches: of all ranks.
        mine: numbers of those that this rank loads; as many on every rank.
        weights: what the losses of each of mine are multiplied by, so that their mean over mine
            and over ranks is the mean over all batches; 0: another rank counts it; none: 1 each.
    """

    batches: int
    mine: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Deal:
    """How ranks share the batches of an epoch out.

    Args:
        ranks: that take part.
        accumulate: batches of a step on each rank; None: there are no steps, and every batch is
            one rank's, so that some ranks may have one more than others.
    """

    ranks: Ranks = field(default_factory=Ranks)
    accumulate: int | None = None

    def groups(self, start: int, batches: int) -> Iterator[Group]:
        """Yield the groups of the steps that are left of an epoch.

        Args:
            start: batches that are done, of all ranks.
            batches: of the whole epoch.
        """
        count, rank = self.ranks.count, self.ranks.rank
        size = count * (self.accumulate or 1)
        for first in range(start, batches, size):
            here = min(size, batches - first)
            rounds = -(-here // count)
            mine = tuple(range(first + rank, first + rank + rounds * count, count))
            weight = rounds * count / here
            weights = tuple(weight if i < first + here else 0.0 for i in mine)
            yield Group(here, tuple(min(i, first + here - 1) for i in mine), weights)

    def mine(self, start: int, batches: int) -> list[int]:
        """Return the numbers of the batches that this rank loads, in order.

        Args:
            start: batches to leave out at the beginning, of all ranks.
            batches: of the whole epoch.
        """
        if self.accumulate is None:
            return list(range(start + self.ranks.rank, batches, self.ranks.count))
        return [i for group in self.groups(start, batches) for i in group.mine]


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
        self.deal = Deal()

    def begin_at(self, epoch: int, start: int) -> None:
        """Choose what the next iteration gives.

        Args:
            epoch: 1 for the first.
            start: batches of the epoch to leave out at its beginning, of all ranks.
        """
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch, of all ranks."""
        full, rest = divmod(self.count, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def groups(self) -> Iterator[Group]:
        """The steps that are left of the epoch."""
        return self.deal.groups(self.start, self.batches)

    def images(self, first: int, batches: int) -> int:
        """Return how many samples some batches have, of all ranks.

        Args:
            first: number of the first batch.
            batches: how many there are.
        """
        return min(self.count, (first + batches) * self.batch_size) - first * self.batch_size

    def __len__(self) -> int:
        return len(self.deal.mine(self.start, self.batches))

    def __iter__(self) -> Iterator[list[Key]]:
        order = list(range(self.count))
        if self.seed is not None:
            with seeded_draws(self.seed, self.epoch):
                order = self._mixed()
        keys = self._keys(order)
        for i in self.deal.mine(self.start, self.batches):
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
