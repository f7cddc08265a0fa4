"""Plugins without tasks: the base class, encoder, architecture and data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from mtlkit.fingerprint import of_sources
from mtlkit.sections import LabelsPerImage
from mtlkit.structures import FeatureSpec, FieldSpec

if TYPE_CHECKING:
    from mtlkit.contracts.task import Task
    from mtlkit.recipe import Recipe

_MAKE_LABELS = ("mtlkit.transforms", "mtlkit.camera", "mtlkit.geometry")
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
    """False: it has its own, and its recipes have no `encoder`."""

    @abstractmethod
    def build_architecture(self, encoder: Encoder | None, tasks: Mapping[str, Task]) -> nn.Module:
        """Return a module, (N,3,H,W) to `Output`.

        Args:
            encoder: None where `uses_encoder` is False.
            tasks: by name, in the recipe's order.
        """


class Dataset(Plugin):
    """Samples with labels.

    The fields below serve every data set; what a plugin builds does not look at those after `size`.
    """

    size: tuple[Side, Side] = Field(description="height and width of the samples, in pixels")
    name: str = Field("", description="what it is called beside others; default: its type")
    ratio: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="of the training samples, beside others; null: as many as it has",
    )
    labels: tuple[str, ...] | None = Field(None, description="labels it gives; null: all")
    rename: dict[str, str] = Field({}, description="its name of a label: the name in this recipe")
    labels_per_image: LabelsPerImage | None = Field(
        None, description="which labels are hidden in training; null: none"
    )
    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "none"
    """Where decoded samples are kept with `loader.cache: auto`."""

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

        By default the source of the modules of the class and its bases, of private helpers beside
        them and of mtlkit's label kinds; what reads files adds them (`fingerprint.of_files`).

        Args:
            split: "train" or "val".
            wants: names of `offers` that the recipe uses.
        """
        bases = [c for c in type(self).__mro__ if issubclass(c, Dataset) and c is not Dataset]
        return of_sources([*(c.__module__ for c in bases), *_MAKE_LABELS])

    @property
    def title(self) -> str:
        """What it is called beside other data sets."""
        return self.name or self.type_name()

    @property
    def gives(self) -> Mapping[str, str]:
        """Its own name of each label and extra that it gives, by the name in the recipe."""
        return {name: own for own, name in self.named}

    @property
    def named(self) -> list[tuple[str, str]]:
        """Its own name of each label and extra that it gives, and the name in the recipe."""
        return [
            (own, self.rename.get(own, own))
            for own, spec in self.offers.items()
            if self.labels is None or own in self.labels or not spec.is_label
        ]

    @property
    def image_dtype(self) -> torch.dtype:
        """Type of the samples' images: uint8, or float32 in [0,1]."""
        return torch.uint8

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """Return what varies a training sample, or None; it draws from torch's generator alone."""
        return None
