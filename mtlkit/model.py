"""The model: an architecture and one transfer network per edge."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from mtlkit.contracts import Edge, Task
from mtlkit.graph import network_name
from mtlkit.nn import seeded
from mtlkit.structures import Output


class MultiTaskModel(nn.Module):
    """Architecture and edges; `architecture` is what ships, `edges` what training adds.

    Args:
        tasks: by name.
        edges: expanded.
        architecture: image to Output.
    """

    def __init__(
        self, tasks: Mapping[str, Task], edges: Sequence[Edge], architecture: nn.Module
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.edge_list = list(edges)
        self.architecture = architecture
        self.edges = nn.ModuleDict()
        for edge in edges:
            if len(edge.hops) == 2:
                with seeded("edge", *edge.key):
                    network = edge.build_network(tasks[edge.source], tasks[edge.target])
                self.edges[network_name(edge)] = network

    def forward(self, image: Tensor, edges: Sequence[Edge] | None = None) -> Output:
        """Return predictions, and the transferred predictions of the edges.

        Args:
            image: (N,3,H,W), RGB in [0,1].
            edges: those to run; None: all.
        """
        output: Output = self.architecture(image)
        chosen = self.edge_list if edges is None else edges
        transfers = {edge.key: self._transfer(edge, output.predictions) for edge in chosen}
        return replace(output, transfers=transfers)

    def network(self, edge: Edge) -> nn.Module | None:
        """Return the edge's own network; None for a path.

        Args:
            edge: one of `edge_list`.
        """
        return self.edges[network_name(edge)] if len(edge.hops) == 2 else None

    def _transfer(self, edge: Edge, predictions: Mapping[str, Tensor]) -> Tensor:
        """Walk the networks along the edge's hops; each hop reads a prediction as its task says."""
        prediction = predictions[edge.hops[0]]
        if edge.detach_input:
            prediction = prediction.detach()
        for source, target in itertools.pairwise(edge.hops):
            network = self.edges[f"{source}_to_{target}_{edge.type_name()}"]
            prediction = network(self.tasks[source].as_input(prediction))
        return prediction
