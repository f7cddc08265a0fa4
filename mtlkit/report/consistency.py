"""The table of consistency energies that ends an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from mtlkit.consistency import Relation, Report
from mtlkit.contracts import Task
from mtlkit.report.pictures import spec_of
from mtlkit.report.table import format_number
from mtlkit.structures import LABEL_UNIT, FieldSpec

NOTHING = "–"
STANDARDISED = "standardised"
TITLES = ("energy", "unit", "Pearson", "Spearman", "of error in", "images")


def consistency_table(
    report: Report, tasks: Mapping[str, Task], offers: Mapping[str, FieldSpec]
) -> Table:
    """Return a table with a row per target task, one more where several edges lead to it.

    Below it stands why a correlation is left out.

    Args:
        report: of a split.
        tasks: by name.
        offers: of the data, for units.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("consistency", no_wrap=True)
    for title in TITLES:
        is_text = title in ("unit", "of error in")
        table.add_column(title, justify="left" if is_text else "right")
    relations = {}
    for name, found in report.targets.items():
        task, unit = tasks[name], spec_of(tasks[name], offers).unit
        energy = NOTHING if found.energy is None else format_number(found.energy)
        error_unit = in_unit(task.error_unit, unit)
        table.add_row(
            name, energy, in_unit(task.disagreement_unit, unit), *_cells(found.raw, error_unit)
        )
        if found.edges > 1:
            table.add_row("", "", STANDARDISED, *_cells(found.standardised, error_unit))
        relations[name] = found.raw
    if len(report.targets) > 1:
        table.add_row("all tasks", "", STANDARDISED, *_cells(report.graph, "z-scores"))
        relations["all tasks"] = report.graph
    reasons = [f"{name}: {found.reason}" for name, found in relations.items() if found.reason]
    table.caption = "\n".join(reasons) or None
    return table


def in_unit(unit: str, of_label: str) -> str:
    """Return a unit of a task, that of its label where it says so.

    Args:
        unit: such as `Task.error_unit`.
        of_label: the label's.
    """
    return of_label if unit == LABEL_UNIT else unit


def _cells(relation: Relation, error_unit: str) -> tuple[str, str, str, str]:
    """Return correlations, the error that they are with, and the number of images."""
    found = (relation.pearson, relation.spearman)
    pearson, spearman = (NOTHING if value is None else f"{value:.3f}" for value in found)
    return pearson, spearman, error_unit, str(relation.images)
