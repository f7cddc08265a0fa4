"""What was measured, as tables and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mtlkit.actions import results
from mtlkit.contracts import Edge
from mtlkit.files import beside

from .chart import Chart, Estimate, title
from .lookahead import STEP

PER_MILLE = 1000
HELP, HARM, UNCLEAR = "bold green", "bold red", "dim"


def print_report(chart: Chart) -> None:
    """Print the table of effects from task to task, then the cosines of the gradients.

    Args:
        chart: what was measured.
    """
    for line in _headline(chart):
        say(line)
    say("")
    results.print(_effects(chart))
    say("")
    say("cosine of an edge's gradient and each task's own, over what tasks share:")
    say("")
    results.print(_cosines(chart))


def write_json(chart: Chart, path: Path) -> None:
    """Write everything that was measured; what has no value is null.

    Args:
        chart: what was measured.
        path: of the file.

    Raises:
        MissingError: it cannot be written.
    """
    found = {
        "recipe": chart.recipe.name,
        "warm_up_steps": chart.warm_up,
        "steps_between_probes": chart.between,
        "probes": chart.probes,
        "validation_images": chart.images,
        "step": STEP,
        "losses_before": chart.losses,
        "own": {"effect": _numbers(chart.own_effect), "probes": [asdict(x) for x in chart.own]},
        "edges": [_edge(chart, edge) for edge in chart.edges],
    }
    with beside(path, "the measurements") as part:
        text = json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")


def say(text: str | Text) -> None:
    """Print a line of the result as it is.

    Args:
        text: any; a long line breaks at words.
    """
    results.print(text, markup=False, highlight=False)


def in_per_mille(found: Estimate) -> str:
    """Return an effect as "+0.120 ±0.030", in ‰; "no label" where it was never measured.

    Args:
        found: a share.
    """
    if math.isnan(found.mean):
        return "no label"
    return f"{PER_MILLE * found.mean:+.3f} ±{_error(PER_MILLE * found.error)}"


def _headline(chart: Chart) -> list[str]:
    edges, images = len(chart.edges), chart.images
    return [
        f"{chart.recipe.name}: {edges} edge{'s' * (edges != 1)}, {chart.probes} probes after "
        f"{chart.warm_up} training steps, {images} validation image{'s' * (images != 1)}",
        "one step along an edge lowers the tasks' validation losses by (mean, in ‰):",
        "+ helps, - harms, ± standard error over the probes",
        f"a step as long along the tasks' own losses: {in_per_mille(chart.own_effect)}",
    ]


def _effects(chart: Chart) -> Table:
    table = _table("from \\ to", chart.tasks)
    for source in chart.tasks:
        cells = [_cell(chart, source, target) for target in chart.tasks]
        table.add_row(source, *cells)
    return table


def _cell(chart: Chart, source: str, target: str) -> Text:
    here = [e for e in chart.edges if (e.hops[0], e.hops[-1]) == (source, target)]
    lines = [_coloured(chart, edge, _prefix(edge, here)) for edge in here]
    return Text("\n").join(lines) if lines else Text("–" if source == target else "·", UNCLEAR)


def _prefix(edge: Edge, beside: list[Edge]) -> str:
    """Return what tells an edge from others between the same tasks."""
    words = [f"via {', '.join(edge.hops[1:-1])}"] if edge.is_path else []
    if len({other.type_name() for other in beside}) > 1:
        words.append(edge.type_name())
    return f"{' '.join(words)}: " if words else ""


def _coloured(chart: Chart, edge: Edge, prefix: str) -> Text:
    found = chart.effect(edge)
    colour = HELP if found.is_help else HARM if found.is_harm else UNCLEAR
    value = "moves nothing" if chart.is_still(edge) else in_per_mille(found)
    return Text(prefix).append(value, style=colour)


def _cosines(chart: Chart) -> Table:
    table = _table("edge", chart.tasks)
    for edge in chart.edges:
        found = [chart.cosine(edge, task) for task in chart.tasks]
        cells = [
            "–" if math.isnan(x.mean) else f"{x.mean:+.2f} ±{_error(x.error, 2)}" for x in found
        ]
        table.add_row(title(edge, chart.edges), *cells)
    return table


def _table(first: str, others: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _error(value: float, digits: int = 3) -> str:
    return "?" if math.isnan(value) else f"{value:.{digits}f}"


def _edge(chart: Chart, edge: Edge) -> dict[str, Any]:
    found = chart.effect(edge)
    return {
        "hops": list(edge.hops),
        "type": edge.type_name(),
        "weight": edge.weight,
        "helps": found.is_help,
        "moves_nothing": chart.is_still(edge),
        "effect": _numbers(found),
        "effect_on": {task: _numbers(chart.effect_on(edge, task)) for task in chart.tasks},
        "cosine": {task: _numbers(chart.cosine(edge, task)) for task in chart.tasks},
        "probes": [asdict(reading) for reading in chart.readings.get(edge.key, [])],
    }


def _numbers(found: Estimate) -> Mapping[str, float | None]:
    pairs = found._asdict().items()
    return {name: x if math.isfinite(x) else None for name, x in pairs}
