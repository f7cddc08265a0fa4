"""Edges with a transfer network (TTNet): cross-task consistency and alignment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mtlkit.contracts import Edge, End, Task, Transfer
from mtlkit.hookspecs import hookimpl
from mtlkit.nn import TransferNetwork
from mtlkit.structures import Counts, Label, counts_of

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe


class _TransferEdge(Edge):
    """What both edges share: the network and its fields."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 128, 256), min_length=1, description="channels of the network's stages, finest first"
    )
    norm: Literal["none", "batch"] = Field(
        "none", description="what follows each convolution of the network"
    )

    def build_network(self, source: Task, target: Task) -> nn.Module:
        """Return a TTNet, (N,source.input_channels,H,W) to (N,target.channels,H,W).

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return TransferNetwork(
            source.input_channels, target.channels, self.widths, norm=self.norm == "batch"
        )

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence for each end that is no map, and one for stages that the size lacks.

        Args:
            recipe: the whole recipe.
        """
        stages, side = len(self.widths), min(recipe.size)
        if side >> stages < 1:
            message = f"{stages} widths halve {side} pixels {stages} times, to less than one. "
            yield message + f"Write {max(1, side.bit_length() - 1)} widths at most"
        yield from self._vector_problems(recipe)

    def _vector_problems(self, recipe: Recipe) -> Iterator[str]:
        """Yield which end predicts one vector per image, and which tasks can stand there."""
        maps = [name for name, task in recipe.tasks.items() if not task.vector]
        for key, end in (("from", self.hops[0]), ("to", self.hops[-1])):
            # an end that is no task's name, such as "all", stands for any of them
            meant = [end] if end in recipe.tasks else list(recipe.tasks)
            for name in meant:
                if recipe.tasks[name].vector:
                    message = f"{self.type_name()} transfers maps, and task {name!r} "
                    message += f"(`{key}: {end}`) predicts one vector per image. "
                    cure = f"Write a task with maps there: {', '.join(maps)}"
                    yield message + (cure if maps else "Remove the edge")


class CrossTaskConsistency(_TransferEdge):
    """The transferred prediction against the target task's own prediction, which is detached.

    It trains the network, the source's decoder and what both share, never the target's decoder.

    `denominator` is about losses pooled over pixels: `all` divides by every pixel of the batch, so
    that pixels which are not compared count as 0 (the released code's segmentation), `valid` by
    those compared alone. A loss that takes each image's mean first (depth's default) always divides
    by the pixels compared, as the released code does, and is the same under both.

    Source: XTasC-Net, arXiv 2111.14122, eqs. 11, 13 and 15; released code, XTaskLoss (module.py),
    which calls it xtsc and does not take it everywhere. It multiplies the transferred prediction by
    the mask in place; this does not.
    """

    type: Literal["xtc"] = "xtc"
    pseudo_label: Literal["hard", "soft"] = Field(
        "hard", description="soft: probabilities where the target task has classes"
    )
    temperature: float = Field(1.0, gt=0, description="of soft pseudo-labels; above 1 is softer")
    where: Literal["labelled", "everywhere"] = Field(
        "labelled", description="pixels compared; labelled: those valid in the target's label"
    )
    denominator: Literal["all", "valid"] = Field(
        "all", description="what a sum over pixels is divided by"
    )

    def loss(self, transfer: Transfer) -> Tensor:
        """Return the target task's loss against its own prediction; 0 where it has no label.

        Args:
            transfer: both ends and the transferred prediction.
        """
        task, prediction = transfer.target.task, transfer.target.prediction
        if self.pseudo_label == "hard":
            value = task.as_label(prediction)
        else:
            value = task.as_soft_label(prediction, self.temperature)
        valid = self._compared(transfer.target)
        label = Label(value, valid, self._counts(transfer.target, valid))
        return task.transfer_loss(transfer.transferred, label)

    def applies(self, transfer: Transfer) -> bool:
        """Return whether any pixel can be compared in this step.

        Args:
            transfer: both ends and the transferred prediction.
        """
        return self.where == "everywhere" or super().applies(transfer)

    def as_maths(self, source: Task, target: Task) -> str:
        """Return the loss as `explain` writes it.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return f"{target.loss_name}(T[{' → '.join(self.hops)}], stop({self.hops[-1]}))"

    def _compared(self, target: End) -> Tensor:
        """Return the mask of compared pixels, bool, (N,1,H,W)."""
        if self.where == "labelled" and target.label is not None:
            return target.label.valid
        shape = (len(target.prediction), 1, *target.prediction.shape[2:])
        everywhere = self.where == "everywhere"
        return torch.full(shape, everywhere, dtype=torch.bool, device=target.prediction.device)

    def _counts(self, target: End, valid: Tensor) -> Counts:
        """Return the denominators: the whole step's where the engine counted them."""
        counts = counts_of(valid) if target.counts is None else target.counts
        if self.where == "everywhere":
            counts = counts._replace(valid=counts.total, images=counts.batch)
        return counts._replace(valid=counts.total) if self.denominator == "all" else counts


class Alignment(_TransferEdge):
    """The transferred prediction against the target task's label; 0 where there is none.

    Source: XTasC-Net, arXiv 2111.14122, eq. 8 (Align-Net); released code, XTaskLoss (module.py),
    which calls it xtc.
    """

    type: Literal["alignment"] = "alignment"

    def loss(self, transfer: Transfer) -> Tensor:
        """Return the target task's loss against its label.

        Args:
            transfer: both ends and the transferred prediction.
        """
        target = transfer.target
        if target.label is None:
            return transfer.transferred.float().sum() * 0
        return target.task.transfer_loss(transfer.transferred, target.label)

    def as_maths(self, source: Task, target: Task) -> str:
        """Return the loss as `explain` writes it.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return f"{target.loss_name}(T[{' → '.join(self.hops)}], label({self.hops[-1]}))"


@hookimpl
def mtlkit_edges() -> list[type[Edge]]:
    """Return the edges that predict one task from another."""
    return [CrossTaskConsistency, Alignment]
