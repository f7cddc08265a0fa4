"""Pictures of consistency energies: where transferred predictions disagree with a task's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtlkit.consistency import disagreement_of, measured_edges
from mtlkit.contracts import Edge, Task
from mtlkit.device import autocast, seeded_draws, without_autocast
from mtlkit.report.colours import heat
from mtlkit.report.consistency import in_unit
from mtlkit.report.pictures import (
    batches_of,
    evaluating,
    spec_of,
    task_legend,
    transfer_title,
)
from mtlkit.report.sheet import Group, as_bytes, draw_sheet, thinned, write_sheet
from mtlkit.structures import Batch, FieldSpec, Output
from mtlkit.walk import spread

if TYPE_CHECKING:
    from mtlkit.engine import Run


@dataclass(frozen=True)
class Maps:
    """What is drawn of one target task, thinned and on the CPU.

    Args:
        values: as labels, of its own prediction and then of each edge's, of K samples.
        energies: the disagreement of each edge, (K,1,H,W).
        error: (K,1,H,W); NaN where there is no label.
    """

    values: list[Tensor]
    energies: list[Tensor]
    error: Tensor


def draw_energies(run: Run, folder: Path, split: str) -> list[Path]:
    """Draw samples of a split, a file per target task, and return the files.

    They are the `train.pictures` samples that `draw_predictions` draws. Each row shows the image,
    the task's prediction and the transferred ones, where these disagree, and the true error.

    Args:
        run: gives model, data and placement.
        folder: where the PNGs are written, each named after its task.
        split: "val" or "train".

    Raises:
        MissingError: a file cannot be written.
    """
    recipe = run.recipe
    edges = measured_edges(recipe.tasks, recipe.all_edges)
    into = {n: [e for e in edges if e.hops[-1] == n] for n in recipe.tasks}
    into = {name: several for name, several in into.items() if several}
    chosen = spread(run.loader(split)[1].count, recipe.train.pictures)
    with evaluating(run.objective), seeded_draws(recipe.seed, 0):
        numbers, image, maps = _predict(run, split, chosen, into)
    paths = []
    for name, several in into.items() if numbers else ():
        task, spec = recipe.tasks[name], spec_of(recipe.tasks[name], recipe.offers)
        groups = _groups(task, spec, several, maps[name])
        paths.append(folder / f"{name}.png")
        sheet = draw_sheet([Group("", {"image": as_bytes(image)}, []), *groups], numbers)
        write_sheet(sheet, paths[-1])
    return paths


def _predict(
    run: Run, split: str, chosen: Sequence[int], into: dict[str, list[Edge]]
) -> tuple[list[int], Tensor, dict[str, Maps]]:
    """Return numbers, images (K,3,H,W) and the maps of every target task."""
    numbers: list[int] = []
    images: list[Tensor] = []
    parts: dict[str, list[Maps]] = {name: [] for name in into}
    for batch in batches_of(run, split, chosen):
        with autocast(run.placement):
            output = run.objective(batch).output
        numbers += batch.indices
        images.append(thinned(batch.image))
        with without_autocast(batch.image.device):
            for name, edges in into.items():
                parts[name].append(_maps(run.recipe.tasks[name], edges, batch, output))
    joined = {name: _joined(several) for name, several in parts.items() if several}
    return numbers, torch.cat(images) if images else torch.empty(0), joined


def _maps(task: Task, edges: Sequence[Edge], batch: Batch, output: Output) -> Maps:
    prediction, label = output.predictions[task.name], task.read(batch)
    error = torch.full_like(prediction[:, :1], torch.nan)
    if label is not None:
        error = torch.where(label.valid, task.pixel_error(prediction, label), torch.nan)
    predictions = [prediction, *(output.transfers[edge.key] for edge in edges)]
    energies = [thinned(disagreement_of(task, edge, output)).clamp(min=0) for edge in edges]
    values = [thinned(task.as_label(one)) for one in predictions]
    return Maps(values, energies, thinned(error))


def _joined(parts: Sequence[Maps]) -> Maps:
    values = [torch.cat(same) for same in zip(*(part.values for part in parts), strict=True)]
    energies = [torch.cat(same) for same in zip(*(part.energies for part in parts), strict=True)]
    return Maps(values, energies, torch.cat([part.error for part in parts]))


def _groups(task: Task, spec: FieldSpec, edges: Sequence[Edge], maps: Maps) -> list[Group]:
    """Return predictions, energies and the error, each group with a scale of its own."""
    titles = [transfer_title(edge.key) for edge in edges]
    together = torch.cat(maps.values)  # one call: one scale
    shown = as_bytes(task.render(together)).chunk(len(maps.values))
    predictions = dict(zip(["prediction", *titles], shown, strict=True))
    energies = dict(zip(titles, maps.energies, strict=True))
    if len(edges) > 1:
        energies["mean of these"] = torch.stack(maps.energies).mean(0)
    coloured, legend = heat(
        torch.cat([*energies.values()]), in_unit(task.disagreement_unit, spec.unit)
    )
    columns = dict(zip(energies, coloured.chunk(len(energies)), strict=True))
    error, error_legend = heat(maps.error, in_unit(task.error_unit, spec.unit))
    return [
        Group(task.name, dict(predictions), task_legend(task, together, spec)),
        Group("energy", dict(columns), legend),
        Group("true error", {"prediction against label": error}, error_legend),
    ]
