"""Some edges a step: which ones, and what their losses are multiplied by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mtlkit.contracts import Edge
from mtlkit.recipe import Recipe
from mtlkit.structures import EdgeKey

Draw = Mapping[EdgeKey, float] | None
"""What the losses of a step's edges are multiplied by; None: all edges run, by 1."""


class EdgeSampler:
    """Draws a fixed number of edges for each step, so that the expected loss is that of all.

    Edge e is drawn with probability p_e, which is in proportion to its weight and at most 1, and
    its loss is multiplied by 1 / p_e. A draw comes from (seed, step) alone: it is the same on all
    ranks, after a resume, and for all batches of a step.

    Args:
        edges: expanded; one of weight 0 is never drawn.
        per_step: edges to draw; all, where there are no more.
        seed: of the run.

    Source: systematic sampling with unequal probabilities, W. G. Madow, Annals of Mathematical
    Statistics 20 (1949), on a random order of the edges.
    """

    def __init__(self, edges: Sequence[Edge], per_step: int, seed: int) -> None:
        self.keys = [edge.key for edge in edges if edge.weight > 0]
        self.seed = seed
        weights = np.array([edge.weight for edge in edges if edge.weight > 0])
        self.probabilities = inclusion_probabilities(weights, per_step)

    def draw(self, step: int) -> dict[EdgeKey, float]:
        """Return the factor of each edge that is drawn.

        Args:
            step: number of the step.
        """
        generator = np.random.default_rng([self.seed, step])
        order = generator.permutation(len(self.keys))
        start = generator.uniform()
        ends = start + np.concatenate([[0.0], np.cumsum(self.probabilities[order])])
        whole = np.floor(ends + 1e-9)  # or the last end, a sum, may lie just below its number
        # an edge is drawn where a whole number lies in its part of the line
        hit = {int(i) for i, (a, b) in zip(order, itertools.pairwise(whole), strict=True) if b > a}
        factors = 1 / self.probabilities
        return {key: float(factors[i]) for i, key in enumerate(self.keys) if i in hit}


def build_sampler(recipe: Recipe) -> EdgeSampler | None:
    """Return what draws the edges of each step; None where all run.

    Args:
        recipe: the run.
    """
    count = recipe.train.edges_per_step
    return None if count is None else EdgeSampler(recipe.all_edges, count, recipe.seed)


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """Return probabilities in proportion to weights, at most 1 each, that sum to the count.

    Args:
        weights: (E,), above 0.
        count: how many are drawn; at most E counts.
    """
    found = np.zeros(len(weights))
    is_free = np.ones(len(weights), dtype=bool)
    left = min(count, len(weights))
    while is_free.any():
        share = left * weights[is_free] / weights[is_free].sum()
        if (share < 1).all():
            found[is_free] = share
            break
        sure = np.flatnonzero(is_free)[share >= 1]
        found[sure], is_free[sure] = 1.0, False
        left -= len(sure)
    return found
