"""The graph as a picture: tasks on a circle, an arrow for each edge."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx

from mtlkit.contracts import Edge
from mtlkit.files import beside

from .chart import Chart, Estimate
from .report import PER_MILLE, in_per_mille

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE, LARGE_SIDE, DPI = 7.0, 10.0, 150  # inches, dots per inch
MANY = 12  # edges that fit into the smaller picture, with their standard errors
BEND = 0.16  # of an arrow, so that both directions are seen; more for each further edge
LABEL_AT = 0.4  # of the way along an arrow
THINNEST, THICKEST = 1.0, 6.0  # points
HELP, HARM, UNCLEAR = "#0072b2", "#d55e00", "#999999"  # told apart by the colour-blind too
NOTE = (
    "one step along an edge: mean effect on the tasks' validation losses, ‰\n"
    "blue helps, orange harms, grey is within its standard error"
)

Point = tuple[float, float]


def draw_graph(chart: Chart, path: Path) -> Path | None:
    """Draw the tasks and the effects of the edges between them.

    Args:
        chart: what was measured.
        path: of the PNG.

    Returns:
        The file; None without matplotlib (extra `viz`).

    Raises:
        MissingError: it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    side = SIDE if len(chart.edges) <= MANY else LARGE_SIDE
    figure = Figure((side, side), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0.06, 1, 0.9))
    axes.set(xlim=(-1.45, 1.45), ylim=(-1.3, 1.3), aspect="equal")
    axes.axis("off")
    figure.text(0.5, 0.97, chart.recipe.name, ha="center", va="top", fontsize=12)
    figure.text(0.5, 0.02, NOTE, ha="center", fontsize=9)
    places = _places(chart.tasks)
    nodes = {task: _node(axes, task, places[task]) for task in chart.tasks}
    figure.draw_without_rendering()  # only then a text knows its box, at which arrows end
    _draw_edges(axes, chart, places, nodes)
    with beside(path, "the picture") as part:
        figure.savefig(part, format="png")
    return path


def _places(tasks: list[str]) -> dict[str, Point]:
    graph = nx.DiGraph()
    graph.add_nodes_from(tasks)
    # the first on top, the others clockwise
    return {task: (float(y), float(x)) for task, (x, y) in nx.circular_layout(graph).items()}


def _node(axes: Axes, task: str, place: Point) -> Any:
    look = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": "#333333"}
    return axes.text(*place, task, ha="center", va="center", fontsize=11, bbox=look, zorder=3)


def _draw_edges(axes: Axes, chart: Chart, places: dict[str, Point], nodes: dict[str, Any]) -> None:
    effects = {edge.key: chart.effect(edge) for edge in chart.edges}
    largest = max((abs(x.mean) for x in effects.values() if math.isfinite(x.mean)), default=0.0)
    drawn = Counter[tuple[str, str]]()
    for edge in chart.edges:
        ends = (edge.hops[0], edge.hops[-1])
        drawn[ends] += 1
        found = effects[edge.key]
        if ends[0] != ends[1]:  # a cycle leads nowhere else: it stands in the table
            bend = BEND * (2 * drawn[ends] - 1)
            size = abs(found.mean) / largest if largest > 0 and math.isfinite(found.mean) else 0.0
            width = THINNEST + (THICKEST - THINNEST) * size
            _arrow(axes, [nodes[e] for e in ends], [places[e] for e in ends], (bend, width, found))
            _label(axes, [places[e] for e in ends], bend, _words(chart, edge), found)


def _arrow(
    axes: Axes, nodes: list[Any], ends: list[Point], look: tuple[float, float, Estimate]
) -> None:
    bend, width, found = look
    head = 6 + 2.5 * width
    style = {
        "arrowstyle": f"-|>,head_length={head / 14:.2f},head_width={head / 28:.2f}",
        "mutation_scale": 14,
        "connectionstyle": f"arc3,rad={bend}",
        "linewidth": width,
        "color": _colour(found),
        "patchA": nodes[0].get_bbox_patch(),
        "patchB": nodes[1].get_bbox_patch(),
        "shrinkA": 2,
        "shrinkB": 3,
    }
    axes.annotate("", xy=ends[1], xytext=ends[0], arrowprops=style, zorder=2)


def _words(chart: Chart, edge: Edge) -> str:
    found = chart.effect(edge)
    is_plain = len(chart.edges) > MANY and math.isfinite(found.mean)
    value = f"{PER_MILLE * found.mean:+.3f}" if is_plain else in_per_mille(found)
    return value + (f"\nvia {', '.join(edge.hops[1:-1])}" if edge.is_path else "")


def _label(axes: Axes, ends: list[Point], bend: float, words: str, found: Estimate) -> None:
    """Write the effect along the arrow, nearer to its beginning, where fewer arrows cross."""
    (x, y), angle = _on_arc(ends, bend, LABEL_AT)
    look = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    colour = _colour(found) if found.is_help or found.is_harm else "#555555"
    label = axes.text(x, y, words, ha="center", va="center", fontsize=9, color=colour, zorder=4)
    label.set(rotation=angle, rotation_mode="anchor", bbox=look)


def _on_arc(ends: list[Point], bend: float, share: float) -> tuple[Point, float]:
    """Return a place on matplotlib's `arc3`, a quadratic Bézier curve, and its angle in degrees.

    The angle is that of upright text.
    """
    (x0, y0), (x1, y1) = ends
    middle = ((x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0))
    one, two, three = (1 - share) ** 2, 2 * share * (1 - share), share**2
    x = one * x0 + two * middle[0] + three * x1
    y = one * y0 + two * middle[1] + three * y1
    dx = (1 - share) * (middle[0] - x0) + share * (x1 - middle[0])
    dy = (1 - share) * (middle[1] - y0) + share * (y1 - middle[1])
    angle = math.degrees(math.atan2(dy, dx))
    return (x, y), (angle + 90) % 180 - 90


def _colour(found: Estimate) -> str:
    return HELP if found.is_help else HARM if found.is_harm else UNCLEAR
