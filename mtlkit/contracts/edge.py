"""The edge contract and that of auxiliary losses: everything beside a task's own loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
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
    """What an edge's loss sees.

    Args:
        source: the end that is read.
        target: the end that is predicted.
        network: the edge's own; None for a path, which has none.
        transferred: the transferred prediction.
    """

    source: End
    target: End
    network: nn.Module | None
    transferred: Tensor


MOST_HOPS = 3
"""Networks that a path may walk."""


class Edge(Plugin):
    """A task transfer: from one task's prediction to another's, and how it is scored.

    It names two ends, `from` and `to`, and has a network of its own; or it is a `path` of three
    tasks or more and walks the networks of the edges of its type between them. A path that ends
    where it begins is a cycle.
    """

    trains_network: ClassVar[bool] = True
    """False: `loss` leaves the network as it is, which learns from `own_loss` alone."""

    source: str = Field("", alias="from", description="task that is read; all: every one")
    target: str = Field("", alias="to", description="task that is predicted; all: every other one")
    path: tuple[str, ...] = Field(
        (), description="tasks on the way, 3 or 4, in place of from and to"
    )
    weight: float = Field(0.01, ge=0, le=1, description="λ: share of the charged task's loss")
    charge: Literal["source", "target"] = Field(
        "source", description="which task's loss it is mixed into"
    )
    detach_input: bool = Field(
        False, description="whether the source's prediction is cut off, so that only T learns"
    )
    edge_norm: Literal["none", "ema"] = Field(
        "none",
        description="ema: its loss counts in units of the charged task's own, by running means",
    )

    @model_validator(mode="after")
    def _names_its_ends(self) -> Edge:
        if self.path:
            _check_path(self)
        elif not self.source or not self.target:
            missing = "from" if not self.source else "to"
            raise ValueError(f"`{missing}` is missing. Add it, or name the tasks of a `path`")
        return self

    @model_serializer(mode="wrap")
    def _without_the_other_form(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write either both ends or a path."""
        left_out = {"source", "target", "from", "to"} if self.path else {"path"}
        return {key: value for key, value in handler(self).items() if key not in left_out}

    @property
    def hops(self) -> tuple[str, ...]:
        """Tasks on the way: both ends, or a path's."""
        return self.path or (self.source, self.target)

    @property
    def is_path(self) -> bool:
        """Whether it walks the networks of other edges and has none of its own."""
        return bool(self.path)

    @property
    def key(self) -> EdgeKey:
        """(*hops, type)."""
        return (*self.hops, self.type_name())

    @property
    def term(self) -> str:
        """What its loss is called in the log, behind `loss/`."""
        return f"{'_to_'.join(self.hops)}/{self.type_name()}"

    @property
    def charged_to(self) -> str:
        """The task whose loss this edge is mixed into."""
        return self.hops[0] if self.charge == "source" else self.hops[-1]

    @property
    def compared(self) -> str:
        """The task whose label says which elements are compared; counts for the mean loss."""
        return self.hops[-1]

    def refusal(self, source: Task, target: Task) -> str | None:
        """Return why it cannot join two tasks, in words without a full stop; None where it can.

        `all` passes over the pairs that are refused. By default these are those with a task that
        predicts a vector.

        Args:
            source: the task it would read.
            target: the task it would predict.
        """
        for task in (source, target):
            if task.vector:
                what = f"task {task.name!r} predicts one vector per image"
                return f"{self.type_name()} transfers maps, and {what}"
        return None

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
        """Return a loss that trains the network alone, or None.

        Only an edge whose `loss` leaves the network alone (`trains_network`) can have one. It is
        asked for where gradients are taken and the network is not frozen.

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


def _check_path(edge: Edge) -> None:
    """Refuse a path that cannot be walked.

    Raises:
        ValueError: in a sentence.
    """
    path, hops = edge.path, len(edge.path) - 1
    if edge.source or edge.target:
        raise ValueError("a path names all its tasks. Remove `from` and `to`, or `path`")
    if hops < 2:
        raise ValueError("a path has 3 tasks at least. Write `from` and `to` for an edge")
    if hops > MOST_HOPS:
        raise ValueError(f"a path of {hops} hops is too long. Name {MOST_HOPS + 1} tasks at most")
    inner = path[1:] if path[0] == path[-1] else path
    twice = sorted({name for name in inner if inner.count(name) > 1})
    if twice:
        message = f"the path visits {', '.join(twice)} twice; only its end may be its beginning"
        raise ValueError(f"{message}. Remove a hop")


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
