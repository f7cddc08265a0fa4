"""Random generators of all ranks: each draws apart from the others, and goes on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtlkit.device import restore_rng, rng_state, seed_everything
from mtlkit.ranks import Ranks

FIRST, OTHERS = "rng", "rng_of_others"
"""Keys of a checkpoint: the generators of the first rank, and a list of those of the others."""


def draw_apart(seed: int, ranks: Ranks) -> None:
    """Seed this rank's generators; those of the first stay as they are.

    Args:
        seed: of the run.
        ranks: tells which this is.
    """
    if not ranks.is_first:
        seed_everything(int(np.random.SeedSequence([seed, ranks.rank]).generate_state(1)[0]))


def generators(ranks: Ranks) -> dict[str, Any]:
    """Return the state of all ranks' generators.

    Args:
        ranks: that all ask for it now.
    """
    first, *others = ranks.gathered(rng_state())
    return {FIRST: first, OTHERS: others}


def restore_generators(state: Mapping[str, Any], ranks: Ranks) -> None:
    """Set this rank's generators; they stay as they are where the checkpoint has none for it.

    Args:
        state: has what `generators` returned.
        ranks: tells which this is.

    Raises:
        CheckpointError: it is no such state.
    """
    every = [state[FIRST], *state.get(OTHERS, ())]
    if ranks.rank < len(every):
        restore_rng(every[ranks.rank])
