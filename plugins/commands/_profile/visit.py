"""`mtlkit profile`: results on stdout, progress on stderr."""

from __future__ import annotations

from pathlib import Path

from mtlkit.actions import results
from mtlkit.check import check_batches
from mtlkit.engine import Run
from mtlkit.files import beside
from mtlkit.folder import describe, write_recipe
from mtlkit.recipe import Recipe

from .._progress import stoppable, tracked
from .._steps import fresh_folder, prolong
from .report import print_report, say
from .study import Study, Wish

__all__ = ["Wish", "visit"]
TRACE = "trace.json"


def visit(recipe: Recipe, wish: Wish, out: Path) -> None:
    """Take steps of a recipe, print where their time goes, and keep the timeline.

    Args:
        recipe: valid in itself.
        wish: how many steps.
        out: where run folders are made.

    Raises:
        UsageError: the recipe cannot run.
        PluginError: a part of it fails.
        MissingError: its data or device is not there, or a file cannot be written.
        InterruptedRun: Ctrl-C was pressed.
    """
    run = Run(recipe)
    check_batches(recipe, run.loader("train")[1])
    study = Study(run, wish)
    prolong(run, study.total)
    with fresh_folder(out, f"{recipe.name}-profile") as folder:
        authors = recipe.loaded.blaming_authors("training fails")
        with stoppable("stopped before the last step; nothing was written"), authors:
            for _ in tracked(study.steps(), "steps", study.total):
                pass
        _keep(study, folder)
    print_report(study.chart(), run)
    say("")
    results.print(f"timeline     {folder / TRACE}", soft_wrap=True, markup=False, highlight=False)


def _keep(study: Study, folder: Path) -> None:
    """Write the timeline, with the recipe and where it ran."""
    run = study.run
    describe(folder, run.recipe, run.placement.line, run.threads)
    write_recipe(folder, run.recipe)
    with beside(folder / TRACE, "the timeline") as part:
        study.profiler.export_chrome_trace(str(part))
