"""Which pixels a solid can cover, and which points it can shade: bounds by its corners."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .geometry import NEAREST, F, Floats, dot, rotated
from .scene import Primitive

_SIGNS = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], F).T
_PAIRS = np.array([(a, b) for a in range(8) for b in range(a)]).T  # edges and diagonals of a box
_BEHIND = 0.05  # metres along the axis; solids wholly nearer are not drawn


Window = tuple[slice, slice]
"""Rows and columns of an image."""


def corners(primitives: Sequence[Primitive]) -> Floats:
    """Return the eight corners of each primitive's bounding box, world, (3,P,8), metres."""
    half = np.array([p.half for p in primitives], F).reshape(-1, 3).T[..., None]
    centre = np.array([p.centre for p in primitives], F).reshape(-1, 3).T[..., None]
    cosine = np.array([math.cos(p.yaw) for p in primitives], F)[:, None]
    sine = np.array([math.sin(p.yaw) for p in primitives], F)[:, None]
    x, y, z = _SIGNS[:, None] * half
    return np.stack([x * cosine + y * -sine, x * sine + y * cosine, z]) + centre


def windows(points: Floats, focal: float, height: int, width: int) -> list[Window | None]:
    """Return for each solid the pixels that it may cover; None: there are none.

    Args:
        points: corners in the camera's frame, (3,P,8), metres.
        focal: focal length, pixels.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    clipped = _clipped(points.astype(np.float64))
    depth = clipped[2]
    u, v = clipped[0] / depth * focal + width / 2, clipped[1] / depth * focal + height / 2
    left, right = _bounds(u, width)
    top, bottom = _bounds(v, height)
    seen = (points[2].max(1) >= _BEHIND) & (left < right) & (top < bottom)
    return [
        (slice(top[i], bottom[i]), slice(left[i], right[i])) if seen[i] else None
        for i in range(len(seen))
    ]


def light_rectangles(points: Floats, across: Floats, up: Floats) -> NDArray[np.float32]:
    """Return (4,P): least and greatest coordinate across and up the plane that the sun looks at.

    Args:
        points: corners in the world, (3,P,8), metres.
        across: first axis of the plane, (3,).
        up: second axis of the plane, (3,).
    """
    u, v = dot(points, across), dot(points, up)
    return np.stack([u.min(1), u.max(1), v.min(1), v.max(1)])


def to_camera(points: Floats, position: Floats, camera_to_world: Floats) -> Floats:
    """Return points of the world in the camera's frame.

    Args:
        points: (3,P,8), metres.
        position: of the camera, (3,1,1), metres.
        camera_to_world: (3,3), the camera's axes as columns.
    """
    return rotated(points - position, camera_to_world)


def _clipped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (3,P,8+28): corners and crossings with the nearest plane, NaN where there is none."""
    start, end = points[..., _PAIRS[0]], points[..., _PAIRS[1]]
    share = (NEAREST - start[2]) / (end[2] - start[2])
    crossing = start + np.where((share > 0) & (share < 1), share, np.nan) * (end - start)
    visible = np.where(points[2] >= NEAREST, points, np.nan)
    return np.concatenate([visible, crossing], -1)


def _bounds(
    position: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first pixel and last pixel + 1, with a pixel to spare, inside the image."""
    low = np.clip(np.fmin.reduce(position, 1) - 1, 0, size)
    high = np.clip(np.fmax.reduce(position, 1) + 2, 0, size)
    return np.nan_to_num(low).astype(np.int64), np.nan_to_num(high).astype(np.int64)
