"""Label kinds, which say what is valid and what a zoom does to values, and the augmentation."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors

VOID = 255
"""The value of class maps that counts for nothing."""


@runtime_checkable
class LabelKind(Protocol):
    """What every label kind can do."""

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return the value, finite everywhere, and the bool mask of what is valid."""

    def zoomed(self, factor: float) -> Tensor:
        """Return the map with its values as they are after the image was enlarged by `factor`."""

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> Tensor:
        """Return a map of one sample in which nothing is valid."""


class ClassMap(tv_tensors.Mask):  # type: ignore[misc]  # torchvision has no types
    """Class ids, (H,W) uint8; `VOID` is no class."""

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return ids (0 where void), (H,W) int64, and the mask, (1,H,W)."""
        value = self.as_subclass(Tensor)
        valid = value != VOID
        return value.masked_fill(~valid, 0).long(), valid[None]

    def zoomed(self, factor: float) -> ClassMap:
        """Return the map itself: a class does not depend on size.

        Args:
            factor: enlargement of the image.
        """
        return self

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> ClassMap:
        """Return a map that is void everywhere.

        Args:
            channels: not used; a class map has one.
            size: (H, W).
        """
        return cls(torch.full(size, VOID, dtype=torch.uint8))


class _DistanceMap(tv_tensors.Mask):  # type: ignore[misc]
    """Distances, (1,H,W) float; NaN is invalid."""

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return the values (0 where invalid) and the mask, both (1,H,W)."""
        value = self.as_subclass(Tensor)
        valid = value.isfinite()
        return value.nan_to_num(0.0, 0.0, 0.0), valid

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> Tensor:
        """Return a map that is NaN everywhere.

        Args:
            channels: of the map.
            size: (H, W).
        """
        return cls(torch.full((channels, *size), torch.nan))


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


Scale = Annotated[float, Field(ge=1, le=4)]


class Augmentation(BaseModel):
    """Horizontal flip, then scale-crop: a random window of 1/scale of the size, enlarged to full.

    All random numbers come from torch's default generator. `official` options do what XTasC-Net's
    released code does where it differs: validity taken before the crop (D34 in docs/parity.md),
    values not rescaled by the zoom (D35).

    Source: XTasC-Net, released code (data loaders), also for the order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    scale_crop: tuple[Scale, ...] = Field(
        (1.0, 1.2, 1.5), min_length=1, description="enlargements, each as likely"
    )
    zoom_values: Literal["rescaled", "official"] = Field(
        "rescaled", description="whether a zoom changes depth and disparity, as geometry says"
    )
    masks: Literal["recomputed", "official"] = Field(
        "recomputed", description="whether validity follows the crop"
    )

    def __call__(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sample, varied; every map of it alike.

        Args:
            sample: tv_tensors by name, among them "image" (3,H,W); extras pass unchanged.
        """
        if torch.rand(()) < self.flip:
            sample = {name: _flipped(value) for name, value in sample.items()}
        scale = self.scale_crop[int(torch.randint(len(self.scale_crop), ()))]
        height, width = sample["image"].shape[-2:]
        h, w = int(height / scale), int(width / scale)
        top = int(torch.randint(height - h + 1, ()))
        left = int(torch.randint(width - w + 1, ()))
        if scale == 1:
            return sample
        window = (slice(top, top + h), slice(left, left + w))
        return {name: self._cropped(value, window, scale) for name, value in sample.items()}

    def _cropped(self, value: Tensor, window: tuple[slice, slice], scale: float) -> Tensor:
        if isinstance(value, tv_tensors.Image):
            enlarged: Tensor = tv_tensors.Image(_enlarged(value, window, "bilinear"))
            return enlarged
        if not isinstance(value, LabelKind):
            return value
        enlarged = _enlarged(value, window, "nearest")
        if self.masks == "official" and isinstance(value, _DistanceMap):
            before = value.as_subclass(Tensor).isfinite()
            enlarged = torch.where(before, enlarged.nan_to_num(0.0), torch.nan)
        kind = type(value)(enlarged)
        return kind.zoomed(scale) if self.zoom_values == "rescaled" else kind


def _flipped(value: Tensor) -> Tensor:
    if isinstance(value, tv_tensors.Image | LabelKind):
        flipped: Tensor = tv_tensors.wrap(value.as_subclass(Tensor).flip(-1), like=value)
        return flipped
    return value


def _enlarged(value: Tensor, window: tuple[slice, slice], mode: str) -> Tensor:
    """Return the window at full size; bilinear with aligned corners for images."""
    plain = value.as_subclass(Tensor)
    view = plain[(..., *window)]
    shape = (1, -1, *view.shape[-2:])
    aligned = {"align_corners": True} if mode == "bilinear" else {}
    size = plain.shape[-2:]
    big = functional.interpolate(view.reshape(shape).float(), size=size, mode=mode, **aligned)
    return big.reshape(plain.shape).to(plain.dtype)
