"""Plugins without tasks: the base class, encoder, architecture and data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from mtlkit.fingerprint import of_source
from mtlkit.structures import FeatureSpec, FieldSpec

if TYPE_CHECKING:
    from mtlkit.contracts.task import Task
    from mtlkit.recipe import Recipe

Side = Annotated[int, Field(ge=1, le=8192)]


class Plugin(BaseModel, ABC):
    """Base of all plugin classes; `forward` of what it builds reads declared fields only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
    )

    @classmethod
    def type_name(cls) -> str:
        """Return the word that selects this class in a recipe."""
        name: str = cls.model_fields["type"].default
        return name

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Return sentences, each a reason why this recipe cannot work; shown by `mtlkit check`.

        Args:
            recipe: the whole recipe, valid in itself.
        """
        return ()


class Encoder(Plugin):
    """Image to feature maps."""

    @abstractmethod
    def build_encoder(self) -> tuple[nn.Module, FeatureSpec]:
        """Return a module, (N,3,H,W) in [0,1] to a list of maps (finest first), and their spec.

        The module may have `stages: nn.ModuleList`, a chain of Sequentials of blocks.
        """

    def untrained(self) -> Encoder:
        """Return an encoder of the same shape that reads no pretrained weights; by default itself.

        Built where a checkpoint will give the weights.
        """
        return self


class Architecture(Plugin):
    """Image to one prediction per task; what ships."""

    uses_encoder: ClassVar[bool] = True

    @abstractmethod
    def build_architecture(self, encoder: Encoder | None, tasks: Mapping[str, Task]) -> nn.Module:
        """Return a module, (N,3,H,W) to `Output`.

        Args:
            encoder: None where `uses_encoder` is False.
            tasks: by name, in the recipe's order.
        """


class Dataset(Plugin):
    """Samples with labels."""

    size: tuple[Side, Side] = Field(description="height and width of the samples, in pixels")
    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "none"

    @property
    @abstractmethod
    def offers(self) -> Mapping[str, FieldSpec]:
        """Every label and extra that a sample may hold."""

    @abstractmethod
    def build_split(self, split: str, wants: frozenset[str]) -> TorchDataset[dict[str, Tensor]]:
        """Return samples as dicts of tv_tensors: "image" and the wanted names; one may be missing.

        Args:
            split: "train" or "val".
            wants: names of `offers` that the recipe uses.

        Raises:
            MissingError: files are not there; the message says which and what to do.
        """

    def fingerprint(self, split: str, wants: frozenset[str]) -> str:
        """Return what decides the samples beside the fields; keys the cache of decoded samples.

        By default the source of the class's module and of private helpers beside it; what reads
        files adds them (`mtlkit.fingerprint.of_files`).

        Args:
            split: "train" or "val".
            wants: names of `offers` that the recipe uses.
        """
        return of_source(type(self).__module__)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """Return what varies a training sample, or None; it draws from torch's generator alone."""
        return None
