"""Losses of edges in units of the task that they are charged to, by running means of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlkit.contracts import Edge
from mtlkit.ranks import Ranks

DECAY = 0.99
"""Of the running means, per step."""


class EdgeNorm(nn.Module):
    """What the losses of edges with `edge_norm: ema` are multiplied by.

    The factor of an edge is the running mean of the direct loss of the task that it is charged to,
    over that of its own loss; 1 until both are known. It is a constant of the step.

    Args:
        edges: expanded.

    Source: the option of an N-task form of arXiv 2111.14122, eq. 11, which adds losses of several
    units; see docs/edges.md.
    """

    means: Tensor

    def __init__(self, edges: Sequence[Edge]) -> None:
        super().__init__()
        normed = [edge for edge in edges if edge.edge_norm == "ema"]
        terms = {name: None for edge in normed for name in (_direct(edge), edge.term)}
        self.places = {name: i for i, name in enumerate(terms)}
        self.register_buffer("means", torch.full((len(terms),), torch.nan))

    def scaled(self, edge: Edge, loss: Tensor) -> Tensor:
        """Return an edge's loss times its factor.

        Args:
            edge: one of those given at the beginning.
            loss: a scalar.
        """
        if edge.edge_norm == "none":
            return loss
        wanted, found = self.means[self.places[_direct(edge)]], self.means[self.places[edge.term]]
        ratio = wanted / found
        return loss * torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio)).to(loss)

    @torch.no_grad()
    def update(
        self, parts: Sequence[Mapping[str, Tensor]], ranks: Ranks, weights: Sequence[float] = ()
    ) -> None:
        """Move the means towards a step's losses; waits for no device.

        Args:
            parts: for each batch of the step, losses by the name that they are logged by; what is
                missing or no number moves nothing.
            ranks: that take the step together.
            weights: of the batches, whose mean over all batches is 1; none: 1 each.
        """
        places = {f"loss/{name}": place for name, place in self.places.items()}
        names = [name for name in places if name in parts[0]]
        if not names:
            return
        values = torch.stack([torch.stack([part[name] for name in names]) for part in parts])
        for row, weight in zip(values, weights, strict=False):
            row *= weight
        at = torch.tensor([places[name] for name in names])
        at = at.to(self.means.device, non_blocking=True)
        now, before = ranks.mean_(values.mean(0)).to(self.means), self.means[at]
        moved = torch.where(before.isfinite(), DECAY * before + (1 - DECAY) * now, now)
        self.means[at] = torch.where(now.isfinite(), moved, before)


def _direct(edge: Edge) -> str:
    return f"{edge.charged_to}/direct"
