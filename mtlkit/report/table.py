"""The table of metrics that ends a run, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from mtlkit.evaluation import Direction

LOSS = "loss/"  # every loss is logged under such a name; lower is better
SMALLEST, LARGEST = 1e-4, 1e6  # sizes written without an exponent


def metrics_table(
    columns: Mapping[str, Mapping[str, float]], directions: Mapping[str, Direction]
) -> Table:
    """Return a table with a row per metric and a column per set of numbers, losses last.

    Args:
        columns: title, such as "last epoch", to numbers by name.
        directions: unit and direction by name; gives the order of the rows, and numbers that it
            does not know come after those that it knows.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right")
    table.add_column("unit")
    for name in ordered_names(columns, directions):
        cells = [format_number(c[name]) if name in c else "–" for c in columns.values()]
        unit = directions[name].unit if name in directions else ""
        table.add_row(with_arrow(name, directions), *cells, unit)
    return table


def ordered_names(
    columns: Mapping[str, Mapping[str, float]], directions: Mapping[str, Direction]
) -> list[str]:
    """Return the names that any column has: metrics, then losses, each as `directions` has them.

    Args:
        columns: title to numbers by name.
        directions: unit and direction by name.
    """
    found = dict.fromkeys(name for column in columns.values() for name in column)
    known = [name for name in directions if name in found]
    names = [*known, *(name for name in found if name not in directions)]
    return sorted(names, key=lambda name: name.startswith(LOSS))  # stable


def with_arrow(name: str, directions: Mapping[str, Direction]) -> str:
    """Return the name with ↑ where higher is better, ↓ where lower is, neither where unknown.

    Args:
        name: of a metric or loss.
        directions: unit and direction by name.
    """
    if name in directions:
        return f"{name} {'↑' if directions[name].higher_is_better else '↓'}"
    return f"{name} ↓" if name.startswith(LOSS) else name


def format_number(value: float) -> str:
    """Return a number with 4 significant digits, such as 0.01220, 12.35 or 1.234e-05.

    Args:
        value: any; numbers from 1000 to 1e6 are written as whole ones.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.3e}")
    if not SMALLEST <= abs(rounded) < LARGEST:
        return f"{value:.3e}"
    decimals = max(0, 3 - math.floor(math.log10(abs(rounded))))
    return f"{value:.{decimals}f}"
