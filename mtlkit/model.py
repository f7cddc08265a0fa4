"""The model: an architecture and one transfer network per edge."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from mtlkit.contracts import Edge, Task
from mtlkit.graph import network_name, walked
from mtlkit.nn import Decoder, frozen, seeded
from mtlkit.recompute import Around, recomputed
from mtlkit.structures import EdgeKey, Output

Way = tuple[tuple[str, ...], str, bool]
"""Hops, type and whether the source is detached: what decides a transferred prediction."""


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
        self.recomputes = False
        self.around: Around = contextlib.nullcontext
        self.architecture = architecture
        self.edges = nn.ModuleDict()
        for edge in edges:
            if not edge.is_path:
                with seeded("edge", *edge.key):
                    network = edge.build_network(tasks[edge.source], tasks[edge.target])
                self.edges[network_name(edge.hops, edge.type_name())] = network

    def forward(self, image: Tensor, edges: Sequence[Edge] | None = None) -> Output:
        """Return predictions, and the transferred predictions of the edges.

        Args:
            image: (N,3,H,W), RGB in [0,1].
            edges: those to run; None: all.
        """
        chosen = self.edge_list if edges is None else edges
        ways: dict[Way, Tensor] = {}
        with self.around():
            output: Output = self.architecture(image)
            transfers = {e.key: self._transfer(e, e.hops, output.predictions, ways) for e in chosen}
        return replace(output, transfers=transfers)

    def recompute(self) -> None:
        """Keep no maps inside decoders and transfer networks for the backward pass."""
        self.recomputes = True
        for part in self.architecture.modules():
            if isinstance(part, Decoder):
                part.recomputes = True

    def network(self, edge: Edge) -> nn.Module | None:
        """Return the edge's own network; None for a path.

        Args:
            edge: one of `edge_list`.
        """
        return None if edge.is_path else self.edges[network_name(edge.hops, edge.type_name())]

    def forget_others(self, drawn: Collection[EdgeKey]) -> None:
        """Leave no gradient, not even of zeros, to networks that none of these edges runs.

        Args:
            drawn: keys of the edges that ran in this step.
        """
        ran = {name for edge in self.edge_list if edge.key in drawn for name in walked(edge)}
        for name, network in self.edges.items():
            if name not in ran:
                network.zero_grad(set_to_none=True)

    def _transfer(
        self,
        edge: Edge,
        hops: tuple[str, ...],
        predictions: Mapping[str, Tensor],
        ways: dict[Way, Tensor],
    ) -> Tensor:
        """Walk the networks along hops; each reads a prediction as its task says.

        What edges and paths have in common is walked once.
        """
        if len(hops) == 1:
            prediction = predictions[hops[0]]
            return prediction.detach() if edge.detach_input else prediction
        way = (hops, edge.type_name(), edge.detach_input)
        if way not in ways:
            before = self._transfer(edge, hops[:-1], predictions, ways)
            network = self.edges[network_name(hops[-2:], edge.type_name())]
            ways[way] = self._run(network, edge, self.tasks[hops[-2]].as_input(before))
        return ways[way]

    def _run(self, network: nn.Module, edge: Edge, x: Tensor) -> Tensor:
        def around() -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext() if edge.trains_network else frozen(network.parameters())

        if self.recomputes:
            return recomputed(network, x, around=around)
        with around():
            transferred: Tensor = network(x)
        return transferred
