"""A run: fit, evaluate, step."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtlkit import checkpoint
from mtlkit.best import Best
from mtlkit.check import check_batches, check_recipe
from mtlkit.data import Loader, build_loader
from mtlkit.device import place, seed_everything, set_threads
from mtlkit.errors import CheckpointError, DivergedError, InterruptedRun
from mtlkit.evaluation import Evaluation, directions
from mtlkit.folder import (
    describe,
    new_folder,
    recipe_text,
    refuse_another_recipe,
    write_recipe,
)
from mtlkit.gradients import Reach
from mtlkit.learner import Learner
from mtlkit.model import MultiTaskModel
from mtlkit.monitor import Interrupts
from mtlkit.objective import Objective
from mtlkit.order import BatchOrder
from mtlkit.phases import rate_factor
from mtlkit.recipe import Recipe
from mtlkit.records import EpochRecord, Outcome, Position, StepRecord
from mtlkit.samples import notes_of
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
        self.threads = set_threads(recipe.train.threads or saved.get("threads"))
        self.placement = place(recipe.train.device, recipe.train.precision)
        self.directions = directions(recipe)
        self.position, self.best = Position(), Best(recipe.train.keep_best)
        seed_everything(recipe.seed)
        self.learner = Learner(recipe, reaches, self.placement, is_fresh=state is None)
        self._loaders: dict[str, tuple[Loader, BatchOrder]] = {}
        self.skipped = Counter[str]()  # samples since the last epoch's end, by reason
        self.trackers, self._saved_at = Tracking(recipe.loaded), time.monotonic()
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
        return -(-self.loader("train")[1].batches // self.recipe.train.accumulate)

    @property
    def notes(self) -> list[str]:
        """What to know of this run before it begins, a line each."""
        return notes_of(self.recipe, self.loader("train")[0].samples)

    def loader(self, split: str) -> tuple[Loader, BatchOrder]:
        """Return the loader of a split and its order, built when first asked for.

        Args:
            split: "train" or "val".
        """
        if split not in self._loaders:
            self._loaders[split] = build_loader(self.recipe, split, self.placement.device)
        return self._loaders[split]

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
        if self.folder is None:
            self.folder = new_folder(self.out, self.recipe.name)
            describe(self.folder, self.recipe, self.placement.line, self.threads)
        write_recipe(self.folder, self.recipe)  # a resumed run may have more epochs
        outcome = self._outcome("failed", {})
        try:
            self.trackers.tell("mtlkit_run_start", run=self)
            with Interrupts() as interrupts:
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
            batches: those whose gradients are accumulated; on any device.
        """
        middle = self.position.batch + len(batches) / 2
        done = middle / self.loader("train")[1].batches
        factor = rate_factor(self.recipe, self.position.epoch, done)
        losses = self.learner.step(batches, self.position.step + 1, factor)
        self.position.batch += len(batches)
        self.position.step += 1
        return losses

    def evaluate(self, split: str = "val") -> dict[str, float]:
        """Return metrics and mean losses of a split, by name.

        Args:
            split: "val" or "train" (augmented, in another order).
        """
        loader, order = self.loader(split)
        if split == "train":  # an epoch may be under way on the loader of the split
            loader, order = build_loader(self.recipe, split, self.placement.device, loader.samples)
        order.begin_at(self.position.epoch, 0)
        learned = (self.learner.objective, self.learner.balancer)
        numbers = Evaluation(self.recipe, *learned, self.placement)(loader)
        self._count_skipped(loader)
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
        self._count_skipped()
        state = {
            "recipe": recipe_text(self.recipe),
            "position": {**asdict(self.position), "threads": self.threads},
            "best": self.best.state(),
            "skipped": dict(self.skipped),
            **self.learner.state(),
        }
        checkpoint.save(self.folder / name, state)
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
            for images in self._train_epoch():
                self._end_step(images)
                if interrupts.requested:
                    self._stop()
            validation = self._end_epoch()
            if interrupts.requested and self.position.epoch <= self.epochs:
                self._stop()
        return self.evaluate("val") if validation is None else validation

    def _train_epoch(self) -> Iterator[int]:
        """Take the steps that are left of the epoch, yielding the images of each."""
        loader, order = self.loader("train")
        order.begin_at(self.position.epoch, self.position.batch)
        group: list[Batch] = []
        for batch in loader:
            group.append(batch)
            done = self.position.batch + len(group)
            if len(group) == self.recipe.train.accumulate or done == order.batches:
                self.step(*group)
                yield sum(len(part.image) for part in group)
                group = []

    def _end_step(self, images: int) -> None:
        """Tell the trackers, then save if it is time: a resumed run drops what was not saved."""
        train, step = self.recipe.train, self.position.step
        metrics = self.learner.read_line() if step % train.log_every == 0 else None
        record = StepRecord(step, self.position.epoch, images, metrics)
        self.trackers.tell("mtlkit_step_end", run=self, step=record)
        is_late = time.monotonic() - self._saved_at > 60 * train.checkpoint_minutes
        if step % train.checkpoint_every == 0 or is_late:
            self.save("last.pt")

    def _end_epoch(self) -> dict[str, float]:
        """Validate, tell the trackers, and save at the beginning of the next epoch."""
        train = self.learner.read_epoch()
        validation = self.evaluate("val")
        if not math.isfinite(validation.get("loss/total", 0.0)):
            epoch = self.position.epoch
            raise DivergedError(f"loss/total is not finite in the validation of epoch {epoch}")
        is_last = self.learner.phases.index + 1 == len(self.recipe.train.parts)
        is_best = is_last and self.best.take(validation, self.position.epoch)
        at = (self.position.epoch, self.position.step)
        skipped, self.skipped = dict(self.skipped), Counter()
        notes = self.best.notes(validation)
        record = EpochRecord(*at, train, validation, is_best, skipped, notes)
        self.learner.balancer.after_epoch()
        self.position = Position(self.position.epoch + 1, 0, self.position.step)
        self.trackers.tell("mtlkit_epoch_end", run=self, epoch=record)
        if is_best:
            self.save("best.pt")
        self.save("last.pt")
        return validation

    def _count_skipped(self, *others: Loader) -> None:
        for loader in {*others, *(loader for loader, _ in self._loaders.values())}:
            self.skipped += loader.take_skipped()

    def _stop(self) -> None:
        self.save("last.pt")
        raise InterruptedRun(f"stopped after step {self.position.step}; the state is saved")

    def _outcome(self, status: Any, last: dict[str, float]) -> Outcome:
        epochs = self.position.epoch - 1
        return Outcome(status, self.position.step, epochs, last, self.best.metrics, self.best.epoch)

    def _restore(self, state: Mapping[str, Any], source: Path) -> None:
        try:
            position = {k: v for k, v in state["position"].items() if k != "threads"}
            self.position = Position(**position)
            self.learner.begin_epoch(self.position.epoch)  # decides what is shared
            self.learner.restore(state, source)
            self.best.restore(state["best"])
            self.skipped = Counter(state.get("skipped", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source}: is damaged: {error}. Start a new run") from None
