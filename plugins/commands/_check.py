"""`mtlkit data check`: results on stdout, progress on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from mtlkit.actions import results
from mtlkit.errors import MissingError, UsageError
from mtlkit.recipe import Recipe
from mtlkit.report.contact import draw_contact_sheet
from mtlkit.report.survey import bad_lines, leak_lines, survey_report, tasks_table
from mtlkit.survey import SplitSurvey, Visits, leaks, learnable, looks_of, summed
from mtlkit.walk import walked

from ._progress import stoppable, tracked


@dataclass(frozen=True)
class Wish:
    """What to look at, and how.

    Args:
        splits: "train", "val" or both.
        all_labels: labels too that no task reads.
        limit: most samples of a split; None: all.
        workers: processes; None: one a core.
    """

    splits: Sequence[str]
    all_labels: bool
    limit: int | None
    workers: int | None


def check_data(recipe: Recipe, wish: Wish, out: Path | None) -> None:
    """Print what is in the data of a recipe, and draw a contact sheet.

    Args:
        recipe: the run.
        wish: what to look at.
        out: the PNG; None: named after the recipe, in the working folder.

    Raises:
        UsageError: the PNG cannot be there.
        MissingError: files are not there, or samples cannot be used, all of which are printed.
    """
    picture = out or Path(f"{recipe.name}-data.png")
    _check_out(picture)
    looks = looks_of(recipe, wish.splits, wish.all_labels, wish.limit)
    with stoppable("stopped before all was read; nothing was written"):
        visits = Visits(looks)
        found = tracked(walked(visits, wish.workers), "reading", len(visits))
        surveys = summed(looks, found)
        _print(recipe, surveys)
        drawn = draw_contact_sheet(recipe, surveys, picture)
    if drawn is not None:
        results.print(f"\npictures     {drawn}", soft_wrap=True, markup=False, highlight=False)
    _refuse_bad(surveys)


def _check_out(picture: Path) -> None:
    if picture.is_dir() or not picture.parent.is_dir():
        raise UsageError(f"--out: {str(picture)!r}: give a PNG file in a folder that exists")


def _print(recipe: Recipe, surveys: Sequence[SplitSurvey]) -> None:
    for part in survey_report(surveys):
        show(part)
    tasks = learnable(recipe, surveys)
    if tasks:
        show("")
        show(tasks_table(tasks))
    bad = [text for survey in surveys for text in survey.bad]
    for lines in (leak_lines(leaks(surveys)), bad_lines(bad)):
        for number, line in enumerate(lines):
            show(f"\n{line}" if number == 0 else line)


def show(part: str | Table) -> None:
    """Print a table, or a line that is not broken: paths are to be copied.

    Args:
        part: of a report.
    """
    if isinstance(part, Table):
        results.print(part)
    else:
        results.print(part, soft_wrap=True, markup=False, highlight=False)


def _refuse_bad(surveys: Sequence[SplitSurvey]) -> None:
    bad = sum(len(survey.seen) - survey.readable for survey in surveys)
    if bad:
        total = sum(len(survey.seen) for survey in surveys)
        raise MissingError(
            f"{bad} of {total} samples cannot be used; they are named above. Mend or remove their "
            "files, or set loader.on_bad_sample to skip"
        )
