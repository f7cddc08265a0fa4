"""A scene to an image with exact labels: one ray per pixel against every solid.

Depth, normals, classes and instances come from the same hit, so they agree with each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import culling, texture
from .edges import find_edges
from .geometry import (
    NEAREST,
    F,
    Floats,
    Rays,
    Solid,
    dot,
    rotated,
    unit,
)
from .scene import BASELINE_M, Camera, Light, Scene

_FAR = 200.0  # metres; what is further is sky
_SKY, _GROUND = -2, -1  # in maps of what is hit; 0 and more: the primitive of this number


@dataclass(frozen=True)
class Frame:
    """A rendered image and its labels; the camera's axes are x right, y down, z forward.

    Args:
        rgb: (H,W,3), in [0,1].
        depth: (H,W), along the optical axis, metres; 0 where no ray hits.
        normals: (H,W,3), unit vectors towards the camera, in its frame; 0 where no ray hits.
        classes: (H,W); 255 is void.
        instances: (H,W), number of the thing in this scene; 0: of none.
        disparity: (H,W), pixels at this width, for a baseline of 0.209 m; 0 where no ray hits.
        edges: (H,W), 1 at borders of things, creases and occlusions, else 0.
        intrinsics: (3,3), pixels; pixel centres have integer coordinates.
        light: what lit the scene.
    """

    rgb: Floats
    depth: Floats
    normals: Floats
    classes: NDArray[np.uint8]
    instances: NDArray[np.int32]
    disparity: Floats
    edges: NDArray[np.uint8]
    intrinsics: Floats
    light: Light

    @property
    def image(self) -> NDArray[np.uint8]:
        """The colours as bytes, (H,W,3)."""
        return (self.rgb * 255 + 0.5).astype(np.uint8)


@np.errstate(divide="ignore", invalid="ignore")  # infinite and undefined distances are no hits
def render(scene: Scene, height: int, width: int) -> Frame:
    """Return the scene as its camera sees it; equal bytes on every machine.

    Args:
        scene: what to look at.
        height: pixels.
        width: pixels.
    """
    axes = _camera_to_world(scene.camera)
    rays = _pixel_rays(scene.camera, axes, height, width)
    solids = [Solid(p) for p in scene.primitives]
    surface = _surface(scene, solids, rays, axes)
    shade = _sunshine(scene, solids, surface)
    rgb = _exposed(scene.light, surface, shade).reshape(3, height, width)
    return _frame(scene, surface, rgb, axes)


def _camera_to_world(camera: Camera) -> Floats:
    """Return (3,3), whose columns are the camera's axes in the world."""
    cy, sy = math.cos(camera.yaw), math.sin(camera.yaw)
    cp, sp = math.cos(camera.pitch), math.sin(camera.pitch)
    cr, sr = math.cos(camera.roll), math.sin(camera.roll)
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # a level camera that looks along Y
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    matrix = yaw.T
    for factor in (upright, pitch, roll):
        matrix = rotated(matrix, factor)  # component first: the transpose of matrix @ factor
    return matrix.T.astype(F)


def _pixel_rays(camera: Camera, axes: Floats, height: int, width: int) -> Rays:
    """Return rays (3,H,W) of the world whose length counts depth."""
    focal = camera.focal * width
    x = (np.arange(width, dtype=F) + F(0.5) - F(width / 2)) / F(focal)
    y = (np.arange(height, dtype=F) + F(0.5) - F(height / 2)) / F(focal)
    local = np.ones((3, height, width), F)
    local[0], local[1] = x, y[:, None]
    direction = rotated(local, axes.T)
    return Rays(np.array(camera.position, F)[:, None, None], direction, F(1) / direction)


@dataclass(frozen=True)
class _Surface:
    """What the K = H·W rays meet.

    Args:
        distance: (K,), depth in metres; 0 where nothing is hit.
        hit: (K,), whether anything is hit.
        points: (3,K), world, metres.
        normals: (3,K), world; 0 where nothing is hit.
        colour: (3,K), before lighting; of the sky where nothing is hit.
        classes: (K,).
        instances: (K,).
        shape: height and width.
    """

    distance: Floats
    hit: NDArray[np.bool_]
    points: Floats
    normals: Floats
    colour: Floats
    classes: NDArray[np.uint8]
    instances: NDArray[np.int32]
    shape: tuple[int, int]


def _first_hits(
    scene: Scene, solids: list[Solid], rays: Rays, axes: Floats
) -> tuple[Floats, NDArray[np.int16]]:
    """Return distance, infinite where nothing is hit, and what is hit, both (H,W)."""
    shape = height, width = rays.direction.shape[1:]
    distance, which = np.full(shape, np.inf, F), np.full(shape, _SKY, np.int16)
    if scene.ground is not None:
        down = -rays.origin[2] / rays.direction[2]
        below = (down > NEAREST) & (down < _FAR * 5)
        distance[below], which[below] = down[below], _GROUND
    boxes = culling.to_camera(culling.corners(scene.primitives), rays.origin, axes)
    windows = culling.windows(boxes, scene.camera.focal * width, height, width)
    for number, (solid, window) in enumerate(zip(solids, windows, strict=True)):
        if window is None:
            continue
        part = rays.part(window)
        new, nearest = solid.distance(part), distance[window]
        nearer = new < nearest
        np.copyto(nearest, new, where=nearer)
        np.copyto(which[window], np.int16(number), where=nearer)
    return distance, which


