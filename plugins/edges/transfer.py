"""Edges with a transfer network (TTNet): consistency, alignment and perceptual loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from mtlkit.contracts import Edge, End, Task, Transfer
from mtlkit.hookspecs import hookimpl
from mtlkit.nn import TransferNetwork
from mtlkit.structures import Counts, Label, counts_of

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe


class _TransferEdge(Edge):
    """What these edges share: the network and its fields."""

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
        """Yield a sentence where the size lacks pixels for the widths.

        Args:
            recipe: the whole recipe.
        """
        stages, side = len(self.widths), min(recipe.size)
        if side >> stages < 1:
            message = f"{stages} widths halve {side} pixels {stages} times, to less than one. "
            yield message + f"Write {max(1, side.bit_length() - 1)} widths at most"


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


class Perceptual(_TransferEdge):
    """What a network makes of the source's prediction, against what it makes of the source's label.

    The loss trains the source alone. The network learns from labels, by a loss of its own: from the
    source's label it predicts the target's, on images that have both. It does so all through the
    run, or in a phase of its own that comes first:
    `train.phases: [{epochs: 20, only: edges}, {epochs: 250, freeze: edges}]`.

    Source: XTConsistency (Zamir et al. 2020, arXiv 2006.04096), whose networks are trained before;
    invalid pixels spread by 5×5, as in the released code.
    """

    trains_network: ClassVar[bool] = False

    type: Literal["perceptual"] = "perceptual"
    detach_input: Literal[False] = Field(False, description="the source is all that learns")
    norm: Literal["none"] = Field("none", description="batch statistics would not fit labels")
    pseudo_label: Literal["hard", "soft"] = Field(
        "hard", description="soft: probabilities where the target task has classes"
    )
    border: int = Field(
        2, ge=0, description="pixels around those without a label that are not compared"
    )

    @field_validator("detach_input", mode="before")
    @classmethod
    def _source_learns(cls, value: object) -> object:
        if value is True:
            raise ValueError("the source is all that this loss trains. Remove detach_input")
        return value

    @field_validator("norm", mode="before")
    @classmethod
    def _has_no_statistics(cls, value: object) -> object:
        if value == "batch":
            message = "the network reads predictions and labels, whose batch statistics differ"
            raise ValueError(f"{message}. Write norm: none")
        return value

    @property
    def compared(self) -> str:
        """The source: its label says which pixels are compared."""
        return self.hops[0]

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence for a path, beside what every transfer edge yields.

        Args:
            recipe: the whole recipe.
        """
        yield from super().problems(recipe)
        if self.is_path:
            yield "perceptual has no paths: it needs one network. Write from and to"

    def loss(self, transfer: Transfer) -> Tensor:
        """Return the target task's loss between both outputs; 0 where the source has no label.

        Args:
            transfer: both ends and the transferred prediction.
        """
        label, task = transfer.source.label, transfer.target.task
        if label is None or transfer.network is None:
            return transfer.transferred.float().sum() * 0
        with torch.no_grad():
            wanted = transfer.network(self._as_input(transfer))
        if self.pseudo_label == "hard":
            value = task.as_label(wanted)
        else:
            value = task.as_soft_label(wanted, 1.0)
        valid = self._inside(label.valid)
        return task.transfer_loss(transfer.transferred, Label(value, valid, label.counts))

    def own_loss(self, transfer: Transfer) -> Tensor | None:
        """Return the target task's loss of the network on labels; None where one is missing.

        Args:
            transfer: both ends and the transferred prediction.
        """
        source, target = transfer.source, transfer.target
        if source.label is None or target.label is None or transfer.network is None:
            return None
        transferred = transfer.network(self._as_input(transfer))
        valid = target.label.valid & source.label.valid
        return target.task.transfer_loss(transferred, replace(target.label, valid=valid))

    def applies(self, transfer: Transfer) -> bool:
        """Return whether this step has a label of the source.

        Args:
            transfer: both ends and the transferred prediction.
        """
        return transfer.source.is_labelled

    def as_maths(self, source: Task, target: Task) -> str:
        """Return the loss as `explain` writes it.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        way = f"{source.name} → {target.name}"
        return f"{target.loss_name}(T[{way}], T[label({source.name}) → {target.name}])"

    @staticmethod
    def _as_input(transfer: Transfer) -> Tensor:
        """Return what the network reads of the source's label."""
        task, label = transfer.source.task, transfer.source.label
        assert label is not None  # both callers look
        return task.label_as_input(label).to(transfer.transferred.dtype)

    def _inside(self, valid: Tensor) -> Tensor:
        """Return the mask, (N,1,H,W), less a border: networks see what lies around a pixel."""
        size = 2 * self.border + 1
        spread = functional.max_pool2d((~valid).float(), size, stride=1, padding=self.border)
        return spread == 0


@hookimpl
def mtlkit_edges() -> list[type[Edge]]:
    """Return the edges that predict one task from another."""
    return [CrossTaskConsistency, Alignment, Perceptual]
