"""What each transform of torchvision does to the label kinds; importing it registers that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d
from torchvision.transforms.v2 import InterpolationMode, functional

from mtlkit.errors import UsageError
from mtlkit.transforms._kinds import (
    VOID,
    ClassMap,
    DepthMap,
    DisparityMap,
    EdgeMap,
    ImageClass,
    Map,
    NormalMap,
)

REFUSED = (functional.affine, functional.perspective, functional.elastic)
"""Transforms without a rule for labels."""


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
    assert isinstance(value, Map)
    return _like(functional.pad_mask(value.as_subclass(Tensor), padding, value.nothing), value)


def _rotate(
    value: Tensor,
    angle: float,
    interpolation: Any = None,
    expand: bool = False,
    center: Any = None,
    fill: Any = None,
) -> Tensor:
    assert isinstance(value, Map)
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
    assert isinstance(resized, Map)
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


def _unchanged(value: Tensor, *_: Any, **__: Any) -> Tensor:
    """Return the class of an image: it does not depend on the view."""
    return value


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
for _functional in (
    functional.horizontal_flip,
    functional.vertical_flip,
    functional.crop,
    functional.center_crop,
    functional.pad,
    functional.resize,
    functional.resized_crop,
    functional.rotate,
    *REFUSED,
):
    functional.register_kernel(_functional, ImageClass)(_unchanged)
