"""What the commands do: results on stdout, talk on stderr."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from mtlkit import checkpoint
from mtlkit.check import check_recipe
from mtlkit.consistency import Consistency
from mtlkit.document import parse_document
from mtlkit.engine import Run
from mtlkit.errors import DivergedError, InterruptedRun, MissingError, UsageError, suggest
from mtlkit.folder import begun_folder
from mtlkit.listing import find_recipe
from mtlkit.metrics import delta_m
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe, load_recipe, recipe_of
from mtlkit.report.consistency import consistency_table
from mtlkit.report.curves import draw_curves
from mtlkit.report.energy_maps import draw_energies
from mtlkit.report.explain import explain as explained
from mtlkit.report.pictures import draw_predictions
from mtlkit.report.table import metrics_table

results = Console(soft_wrap=False)
talk = Console(stderr=True)


@dataclass(frozen=True)
class Source:
    """A recipe as the command line names it, with its options."""

    recipe: str
    settings: Sequence[str]
    device: str | None
    plugins: Sequence[Path]
    blocked: Sequence[str]

    def overrides(self) -> dict[str, Any]:
        """Return `--set` and `--device` as dotted keys.

        Raises:
            UsageError: a setting has no `=`.
        """
        found: dict[str, Any] = {}
        for setting in self.settings:
            key, equals, value = setting.partition("=")
            if not equals or not key:
                raise UsageError(f"--set {setting}: write KEY=VALUE, such as train.epochs=1")
            found[key] = value
        if self.device is not None:
            found["train.device"] = self.device
        return found

    def load(self, lenient: Sequence[str] = ()) -> Recipe:
        """Return the recipe.

        Args:
            lenient: top-level keys under which an unset `${ENV}` is no error.
        """
        path = find_recipe(self.recipe)
        return load_recipe(path, self.overrides(), self.plugins, self.blocked, lenient)


def run(source: Source, out: Path, resume: Path | None) -> None:
    """Train, then print the metrics and the paths of what was made.

    Args:
        source: the recipe.
        out: where run folders are made.
        resume: run folder to go on with, or None.
    """
    recipe = source.load()
    if resume is None:
        resume = Ranks.here().from_first(partial(begun_folder, out, recipe.name))
        if resume is not None:
            talk.print(f"goes on with {resume}", markup=False, soft_wrap=True)
    engine = Run(recipe, out=out, resume=resume)
    _say_what_was_not_loaded(engine)
    try:
        with recipe.loaded.blaming_authors("training fails"):
            outcome = engine.fit()
    except (InterruptedRun, DivergedError) as error:
        raise type(error)(f"{error}\n{_advice(engine, error, source)}") from None
    columns = {"last epoch": outcome.last}
    if outcome.best_epoch:
        columns[f"best epoch {outcome.best_epoch}"] = outcome.best
    results.print(metrics_table(columns, engine.directions))
    if engine.ranks.is_first:
        _show_files(engine)


def evaluate(
    path: Path, split: str, source: Source, baselines: Sequence[Path], maps: Path | None
) -> None:
    """Measure a checkpoint, print metrics and consistency, and draw its predictions.

    Args:
        path: a checkpoint or a run folder.
        split: train or val.
        source: options; its recipe is that of the checkpoint.
        baselines: run folders to give Δm against.
        maps: new or empty folder for pictures of the consistency energy; None: none are drawn.

    Raises:
        UsageError: the split is unknown, or there are no such pictures, or no such folder for them.
    """
    if split not in ("train", "val"):
        raise UsageError(f"--split {split}: {suggest(split, ('train', 'val'))}")
    found = checkpoint.find(path)
    engine = load_run(found, source)
    recipe = engine.recipe
    consistency = Consistency(recipe.tasks, recipe.all_edges)
    if maps is not None:
        _make_maps_folder(maps, consistency, recipe)
    with recipe.loaded.blaming_authors("evaluation fails"):
        metrics = engine.evaluate(split, consistency.add if consistency.edges else None)
    for reason, times in engine.loader.take_skipped().items():
        talk.print(f"skipped {times}×: {reason}", markup=False, soft_wrap=True)
    results.print(metrics_table({f"{found.name}, {split}": metrics}, engine.directions))
    if consistency.edges:
        results.print()
        results.print(consistency_table(consistency.report(), recipe.tasks, recipe.offers))
    if baselines:
        reference: dict[str, float] = {}
        for baseline in baselines:
            reference |= load_run(checkpoint.find(baseline), source).evaluate(split)
        print_delta_m(metrics, reference, engine)
    if not engine.ranks.is_first:
        return
    picture = found.with_name(f"{found.stem}_{split}.png")
    drawn = [draw_predictions(engine, picture, recipe.train.pictures, split)]
    if maps is not None:
        drawn += draw_energies(engine, maps, split)
    for written in drawn:
        if written is not None:
            results.print(f"pictures     {written}", soft_wrap=True)


def _make_maps_folder(folder: Path, consistency: Consistency, recipe: Recipe) -> None:
    """Make the folder before the long pass, and refuse what could not be drawn into it."""
    option = f"--consistency-maps {folder}"
    if not consistency.edges:
        what = "no edges to a task that is evaluated" if recipe.all_edges else "no edges"
        raise UsageError(
            f"{option}: {recipe.name} has {what}, so there is no consistency to measure. Leave the "
            "option out, or give a run of a recipe with edges"
        )
    if not recipe.train.pictures:
        raise UsageError(f"{option}: train.pictures is 0. Add --set train.pictures=4")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option}: is a file. Give a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{option}: holds files, which are kept. Give a new or an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{option}: cannot be made ({error.strerror})"
        raise MissingError(f"{reason}. Give another folder") from None


def load_run(path: Path, source: Source) -> Run:
    """Return a run with the weights of a checkpoint, made from the recipe inside it.

    Args:
        path: the checkpoint.
        source: overrides and plugins.
    """
    state = checkpoint.load(path)
    document = parse_document(state["recipe"], path.parent / "recipe.yaml", source.overrides())
    for name in document.data.get("plugins") or []:
        talk.print(
            f"running the plugin file {path.parent / str(name)}", markup=False, soft_wrap=True
        )
    recipe = recipe_of(document, source.plugins, source.blocked)
    engine = Run(recipe)
    engine.folder = path.parent
    engine.load_weights(path)
    return engine


def print_delta_m(metrics: Mapping[str, float], reference: Mapping[str, float], run: Run) -> None:
    """Print Δm over all metrics that both have, and per task.

    Args:
        metrics: by name.
        reference: of the baseline.
        run: gives directions.
    """
    counted = {n: d for n, d in run.directions.items() if not (n.startswith("loss/") or d.repeats)}
    higher = {name: direction.higher_is_better for name, direction in counted.items()}
    every = delta_m(metrics, reference, higher, "all_metrics")
    tasks = delta_m(metrics, reference, higher, "per_task")
    results.print(f"Δm           {every:+.2f} % over all metrics; {tasks:+.2f} % mean of tasks")


def explain(source: Source) -> None:
    """Print what a recipe is.

    Args:
        source: the recipe.
    """
    results.print(explained(source.load(lenient=("data",))))


def check(source: Source) -> None:
    """Print that a recipe can work; raise what cannot.

    Args:
        source: the recipe.
    """
    recipe = source.load(lenient=("data",))
    checked = check_recipe(recipe)
    edges = len(recipe.all_edges)
    results.print(
        f"{source.recipe}: good. {len(recipe.tasks)} tasks, {edges} edges, "
        f"{len(checked.reach.shared)} shared parameter tensors",
        soft_wrap=True,
    )


def _say_what_was_not_loaded(engine: Run) -> None:
    if engine.learner.not_loaded is None:
        return
    missing, unused = engine.learner.not_loaded
    talk.print(f"init_from: {len(missing)} tensors keep their initial values {missing[:3]}")
    talk.print(f"init_from: {len(unused)} tensors of the checkpoint are not used {unused[:3]}")


def _advice(engine: Run, error: Exception, source: Source) -> str:
    assert engine.folder is not None  # fit made it
    if isinstance(error, DivergedError):
        return (
            f"the last good checkpoint is {engine.folder / 'last.pt'}. Lower optimizer.lr, or set "
            "train.clip"
        )
    command = ["mtlkit", "run", str(engine.folder / "recipe.yaml"), "--resume", str(engine.folder)]
    command += [word for name in source.blocked for word in ("--no-plugin", name)]
    return f"go on with: {shlex.join(command)}"


def _show_files(engine: Run) -> None:
    """Draw pictures and curves, and print the paths of everything in the run folder."""
    folder = engine.folder
    assert folder is not None  # fit made it
    drawn = draw_predictions(engine, folder / "predictions.png", engine.recipe.train.pictures)
    curves = draw_curves(folder, engine.directions)
    if find_spec("matplotlib") is None:
        talk.print("curves       not drawn: pip install 'mtlkit[viz]'", markup=False)
    best = folder / "best.pt"
    rows = {
        "checkpoint": best if best.exists() else folder / "last.pt",
        "pictures": drawn,
        "curves": curves,
        "metrics": folder / "metrics.jsonl",
    }
    for name, path in rows.items():
        if path is not None and path.exists():
            results.print(f"{name:<12} {path}", soft_wrap=True)