def _surface(scene: Scene, solids: list[Solid], rays: Rays, axes: Floats) -> _Surface:
    nearest, which = _first_hits(scene, solids, rays, axes)
    hit = nearest.ravel() < _FAR
    distance = np.where(hit, nearest.ravel(), F(0))
    origin, direction = rays.origin[:, 0], rays.direction.reshape(3, -1)
    points = origin + direction * distance
    normals, colour = np.zeros_like(direction), np.empty_like(direction)
    classes, instances = (
        np.full(hit.shape, scene.sky_class, np.uint8),
        np.zeros(hit.shape, np.int32),
    )
    for number, pixels in _groups(np.where(hit, which.ravel(), np.int16(_SKY))):
        if number == _SKY:
            colour[:, pixels] = texture.sky_colour(direction[:, pixels], scene.light)
        elif number == _GROUND:
            assert scene.ground is not None  # or it could not be hit
            normals[2, pixels] = 1
            road = texture.ground_colour(points[:, pixels], scene.ground)
            colour[:, pixels], classes[pixels] = road
        else:
            primitive, solid = scene.primitives[number], solids[number]
            normal = solid.normal(Rays(origin, direction[:, pixels]))
            local = solid.local_points(points[:, pixels]), solid.to_local(normal)
            normals[:, pixels] = normal
            colour[:, pixels] = texture.solid_colour(primitive, *local, number)
            classes[pixels], instances[pixels] = primitive.class_id, primitive.instance
    shape = rays.direction.shape[1:]
    return _Surface(distance, hit, points, normals, colour, classes, instances, shape)


def _groups(which: NDArray[np.int16]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each number that occurs in a flat map, with its pixels."""
    order = np.argsort(which, kind="stable")
    ends = np.flatnonzero(np.diff(which[order])) + 1
    for pixels in np.split(order, ends):
        yield int(which[pixels[0]]), pixels


def _sunshine(scene: Scene, solids: list[Solid], surface: _Surface) -> Floats:
    """Return the cosine between normal and sun, 0 in shadow, (K,)."""
    sun = unit(np.array(scene.light.sun, F))
    cosine = dot(surface.normals, sun)
    lit = np.flatnonzero((cosine > 0) & surface.hit)
    shade = np.zeros_like(cosine)
    if not scene.light.strength or not len(lit):
        return shade
    start = surface.points[:, lit] + surface.normals[:, lit] * F(0.02)  # off the surface itself
    shade[lit] = np.where(_sees_sun(scene, solids, start, sun), cosine[lit], 0)
    return shade


def _sees_sun(scene: Scene, solids: list[Solid], points: Floats, sun: Floats) -> NDArray[np.bool_]:
    """Return which points, (3,K), have nothing between them and the sun."""
    sideways = np.cross(sun, np.array([0, 0, 1], F))
    across = unit(sideways) if sideways.any() else np.array([1, 0, 0], F)  # sun overhead: any way
    up = np.cross(sun, across)
    u, v = dot(points, across), dot(points, up)
    rectangles = culling.light_rectangles(culling.corners(scene.primitives), across, up).T
    free = np.ones(points.shape[1], np.bool_)
    toward, inverse = sun[:, None], F(1) / sun[:, None]
    for primitive, solid, (left, right, low, high) in zip(
        scene.primitives, solids, rectangles, strict=True
    ):
        if not primitive.casts_shadow:
            continue
        near = np.flatnonzero((u >= left) & (u <= right) & (v >= low) & (v <= high) & free)
        if len(near):
            rays = Rays(points[:, near], toward, inverse)
            free[near] = np.isinf(solid.distance(rays))
    return free


def _exposed(light: Light, surface: _Surface, shade: Floats) -> Floats:
    """Return the colours that the camera records, (3,K), in [0,1]."""
    ambient = F(light.ambient) * (F(0.75) + F(0.25) * surface.normals[2])
    lit = surface.colour * (ambient + F(light.strength) * F(0.75) * shade)
    colour = np.where(surface.hit, lit, surface.colour)
    thickness = F(light.fog) * surface.distance
    # This haze grows like 1 − exp(−thickness), without an exp.
    haze = F(1) - F(1) / (F(1) + thickness + F(0.5) * thickness * thickness)
    horizon = np.array(light.horizon, F)[:, None]
    colour = np.clip(colour * (F(1) - haze) + horizon * haze, F(0), F(1))
    toned: Floats = F(0.7) * np.sqrt(colour) + F(0.3) * colour  # a tone curve without a power
    return toned


def _frame(scene: Scene, surface: _Surface, rgb: Floats, axes: Floats) -> Frame:
    height, width = surface.shape
    depth, hit = surface.distance.reshape(surface.shape), surface.hit.reshape(surface.shape)
    normals = np.where(surface.hit, rotated(surface.normals, axes), F(0))
    normals = normals.reshape(3, height, width)
    classes = surface.classes.reshape(surface.shape)
    instances = surface.instances.reshape(surface.shape)
    focal = scene.camera.focal * width
    disparity = np.where(hit, F(focal * BASELINE_M) / np.where(hit, depth, F(1)), F(0))
    middle = width / 2 - 0.5, height / 2 - 0.5
    intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]], F)
    return Frame(
        rgb=np.ascontiguousarray(rgb.transpose(1, 2, 0)),
        depth=depth,
        normals=np.ascontiguousarray(normals.transpose(1, 2, 0)),
        classes=classes,
        instances=instances,
        disparity=disparity,
        edges=find_edges(depth, normals, classes, instances),
        intrinsics=intrinsics,
        light=scene.light,
    )
