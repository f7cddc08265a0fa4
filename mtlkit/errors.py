"""Every error that mtlkit raises on purpose, each with the exit code of the command line.

MtlkitError
├── UsageError (2)          a wrong recipe, option or argument
│   └── RecipeError (2)     all faults of a recipe at once
├── PluginError (3)         a plugin that is missing, broken or in conflict
├── MissingError (4)        data, a file or a device that is not there or not readable
│   ├── CheckpointError (4) a checkpoint that is damaged or not to be trusted
│   └── CacheError (4)      decoded samples that cannot be kept
├── DivergedError (5)       a loss that is no number any more
└── InterruptedRun (130)    stopped by the user after saving
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar


class MtlkitError(Exception):
    """Base of all errors that a user can act on; its text is the whole message."""

    exit_code: ClassVar[int] = 1


class UsageError(MtlkitError):
    """A recipe, option or argument that cannot work."""

    exit_code = 2


class PluginError(MtlkitError):
    """A plugin that is missing, broken, or in conflict with another."""

    exit_code = 3


class MissingError(MtlkitError):
    """Data, a file or a device that is not there or cannot be read."""

    exit_code = 4


class CheckpointError(MissingError):
    """A checkpoint that is damaged, holds code, or lacks a part."""


class CacheError(MissingError):
    """Decoded samples that cannot be kept; the samples themselves may be good."""


class DivergedError(MtlkitError):
    """A loss that became infinite or not a number."""

    exit_code = 5


class InterruptedRun(MtlkitError):
    """A run that was stopped by a signal after it saved its state."""

    exit_code = 130


@dataclass(frozen=True)
class Fault:
    """One mistake in a recipe: where it is and what to do about it."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        key = self.key if self.key.isprintable() else repr(self.key)
        return ": ".join(part for part in (self.where, key, self.message) if part)


class RecipeError(UsageError):
    """All faults of one recipe, in the order of its lines."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, faults)))


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? known: …" for a misspelt name, nearest names first.

    Args:
        wrong: what was written.
        known: every name that would have been right.
    """
    names = sorted(known)
    if not names:
        return "none is known"
    return f"{nearest(wrong, names)}known: {', '.join(names)}"


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? " if a name is near, else nothing.

    Args:
        wrong: what was written.
        known: every name that would have been right.
    """
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
