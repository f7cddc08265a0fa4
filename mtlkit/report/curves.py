"""Curves of a run: losses and metrics over steps, read from its metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mtlkit.files import beside
from mtlkit.records import WEIGHTING
from mtlkit.report.table import LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtlkit.evaluation import Direction

WIDE_RANGE = 10  # largest over smallest value from which a loss is easier to read on a log scale
PANEL = (4.8, 3.2)  # inches
DPI = 120
MOST_COLUMNS = 3
MANY = 6  # curves from which a legend is set in smaller letters, and more of which hide each other


WEIGHTING_PANELS = {
    "weight": "task weights",
    "gradient_norm": "gradient norms",
    "cosine": "gradient cosines",
}
"""Kinds of a weighting's numbers that are drawn, with the titles of their panels."""


@dataclass
class Curve:
    """One number over steps."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Panel:
    """Curves that share axes.

    Args:
        title: with the direction.
        unit: of the values; may be empty.
        names: of the numbers, as logged, with the name that the legend shows.
        is_loss: drawn for both splits, on a log scale where that helps.
    """

    title: str
    unit: str
    names: dict[str, str]
    is_loss: bool = False


Curves = dict[tuple[str, str], Curve]
"""(split, name) to its curve."""


def draw_curves(folder: Path, directions: Mapping[str, Direction] | None = None) -> Path | None:
    """Draw the numbers of a run's metrics.jsonl as curves.png, beside it.

    Args:
        folder: of the run.
        directions: unit and direction by name, as `Run.directions`; without them metrics have
            neither arrow nor unit.

    Returns:
        The file; None without matplotlib (extra `viz`), or where nothing was logged yet.

    Raises:
        MissingError: the file cannot be written.
    """
    curves = read_curves(folder / "metrics.jsonl")
    panels = _panels(curves, directions or {})
    if not panels:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, 1):
        _draw(figure.add_subplot(rows, columns, number), panel, curves)
    return _written(figure, folder / "curves.png")


def read_curves(file: Path) -> Curves:
    """Return every number of a metrics.jsonl by (split, name).

    Args:
        file: one object a line: step, epoch, split, metrics. What is no such line, and what is not
            finite, is left out; the file may be missing.
    """
    curves: Curves = {}
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
            step, split, metrics = record["step"], record["split"], record["metrics"].items()
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # torn, as after a power cut
        for name, value in metrics:
            if isinstance(value, int | float) and math.isfinite(value):
                curve = curves.setdefault((split, name), Curve())
                curve.steps.append(step)
                curve.values.append(value)
    return curves


def _panels(curves: Curves, directions: Mapping[str, Direction]) -> list[Panel]:
    """Return losses, losses of transfers and the like, then a panel per family of metrics."""
    names = list(dict.fromkeys(name for _, name in curves))
    losses = [name for name in names if name.startswith(LOSS)]
    whole = {n: n.removeprefix(LOSS) for n in losses if n.count("/") == 1}
    # a task's direct loss is nearly its whole loss, and would hide the others
    terms = {n: _term(n) for n in losses if n.count("/") > 1 and not n.endswith("/direct")}
    panels = [
        Panel("losses ↓", "", dict(sorted(whole.items(), key=_total_first)), True),
        *_of_terms(terms),
    ]
    panels += [
        Panel(title, "", {n: n.removeprefix(f"{WEIGHTING}{kind}/") for n in names if _is(n, kind)})
        for kind, title in WEIGHTING_PANELS.items()
    ]
    validation = [name for split, name in curves if split == "val" and not name.startswith(LOSS)]
    return [panel for panel in (*panels, *_families(validation, directions)) if panel.names]


def _of_terms(terms: dict[str, str]) -> list[Panel]:
    """Return one panel; where it would be full, one for each task that edges lead into."""
    if len(terms) <= MANY:
        return [Panel("edge and auxiliary losses ↓", "", terms, True)]
    panels: dict[str, Panel] = {}
    for name, label in terms.items():
        _, is_edge, target = name.removeprefix(LOSS).rpartition("/")[0].rpartition("_to_")
        title = f"edge losses into {target} ↓" if is_edge else "auxiliary losses ↓"
        panels.setdefault(title, Panel(title, "", {}, True)).names[name] = label
    return list(panels.values())


def _is(name: str, kind: str) -> bool:
    return name.startswith(f"{WEIGHTING}{kind}/")


def _total_first(pair: tuple[str, str]) -> bool:
    return pair[1] != "total"


def _term(name: str) -> str:
    """Return "a → b (type)" for the loss of an edge, "task (type)" for an auxiliary loss."""
    ends, _, kind = name.removeprefix(LOSS).rpartition("/")
    return f"{ends.replace('_to_', ' → ')} ({kind})"


def _families(names: Iterable[str], directions: Mapping[str, Direction]) -> list[Panel]:
    """Return a panel for the metrics of one task with one unit and direction."""
    families: dict[tuple[str, Direction | None], Panel] = {}
    for name in names:
        task, _, metric = name.partition("/")
        direction = directions.get(name)
        arrow = "" if direction is None else " ↑" if direction.higher_is_better else " ↓"
        unit = direction.unit if direction else ""
        panel = families.setdefault((task, direction), Panel(task + arrow, unit, {}))
        panel.names[name] = metric
    tasks = list(dict.fromkeys(task for task, _ in families))
    return [families[key] for key in sorted(families, key=lambda key: tasks.index(key[0]))]


def _draw(axes: Axes, panel: Panel, curves: Curves) -> None:
    both = [split for split in ("train", "val") if any((split, n) in curves for n in panel.names)]
    for number, (name, label) in enumerate(panel.names.items()):
        colour = f"C{number % 10}"
        train, val = (curves.get((split, name), Curve()) for split in ("train", "val"))
        val = curves.get(("epoch", name), val)
        if train.steps and panel.is_loss:
            own = label if not val.steps else None
            look = "." if len(train.steps) == 1 else "-"
            axes.plot(train.steps, train.values, look, c=colour, lw=1, alpha=0.45, label=own)
        if val.steps:
            axes.plot(val.steps, val.values, "o-", c=colour, lw=1.8, ms=3, label=label)
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.set_ylabel(panel.unit)
    has_both = panel.is_loss and len(both) == 2
    axes.set_xlabel("step (pale: training, dotted: validation)" if has_both else "step")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9 if len(panel.names) < MANY else 7)
    if panel.is_loss and _spans_widely(
        [c.values for (_, n), c in curves.items() if n in panel.names]
    ):
        axes.set_yscale("log")


def _spans_widely(columns: Sequence[Sequence[float]]) -> bool:
    low, high = min(map(min, columns)), max(map(max, columns))
    return low > 0 and high / low > WIDE_RANGE


def _written(figure: Figure, path: Path) -> Path:
    with beside(path, "the curves") as part:
        figure.savefig(part, format="png")
    return path
