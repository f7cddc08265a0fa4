"""Edges of a rendered image, from its exact labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .geometry import F, Floats, dot

_SMOOTH_COSINE = 0.9  # normals of neighbours that differ more are a crease
_SMOOTH_BEND = 0.05  # second difference of inverse depth, as a share of inverse depth


def find_edges(
    depth: Floats, normals: Floats, classes: NDArray[np.uint8], instances: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """Return 1 where a thing ends, its surface turns or hides another, else 0; (H,W).

    On a plane inverse depth is affine in the pixel, however slanted it is, so an occlusion is where
    the second difference of inverse depth is not small.

    Args:
        depth: (H,W), metres, 0 where nothing is hit.
        normals: (3,H,W).
        classes: (H,W).
        instances: (H,W).
    """
    hit = depth > 0
    inverse = np.where(hit, 1 / np.where(hit, depth, F(1)), F(0))
    edges = np.zeros(depth.shape, np.bool_)
    for axis in (0, 1):
        # The swapped arrays are views: writing to `rows` marks `edges`.
        rows, swapped = edges.swapaxes(0, axis), inverse.swapaxes(0, axis)
        rows[:-1] |= _borders([m.swapaxes(0, axis) for m in (classes, instances, hit)])
        there = hit.swapaxes(0, axis)
        turned = normals.swapaxes(1, axis + 1)
        crease = dot(turned[:, :-1], turned[:, 1:]) < _SMOOTH_COSINE
        rows[:-1] |= crease & there[:-1] & there[1:]
        bend = np.abs(swapped[:-2] - 2 * swapped[1:-1] + swapped[2:])
        rows[1:-1] |= bend > F(_SMOOTH_BEND) * np.maximum(swapped[1:-1], F(1e-3))
    return edges.astype(np.uint8)


def _borders(maps: list[NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Return where any map differs from its next row."""
    differs = np.zeros(maps[0][1:].shape, np.bool_)
    for values in maps:
        differs |= values[:-1] != values[1:]
    return differs
