"""Colours from integer hash noise: the same bits on every machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scene import Ground, Light, Primitive, Texture, Triple

Floats = NDArray[np.float32]
F = np.float32

# Large odd multipliers spread neighbouring lattice points over 32 bits; any such would do.
_STEP_U = np.uint32(374761393)
_STEP_V = np.uint32(668265263)
_STEP_SEED = 2246822519
_MIX = np.uint32(1274126177)

_FAR_INSIDE = 50  # metres added before a modulo, so that no coordinate of a solid is negative


def noise(u: Floats, v: Floats, seed: int) -> Floats:
    """Return smooth noise in [0,1] with features of size 1.

    Args:
        u: first coordinate, any shape.
        v: second coordinate, same shape.
        seed: which noise.
    """
    left, low = np.floor(u), np.floor(v)
    a, b = _eased(u - left), _eased(v - low)
    column, row = _products(left, low, seed)
    right, above = column + _STEP_U, row + _STEP_V
    lower = _between(_mixed(column + row), _mixed(right + row), a)
    upper = _between(_mixed(column + above), _mixed(right + above), a)
    return _between(lower, upper, b)


def cells(u: Floats, v: Floats, seed: int) -> Floats:
    """Return one random number in [0,1] for each unit cell of the plane.

    Args:
        u: first coordinate, any shape.
        v: second coordinate, same shape.
        seed: which numbers.
    """
    column, row = _products(np.floor(u), np.floor(v), seed)
    return _mixed(column + row)


def _eased(share: Floats) -> Floats:
    """Return shares with level ends, so that cells meet without a kink."""
    return share * share * (F(3) - F(2) * share)


def _between(start: Floats, end: Floats, share: Floats) -> Floats:
    value: Floats = start * (F(1) - share) + end * share
    return value


def _products(u: Floats, v: Floats, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    offset = np.uint32((seed * _STEP_SEED) & 0xFFFFFFFF)
    column = u.astype(np.int64).astype(np.uint32) * _STEP_U
    row = v.astype(np.int64).astype(np.uint32) * _STEP_V + offset
    return column, row


def _mixed(number: NDArray[np.uint32]) -> Floats:
    number = (number ^ (number >> np.uint32(13))) * _MIX
    number ^= number >> np.uint32(16)
    return (number & np.uint32(0xFFFF)).astype(F) * F(1 / 65535)


def sky_colour(direction: Floats, light: Light) -> Floats:
    """Return a gradient with clouds, (3,K).

    Args:
        direction: world rays, (3,K).
        light: gives the colours of zenith and horizon.
    """
    x, y, z = direction
    height = np.clip(z * 2.5, 0, 1)
    colour = _column(light.horizon) * (1 - height) + _column(light.zenith) * height
    clouds = noise(x * 6 / (z + F(0.15)), y * 6 / (z + F(0.15)), 5)
    brighter: Floats = colour + F(0.12) * np.maximum(clouds - F(0.55), 0)
    return brighter


def ground_colour(points: Floats, ground: Ground) -> tuple[Floats, NDArray[np.uint8]]:
    """Return colour, (3,K), and class, (K,), of the road with its marks and of the grass.

    Args:
        points: world, (3,K), metres.
        ground: the road.
    """
    x, y = points[0], points[1]
    aside = np.abs(x)
    dashes = (aside < 0.08) & (np.mod(y, 6) < 3)
    kerb_lines = np.abs(aside - F(ground.half_width - 0.35)) < 0.06
    asphalt = _column(ground.colour) * (F(0.85) + F(0.3) * noise(x * 3, y * 3, 1))
    road = np.where(dashes | kerb_lines, F(0.82), asphalt)
    grass = _column((0.30, 0.42, 0.20)) * (F(0.7) + F(0.6) * noise(x * 2, y * 2, 2))
    off = aside > ground.half_width
    classes = np.where(off, ground.grass_class, ground.road_class).astype(np.uint8)
    return np.where(off, grass, road), classes


def solid_colour(solid: Primitive, points: Floats, normals: Floats, seed: int) -> Floats:
    """Return the textured colour of a solid's surface, (3,K).

    Args:
        solid: gives colour and texture.
        points: in the solid's own frame, (3,K), metres.
        normals: in the solid's own frame, (3,K).
        seed: which noise; the solid's place in the scene.
    """
    x, y, z = points
    axis = np.abs(normals).argmax(0)  # the side that a point lies on
    u, v = np.where(axis == 0, y, x), np.where(axis == 2, y, z)
    patch = _Patch(_column(solid.colour), u, v, y, axis < 2, seed)
    return _PAINTERS[solid.texture](patch)


@dataclass(frozen=True)
class _Patch:
    """A solid's surface: colour (3,1); for K points u, v on their side, y and whether upright."""

    colour: Floats
    u: Floats
    v: Floats
    y: Floats
    upright: NDArray[np.bool_]
    seed: int


def _plain(patch: _Patch) -> Floats:
    return np.broadcast_to(patch.colour, (3, len(patch.u)))


def _noisy(patch: _Patch) -> Floats:
    return patch.colour * (F(0.9) + F(0.2) * noise(patch.u * 6, patch.v * 6, patch.seed))


def _leaves(patch: _Patch) -> Floats:
    tufts = noise(patch.u * 7, patch.v * 7 + patch.y * 5, patch.seed)
    return patch.colour * (F(0.45) + F(1.1) * tufts)


def _brick(patch: _Patch) -> Floats:
    u, v = patch.u + _FAR_INSIDE, patch.v + _FAR_INSIDE
    shift = F(0.25) * np.mod(np.floor(v / 0.25), 2)  # every other row
    mortar = (np.mod(v, 0.25) < 0.04) | (np.mod(u + shift, 0.5) < 0.04)
    return patch.colour * np.where(mortar, F(0.75), F(1))


def _windows(patch: _Patch) -> Floats:
    plaster = patch.colour * (F(0.9) + F(0.2) * noise(patch.u * 5, patch.v * 5, patch.seed))
    u, v = patch.u + _FAR_INSIDE, patch.v + _FAR_INSIDE
    across, up = np.mod(u, 2.2), np.mod(v, 3.0)
    pane = (across > 0.6) & (across < 1.6) & (up > 0.9) & (up < 2.3) & patch.upright
    glass = F(0.15) + F(0.35) * cells(u / 2.2, v / 3.0, patch.seed)
    return np.where(pane, np.stack([glass, glass * F(1.1), glass * F(1.25)]), plaster)


_PAINTERS: dict[Texture, Callable[[_Patch], Floats]] = {
    "plain": _plain,
    "noise": _noisy,
    "leaves": _leaves,
    "brick": _brick,
    "windows": _windows,
}


def _column(colour: Triple) -> Floats:
    return np.array(colour, F)[:, None]
