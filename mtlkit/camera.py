"""The camera as an extra of a sample, and what transforms of the image do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from mtlkit.transforms import REFUSED, middle, refusal


class Intrinsics(tv_tensors.TVTensor):  # type: ignore[misc]  # torchvision has no types
    """The camera's matrix K, (3,3) float32; NaN if not known. Pixel centres are at whole numbers.

    Transforms of the image change it so that K·X stays where the point X is seen; as normals do, X
    turns and flips with the image.

    Args:
        data: the matrix.
        canvas_size: (H, W) of the image that it belongs to.
    """

    canvas_size: tuple[int, int]

    def __new__(cls, data: Any, *, canvas_size: tuple[int, int]) -> Intrinsics:
        """Return the matrix as one that knows its image."""
        matrix: Intrinsics = torch.as_tensor(data, dtype=torch.float32).as_subclass(cls)
        matrix.canvas_size = (int(canvas_size[0]), int(canvas_size[1]))
        return matrix

    @classmethod
    def blank(cls, channels: int, size: tuple[int, int]) -> Intrinsics:
        """Return a matrix of which nothing is known.

        Args:
            channels: not used.
            size: (H, W).
        """
        return cls(torch.full((3, 3), torch.nan), canvas_size=size)

    @classmethod
    def _wrap_output(cls, output: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Return what torch made of a matrix, which knows its image too; torchvision calls this."""
        known = next((x.canvas_size for x in args if isinstance(x, Intrinsics)), None)
        if not isinstance(output, Tensor) or known is None:
            return output
        matrix: Intrinsics = output.as_subclass(cls)
        matrix.canvas_size = known
        return matrix


def rewrapped(value: Tensor, other: Tensor) -> Tensor:
    """Return plain numbers as what another tensor is, with what else it knows.

    Args:
        value: the numbers.
        other: of any kind, or a plain tensor.
    """
    if isinstance(other, Intrinsics):
        return Intrinsics(value, canvas_size=other.canvas_size)
    return value.as_subclass(type(other))


def _mapped(
    camera: Intrinsics, image: Tensor, size: tuple[int, int], world: Tensor | None = None
) -> Intrinsics:
    """Return the matrix after pixels are moved by `image` and points by `world`, both (3,3)."""
    matrix = image @ camera.as_subclass(Tensor).double()
    if world is not None:
        matrix = matrix @ world.inverse()
    return Intrinsics(matrix, canvas_size=size)


def _matrix(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor([*rows, (0.0, 0.0, 1.0)], dtype=torch.float64)


def _size_after(camera: Intrinsics, transform: Any, *args: Any, **kwargs: Any) -> tuple[int, int]:
    """Return the size that torchvision itself gives an image."""
    mask = tv_tensors.Mask(torch.zeros(1, *camera.canvas_size, dtype=torch.uint8))
    height, width = transform(mask, *args, **kwargs).shape[-2:]
    return height, width


def _horizontal_flip(camera: Intrinsics) -> Intrinsics:
    last = camera.canvas_size[1] - 1
    turn = _matrix((-1, 0, 0), (0, 1, 0))
    return _mapped(camera, _matrix((-1, 0, last), (0, 1, 0)), camera.canvas_size, turn)


def _vertical_flip(camera: Intrinsics) -> Intrinsics:
    last = camera.canvas_size[0] - 1
    turn = _matrix((1, 0, 0), (0, -1, 0))
    return _mapped(camera, _matrix((1, 0, 0), (0, -1, last)), camera.canvas_size, turn)


def _crop(camera: Intrinsics, top: int, left: int, height: int, width: int) -> Intrinsics:
    return _mapped(camera, _matrix((1, 0, -left), (0, 1, -top)), (height, width))


def _center_crop(camera: Intrinsics, output_size: int | list[int]) -> Intrinsics:
    return _crop(camera, *middle(camera.canvas_size, output_size))


def _resize(camera: Intrinsics, size: Any, *args: Any, **kwargs: Any) -> Intrinsics:
    new = _size_after(camera, functional.resize, size, max_size=kwargs.get("max_size"))
    y, x = (after / before for after, before in zip(new, camera.canvas_size, strict=True))
    return _mapped(camera, _matrix((x, 0, (x - 1) / 2), (0, y, (y - 1) / 2)), new)


def _resized_crop(
    camera: Intrinsics, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any
) -> Intrinsics:
    return _resize(_crop(camera, top, left, height, width), size)


def _pad(camera: Intrinsics, padding: Any, *args: Any, **kwargs: Any) -> Intrinsics:
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top = sides[0], sides[min(1, len(sides) - 1)]
    new = _size_after(camera, functional.pad, padding)
    return _mapped(camera, _matrix((1, 0, left), (0, 1, top)), new)


def _rotate(
    camera: Intrinsics,
    angle: float,
    interpolation: Any = None,
    expand: bool = False,
    center: Any = None,
    fill: Any = None,
) -> Intrinsics:
    new = old = camera.canvas_size
    if expand:
        new = _size_after(camera, functional.rotate, angle, expand=expand, center=center)
    x, y = (old[1] / 2, old[0] / 2) if center is None else center
    x, y = x - 0.5, y - 0.5  # torchvision counts from the corner of the first pixel
    to_x, to_y = x + (new[1] - old[1]) / 2, y + (new[0] - old[0]) / 2
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    image = _matrix(
        (cosine, sine, to_x - cosine * x - sine * y), (-sine, cosine, to_y + sine * x - cosine * y)
    )
    return _mapped(camera, image, new, _matrix((cosine, sine, 0), (-sine, cosine, 0)))


for _kernel, _functional in (
    (_horizontal_flip, functional.horizontal_flip),
    (_vertical_flip, functional.vertical_flip),
    (_crop, functional.crop),
    (_center_crop, functional.center_crop),
    (_resize, functional.resize),
    (_resized_crop, functional.resized_crop),
    (_pad, functional.pad),
    (_rotate, functional.rotate),
    *((refusal(Intrinsics, f.__name__), f) for f in REFUSED),
):
    functional.register_kernel(_functional, Intrinsics)(_kernel)
