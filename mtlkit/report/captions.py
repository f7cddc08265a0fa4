"""Labels and predictions of a whole image in words: they have no pixels to draw."""

from __future__ import annotations

from torch import Tensor

from mtlkit.report.sheet import NO_LABEL, Item, words
from mtlkit.structures import FieldSpec, Label


def captions(values: Tensor, spec: FieldSpec) -> list[str]:
    """Return what each value says: the name of its class, or its numbers with their unit.

    Args:
        values: of K images: ids, (K,), int64, or numbers, (K,) or (K,C), float.
        spec: of the label.
    """
    rows = values.reshape(len(values), -1).tolist()
    if values.is_floating_point():
        return [" ".join([*(f"{x:.3g}" for x in row), spec.unit]).rstrip() for row in rows]
    names = spec.classes
    return [names[i] if i < len(names) else str(i) for (i,) in rows]


def label_captions(label: Label, spec: FieldSpec) -> list[str]:
    """Return the same of a label, and that there is none where it does not count.

    Args:
        label: of K images, (K,) or (K,C).
        spec: of the label.
    """
    texts = zip(captions(label.value, spec), label.valid.tolist(), strict=True)
    return [text if is_valid else NO_LABEL.text for text, is_valid in texts]


def caption_legend(spec: FieldSpec) -> list[Item]:
    """Return the words that say what classes there are; nothing where there are none.

    Args:
        spec: of the label.
    """
    return words(f"one of {', '.join(spec.classes)}") if spec.classes else []
