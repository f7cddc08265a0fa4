"""What was found, as text and tables, or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mtlkit.actions import results
from mtlkit.report.table import format_number

from .chart import Chart, Finding, mean

COLOURS = {True: "bold red", False: "bold yellow"}


def print_report(chart: Chart, findings: Sequence[Finding]) -> None:
    """Print what is wrong, worst first, then the numbers of tasks and pairs.

    Args:
        chart: what was seen.
        findings: worst first.
    """
    _say(_headline(chart, findings))
    for number, finding in enumerate(findings, 1):
        word = "fault" if finding.is_fault else "remark"
        title = Text(f"\n{number}. {word}: ", style=COLOURS[finding.is_fault])
        _say(title.append(finding.title, style="bold"))
        results.print(Padding(_parts(finding), (0, 0, 0, 3)))
    if chart.losses:
        _say("")
        results.print(_tasks_table(chart))
    if chart.pairs:
        _say("")
        results.print(_pairs_table(chart))


def print_json(chart: Chart, findings: Sequence[Finding]) -> None:
    """Print the same as one JSON object; what has no value is null.

    Args:
        chart: what was seen.
        findings: worst first.
    """
    tasks = {name: _numbers(chart, name) for name in chart.tasks}
    pairs = [
        {"tasks": p, "cosine": mean(chart.cosines[p]), **_below(chart, p)} for p in chart.pairs
    ]
    found = {
        "recipe": chart.recipe.name,
        "steps": chart.steps,
        "findings": [asdict(finding) for finding in findings],
        "tasks": {name: {k: _finite(x) for k, x in row.items()} for name, row in tasks.items()},
        "pairs": pairs,
    }
    print(json.dumps(found, indent=2, allow_nan=False))


def _say(text: str | Text) -> None:
    results.print(text, markup=False, highlight=False)


def _headline(chart: Chart, findings: Sequence[Finding]) -> str:
    steps = f"{chart.steps} step{'s' * (chart.steps != 1)} of {chart.recipe.name}"
    faults = sum(finding.is_fault for finding in findings)
    counts = {"fault": faults, "remark": len(findings) - faults}
    found = [f"{n} {word}{'s' * (n != 1)}" for word, n in counts.items() if n]
    ended = "" if chart.source is None else f", ended before the {chart.wanted} asked for"
    return f"{steps}{ended}: {' and '.join(found) or 'nothing is wrong'}"


def _parts(finding: Finding) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for word in ("seen", "why", "change"):
        grid.add_row(word, Text(getattr(finding, word)))
    return grid


def _tasks_table(chart: Chart) -> Table:
    titles = ["loss first", "last", "weight", "gradient", "steps with label", "valid"]
    table = _table("task", *titles)
    for name in chart.tasks:
        row = _numbers(chart, name)
        keys = ("loss_first", "loss_last", "weight", "gradient_norm")
        cells = ["–" if _finite(row[key]) is None else format_number(row[key]) for key in keys]
        labelled = f"{chart.labelled_steps.get(name, 0)} of {chart.steps}"
        valid = "–" if _finite(row["valid"]) is None else f"{row['valid']:.1%}"
        table.add_row(name, *cells, labelled, valid)
    return table


def _pairs_table(chart: Chart) -> Table:
    table = _table("gradients of", "mean cosine", "below 0")
    for pair in chart.pairs:
        below = _below(chart, pair)
        counts = f"{below['below_zero']} of {below['measurements']}"
        table.add_row(" and ".join(pair), f"{mean(chart.cosines[pair]):+.3f}", counts)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right")
    return table


def _numbers(chart: Chart, task: str) -> dict[str, float]:
    """Return the numbers of a task; NaN where there is none."""
    losses = chart.losses.get(task, [math.nan])
    return {
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "weight": mean(chart.weights.get(task, [])),
        "gradient_norm": mean(chart.norms.get(task, [])),
        "labelled_steps": chart.labelled_steps.get(task, 0),
        "valid": mean(chart.valid.get(task, [])),
    }


def _below(chart: Chart, pair: tuple[str, str]) -> dict[str, Any]:
    cosines = chart.cosines[pair]
    return {"below_zero": sum(x < 0 for x in cosines), "measurements": len(cosines)}


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
