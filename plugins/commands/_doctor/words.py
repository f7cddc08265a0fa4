"""Many parameter names as few module names, and numbers to write into a recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from .sources import short

MOST_NAMED = 5


class Group(NamedTuple):
    """Parameters that belong together.

    Args:
        name: of a module all of whose parameters these are, or of one parameter.
        tensors: how many there are.
    """

    name: str
    tensors: int


def grouped(names: Collection[str], layout: Mapping[str, frozenset[str]]) -> list[Group]:
    """Return the largest modules that consist of these parameters, then those left over.

    Args:
        names: of parameters.
        layout: names of the modules, outer ones first, with those of all their parameters.
    """
    left, found = set(names), list[Group]()
    for module, inside in layout.items():
        if module and inside and inside <= left:
            found.append(Group(module, len(inside)))
            left -= inside
    return found + [Group(name, 1) for name in names if name in left]


def in_words(groups: Sequence[Group]) -> str:
    """Return the groups as a list in one line.

    Args:
        groups: one at least.
    """
    return listed(
        [f"{short(name)} ({count} tensors)" if count > 1 else short(name) for name, count in groups]
    )


def listed(texts: Sequence[str]) -> str:
    """Return the first texts of a list in one line, and how many there are more.

    Args:
        texts: one at least.
    """
    more = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def rounded(value: float) -> str:
    """Return a number with one digit that counts, as one writes it into a recipe: 0.002, 300.

    Args:
        value: any.
    """
    return f"{float(f'{value:.1g}'):g}"
