"""Random maps of every kind, a camera, and what tests of transforms ask about them."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torchvision import tv_tensors

from mtlkit.camera import Intrinsics
from mtlkit.transforms import ClassMap, DepthMap, DisparityMap, EdgeMap, NormalMap

KINDS = (ClassMap, EdgeMap, DepthMap, DisparityMap, NormalMap)
FEW = settings(max_examples=40, derandomize=True, deadline=None)
SIZES = st.tuples(st.integers(3, 14), st.integers(3, 14))
SEEDS = st.integers(0, 2**16)
Size = tuple[int, int]


def random_map(kind: type[Tensor], size: Size, seed: int, invalid: float = 0.2) -> Tensor:
    """Return a map of a kind; which pixels are invalid depends on size and seed alone."""
    draws = torch.Generator().manual_seed(seed)
    holes = torch.rand(size, generator=draws) < invalid
    if kind is ClassMap:
        value = torch.randint(0, 19, size, generator=draws, dtype=torch.uint8)
    elif kind is EdgeMap:
        value = torch.randint(0, 2, (1, *size), generator=draws, dtype=torch.uint8)
    elif kind is NormalMap:
        value = normalize(torch.randn(3, *size, generator=draws), dim=0)
    else:
        value = torch.rand(1, *size, generator=draws) * 9 + 1
    return kind(value.masked_fill(holes, kind.nothing))


def random_camera(size: Size, seed: int) -> Intrinsics:
    """Return a camera whose pixels are no squares and whose axis misses the middle."""
    draws = torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()
    height, width = size
    fx, fy = width * (0.6 + draws[0]), width * (0.6 + draws[1])
    cx, cy = width * (0.3 + 0.4 * draws[2]), height * (0.3 + 0.4 * draws[3])
    return Intrinsics([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], canvas_size=size)


def pixels(size: Size) -> Tensor:
    """Return (u, v, 1) of every pixel, (3,H,W), float64."""
    down, across = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    return torch.stack([across, down, torch.ones_like(down)]).double()


def position_image(size: Size) -> tv_tensors.Image:
    """Return an image that says of each pixel where it is; bilinear resampling keeps that exact."""
    return tv_tensors.Image(pixels(size))


def seen_at(camera: Intrinsics, turn: Tensor, before: Intrinsics, positions: Tensor) -> Tensor:
    """Return where the points that `before` saw at `positions` are seen now, (2,N).

    Args:
        camera: K now.
        turn: of points, (3,3), that the transform made.
        before: K before.
        positions: (u, v, 1) before, (3,N).
    """
    now, then = (k.as_subclass(Tensor).double() for k in (camera, before))
    seen = now @ turn.double() @ then.inverse() @ positions
    return seen[:2] / seen[2]


def valid_of(value: Tensor) -> Tensor:
    """Return the mask of a map, (H,W)."""
    return value.to_label()[1][0]


def assert_same_map(found: Tensor, expected: Tensor, tolerance: float = 0.0) -> None:
    """Fail unless two maps agree in kind, type, shape, and value."""
    assert type(found) is type(expected)
    torch.testing.assert_close(
        found.as_subclass(Tensor),
        expected.as_subclass(Tensor),
        rtol=tolerance,
        atol=tolerance,
        equal_nan=True,
    )
