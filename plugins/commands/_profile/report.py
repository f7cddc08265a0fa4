"""The chart as a table."""

from __future__ import annotations

from rich.table import Table

from mtlkit.actions import results
from mtlkit.engine import Run

from .chart import Chart, Row
from .words import percent, sentences

MILLI, GIGA, GIB = 1e-3, 1e9, 2**30


def print_report(chart: Chart, run: Run) -> None:
    """Print the speed, the table of parts, and what it says in words.

    Args:
        chart: what was measured.
        run: what ran.
    """
    for line in _headline(chart, run):
        say(line)
    say("")
    results.print(_table(chart))
    say("")
    for sentence in sentences(chart, run):
        say(sentence)


def say(text: str) -> None:
    """Print a line of the result as it is.

    Args:
        text: any; a long line breaks at words.
    """
    results.print(text, markup=False, highlight=False)


def _headline(chart: Chart, run: Run) -> list[str]:
    steps = f"{chart.steps} step{'s' * (chart.steps != 1)}"
    speed = f"{chart.images / chart.seconds:.4g} images/s"
    use = f"mfu {percent(chart.mfu)} of {chart.peak / GIGA:,.0f} GFLOP/s"
    lines = [
        f"{run.recipe.name} on {run.placement.line}: {steps} of {chart.images:g} images",
        f"{chart.seconds / MILLI:.1f} ms a step · {speed} · {use}",
    ]
    if chart.memory is not None:
        of = "this process" if run.placement.device.type == "cpu" else "the device"
        lines.append(f"most memory of {of}: {chart.memory / GIB:.2f} GiB")
    return lines


def _table(chart: Chart) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part", no_wrap=True)
    for title in ("forward ms", "backward ms", "share", "GFLOP", "of the peak"):
        table.add_column(title, justify="right")
    for row in sorted(chart.rows, key=lambda row: -row.seconds):
        table.add_row(*_cells(chart, row))
    table.add_section()
    forward = sum(row.forward_seconds for row in chart.rows)
    backward = sum(row.backward_seconds for row in chart.rows)
    table.add_row(*_cells(chart, Row("step", "step", forward, backward, chart.flops)))
    return table


def _cells(chart: Chart, row: Row) -> list[str]:
    share = percent(row.seconds / chart.seconds)
    forward, backward = (
        f"{x / MILLI:.2f}" if x else "–" for x in (row.forward_seconds, row.backward_seconds)
    )
    if not row.flops:
        return [row.label, forward, backward, share, "–", "–"]
    use = percent(chart.use(row.flops, row.seconds))
    return [row.label, forward, backward, share, f"{row.flops / GIGA:.2f}", use]
