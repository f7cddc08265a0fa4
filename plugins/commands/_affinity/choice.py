"""Which edges are worth keeping."""

from __future__ import annotations

import itertools

from mtlkit.contracts import Edge
from mtlkit.structures import EdgeKey

from .chart import Chart
from .report import in_per_mille


class Choice:
    """The edges that help, and those that a path needs that helps.

    Args:
        chart: what was measured.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        helping = [edge for edge in chart.edges if chart.effect(edge).is_help]
        self.needed: dict[EdgeKey, Edge] = {}
        for path in (edge for edge in helping if edge.is_path):
            for pair in itertools.pairwise(path.hops):  # it walks their networks
                self.needed.setdefault((*pair, path.type_name()), path)
        self.kept = {edge.key for edge in helping} | self.needed.keys()

    def reason(self, edge: Edge) -> str:
        """Return why an edge is kept or not, with the numbers.

        Args:
            edge: one of the chart's.
        """
        found = self.chart.effect(edge)
        if self.chart.is_still(edge):
            words = "moves nothing that a prediction depends on"
        else:
            side = "helps" if found.is_help else "harms" if found.is_harm else "is not clear"
            words = f"{side}, {in_per_mille(found)} ‰"
        path = None if found.is_help else self.needed.get(edge.key)
        return words if path is None else f"{words}, and {' → '.join(path.hops)} needs it"
