"""Predictions and labels to try a task with."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.contracts import Task
from mtlkit.structures import Counts, Label

SIZE = (33, 47)
"""Height and width of maps; divides by nothing."""


def named(task: Task) -> Task:
    """Return the task under the name that a recipe would give it.

    Args:
        task: without a name, perhaps.
    """
    return task if task.name else task.model_copy(update={"name": task.type_name()})


def prediction_of(
    task: Task, seed: int = 0, images: int = 2, size: tuple[int, int] = SIZE
) -> Tensor:
    """Return a prediction, (N,C,H,W), or (N,C): sure logits of both signs, or positive values.

    Args:
        task: gives channels and likelihood.
        seed: equal seeds give equal predictions.
        images: N.
        size: (H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (images, task.channels) if task.vector else (images, task.channels, *size)
    share = torch.rand(shape, generator=generator)
    return share * 20 - 10 if task.likelihood == "categorical" else share * 2 + 0.1


def label_of(task: Task, seed: int = 1, images: int = 2, size: tuple[int, int] = SIZE) -> Label:
    """Return a label, `as_label` of a prediction, with another share of valid pixels in each image.

    Args:
        task: makes it.
        seed: equal seeds give equal labels.
        images: N.
        size: (H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    value = task.as_label(prediction_of(task, seed, images, size))
    if task.vector:
        return Label(value, torch.arange(images) % 2 == 0)
    share = torch.linspace(0.2, 0.9, images).view(-1, 1, 1, 1)
    return Label(value, torch.rand(images, 1, *size, generator=generator) < share)


def rows_of(label: Label, rows: slice, counts: Counts | None = None) -> Label:
    """Return the label of some images.

    Args:
        label: any.
        rows: the images.
        counts: the denominators of the whole step; None: of these images alone.
    """
    return Label(label.value[rows], label.valid[rows], counts)


def spoilt(task: Task, prediction: Tensor, label: Label, value: float) -> Tensor:
    """Return the prediction with a value wherever the label is not valid.

    Args:
        task: of both.
        prediction: (N,C,H,W), or (N,C).
        label: says where.
        value: to put there.
    """
    mask = label.valid[:, None] if task.vector else label.valid
    return torch.where(mask, prediction, torch.full_like(prediction, value))


def on_meta(label: Label) -> Label:
    """Return a label without values.

    Args:
        label: any.
    """
    return Label(label.value.to("meta"), label.valid.to("meta"))
