"""The loaders of a run: one for each split, and this rank's share of the batches."""

from __future__ import annotations

from collections import Counter

import torch

from mtlkit.data import Loader, build_loader
from mtlkit.order import BatchOrder, Deal
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe


class Loaders:
    """Loaders by split, built when first asked for.

    Args:
        recipe: the run.
        device: where batches will go.
        ranks: that share the batches out.
    """

    def __init__(self, recipe: Recipe, device: torch.device, ranks: Ranks) -> None:
        self.recipe, self.device, self.ranks = recipe, device, ranks
        self.skipped = Counter[str]()  # samples since they were last taken, by reason
        self._built: dict[str, tuple[Loader, BatchOrder]] = {}

    def __call__(self, split: str) -> tuple[Loader, BatchOrder]:
        """Return the loader of a split and its order.

        Args:
            split: "train", dealt out in steps, or "val", every batch of which is one rank's.
        """
        if split not in self._built:
            accumulate = self.recipe.train.accumulate if split == "train" else None
            deal = Deal(self.ranks, accumulate)
            self._built[split] = build_loader(self.recipe, split, self.device, deal=deal)
        return self._built[split]

    def for_evaluation(self, split: str) -> tuple[Loader, BatchOrder]:
        """Return a loader of a split, every batch of which is one rank's, and its order.

        Args:
            split: "train" gives a new loader, for an epoch may be under way on the other one.
        """
        loader, order = self(split)
        if split != "train":
            return loader, order
        deal = Deal(self.ranks)
        return build_loader(self.recipe, split, self.device, loader.samples, deal)

    def count_skipped(self, *others: Loader) -> None:
        """Count what was skipped since the last time.

        Args:
            others: loaders beside these.
        """
        for loader in {*others, *(loader for loader, _ in self._built.values())}:
            self.skipped += loader.take_skipped()

    def take_skipped(self) -> dict[str, int]:
        """Return how often samples were skipped since the last time, by reason, on all ranks.

        The first rank counts for all; the others return nothing.
        """
        self.join_skipped()
        found = dict(self.skipped)
        self.skipped.clear()
        return found

    def join_skipped(self) -> None:
        """Let the first rank count what all of them skipped."""
        self.count_skipped()
        every = self.ranks.gathered(dict(self.skipped))
        self.skipped = Counter()
        for found in every if self.ranks.is_first else ():
            self.skipped.update(found)
