"""The training that is probed: warm-up, then probes with a few steps between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from mtlkit.check import check_batches
from mtlkit.engine import Run
from mtlkit.structures import Batch

from .._steps import groups, prolong
from .chart import Chart
from .lookahead import Lookahead
from .subject import Wish

LEAST_WARM_UP = 100  # steps, so that transfer networks predict something


class Study:
    """Trains a run and probes it.

    Args:
        run: at its beginning, or with the state of a checkpoint.
        wish: how much of what; `warm_up` None: an epoch, and at least `LEAST_WARM_UP` steps.

    Raises:
        RecipeError: the training split gives no batch.
    """

    def __init__(self, run: Run, wish: Wish) -> None:
        check_batches(run.recipe, run.loader("train")[1])
        self.run, self.wish = run, wish
        asked = wish.warm_up
        self.steps = max(run.steps_per_epoch, LEAST_WARM_UP) if asked is None else asked
        validation = _validation(run, wish.val_batches)
        self.chart = Chart(run.recipe, self.steps, wish.between)
        self.chart.images = sum(len(batch.image) for batch in validation)
        prolong(run, self.steps + wish.probes * (wish.between + 1))
        self.lookahead = Lookahead(run, validation)
        self.groups = groups(run)

    def warm_up(self) -> Iterator[None]:
        """Take the steps before the first probe, yielding after each.

        Raises:
            DivergedError: a loss or a weight is no number.
        """
        yield from self._train(self.steps)

    @property
    def tries(self) -> int:
        """How many steps are tried in all probes."""
        return self.wish.probes * (len(self.chart.edges) + 1)

    def probes(self) -> Iterator[None]:
        """Probe, yielding after each step that was tried.

        Raises:
            DivergedError: a loss or a gradient is no number.
            MissingError: there is no label to measure a loss with.
        """
        for number in range(self.wish.probes):
            if number:
                for _ in self._train(self.wish.between):
                    pass
            yield from self.lookahead.probe(next(self.groups), self.chart)

    def _train(self, steps: int) -> Iterator[None]:
        for _ in range(steps):
            self.run.step(*next(self.groups))
            yield
        self.run.learner.check_finite(self.run.position.step)


def _validation(run: Run, count: int) -> list[Batch]:
    """Return the first validation batches, without a single sample that the split may end with."""
    batches = list(itertools.islice(run.loader("val")[0], count))
    several = [batch for batch in batches if len(batch.image) > 1]
    return several or batches  # batch norms go by each batch
