"""The edge contract and that of auxiliary losses: everything beside a task's own loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor, nn

from mtlkit.contracts.plugin import Plugin
from mtlkit.contracts.task import Task
from mtlkit.structures import Batch, Counts, EdgeKey, Label, Output

if TYPE_CHECKING:
    from mtlkit.model import MultiTaskModel


@dataclass(frozen=True)
class End:
    """One end of an edge in this step.

    Args:
        task: the task.
        prediction: its live prediction.
        label: its label; None if this batch has none.
        counts: the task's denominators in the whole step; None: this batch is all there is.
        is_labelled: whether any batch of the step has a label of the task.
    """

    task: Task
    prediction: Tensor
    label: Label | None
    counts: Counts | None = None
    is_labelled: bool = False


@dataclass(frozen=True)
class Transfer:
    """What an edge's loss sees: both ends, its network and the transferred prediction."""

    source: End
    target: End
    network: nn.Module | None
    transferred: Tensor


class Edge(Plugin):
    """A task transfer: from one task's prediction to another's, and how it is scored."""

    source: str = Field(alias="from", description="task that is read; all: every one")
    target: str = Field(alias="to", description="task that is predicted; all: every other one")
    weight: float = Field(0.01, ge=0, le=1, description="λ: share of the charged task's loss")
    charge: Literal["source", "target"] = Field(
        "source", description="which task's loss it is mixed into"
    )
    detach_input: bool = Field(
        False, description="whether the source's prediction is cut off, so that only T learns"
    )

    @property
    def hops(self) -> tuple[str, ...]:
        """Tasks on the way; a path has more than two and builds no network."""
        return (self.source, self.target)

    @property
    def key(self) -> EdgeKey:
        """(*hops, type)."""
        return (*self.hops, self.type_name())

    @property
    def charged_to(self) -> str:
        """The task whose loss this edge is mixed into."""
        return self.hops[0] if self.charge == "source" else self.hops[-1]

    @abstractmethod
    def build_network(self, source: Task, target: Task) -> nn.Module:
        """Return the transfer network, `source.as_input(…)` to a prediction of the target.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """

    @abstractmethod
    def loss(self, transfer: Transfer) -> Tensor:
        """Return a scalar; 0, on the graph, where nothing can be compared.

        Args:
            transfer: both ends and the transferred prediction.
        """

    def applies(self, transfer: Transfer) -> bool:
        """Return whether this step has what the loss needs: by default, a label of the target.

        The answer has to be the same for all batches and ranks of a step, as `is_labelled` is.

        Args:
            transfer: both ends and the transferred prediction.
        """
        return transfer.target.is_labelled

    def own_loss(self, transfer: Transfer) -> Tensor | None:
        """Return a loss that trains the network alone (pre-training), or None.

        Args:
            transfer: both ends and the transferred prediction.
        """
        return None

    def as_maths(self, source: Task, target: Task) -> str:
        """Return the loss as `explain` writes it.

        Args:
            source: the task it reads.
            target: the task it predicts.
        """
        return f"{self.type_name()}(T[{' → '.join(self.hops)}])"


class AuxiliaryLoss(Plugin):
    """A loss that is added to a task's, not mixed: distillation, adversarial, photometric."""

    task: str = Field(description="whose loss it is added to")
    weight: float = Field(1.0, ge=0, description="μ: its factor")

    @abstractmethod
    def build_loss(self, model: MultiTaskModel, example: Output) -> AuxiliaryModule:
        """Return the module that computes it.

        Args:
            model: architecture and edges.
            example: an output of meta tensors, for shapes.
        """


class AuxiliaryModule(nn.Module, ABC):
    """What an auxiliary loss runs."""

    @abstractmethod
    def forward(self, output: Output, batch: Batch) -> Tensor:
        """Return a scalar loss; own parameters are frozen while it runs.

        Args:
            output: what the model returned.
            batch: what it was given.
        """

    def own_loss(self, output: Output, batch: Batch) -> Tensor | None:
        """Return a loss on detached maps that moves own parameters only, or None.

        Args:
            output: what the model returned.
            batch: what it was given.
        """
        return None

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that `own_loss` alone moves."""
        return []

    def after_step(self, model: MultiTaskModel) -> None:
        """Be told that an optimizer step is done (EMA teachers).

        Args:
            model: architecture and edges.
        """
