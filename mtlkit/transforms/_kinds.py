"""The label kinds: what is valid in them, and what a zoom does to their values."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torchvision import tv_tensors

VOID = 255
"""The value of class and edge maps, and of classes of images, that counts for nothing."""


@runtime_checkable
class LabelKind(Protocol):
    """What every label kind can do."""

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return the value, finite everywhere, and the bool mask of what is valid."""

    def zoomed(self, factor: float) -> Tensor:
        """Return it with its values as they are after the image was enlarged by `factor`."""

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> Tensor:
        """Return the label of one sample in which nothing is valid."""


class Map(tv_tensors.Mask):  # type: ignore[misc]  # torchvision has no types
    """A map of one sample; most kinds keep their values under a zoom."""

    nothing: ClassVar[float] = torch.nan
    """The value of an invalid pixel."""

    def zoomed(self, factor: float) -> Tensor:
        """Return the map itself: its values do not depend on size.

        Args:
            factor: enlargement of the image.
        """
        return self

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> Tensor:
        """Return a map in which nothing is valid.

        Args:
            channels: of the map.
            size: (H, W).
        """
        number = torch.uint8 if cls.nothing == VOID else torch.float32
        return cls(torch.full((channels, *size), cls.nothing, dtype=number))


class ClassMap(Map):
    """Class ids, (H,W) uint8; `VOID` is no class."""

    nothing = VOID

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return ids (0 where void), (H,W) int64, and the mask, (1,H,W)."""
        value = self.as_subclass(Tensor)
        valid = value != VOID
        return value.masked_fill(~valid, 0).long(), valid[None]

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> ClassMap:
        """Return a map that is void everywhere.

        Args:
            channels: not used; a class map has one.
            size: (H, W).
        """
        return cls(torch.full(size, VOID, dtype=torch.uint8))


class EdgeMap(Map):
    """Edges, (1,H,W) uint8: 1 on an edge, 0 beside it, `VOID` where it is not known.

    A smaller size keeps every edge: a pixel is one where any of its source pixels is.
    """

    nothing = VOID

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return 1 or 0 (0 where not known), float, and the mask, both (1,H,W)."""
        value = self.as_subclass(Tensor)
        return (value == 1).float(), value != VOID


class _DistanceMap(Map):
    """Distances, (C,H,W) float; NaN is invalid."""

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return the values (0 where invalid), (C,H,W), and the mask, (1,H,W)."""
        value = self.as_subclass(Tensor)
        return value.nan_to_num(0.0, 0.0, 0.0), value.isfinite().all(0, keepdim=True)


class DepthMap(_DistanceMap):
    """Depth along the optical axis; an enlarged image shows things nearer."""

    def zoomed(self, factor: float) -> DepthMap:
        """Return depth over `factor`.

        Args:
            factor: enlargement of the image.
        """
        return DepthMap(self.as_subclass(Tensor) / factor)


class DisparityMap(_DistanceMap):
    """Disparity, or anything proportional to inverse depth."""

    def zoomed(self, factor: float) -> DisparityMap:
        """Return disparity times `factor`.

        Args:
            factor: enlargement of the image.
        """
        return DisparityMap(self.as_subclass(Tensor) * factor)


class NormalMap(Map):
    """Unit normals of surfaces, (3,H,W) float; NaN is invalid.

    Axes are the camera's, as in OpenCV (x right, y down, z forward), and normals point towards it,
    so that a wall seen from the front has (0, 0, −1).
    """

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return normals (0 where invalid), (3,H,W), and the mask, (1,H,W)."""
        value = self.as_subclass(Tensor)
        valid = value.isfinite().all(0, keepdim=True)
        return torch.where(valid, value, 0.0), valid


class ImageClass(tv_tensors.TVTensor):  # type: ignore[misc]  # torchvision has no types
    """The class of a whole image, () uint8; `VOID` is no class. No transform changes it.

    Args:
        data: the class id.
    """

    def __new__(cls, data: int | Tensor) -> ImageClass:
        """Return the id as a label."""
        label: ImageClass = torch.as_tensor(data, dtype=torch.uint8).as_subclass(cls)
        return label

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return the id (0 where void), () int64, and whether there is one, () bool."""
        value = self.as_subclass(Tensor)
        valid = value != VOID
        return value.masked_fill(~valid, 0).long(), valid

    def zoomed(self, factor: float) -> ImageClass:
        """Return the label itself.

        Args:
            factor: enlargement of the image.
        """
        return self

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> ImageClass:
        """Return a label that is void.

        Args:
            channels: not used; a class has none.
            size: not used.
        """
        return cls(torch.full((), VOID, dtype=torch.uint8))
