"""Pictures of predictions: a grid of validation samples, as in figure 3 of the XTasC-Net paper."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mtlkit.contracts import Task
from mtlkit.device import autocast, move, seeded_draws
from mtlkit.report.captions import caption_legend, captions, label_captions
from mtlkit.report.sheet import (
    ARROW,
    INVALID,
    NO_LABEL,
    Group,
    Item,
    as_bytes,
    colour_key,
    draw_sheet,
    thinned,
    words,
    write_sheet,
)
from mtlkit.structures import Batch, EdgeKey, FieldSpec, Label, Output
from mtlkit.transforms import ClassMap
from mtlkit.walk import spread

if TYPE_CHECKING:
    from mtlkit.engine import Run


@dataclass(frozen=True)
class Maps:
    """All of one task that is shown: label, prediction and what edges transfer into it.

    Args:
        titles: one per column, the label first.
        values: one per column, label or pseudo-label values of K samples.
        valid: where the label counts, bool, (K,1,H,W) for maps, (K,) for vectors.
    """

    titles: list[str]
    values: list[Tensor]
    valid: Tensor


def draw_predictions(run: Run, path: Path, count: int, split: str = "val") -> Path | None:
    """Draw samples of a split beside their labels, predictions and transferred predictions.

    The samples lie evenly over the split. All maps of a task share one scale; what a task says of
    a whole image is written. Neither the mode of the model nor any random generator is changed.

    Args:
        run: gives model, data and placement.
        path: the PNG to write.
        count: most samples to draw, a row each.
        split: "val" or "train".

    Returns:
        `path`; None where there is nothing to draw: no sample, or no evaluated task.

    Raises:
        MissingError: the file cannot be written.
    """
    tasks = {n: t for n, t in run.recipe.tasks.items() if t.evaluate}
    chosen = spread(run.loader(split)[1].count, count)
    if not chosen or not tasks:
        return None
    with evaluating(run.model), seeded_draws(run.recipe.seed, 0):
        read = _predict(run, split, chosen, tasks)
    if read is None:
        return None
    numbers, image, maps = read
    specs = {name: spec_of(task, run.recipe.offers) for name, task in tasks.items()}
    groups = [_group(name, task, maps[name], specs[name]) for name, task in tasks.items()]
    sheet = draw_sheet([Group("", {"image": as_bytes(image)}, []), *groups], numbers)
    write_sheet(sheet, path)
    return path


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, then give every module its own mode back.

    Args:
        model: its modules may be in different modes.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def batches_of(run: Run, split: str, chosen: Sequence[int]) -> Iterator[Batch]:
    """Yield some samples of a split on the run's device, without those that cannot be read.

    Args:
        run: gives data and device.
        split: "train" or "val".
        chosen: numbers of samples.
    """
    loader, size = run.loader(split)[0], run.recipe.loader.batch_size
    for start in range(0, len(chosen), size):
        batch = loader.gather(chosen[start : start + size])
        if batch is not None:
            yield move(batch, run.placement.device)


def _predict(
    run: Run, split: str, chosen: Sequence[int], tasks: Mapping[str, Task]
) -> tuple[list[int], Tensor, dict[str, Maps]] | None:
    """Return numbers, images (K,3,H,W) and the maps of every task, thinned and on the CPU."""
    numbers: list[int] = []
    images: list[Tensor] = []
    parts: dict[str, list[Maps]] = {name: [] for name in tasks}
    for batch in batches_of(run, split, chosen):
        with autocast(run.placement):
            output = run.model(batch.image)
        numbers += batch.indices
        images.append(thinned(batch.image))
        for name, task in tasks.items():
            parts[name].append(_maps(name, task, batch, output))
    if not numbers:
        return None
    return numbers, torch.cat(images), {name: _joined(several) for name, several in parts.items()}


def _maps(name: str, task: Task, batch: Batch, output: Output) -> Maps:
    into = {key: x for key, x in output.transfers.items() if key[-2] == name}
    titles = [transfer_title(key) for key in into]
    raw = [output.predictions[name], *into.values()]
    shown = [_small(task, task.as_label(prediction.float())) for prediction in raw]
    prediction, label = shown[0], task.read(batch)
    if label is None:
        size = () if task.vector else (1, *prediction.shape[-2:])
        valid = torch.zeros(len(prediction), *size, dtype=torch.bool)
        value = prediction
    else:
        valid, value = _small(task, label.valid), _small(task, label.value)
        # an invalid pixel holds a filler, which must not stretch the colour scale
        if not task.vector:
            value = torch.where(valid if value.ndim == 4 else valid[:, 0], value, prediction)
    return Maps(["label", "prediction", *titles], [value, *shown], valid)


def transfer_title(key: EdgeKey) -> str:
    """Return the title of what an edge transfers.

    Args:
        key: of the edge.
    """
    return f" {ARROW} ".join(key[:-1]) + f" ({key[-1]})"


def _small(task: Task, value: Tensor) -> Tensor:
    return value.detach().cpu() if task.vector else thinned(value)


def _joined(parts: Sequence[Maps]) -> Maps:
    values = [torch.cat(same) for same in zip(*(part.values for part in parts), strict=True)]
    return Maps(parts[0].titles, values, torch.cat([part.valid for part in parts]))


def spec_of(task: Task, offers: Mapping[str, FieldSpec]) -> FieldSpec:
    """Return what is known of a task's label; of one that reads none, that it is a tensor.

    Args:
        task: any.
        offers: of the data.
    """
    return offers[task.reads[0]] if task.reads else FieldSpec(Tensor, channels=task.channels)


def _group(name: str, task: Task, maps: Maps, spec: FieldSpec) -> Group:
    if task.vector:
        texts = [captions(value, spec) for value in maps.values]
        texts[0] = label_captions(Label(maps.values[0], maps.valid), spec)
        return Group(name, dict(zip(maps.titles, texts, strict=True)), caption_legend(spec))
    together = torch.cat(maps.values)  # one call: one scale
    pictures = list(as_bytes(task.render(together)).chunk(len(maps.values)))
    pictures[0] = torch.where(maps.valid, pictures[0], INVALID)
    legend = task_legend(task, together, spec)
    if not maps.valid.all():
        legend.append(NO_LABEL)
    return Group(name, dict(zip(maps.titles, pictures, strict=True)), legend)


def task_legend(task: Task, values: Tensor, spec: FieldSpec) -> list[Item]:
    """Return what explains a task's colours: its words, and a key of the classes.

    Args:
        task: renders the values.
        values: that are rendered.
        spec: of the label.
    """
    legend = words(task.legend(values, spec.unit))
    if issubclass(spec.kind, ClassMap) and not values.is_floating_point():
        ids = torch.arange(min(len(spec.classes), task.channels))[None, None]
        legend += colour_key(spec.classes, as_bytes(task.render(ids))[0, :, 0])
    return legend
