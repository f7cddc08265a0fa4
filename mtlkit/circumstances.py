"""What of the machine a run's last bits depend on: ranks and threads, kept in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mtlkit.device import set_threads, usable_cores
from mtlkit.ranks import Ranks

NAMES = ("threads", "ranks")
"""Under which a checkpoint keeps them, beside the position."""


@dataclass(frozen=True)
class Circumstances:
    """Ranks and threads in force.

    Args:
        ranks: the processes.
        threads: CPU threads of each.
        notes: how they differ from those of the checkpoint, a line each.
    """

    ranks: Ranks
    threads: int
    notes: list[str] = field(default_factory=list)

    def state(self) -> dict[str, int]:
        """Return what a checkpoint keeps."""
        return {"threads": self.threads, "ranks": self.ranks.count}


def settle(wanted: int | None, saved: Mapping[str, int]) -> Circumstances:
    """Set the CPU threads, and return them with the ranks.

    A resumed run has the threads of its checkpoint. With other ranks it is another run in its last
    bits anyway, and its threads are those of a new one: with several ranks on a machine, each has
    its share of the cores.

    Args:
        wanted: threads of the recipe; None: none are named.
        saved: position of the checkpoint; empty for a new run.
    """
    ranks = Ranks.here()
    before = saved.get("ranks", 1)
    is_alike = ranks.count == before
    own = None if ranks.count == 1 else usable_cores()
    threads = set_threads(wanted or (saved.get("threads") if is_alike else None) or own)
    notes = []
    if saved and not is_alike:
        times = f"a step has {ranks.count / before:g} times the batches that it had"
        what = f"{ranks.count} ranks, {before} before: {times}"
        notes.append(f"{what}; random draws and last bits differ")
    if threads != saved.get("threads", threads):
        notes.append(f"{threads} CPU threads, {saved['threads']} before: last bits differ")
    return Circumstances(ranks, threads, notes)
