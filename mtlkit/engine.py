"""A run: fit, evaluate, step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from mtlkit import checkpoint
from mtlkit.check import check_recipe
from mtlkit.data import BatchOrder, build_loader
from mtlkit.device import (
    autocast,
    move,
    place,
    restore_rng,
    rng_state,
    seed_everything,
    set_threads,
    to_device,
)
from mtlkit.errors import CheckpointError, DivergedError, InterruptedRun
from mtlkit.evaluation import Evaluation, directions, loss_values
from mtlkit.folder import describe, new_folder, recipe_text, refuse_another_recipe
from mtlkit.gradients import Backward, Reach, last_shared
from mtlkit.monitor import Interrupts, Monitor
from mtlkit.objective import build_objective
from mtlkit.optimization import build_optimizer, clip_gradients, set_learning_rate
from mtlkit.recipe import Recipe
from mtlkit.records import EpochRecord, Outcome, StepRecord
from mtlkit.structures import Batch, Losses, mean_counts


@dataclass
class Position:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, 1 for the first.
        batch: its batches that are done.
        step: steps done since the run began.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0


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
        reach = check_recipe(recipe).reach
        state = checkpoint.load(Path(resume) / "last.pt") if resume is not None else None
        if state is not None:
            refuse_another_recipe(recipe, state["recipe"], Path(str(resume)))
        self.recipe, self.out = recipe, Path(out)
        self.folder: Path | None = Path(resume) if resume is not None else None
        self.is_resumed = resume is not None
        saved_threads = state["position"]["threads"] if state is not None else None
        self.threads = set_threads(recipe.train.threads or saved_threads)
        self.placement = place(recipe.train.device, recipe.train.precision)
        self.hooks = recipe.loaded.manager.hook
        self.position = Position()
        self.best: dict[str, float] = {}
        self.best_epoch = 0
        self.directions = directions(recipe)
        self.not_loaded: tuple[list[str], list[str]] | None = None
        self._build(reach)
        self._loaders: dict[str, tuple[DataLoader[Batch], BatchOrder]] = {}
        self._tracked: list[object] = []
        self._saved_at = time.monotonic()
        if state is not None:
            self._restore(state, Path(str(resume)))

    def _build(self, reach: Reach) -> None:
        recipe = self.recipe
        seed_everything(recipe.seed)
        objective = build_objective(recipe)
        balancer = recipe.weighting.build_balancer(recipe.tasks)
        if recipe.train.init_from is not None:
            source = checkpoint.find(Path(recipe.train.init_from))
            weights = checkpoint.load(source)["model"]
            self.not_loaded = checkpoint.load_partly(objective.model, weights)
        to_device(objective, self.placement)
        self.objective, self.model = objective, objective.model
        self.balancer = balancer.to(self.placement.device)
        self.backward = Backward(self.balancer, last_shared(objective, reach))
        others = (objective.auxiliary_losses, self.balancer)
        self.optimizer = build_optimizer(recipe.optimizer, self.model, others)
        self.monitor = Monitor(self._loss_names(), self.placement.device)

    def _loss_names(self) -> list[str]:
        names = [f"{task}/direct" for task in self.recipe.tasks]
        names += ["_to_".join(edge.key[:-1]) + f"/{edge.key[-1]}" for edge in self.model.edge_list]
        names += [f"{a.task}/{a.type_name()}" for a in self.recipe.auxiliary_losses]
        return [f"loss/{name}" for name in (*names, *self.recipe.tasks, "total")]

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.recipe.train.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a whole epoch."""
        return -(-self.loader("train")[1].batches // self.recipe.train.accumulate)

    def loader(self, split: str) -> tuple[DataLoader[Batch], BatchOrder]:
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
        self.recipe.loaded.manager.register(tracker)
        self._tracked.append(tracker)

    def fit(self) -> Outcome:
        """Train to the last epoch, and return how it ended.

        Raises:
            InterruptedRun: SIGINT or SIGTERM; the state was saved.
            DivergedError: a loss was no number; the last good checkpoint is kept.
        """
        self.loader("train"), self.loader("val")
        if self.folder is None:
            self.folder = new_folder(self.out, self.recipe.name)
            describe(self.folder, self.recipe, self.placement.line, self.threads)
        outcome = Outcome("failed", self.position.step, self.position.epoch - 1)
        try:
            self.hooks.mtlkit_run_start(run=self)
            if not self.is_resumed:
                self.save("last.pt")
            with Interrupts() as interrupts:
                last = self._fit(interrupts)
            outcome = self._outcome("done", last)
        except (DivergedError, InterruptedRun) as error:
            diverged = isinstance(error, DivergedError)
            outcome = self._outcome("diverged" if diverged else "interrupted", {})
            raise
        finally:
            self.hooks.mtlkit_run_end(run=self, outcome=outcome)
            while self._tracked:
                self.recipe.loaded.manager.unregister(self._tracked.pop())
        return outcome

    def _fit(self, interrupts: Interrupts) -> dict[str, float]:
        validation: dict[str, float] = {}
        while self.position.epoch <= self.epochs:
            for images in self._train_epoch():
                self._after_step(images)
                if interrupts.requested:
                    self._stop()
            train = self.monitor.read_epoch()
            validation = self.evaluate("val")
            is_best = self._is_best(validation)
            if is_best:
                self.best, self.best_epoch = validation, self.position.epoch
            record = EpochRecord(self.position.epoch, self.position.step, train, validation, is_best)
            self.balancer.after_epoch()
            self.position = Position(self.position.epoch + 1, 0, self.position.step)
            self.hooks.mtlkit_epoch_end(run=self, epoch=record)
            if is_best:
                self.save("best.pt")
            self.save("last.pt")
            if interrupts.requested and self.position.epoch <= self.epochs:
                self._stop()
        return validation or self.evaluate("val")

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
                yield sum(len(b.image) for b in group)
                group = []

    def step(self, *batches: Batch) -> Losses:
        """Take one optimizer step, and return the losses of the last batch.

        Args:
            batches: those whose gradients are accumulated; on any device.
        """
        self.objective.train()
        self.balancer.train()
        set_learning_rate(self.optimizer, self._learning_rate_factor(len(batches)))
        self.optimizer.zero_grad(set_to_none=True)
        for batch in self._with_counts(batches):
            here = move(batch, self.placement.device)
            with autocast(self.placement):
                losses: Losses = self.objective(here)
            total = self.backward(losses, 1 / len(batches))
            self.monitor.add(loss_values(losses, total), self.position.step + 1)
        if self.recipe.train.clip is not None:
            clip_gradients(self.optimizer, self.recipe.train.clip)
        self.optimizer.step()
        self.objective.after_step()
        self.balancer.after_step(lambda: self.objective(here).tasks)
        self.position.batch += len(batches)
        self.position.step += 1
        return losses

    def evaluate(self, split: str = "val") -> dict[str, float]:
        """Return metrics and mean losses of a split, by name.

        Args:
            split: "val" or "train" (augmented, in another order).
        """
        loader, order = self.loader(split)
        order.begin_at(self.position.epoch, 0)
        evaluation = Evaluation(self.recipe, self.objective, self.balancer, self.placement)
        return evaluation(loader)

    def save(self, name: str) -> None:
        """Write a checkpoint into the run folder, unless a loss was no number.

        Args:
            name: last.pt or best.pt.

        Raises:
            DivergedError: a loss was no number; nothing is written.
        """
        assert self.folder is not None  # fit makes it first
        self.monitor.check()
        state = {
            "recipe": recipe_text(self.recipe),
            "model": self.model.state_dict(),
            "auxiliary_losses": self.objective.auxiliary_losses.state_dict(),
            "balancer": self.balancer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng_state(),
            "position": {**asdict(self.position), "threads": self.threads},
            "monitor": self.monitor.state(),
            "best": {"metrics": self.best, "epoch": self.best_epoch},
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
        state = checkpoint.load(path)
        checkpoint.load_weights(self.model, state["model"], path)
        checkpoint.load_weights(self.balancer, state["balancer"], path)

    def _restore(self, state: Mapping[str, Any], folder: Path) -> None:
        source = folder / "last.pt"
        checkpoint.load_weights(self.model, state["model"], source)
        checkpoint.load_weights(self.objective.auxiliary_losses, state["auxiliary_losses"], source)
        checkpoint.load_weights(self.balancer, state["balancer"], source)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            position = dict(state["position"])
            position.pop("threads")
            self.position = Position(**position)
            self.monitor.restore(state["monitor"])
            self.best, self.best_epoch = state["best"]["metrics"], state["best"]["epoch"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{source}: is damaged: {error}. Start a new run") from None
        restore_rng(state["rng"])

    def _with_counts(self, batches: tuple[Batch, ...]) -> tuple[Batch, ...]:
        """Give each batch the denominators of the whole step; one batch is its own."""
        if len(batches) == 1:
            return batches
        counts = mean_counts([self.objective.counts(batch) for batch in batches])
        labelled = frozenset(n for n, c in counts.items() if bool(c.valid > 0))
        return tuple(replace(batch, counts=counts, labelled=labelled) for batch in batches)

    def _learning_rate_factor(self, batches: int) -> float:
        middle = self.position.batch + batches / 2
        done = middle / self.loader("train")[1].batches
        return self.recipe.schedule.factor(self.position.epoch - 1 + done, self.epochs)

    def _after_step(self, images: int) -> None:
        train, step = self.recipe.train, self.position.step
        metrics = self.monitor.read_line() if step % train.log_every == 0 else None
        late = time.monotonic() - self._saved_at > 60 * train.checkpoint_minutes
        # told before it is saved: a resumed run drops what was told and not saved
        self.hooks.mtlkit_step_end(
            run=self, step=StepRecord(step, self.position.epoch, images, metrics)
        )
        if step % train.checkpoint_every == 0 or late:
            self.save("last.pt")

    def _stop(self) -> None:
        self.save("last.pt")
        raise InterruptedRun(f"stopped after step {self.position.step}; the state is saved")

    def _is_best(self, validation: Mapping[str, float]) -> bool:
        keep = self.recipe.train.keep_best
        if keep is None or keep.metric not in validation:
            return False
        if keep.metric not in self.best:
            return True
        new, old = validation[keep.metric], self.best[keep.metric]
        return new < old if keep.mode == "min" else new > old

    def _outcome(self, status: Any, last: dict[str, float]) -> Outcome:
        done = self.position.epoch - 1
        return Outcome(status, self.position.step, done, last, self.best, self.best_epoch)

