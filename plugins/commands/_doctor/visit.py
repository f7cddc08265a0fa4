"""`mtlkit doctor`: results on stdout, progress on stderr."""

from __future__ import annotations

from mtlkit.check import check_batches
from mtlkit.engine import Run
from mtlkit.recipe import Recipe

from .._progress import stoppable, tracked
from .._steps import prolong
from .examination import Examination
from .report import print_json, print_report
from .verdict import verdict


def visit(recipe: Recipe, steps: int, as_json: bool) -> None:
    """Take steps of a recipe, and print what is wrong.

    Args:
        recipe: valid in itself.
        steps: to take.
        as_json: for programs.

    Raises:
        UsageError: the recipe cannot run.
        PluginError: a part of it fails.
        MissingError: its data or device is not there.
        InterruptedRun: Ctrl-C was pressed.
    """
    examination = Examination(_prepared(recipe, steps), steps)
    with stoppable("stopped before the last step; nothing was written"):
        for _ in tracked(examination.steps(), "steps", steps):
            pass
    show = print_json if as_json else print_report
    show(examination.chart, verdict(examination.chart))


def _prepared(recipe: Recipe, steps: int) -> Run:
    """Return a run that is long enough, for schedules end with the last epoch."""
    run = Run(recipe)
    check_batches(recipe, run.loader("train")[1])
    prolong(run, steps)
    return run
