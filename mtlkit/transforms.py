"""Label kinds: what is valid in them, and what each transform of an image does to their values.

Every kind is a `tv_tensors.Mask` with kernels of its own, so that the transforms of torchvision
(v2, functions and classes) treat it right: flips, crop, resize, resized_crop, pad and rotate. What
has no rule (affine, perspective, elastic) is refused rather than done wrong. Pixels that come from
outside the image are invalid, whatever `fill` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode, functional

from mtlkit.errors import UsageError

VOID = 255
"""The value of class and edge maps that counts for nothing."""

REFUSED = (functional.affine, functional.perspective, functional.elastic)
"""Transforms without a rule for labels."""


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


class _Map(tv_tensors.Mask):  # type: ignore[misc]  # torchvision has no types
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


class ClassMap(_Map):
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


class EdgeMap(_Map):
    """Edges, (1,H,W) uint8: 1 on an edge, 0 beside it, `VOID` where it is not known.

    A smaller size keeps every edge: a pixel is one where any of its source pixels is.
    """

    nothing = VOID

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return 1 or 0 (0 where not known), float, and the mask, both (1,H,W)."""
        value = self.as_subclass(Tensor)
        return (value == 1).float(), value != VOID


class _DistanceMap(_Map):
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


class NormalMap(_Map):
    """Unit normals of surfaces, (3,H,W) float; NaN is invalid.

    Axes are the camera's, as in OpenCV (x right, y down, z forward), and normals point towards it,
    so that a wall seen from the front has (0, 0, −1).
    """

    def to_label(self) -> tuple[Tensor, Tensor]:
        """Return normals (0 where invalid), (3,H,W), and the mask, (1,H,W)."""
        value = self.as_subclass(Tensor)
        valid = value.isfinite().all(0, keepdim=True)
        return torch.where(valid, value, 0.0), valid


def middle(old: Sequence[int], new: int | Sequence[int]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the window in the middle, as torchvision rounds it.

    Args:
        old: (H, W) of the image.
        new: (H, W) of the window, or one number for both.
    """
    height, width = (new, new) if isinstance(new, int) else (*new, *new)[:2]
    return _margin(old[-2] - height), _margin(old[-1] - width), height, width


def _margin(spare: int) -> int:
    """Return what is cut off before the window; below 0: what is padded, never more than after."""
    return round(spare / 2) if spare > 0 else -(-spare // 2)


def refusal(kind: type[Tensor], name: str) -> Callable[..., Tensor]:
    """Return a kernel for a transform that has no rule for a kind.

    Args:
        kind: what cannot be transformed.
        name: of the transform.
    """

    def refuse(value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise UsageError(
            f"the transform {name!r} has no rule for {kind.__name__}. "
            "Use flips, crop, resize, resized_crop, pad or rotate"
        )

    return refuse


def _like(value: Tensor, other: Tensor) -> Tensor:
    return value.as_subclass(type(other))


def _crop(value: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    h, w = value.shape[-2:]
    sides = [max(-left, 0), max(-top, 0), max(left + width - w, 0), max(top + height - h, 0)]
    if any(sides):
        value = functional.pad(value, sides)
    top, left = max(top, 0), max(left, 0)
    plain = value.as_subclass(Tensor)
    return _like(plain[..., top : top + height, left : left + width], value)


def _center_crop(value: Tensor, output_size: int | list[int]) -> Tensor:
    cropped: Tensor = functional.crop(value, *middle(value.shape[-2:], output_size))
    return cropped


def _pad(value: Tensor, padding: Any, *_: Any, **__: Any) -> Tensor:
    """Return the map with margins that are invalid, whatever the image's repeat or mirror."""
    assert isinstance(value, _Map)
    return _like(functional.pad_mask(value.as_subclass(Tensor), padding, value.nothing), value)


def _rotate(
    value: Tensor,
    angle: float,
    interpolation: Any = None,
    expand: bool = False,
    center: Any = None,
    fill: Any = None,
) -> Tensor:
    assert isinstance(value, _Map)
    plain = value.as_subclass(Tensor)
    turned = functional.rotate_mask(plain, angle, expand, center, [float(value.nothing)])
    return _like(turned, value)


def _resize(
    value: Tensor, size: Any, interpolation: Any = None, max_size: int | None = None, **_: Any
) -> Tensor:
    """Return the pixel whose centre is nearest; torchvision's own masks lie half a pixel off."""
    return _like(_nearest(value.as_subclass(Tensor), size, max_size), value)


def _nearest(plain: Tensor, size: Any, max_size: int | None = None) -> Tensor:
    mode = InterpolationMode.NEAREST_EXACT
    planes = plain if plain.ndim > 2 else plain[None]
    resized: Tensor = functional.resize_image(planes, size, mode, max_size)
    return resized if plain.ndim > 2 else resized[0]


def _resize_edges(
    value: Tensor, size: Any, interpolation: Any = None, max_size: int | None = None, **_: Any
) -> Tensor:
    """Return any edge, else anything unknown, along axes that shrink; the nearest along others."""
    plain = value.as_subclass(Tensor)
    enlarged = _nearest(plain, size, max_size)
    smaller = [min(sizes) for sizes in zip(plain.shape[-2:], enlarged.shape[-2:], strict=True)]
    if smaller == list(plain.shape[-2:]):
        return _like(enlarged, value)
    flags = torch.stack([plain == 1, plain == VOID]).float()
    is_edge, is_unknown = adaptive_max_pool2d(flags, smaller).bool()
    shrunk = (is_unknown.to(plain.dtype) * VOID).masked_fill(is_edge, 1)
    return _like(_nearest(shrunk, list(enlarged.shape[-2:])), value)


def _resized_crop(
    value: Tensor, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any
) -> Tensor:
    """Return the window at the new size, values as the horizontal enlargement makes them."""
    resized = functional.resize(functional.crop(value, top, left, height, width), size)
    assert isinstance(resized, _Map)
    return resized.zoomed(resized.shape[-1] / width)


def _mirrored(axis: int) -> Callable[[Tensor], Tensor]:
    """Return a flip of normals: the component along x (0) or y (1) changes its sign."""

    def flip(value: Tensor) -> Tensor:
        flipped = value.as_subclass(Tensor).flip(-1 - axis)
        signs = torch.ones(3, 1, 1)
        signs[axis] = -1
        return _like(flipped * signs.to(flipped), value)

    return flip


def _rotate_normals(value: Tensor, angle: float, *args: Any, **kwargs: Any) -> Tensor:
    turned = _rotate(value, angle, *args, **kwargs).as_subclass(Tensor)
    x, y, z = turned.unbind(0)
    cosine, sine = torch.tensor(angle).deg2rad().cos(), torch.tensor(angle).deg2rad().sin()
    return _like(torch.stack([cosine * x + sine * y, cosine * y - sine * x, z]), value)


for _kind in (ClassMap, EdgeMap, DepthMap, DisparityMap, NormalMap):
    for _kernel, _functional in (
        (_crop, functional.crop),
        (_center_crop, functional.center_crop),
        (_pad, functional.pad),
        (_resize_edges if _kind is EdgeMap else _resize, functional.resize),
        (_resized_crop, functional.resized_crop),
        (_rotate_normals if _kind is NormalMap else _rotate, functional.rotate),
        *((refusal(_kind, f.__name__), f) for f in REFUSED),
    ):
        functional.register_kernel(_functional, _kind)(_kernel)
functional.register_kernel(functional.horizontal_flip, NormalMap)(_mirrored(0))
functional.register_kernel(functional.vertical_flip, NormalMap)(_mirrored(1))
