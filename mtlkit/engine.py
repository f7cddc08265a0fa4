"""A run: fit, evaluate, step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mtlkit import checkpoint
from mtlkit.ahead import ahead
from mtlkit.best import Best
from mtlkit.check import check_batches, check_recipe
from mtlkit.circumstances import NAMES, settle
from mtlkit.device import place, seed_everything
from mtlkit.errors import CheckpointError, DivergedError, InterruptedRun
from mtlkit.evaluation import Evaluation, Observer, directions
from mtlkit.folder import prepared, recipe_text, refuse_another_recipe
from mtlkit.generators import draw_apart
from mtlkit.gradients import Reach
from mtlkit.learner import Learner
from mtlkit.loaders import Loaders
from mtlkit.model import MultiTaskModel
from mtlkit.monitor import Interrupts
from mtlkit.objective import Objective
from mtlkit.order import Group
from mtlkit.phases import rate_factor
from mtlkit.ranks import Answer
from mtlkit.recipe import Recipe
from mtlkit.records import EpochRecord, Outcome, Position, StepRecord
from mtlkit.samples import notes_of
from mtlkit.speed import Speed
from mtlkit.structures import Batch, Losses
from mtlkit.tracking import Tracking


class Run:
    """One training run of a recipe, from its start or from its last checkpoint.

    Args:
        recipe: what to run.
        out: where run folders live; the folder is made when `fit` begins.
        resume: the folder of a run of the same recipe to go on with.

    Raises:
        MissingError: the device or the folder is not there.
        UsageError: the recipe cannot be run as it is, or is not that of the folder.
        CheckpointError: the folder's last.pt is damaged.
    """

    def __init__(
        self, recipe: Recipe, out: str | Path = "runs", resume: str | Path | None = None
    ) -> None:
        folder = None if resume is None else Path(resume)
        state = None if folder is None else checkpoint.load(folder / "last.pt")
        if folder is not None and state is not None:
            refuse_another_recipe(recipe, state["recipe"], folder)
        reaches = check_recipe(recipe).reaches
        self.recipe, self.out, self.folder = recipe, Path(out), folder
        self.is_resumed = folder is not None
        saved = {} if state is None else state["position"]
        self.circumstances = settle(recipe.train.threads, saved)
        self.threads, self.ranks = self.circumstances.threads, self.circumstances.ranks
        self.placement = place(recipe.train.device, recipe.train.precision)
        self.directions = directions(recipe)
        self.position, self.best = Position(), Best(recipe.train.keep_best)
        seed_everything(recipe.seed)
        self.learner = Learner(recipe, reaches, self.placement, is_fresh=state is None)
        self.speed = Speed(self.learner)
        draw_apart(recipe.seed, self.ranks)
        self.loader = Loaders(recipe, self.placement.device, self.ranks)
        self.trackers = Tracking(recipe.loaded, is_heard=self.ranks.is_first)
        self._saved_at = time.monotonic()
        if folder is not None and state is not None:
            checkpoint.remove_leftovers(folder)
            self._restore(state, folder / "last.pt")

    @property
    def model(self) -> MultiTaskModel:
        """The model; `architecture` and `edges` are its parts."""
        return self.learner.model

    @property
    def objective(self) -> Objective:
        """The objective, which holds the model."""
        return self.learner.objective

    @property
    def reach(self) -> Reach:
        """Which task's loss reaches which parameter in this phase of the training."""
        return self.learner.reach

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.recipe.train.length

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a whole epoch."""
        batches = self.recipe.train.accumulate * self.ranks.count
        return -(-self.loader("train")[1].batches // batches)

    @property
    def notes(self) -> list[str]:
        """What to know of this run before it begins, a line each."""
        missing = notes_of(self.recipe, self.loader("train")[0].samples)
        return [*self.circumstances.notes, *missing]

    def track(self, tracker: object) -> None:
        """Add an object with hooks for the rest of this run.

        Args:
            tracker: has methods marked with `hookimpl`.
        """
        self.trackers.add(tracker)

    def fit(self) -> Outcome:
        """Train to the last epoch, and return how it ended.

        Raises:
            InterruptedRun: SIGINT or SIGTERM; the state was saved.
            DivergedError: a loss was no number; the last good checkpoint is kept.
        """
        for split in ("train", "val"):  # data that is not there is told before a folder is made
            self.loader(split)
        check_batches(self.recipe, self.loader("train")[1])
        about = (self.recipe, self.placement.line, self.threads)
        self.folder = self.ranks.from_first(partial(prepared, self.folder, self.out, *about))
        outcome = self._outcome("failed", {})
        try:
            self.trackers.tell("mtlkit_run_start", run=self)
            with Interrupts(self.ranks) as interrupts:
                if not self.is_resumed:
                    self.save("last.pt")
                last = self._fit(interrupts)
            outcome = self._outcome("done", last)
        except InterruptedRun:
            outcome = self._outcome("interrupted", {})
            raise
        except DivergedError:
            outcome = self._outcome("diverged", {})
            raise
        finally:
            self.trackers.end(self, outcome)
        return outcome

    def step(self, *batches: Batch) -> Losses:
        """Take one optimizer step, and return the losses of the last batch.

        Args:
            batches: those whose gradients are accumulated; on any device. Every rank gives as
                many of its own.
        """
        return self._step(batches, Group(len(batches) * self.ranks.count))

    def _step(self, batches: Sequence[Batch], group: Group) -> Losses:
        middle = self.position.batch + group.batches / 2
        done = middle / self.loader("train")[1].batches
        factor = rate_factor(self.recipe, self.position.epoch, done)
        losses = self.learner.step(batches, self.position.step + 1, factor, group.weights)
        self.position.batch += group.batches
        self.position.step += 1
        return losses

    def evaluate(self, split: str = "val", observer: Observer | None = None) -> dict[str, float]:
        """Return metrics and mean losses of a split, by name.

        Args:
            split: "val" or "train" (augmented, in another order).
            observer: gets every batch and its output; with one, transfer networks run.
        """
        loader, order = self.loader.for_evaluation(split)
        order.begin_at(self.position.epoch, 0)
        learned = (self.learner.objective, self.learner.balancer)
        numbers = Evaluation(self.recipe, *learned, self.placement, observer)(loader)
        self.loader.count_skipped(loader)
        return numbers

    def save(self, name: str) -> None:
        """Write a checkpoint into the run folder, unless a loss was no number.

        Args:
            name: last.pt or best.pt.

        Raises:
            DivergedError: a loss was no number; nothing is written.
        """
        assert self.folder is not None  # fit makes it first
        self.learner.check_finite(self.position.step)
        self.loader.join_skipped()
        state = {
            "recipe": recipe_text(self.recipe),
            "position": asdict(self.position) | self.circumstances.state(),
            "best": self.best.state(),
            "skipped": dict(self.loader.skipped),
            **self.learner.state(),
        }
        if self.ranks.is_first:
            checkpoint.save(self.folder / name, state)
        self.ranks.meet()  # or others would go on, or leave, before it is kept
        self._saved_at = time.monotonic()

    def load_weights(self, path: Path) -> None:
        """Take model and balancer from a checkpoint, for evaluation.

        Args:
            path: a checkpoint of this recipe.

        Raises:
            CheckpointError: it does not fit.
        """
        self.learner.load_weights(checkpoint.load(path), path)

    def _fit(self, interrupts: Interrupts) -> dict[str, float]:
        validation: dict[str, float] | None = None
        while self.position.epoch <= self.epochs:
            self.learner.begin_epoch(self.position.epoch)
            for images, answer in self._train_epoch(interrupts):
                self._end_step(images, answer)
                if answer()[0]:
                    self._stop()
            validation = self._end_epoch()
            if self.position.epoch <= self.epochs and self._asked(interrupts)()[0]:
                self._stop()
        return self.evaluate("val") if validation is None else validation

    def _train_epoch(self, interrupts: Interrupts) -> Iterator[tuple[int, Answer]]:
        """Take the steps that are left of the epoch, yielding the images of each."""
        loader, order = self.loader("train")
        order.begin_at(self.position.epoch, self.position.batch)
        batches, groups = iter(loader), list(order.groups)
        mine = ((list(islice(batches, len(group.mine))), group.weights) for group in groups)
        ready = ahead(mine, lambda part: self.learner.ready(*part), self.placement.device)
        for group, parts in zip(groups, self.learner.watch.over("data", ready), strict=True):
            answer, first = self._asked(interrupts), self.position.batch
            self._step(parts, group)
            yield order.images(first, group.batches), answer

    def _asked(self, interrupts: Interrupts) -> Answer:
        """Ask all ranks whether one is to stop, and whether one thinks that a save is due."""
        longest = 60 * self.recipe.train.checkpoint_minutes
        return self.ranks.ask(
            lambda: (interrupts.requested, time.monotonic() - self._saved_at > longest)
        )

    def _end_step(self, images: int, answer: Answer) -> None:
        """Tell the trackers, then save if it is time: a resumed run drops what was not saved."""
        train, step = self.recipe.train, self.position.step
        self.speed.count(images)
        metrics = self.learner.read_line() if step % train.log_every == 0 else None
        speed = {} if metrics is None else self.speed.read_line()
        record = StepRecord(step, self.position.epoch, images, metrics, speed)
        self.trackers.tell("mtlkit_step_end", run=self, step=record)
        if step % train.checkpoint_every == 0 or answer()[1]:
            self.save("last.pt")

    def _end_epoch(self) -> dict[str, float]:
        """Validate, tell the trackers, and save at the beginning of the next epoch."""
        train, found = self.learner.read_epoch(), self.evaluate("val")
        validation = self.ranks.from_first(lambda: found)  # or last bits could part the ranks' ways
        if not math.isfinite(validation.get("loss/total", 0.0)):
            epoch = self.position.epoch
            raise DivergedError(f"loss/total is not finite in the validation of epoch {epoch}")
        is_last = self.learner.phases.index + 1 == len(self.recipe.train.parts)
        is_best = is_last and self.best.take(validation, self.position.epoch)
        at = (self.position.epoch, self.position.step)
        skipped, notes = self.loader.take_skipped(), self.best.notes(validation)
        record = EpochRecord(*at, train, validation, is_best, skipped, notes)
        self.learner.balancer.after_epoch()
        self.position = Position(self.position.epoch + 1, 0, self.position.step)
        self.trackers.tell("mtlkit_epoch_end", run=self, epoch=record)
        if is_best:
            self.save("best.pt")
        self.save("last.pt")
        return validation

    def _stop(self) -> None:
        self.save("last.pt")
        raise InterruptedRun(f"stopped after step {self.position.step}; the state is saved")

    def _outcome(self, status: Any, last: dict[str, float]) -> Outcome:
        epochs = self.position.epoch - 1
        return Outcome(status, self.position.step, epochs, last, self.best.metrics, self.best.epoch)

    def _restore(self, state: Mapping[str, Any], source: Path) -> None:
        try:
            position = {k: v for k, v in state["position"].items() if k not in NAMES}
            self.position = Position(**position)
            self.learner.begin_epoch(self.position.epoch)  # decides what is shared
            self.learner.restore(state, source)
            self.best.restore(state["best"])
            self.loader.skipped.update(state.get("skipped", {}) if self.ranks.is_first else ())
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source}: is damaged: {error}. Start a new run") from None
