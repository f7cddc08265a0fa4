"""Rays against solids, exactly; vectors are component first, (3, …), float32.

Only IEEE sums, products, quotients and roots of single numbers are used, in a fixed order (no
matrix product, no power), so the bits do not depend on the machine or its BLAS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scene import Primitive, Shape

Floats = NDArray[np.float32]
F = np.float32
NEVER = F(np.inf)
NEAREST = 1e-3  # a hit nearer than this many ray lengths is the surface that the ray left


@dataclass(frozen=True)
class Rays:
    """Half-lines origin + t·direction.

    Args:
        origin: (3, …), metres.
        direction: (3, …); the two broadcast against each other.
        inverse: 1 / direction where it is known already, which saves its quotients.
    """

    origin: Floats
    direction: Floats
    inverse: Floats | None = None

    def part(self, window: tuple[slice, slice]) -> Rays:
        """Return the rays of some rows and columns of an image that has one origin."""
        rays = (slice(None), *window)
        inverse = None if self.inverse is None else self.inverse[rays]
        return Rays(self.origin, self.direction[rays], inverse)

    def at(self, distance: Floats) -> Floats:
        """Return the points at these distances.

        Args:
            distance: (…), in lengths of the direction.
        """
        return self.origin + self.direction * distance


def rotated(vectors: Floats, matrix: Floats) -> Floats:
    """Return the row vectors times the matrix.

    Args:
        vectors: (3, …).
        matrix: (3,3).
    """
    x, y, z = vectors
    return np.stack([x * matrix[0, j] + y * matrix[1, j] + z * matrix[2, j] for j in range(3)])


def dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products.

    Args:
        a: (3, …).
        b: (3, …), broadcast.
    """
    product: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def unit(vectors: Floats) -> Floats:
    """Return the vectors over their lengths.

    Args:
        vectors: (3, …).
    """
    units: Floats = np.divide(vectors, np.sqrt(dot(vectors, vectors)))
    return units


class Solid:
    """A primitive in its own frame: centre at the origin, axes along the half extents.

    Args:
        primitive: what it is.
    """

    def __init__(self, primitive: Primitive) -> None:
        self.shape = primitive.shape
        self.half = np.array(primitive.half, F)
        self.centre = np.array(primitive.centre, F)
        self.is_turned = primitive.yaw != 0
        self._cosine, self._sine = F(math.cos(primitive.yaw)), F(math.sin(primitive.yaw))

    def to_local(self, vectors: Floats) -> Floats:
        """Return directions of the world in the solid's frame, (3, …)."""
        return _turned(vectors, self._cosine, -self._sine) if self.is_turned else vectors

    def to_world(self, vectors: Floats) -> Floats:
        """Return directions of the solid's frame in the world, (3, …)."""
        return _turned(vectors, self._cosine, self._sine) if self.is_turned else vectors

    def local_points(self, points: Floats) -> Floats:
        """Return points of the world in the solid's frame, (3, …), metres."""
        return self.to_local(points - _like(self.centre, points))

    def distance(self, rays: Rays) -> Floats:
        """Return how far each ray of the world goes until it hits; infinite: never."""
        local = self._local_rays(rays)
        if self.shape == "box":
            return _box_distance(local, self.half)
        if self.shape == "ellipsoid":
            return _ellipsoid_distance(local, self.half)
        return _round_distance(local, self.half, self.shape)[0]

    def normal(self, rays: Rays) -> Floats:
        """Return unit normals of the world, (3, …), towards the viewer, where the rays hit."""
        local = self._local_rays(rays)
        if self.shape == "box":
            normal = _box_normal(local, self.half)
        elif self.shape == "ellipsoid":
            normal = _ellipsoid_normal(local, self.half)
        else:
            normal = _round_normal(local, self.half, self.shape)
        return self.to_world(normal)

    def _local_rays(self, rays: Rays) -> Rays:
        origin, direction = self.local_points(rays.origin), self.to_local(rays.direction)
        return Rays(origin, direction, None if self.is_turned else rays.inverse)


