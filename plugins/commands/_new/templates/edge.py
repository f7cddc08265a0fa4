"""The edge `own_plugin`: a transfer that resembles its target."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

import mtlkit
from mtlkit.nn import masked_mean


class OwnPlugin(mtlkit.Edge):
    """The mean distance of the two as an edge reads them, where the target's label is valid.

    It trains the network and the source's decoder; the target's prediction is detached.
    """

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe; `from`, `to` and `weight` are there already
    width: int = Field(16, ge=1, description="channels of the network")

    def build_network(self, source: mtlkit.Task, target: mtlkit.Task) -> nn.Module:
        """Return the network, (N,source.input_channels,H,W) to (N,target.channels,H,W).

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return nn.Sequential(  # EDIT; mtlkit.nn.TransferNetwork is the one of XTasC-Net
            nn.Conv2d(source.input_channels, self.width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(self.width, target.channels, 3, padding=1),
        )

    def loss(self, transfer: mtlkit.Transfer) -> Tensor:
        """Return a scalar; 0, on the graph, where the target has no label.

        Args:
            transfer: both ends, and the transferred prediction, (N,target.channels,H,W).
        """
        target = transfer.target
        if target.label is None:
            return transfer.transferred.sum() * 0
        wanted = target.task.as_input(target.prediction).detach()
        error = target.task.as_input(transfer.transferred) - wanted  # EDIT: one number per value
        return masked_mean(error.abs(), target.label)

    def as_maths(self, source: mtlkit.Task, target: mtlkit.Task) -> str:
        """Return the loss as `mtlkit explain` writes it.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return f"|T[{source.name} → {target.name}] − stop({target.name})|"  # EDIT


@mtlkit.hookimpl
def mtlkit_edges() -> list[type[mtlkit.Edge]]:
    """Offer the edge to recipes."""
    return [OwnPlugin]
