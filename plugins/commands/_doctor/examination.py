"""The steps of an examination: real steps of a real run, with a measurement beside some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.engine import Run
from mtlkit.errors import DivergedError
from mtlkit.records import WEIGHTING
from mtlkit.structures import Batch, Label, Losses

from .._steps import groups
from .chart import Chart, Finding, Spread
from .moment import Moment
from .passes import Passes, measure
from .sources import Sources
from .watch import Watch

MEASURED_EVERY = 2  # steps; a measurement costs a pass back for each task


class Examination:
    """Takes steps of a run and fills a chart.

    Args:
        run: at its beginning; it cannot be used afterwards.
        wanted: steps to take.
    """

    def __init__(self, run: Run, wanted: int) -> None:
        self.run, self.learner = run, run.learner
        self.chart = Chart(run.recipe, run.reach, layout_of(run.objective), wanted)
        self.watch = Watch(run.objective)
        self.sources = Sources(run, self.watch)
        self.is_step = False  # or a measurement
        self.losses: list[Losses] = []  # of the batches of this step
        run.objective.register_forward_hook(self._note_losses)

    def steps(self) -> Iterator[int]:
        """Take the steps, yielding their numbers; ends where a number is not finite."""
        self.chart.source = self.sources.at_start()
        if self.chart.source is None:
            for number, batches in enumerate(islice(groups(self.run), self.chart.wanted), 1):
                self._take(number, batches)
                if self.chart.source is not None:
                    break
                self.chart.steps = number
                yield number
        self.chart.alive, self.chart.called = self.watch.alive, self.watch.called

    def _take(self, number: int, batches: Sequence[Batch]) -> None:
        self.sources.begin(number)
        self.chart.source = self.sources.in_data(batches)
        if self.chart.source is not None:
            return
        if number % MEASURED_EVERY == 1 or number == self.chart.wanted:
            found = self._measured(batches)
            self.chart.source = self.sources.in_gradients(found) or self.sources.in_forward()
            if self.chart.source is not None:
                return
            self._note_passes(found, number)
        self.chart.source = self._stepped(number, batches)
        if self.chart.source is None:
            self._note_step()
            self._note_labels(batches)

    def _measured(self, batches: Sequence[Batch]) -> Passes:
        self.is_step = False
        return measure(self.learner, self.chart.reach, batches)

    def _stepped(self, number: int, batches: Sequence[Batch]) -> Finding | None:
        """Take a step, and return where something came from that is not finite, or None."""
        before, self.losses, self.is_step = Moment.of(self.learner), [], True
        self.learner.left_out.clear()
        try:
            self.run.step(*batches)
            told = None
        except DivergedError as error:
            told = str(error)
        found = self.sources.in_forward()
        if found is not None:
            return found
        if told is not None or self.sources.are_gradients_bad():
            before.restore(self.learner)
            told = told or f"a gradient is not finite at step {number}"
            replayed = self._measured(batches)
            return self.sources.in_gradients(replayed) or self.sources.unknown(told)
        return self.sources.in_weights()

    @torch.no_grad()
    def _note_losses(self, module: nn.Module, args: Any, losses: Losses) -> None:
        """Be told what the objective returned, to a step, a measurement or a balancer (FAMO)."""
        self.sources.note(losses)
        if not (self.is_step and any(x.requires_grad for x in losses.tasks.values())):
            return
        self.losses.append(losses)
        for name, task in self.chart.recipe.tasks.items():
            label = task.read(args[0])
            if label is not None:
                spread = self.chart.spreads.setdefault(name, Spread())
                _note_prediction(spread, losses.output.predictions[name].detach(), label)

    def _note_step(self) -> None:
        chart, count = self.chart, len(self.losses)
        for name in chart.tasks:
            parts = [x.tasks[name].detach() for x in self.losses if name in x.present]
            if parts:
                chart.losses.setdefault(name, []).append(float(torch.stack(parts).sum()) / count)
        for name, value in self.learner.numbers.read_line().items():
            if name.startswith(f"{WEIGHTING}weight/"):
                task = name.removeprefix(f"{WEIGHTING}weight/")
                chart.weights.setdefault(task, []).append(value)

    def _note_passes(self, found: Passes, number: int) -> None:
        chart = self.chart
        chart.moved |= dict.fromkeys(found.moved, number)
        chart.measured |= dict.fromkeys(found.tasks, number)
        for name, norm in found.norms.items():
            chart.norms.setdefault(name, []).append(norm)
        for pair, cosine in found.cosines.items():
            chart.cosines.setdefault(pair, []).append(cosine)

    def _note_labels(self, batches: Sequence[Batch]) -> None:
        found = [self.run.objective.counts(batch) for batch in batches]
        for name in self.chart.tasks:
            valid = sum(float(counts[name].valid) for counts in found)
            total = sum(float(counts[name].total) for counts in found)
            labelled = self.chart.labelled_steps
            labelled[name] = labelled.get(name, 0) + (valid > 0)
            self.chart.valid.setdefault(name, []).append(valid / max(total, 1.0))


def _note_prediction(spread: Spread, prediction: Tensor, label: Label) -> None:
    if prediction.numel() == prediction.shape[1]:
        return  # one value for each channel: nothing to differ from
    size, scale = _std(prediction), prediction.float().abs().mean()
    if label.value.is_floating_point() and label.value.shape == prediction.shape:
        of_label = label.value[label.valid.expand_as(label.value)].float().std(correction=0)
        scale = torch.where(of_label > 0, of_label, scale)
    spread.sizes.append(float(size / scale) if scale > 0 else 0.0)
    if not label.value.is_floating_point() and prediction.ndim == 4:
        spread.predicted |= _classes(prediction.argmax(1))
        spread.labelled |= _classes(label.value[label.valid.squeeze(1)])


def _classes(ids: Tensor) -> set[int]:
    return set(torch.bincount(ids.flatten()).nonzero().flatten().tolist())


def _std(x: Tensor) -> Tensor:
    """Return the largest std of a channel over images and pixels."""
    return x.float().transpose(0, 1).flatten(1).std(1, correction=0).amax()


def layout_of(root: nn.Module) -> dict[str, frozenset[str]]:
    """Return the names of all trainable parameters of each module, by its name.

    Args:
        root: an objective.
    """
    return {
        name: frozenset(
            f"{name}.{inner}" if name else inner
            for inner, parameter in module.named_parameters()
            if parameter.requires_grad
        )
        for name, module in root.named_modules()
    }
