"""Several data sets as one: what they offer together, and what keeps them from being one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mtlkit.contracts import Dataset
from mtlkit.errors import suggest
from mtlkit.sections import LabelsPerImage
from mtlkit.structures import FieldSpec

Place = tuple[int, str]
"""Number of the data set and key of its section."""


def offers_of(sets: Sequence[Dataset]) -> dict[str, FieldSpec]:
    """Return every label and extra by its name in the recipe; of equal names, the first set's.

    Args:
        sets: in the recipe's order.
    """
    found: dict[str, FieldSpec] = {}
    for part in sets:
        for name, own in part.gives.items():
            found.setdefault(name, part.offers[own])
    return found


def problems_of(sets: Sequence[Dataset], wants: frozenset[str]) -> Iterator[tuple[Place, str]]:
    """Yield where and why data sets cannot be read together, or one not at all.

    Args:
        sets: in the recipe's order.
        wants: names of the labels and extras that tasks read.
    """
    for i, part in enumerate(sets):
        found = list(_own_problems(part)) or list(_beside(part, sets[:i], wants))
        yield from (((i, key), message) for key, message in found)
    given = [part.ratio is not None for part in sets]
    if any(given) and not (all(given) and len(sets) > 1):
        i = given.index(True)
        yield (i, "ratio"), "is about several data sets. Give every one a ratio, or none"


def _own_problems(part: Dataset) -> Iterator[tuple[str, str]]:
    labels = [name for name, spec in part.offers.items() if spec.is_label]
    for name in part.labels or ():
        if name not in labels:
            yield "labels", f"no label is called {name!r}; {suggest(name, labels)}"
    for name in part.rename:
        if name not in labels:
            yield "rename", f"no label is called {name!r}; {suggest(name, labels)}"
    names = [name for _, name in part.named]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield "rename", f"two labels would be called {name!r}. Rename one, or leave it out (labels)"
    if "image" in names:
        yield "rename", "image is the name of the image itself. Give the label another"
    choice = part.labels_per_image
    if choice is not None and choice.mode == "random_one" and choice.share != 1:
        yield "labels_per_image", "share is about random_share. Remove it, or change the mode"
    if choice is not None:
        here = [name for name, own in part.gives.items() if own in labels]
        for name in _named(choice):
            if name not in here:
                message = f"no label is called {name!r}; {suggest(name, here)}"
                yield "labels_per_image", message


def _named(choice: LabelsPerImage) -> list[str]:
    """Return the labels that a choice names."""
    shares = choice.share if isinstance(choice.share, Mapping) else ()
    return [*(choice.among or ()), *shares]


def _beside(
    part: Dataset, before: Sequence[Dataset], wants: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Yield what does not fit the data sets before it."""
    if not before:
        return
    if part.title in [other.title for other in before]:
        yield "name", f"{part.title!r} is taken. Give this data set another name"
    if part.size != before[0].size:
        height, width = before[0].size
        yield "size", f"differs from that of {before[0].title!r}. Write [{height}, {width}]"
    others = offers_of(before)
    for name, own in part.gives.items():
        if name not in wants or others.get(name, part.offers[own]) == part.offers[own]:
            continue
        if part.offers[own].is_label:
            message = f"its label {name!r} differs from that of the data sets before it "
            message += "(kind, channels, classes or unit). Rename it here, or leave it out (labels)"
            yield "rename", message
        else:
            yield "type", f"its extra {name!r} has another form than that of the data sets before"
