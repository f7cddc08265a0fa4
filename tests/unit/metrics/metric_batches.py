"""Batches that the tests of metrics share."""

from __future__ import annotations

import torch

from mtlkit.structures import Label

CLASSES = 5


def class_batch(seed, images=3, void=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, CLASSES, 6, 7, generator=generator)
    value = torch.randint(CLASSES, (images, 6, 7), generator=generator)
    valid = torch.rand(images, 1, 6, 7, generator=generator) >= void
    return logits, Label(value.masked_fill(~valid[:, 0], 0), valid)


def logits_of(ids):
    return torch.nn.functional.one_hot(torch.tensor(ids), CLASSES).movedim(-1, 1).float()


def class_label(ids):
    value = torch.tensor(ids)
    return Label(value.clamp(min=0), (value >= 0)[:, None])


def measured(metric, *batches):
    for prediction, label in batches:
        metric.update(prediction, label)
    return float(metric.compute())


def distance_label(value, valid=None):
    value = torch.tensor(value).view(1, 1, 1, -1)
    mask = torch.ones_like(value, dtype=torch.bool)
    return Label(value, mask if valid is None else torch.tensor(valid).view_as(value))


def distances(*values):
    return torch.tensor(values).view(1, 1, 1, -1)