def _turned(vectors: Floats, cosine: np.float32, sine: np.float32) -> Floats:
    """Return vectors turned about z, counter-clockwise."""
    x, y, z = vectors
    return np.stack([x * cosine + y * -sine, x * sine + y * cosine, z])


def _like(vector: Floats, vectors: Floats) -> Floats:
    return vector.reshape(3, *[1] * (vectors.ndim - 1))


def _slabs(rays: Rays, half: Floats) -> tuple[Floats, Floats]:
    """Return where rays enter and leave the space between each pair of faces, (3, …)."""
    inverse = F(1) / rays.direction if rays.inverse is None else rays.inverse
    half = _like(half, rays.origin)
    low, high = (-half - rays.origin) * inverse, (half - rays.origin) * inverse
    return np.minimum(low, high), np.maximum(low, high)


def _box_distance(rays: Rays, half: Floats) -> Floats:
    enters, leaves = _slabs(rays, half)
    enter, leave = enters.max(0), leaves.min(0)
    return np.where((enter <= leave) & (enter > NEAREST), enter, NEVER)


def _box_normal(rays: Rays, half: Floats) -> Floats:
    axis = _slabs(rays, half)[0].argmax(0)  # the slab that is entered last
    return np.stack([np.where(axis == i, -np.sign(rays.direction[i]), F(0)) for i in range(3)])


def _ellipsoid_distance(rays: Rays, half: Floats) -> Floats:
    origin = rays.origin / _like(half, rays.origin)
    direction = rays.direction / _like(half, rays.direction)
    a, b = dot(direction, direction), dot(origin, direction)
    root = b * b - a * (dot(origin, origin) - 1)
    distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, NEVER)
    return np.where(distance > NEAREST, distance, NEVER)


def _ellipsoid_normal(rays: Rays, half: Floats) -> Floats:
    origin = rays.origin / _like(half, rays.origin)
    direction = rays.direction / _like(half, rays.direction)
    point = origin + direction * _ellipsoid_distance(rays, half)
    return unit(np.divide(point, _like(half, point)))


def _round_distance(rays: Rays, half: Floats, shape: Shape) -> tuple[Floats, NDArray[np.int8]]:
    """Return distances to a cylinder or cone, and which cap is hit: −1 low, 1 high, 0 the side."""
    (ox, oy, oz), (dx, dy, dz) = rays.origin, rays.direction
    radius, height = half[0], half[2]
    slope = radius / (2 * height) if shape == "cone" else F(0)
    reach = (
        slope * (height - oz) if shape == "cone" else radius
    )  # radius of the solid at the origin
    a = dx * dx + dy * dy - (slope * dz) ** 2
    b = ox * dx + oy * dy + slope * dz * reach
    root = b * b - a * (ox * ox + oy * oy - reach * reach)
    square_root = np.sqrt(np.maximum(root, 0))
    one, other = (-b - square_root) / a, (-b + square_root) / a
    side = np.minimum(one, other)
    side = np.where(side > NEAREST, side, np.maximum(one, other))
    on_side = (root > 0) & (np.abs(oz + side * dz) <= height) & (side > NEAREST)
    distance = np.where(on_side, side, NEVER)
    cap = np.zeros(distance.shape, np.int8)
    for end in (-1,) if shape == "cone" else (-1, 1):
        flat = (end * height - oz) / dz
        px, py = ox + flat * dx, oy + flat * dy
        nearer = (flat > NEAREST) & (px * px + py * py <= radius * radius) & (flat < distance)
        distance, cap = np.where(nearer, flat, distance), np.where(nearer, np.int8(end), cap)
    return distance, cap


def _round_normal(rays: Rays, half: Floats, shape: Shape) -> Floats:
    distance, cap = _round_distance(rays, half, shape)
    x, y, _ = rays.at(distance)
    slope = half[0] / (2 * half[2]) if shape == "cone" else F(0)
    side = unit(np.stack([x, y, slope * np.sqrt(x * x + y * y)]))
    flat = np.stack([np.zeros_like(x), np.zeros_like(x), cap.astype(F)])
    return np.where(cap != 0, flat, side)
