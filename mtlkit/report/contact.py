"""The contact sheet of a recipe's data: some samples of each data set beside their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

from mtlkit.collate import Collate
from mtlkit.contracts import Task
from mtlkit.recipe import Recipe
from mtlkit.report.captions import caption_legend, label_captions
from mtlkit.report.colours import drawn
from mtlkit.report.pictures import task_legend
from mtlkit.report.sheet import (
    INVALID,
    MOST_WIDTH,
    NO_LABEL,
    Group,
    Item,
    as_bytes,
    draw_sheet,
    stacked,
    thinned,
    words,
    write_sheet,
)
from mtlkit.samples import Part, Samples
from mtlkit.structures import Batch, FieldSpec, Label
from mtlkit.survey import Look, SplitSurvey
from mtlkit.transforms import EdgeMap
from mtlkit.walk import spread

ROWS = 6  # samples of each data set


def draw_contact_sheet(recipe: Recipe, surveys: Sequence[SplitSurvey], path: Path) -> Path | None:
    """Draw samples that lie evenly over a split of each data set, with every label looked at.

    A label that a task reads is drawn as the task draws it; others by kind. Training samples are
    drawn where there are any; samples that cannot be used are left out.

    Args:
        recipe: gives the tasks.
        surveys: of the splits.
        path: the PNG to write.

    Returns:
        `path`; None where no sample can be used.

    Raises:
        MissingError: the file cannot be written.
    """
    first: dict[str, SplitSurvey] = {}
    for survey in sorted(surveys, key=lambda survey: survey.look.split != "train"):
        first.setdefault(survey.look.dataset.title, survey)
    sheets = [sheet for survey in first.values() for sheet in _sheets(recipe, survey)]
    if not sheets:
        return None
    write_sheet(stacked(sheets), path)
    return path


def _sheets(recipe: Recipe, survey: SplitSurvey) -> Iterator[Image.Image]:
    """Yield the sheet of one split, or nothing where no sample can be used."""
    look = survey.look
    good = [one.index for one in survey.seen if not one.bad]
    samples = Samples([Part(look.title, look.data, look.names)], recipe.seed, "leave_out")
    collate = Collate(look.specs, look.dataset.size, [look.title])
    batch = collate([samples[(0, good[i], 0)] for i in spread(len(good), ROWS)])
    if isinstance(batch, Batch):
        image = Group(look.title, {"image": as_bytes(thinned(batch.image))}, [])
        yield draw_sheet([image, *_groups(recipe, look, batch)], batch.indices)


def _groups(recipe: Recipe, look: Look, batch: Batch) -> Iterator[Group]:
    labels = {name: spec for name, spec in look.specs.items() if spec.is_label}
    left = dict(labels)
    for name, task in recipe.tasks.items():
        if task.reads and set(task.reads) <= labels.keys():
            left.pop(task.reads[0], None)
            yield _of_task(name, task, batch, labels[task.reads[0]])
    for name, spec in left.items():
        yield _by_kind(name, batch, spec)


def _of_task(name: str, task: Task, batch: Batch, spec: FieldSpec) -> Group:
    label, column = task.read(batch), "label of the task"
    if label is None:
        return _nothing(name, column, batch)
    if task.vector:
        return Group(name, {column: label_captions(label, spec)}, caption_legend(spec))
    value, valid = _filled(label, spec)
    pictures = as_bytes(task.render(value))
    return _group(name, column, pictures, valid, task_legend(task, value, spec))


def _by_kind(name: str, batch: Batch, spec: FieldSpec) -> Group:
    label, column = batch.labels.get(name), "no task reads it"
    if label is None:
        return _nothing(name, column, batch)
    if label.valid.ndim == 1:  # of whole images
        return Group(name, {column: label_captions(label, spec)}, caption_legend(spec))
    value, valid = _filled(label, spec)
    pictures, legend = drawn(value, spec)
    return _group(name, column, pictures, valid, legend)


def _group(name: str, column: str, pictures: Tensor, valid: Tensor, legend: list[Item]) -> Group:
    shown = torch.where(valid, pictures, INVALID)
    return Group(name, {column: shown}, legend if valid.all() else [*legend, NO_LABEL])


def _nothing(name: str, column: str, batch: Batch) -> Group:
    """Return the group of a label that none of the samples has."""
    grey = torch.full_like(thinned(batch.image), INVALID, dtype=torch.uint8)
    return Group(name, {column: grey}, [*words("no sample here has it"), NO_LABEL])


def _filled(label: Label, spec: FieldSpec) -> tuple[Tensor, Tensor]:
    """Return thinned values and mask; invalid pixels repeat valid ones.

    What stands where nothing is valid must not stretch a scale, nor narrow it by its number.
    """
    value, valid = label.value, label.valid
    step = max(1, value.shape[-1] // MOST_WIDTH)
    if issubclass(spec.kind, EdgeMap) and step > 1:  # a thin line must not become a dotted one
        value = max_pool2d(value, step, ceil_mode=True).repeat_interleave(step, 2)
        value = value.repeat_interleave(step, 3)[..., : label.value.shape[-2], :]
        value = value[..., : label.value.shape[-1]]
    value, valid = thinned(value), thinned(valid)
    if not valid.any():
        return value, valid
    flat = value[:, None] if value.ndim == 3 else value
    pixels = flat.movedim(1, -1).clone()
    mask = valid[:, 0]
    there = pixels[mask]
    missing = int((~mask).sum())
    pixels[~mask] = there[torch.arange(missing) % len(there)]
    filled = pixels.movedim(-1, 1)
    return (filled[:, 0] if value.ndim == 3 else filled), valid
