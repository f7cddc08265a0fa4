"""Which scenes a split holds."""

from __future__ import annotations

MOST_SCENES = 1_000_000


def scene_seeds(seed: int, split: str, count: int) -> range:
    """Return the seeds of a split's scenes, in order.

    Train scenes have even seeds and validation scenes odd ones, so no scene is in both, whatever
    the counts; more scenes only add to those there were. Sets of different seeds share none.

    Args:
        seed: of the data set, at least 0.
        split: "train" or "val".
        count: 1 to `MOST_SCENES`.
    """
    first = 2 * MOST_SCENES * seed + ("train", "val").index(split)
    return range(first, first + 2 * count, 2)
