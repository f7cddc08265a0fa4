"""Consistency energy: how far transferred predictions are from a task's own, image by image.

It needs no label, and tells which images a model is likely to be wrong about.

Source: Zamir et al. 2020, arXiv 2006.04096, consistency energy; XTasC-Net's released code
(const_energy.py) has the raw one of two tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from mtlkit.contracts import Edge, Task
from mtlkit.device import without_autocast
from mtlkit.ranks import Ranks
from mtlkit.structures import Batch, Output

FEWEST = 3  # images: any two lie on a line
SAME = 1e-6  # spread over size below which values are equal; maps are float32


@dataclass(frozen=True)
class Relation:
    """How energy and error go together over the images of a split.

    Args:
        images: that have both.
        pearson: correlation of the values, in [-1,1]; None: see `reason`.
        spearman: that of their ranks.
        reason: why there is no correlation; empty where there is one.
    """

    images: int
    pearson: float | None = None
    spearman: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class TargetReport:
    """What is known of one target task.

    Args:
        edges: that lead to it.
        energy: mean over edges and images of the raw energy; None: of no image.
        error: mean over labelled images of the true error; None: of no image.
        raw: the relation of the raw energy to the error.
        standardised: that of the standardised one; with one edge it is the same.
    """

    edges: int
    energy: float | None
    error: float | None
    raw: Relation
    standardised: Relation


@dataclass(frozen=True)
class Report:
    """Energies of a split.

    Args:
        targets: by task.
        graph: the relation of the standardised energy of all edges to the mean of the tasks'
            z-scored errors, over the tasks that an image has a label of.
    """

    targets: dict[str, TargetReport]
    graph: Relation


class Consistency:
    """Energies and errors of every image of a split; a few numbers each are kept.

    An energy is the mean of `Task.disagreement` over all pixels of an image, an error that of
    `Task.pixel_error` over its valid ones. What is not finite is left out.

    Args:
        tasks: by name.
        edges: expanded.
    """

    def __init__(self, tasks: Mapping[str, Task], edges: Sequence[Edge]) -> None:
        self.edges = measured_edges(tasks, edges)
        self.targets = {n: t for n, t in tasks.items() if n in {e.hops[-1] for e in self.edges}}
        self._parts: list[Tensor] = []  # per batch (edges and then targets, N), on the device

    @torch.no_grad()
    def add(self, batch: Batch, output: Output) -> None:
        """Count a batch; nothing waits for the device.

        Args:
            batch: on the device of the model.
            output: with the transfers of all edges, in full precision; see `Run.evaluate`.
        """
        if not self.edges:
            return
        with without_autocast(batch.image.device):
            rows = [_energies(self.targets[edge.hops[-1]], edge, output) for edge in self.edges]
            rows += [_errors(task, batch, output) for task in self.targets.values()]
        self._parts.append(torch.stack(rows))

    def report(self) -> Report:
        """Return what was found in all batches, of all ranks."""
        kept = self._parts or [torch.empty(len(self.edges) + len(self.targets), 0)]
        numbers = torch.cat(Ranks.here().joined(torch.cat(kept, 1).double().cpu()), 1)
        numbers = torch.where(numbers.isfinite(), numbers, torch.nan)
        energies, errors = numbers[: len(self.edges)], numbers[len(self.edges) :]
        reports = {}
        for name, error in zip(self.targets, errors, strict=True):
            mine = energies[[edge.hops[-1] == name for edge in self.edges]]
            reports[name] = _target_report(mine, error)
        graph = _related(_standardised(energies), _z_scored(errors).nanmean(0))
        return Report(reports, graph)


def measured_edges(tasks: Mapping[str, Task], edges: Sequence[Edge]) -> list[Edge]:
    """Return the edges that have an energy: those to maps that are evaluated.

    Args:
        tasks: by name.
        edges: expanded.
    """
    targets = {name for name, task in tasks.items() if task.evaluate and not task.vector}
    return [edge for edge in edges if edge.hops[-1] in targets]


def disagreement_of(target: Task, edge: Edge, output: Output) -> Tensor:
    """Return how far an edge's transferred prediction is from the target's own, (N,1,H,W).

    Args:
        target: where the edge leads.
        edge: one that ran.
        output: with its transfer, in full precision.
    """
    return target.disagreement(output.transfers[edge.key], output.predictions[target.name])


def _energies(target: Task, edge: Edge, output: Output) -> Tensor:
    """Return each image's energy, (N,), float64."""
    return disagreement_of(target, edge, output).mean((1, 2, 3), dtype=torch.float64)


def _errors(task: Task, batch: Batch, output: Output) -> Tensor:
    """Return each image's true error, (N,), float64; NaN where it has no label."""
    label = task.read(batch)
    if label is None:
        nothing = torch.full((len(batch.image),), torch.nan, dtype=torch.float64)
        return nothing.to(batch.image.device)
    error = task.pixel_error(output.predictions[task.name], label)
    total = torch.where(label.valid, error, 0.0).sum((1, 2, 3), dtype=torch.float64)
    return total / label.valid.sum((1, 2, 3))


def _target_report(energies: Tensor, error: Tensor) -> TargetReport:
    """Return the report of a task from its edges' energies, (E,D), and its errors, (D,)."""
    raw = energies.mean(0)
    return TargetReport(
        edges=len(energies),
        energy=_mean(raw),
        error=_mean(error),
        raw=_related(raw, error),
        standardised=_related(_standardised(energies), error),
    )


def _mean(values: Tensor) -> float | None:
    """Return the mean of what is no NaN; None of nothing."""
    return None if values.isnan().all() else float(values.nanmean())


def _standardised(energies: Tensor) -> Tensor:
    """Return the mean over edges of (e - mean e) / mean |e - mean e|, (D,), means over images."""
    deviation = energies - energies.nanmean(-1, keepdim=True)
    return _scaled(energies, deviation, deviation.abs().nanmean(-1, keepdim=True)).mean(0)


def _z_scored(values: Tensor) -> Tensor:
    """Return (x - mean)/std over images, (..., D); NaN stays and does not count."""
    deviation = values - values.nanmean(-1, keepdim=True)
    return _scaled(values, deviation, deviation.square().nanmean(-1, keepdim=True).sqrt())


def _scaled(values: Tensor, deviation: Tensor, spread: Tensor) -> Tensor:
    """Return deviation / spread; 0 where all values are the same but for rounding."""
    is_spread = spread > SAME * values.abs().nanmean(-1, keepdim=True)
    return torch.where(is_spread, deviation / spread, 0 * deviation)


def _related(energy: Tensor, error: Tensor) -> Relation:
    """Return the correlations over the images that have both, (D,) each; NaN: has none."""
    both = ~(energy.isnan() | error.isnan())
    count = int(both.sum())
    if not count:
        without = "label" if error.isnan().all() else "finite energy"
        return Relation(0, reason=f"no image has a {without}")
    if count < FEWEST:
        return Relation(count, reason=f"{count} with a label, {FEWEST} are needed")
    scores = {"energy": _z_scored(energy[both]), "error": _z_scored(error[both])}
    for name, values in scores.items():
        if not values.any():
            return Relation(count, reason=f"all images have the same {name}")
    pearson, spearman = (f(*scores.values()) for f in (pearson_corrcoef, spearman_corrcoef))
    return Relation(count, float(pearson), float(spearman))
