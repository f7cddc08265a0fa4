"""Rendered scenes against Embree, which casts the same rays at the same solids as triangles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from mtlkit_plugins.datasets._scenes.render import Frame, render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.scene import Camera, Primitive, Scene
from mtlkit_plugins.datasets._scenes.street import street

trimesh = pytest.importorskip("trimesh", reason="needs trimesh: pip install 'mtlkit[dev]'")
embree = pytest.importorskip(
    "trimesh.ray.ray_pyembree",
    reason="needs embreex, which has wheels for x86-64 alone",
)

KINDS = pytest.mark.parametrize("kind", [street, room])
SEEDS = pytest.mark.parametrize("seed", range(5))
SIZE = (64, 128)
FAR = 200.0  # metres; what is further is sky
SIDES = 96  # of a cylinder or cone


@dataclass(frozen=True)
class Comparison:
    """Pixels that both see a surface at, K of them, and the images they are from.

    Args:
        depth_error: (K,), as a share of Embree's depth.
        cosine: (K,), between the two normals.
        shapes: (K,), of what Embree hits.
        solids: (K,), number of what Embree hits; the ground is the last.
        classes: (K,), that are rendered there.
        agrees: (H,W), both see the sky or nearly the same surface.
        edges: (H,W), rendered.
    """

    depth_error: np.ndarray
    cosine: np.ndarray
    shapes: np.ndarray
    solids: np.ndarray
    classes: np.ndarray
    agrees: np.ndarray
    edges: np.ndarray


@cache
def compared(kind, seed: int) -> Comparison:
    scene = kind(seed)
    frame = render(scene, *SIZE)
    depth, normals, solids = embree_image(scene, frame)
    both = (frame.depth > 0) & (depth > 0)
    difference = np.abs(frame.depth - depth) / np.where(both, depth, 1)
    cosine = (frame.normals * normals).sum(-1)
    same = both & (difference < 1e-2) & (cosine > 0.9)
    shapes = np.array([*(p.shape for p in scene.primitives), "ground"])
    return Comparison(
        depth_error=difference[both],
        cosine=cosine[both],
        shapes=shapes[solids[both]],
        solids=solids[both],
        classes=frame.classes[both],
        agrees=same | ((frame.depth == 0) & (depth == 0)),
        edges=frame.edges > 0,
    )


def embree_image(scene: Scene, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth, (H,W), metres, normals, (H,W,3), and number of the solid, (H,W).

    Embree decides in float32 which triangle a ray hits; where it hits it is found in float64.
    """
    meshes = [mesh_of(solid) for solid in scene.primitives]
    if scene.ground is not None:
        meshes.append(ground())
    mesh = trimesh.util.concatenate(meshes)
    owners = np.repeat(np.arange(len(meshes)), [len(m.faces) for m in meshes])
    axes, position = axes_of(scene.camera), np.array(scene.camera.position)
    rays = pixel_rays(frame) @ axes.T
    points, ray, face = embree.RayMeshIntersector(mesh).intersects_location(
        np.tile(position, (len(rays), 1)), rays, multiple_hits=False
    )
    distances = (points - position) @ axes[:, 2]
    near = distances < FAR
    ray, face = ray[near], face[near]
    depth, normals, solids = np.zeros(len(rays)), np.zeros((len(rays), 3)), np.zeros(len(rays), int)
    depth[ray] = distances[near]
    normals[ray] = mesh.face_normals[face] @ axes
    solids[ray] = owners[face]
    return depth.reshape(SIZE), normals.reshape(*SIZE, 3), solids.reshape(SIZE)


def mesh_of(solid: Primitive) -> trimesh.Trimesh:
    """Return a solid as triangles of the world, exactly if it is a box."""
    x, y, z = solid.half
    if solid.shape == "box":
        mesh = trimesh.creation.box(extents=(2 * x, 2 * y, 2 * z))
    elif solid.shape == "ellipsoid":
        mesh = trimesh.creation.icosphere(subdivisions=4)
        mesh.apply_scale(solid.half)
    elif solid.shape == "cylinder":
        mesh = trimesh.creation.cylinder(radius=x, height=2 * z, sections=SIDES)
    else:
        mesh = trimesh.creation.cone(radius=x, height=2 * z, sections=SIDES)
        mesh.apply_translation((0, 0, -z))  # its foot was at 0
    mesh.apply_transform(trimesh.transformations.rotation_matrix(solid.yaw, (0, 0, 1)))
    mesh.apply_translation(solid.centre)
    return mesh


def ground() -> trimesh.Trimesh:
    """Return a quad as wide as the view is at `FAR`."""
    corners = [(-FAR, -10, 0), (FAR, -10, 0), (FAR, 1.5 * FAR, 0), (-FAR, 1.5 * FAR, 0)]
    return trimesh.Trimesh(corners, [(0, 1, 2), (0, 2, 3)], process=False)


def axes_of(camera: Camera) -> np.ndarray:
    """Return (3,3): the camera's right, down and forward as columns, in the world."""
    turn = trimesh.transformations.rotation_matrix
    level = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # it looks along Y
    yaw = turn(camera.yaw, (0, 0, 1))[:3, :3]  # about up
    pitch = turn(camera.pitch, (1, 0, 0))[:3, :3]  # about right
    roll = turn(camera.roll, (0, 0, 1))[:3, :3]  # about forward
    return yaw @ level @ pitch @ roll


def pixel_rays(frame: Frame) -> np.ndarray:
    """Return rays of the camera's frame by its intrinsics, (H·W,3), float64."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    return pixels @ np.linalg.inv(frame.intrinsics.astype(float)).T


@KINDS
@SEEDS
def test_depth_and_normals_are_those_that_embree_finds(kind, seed):
    found = compared(kind, seed)
    assert len(found.cosine) > 0.5 * SIZE[0] * SIZE[1]
    assert np.median(found.depth_error) < 1e-6
    assert np.median(found.cosine) > 0.9999


@KINDS
@SEEDS
def test_pixels_that_embree_sees_otherwise_are_few_and_on_edges(kind, seed):
    """Triangles lie inside the round solid that they stand for, so its outline differs a little."""
    found = compared(kind, seed)
    rows, columns = np.nonzero(~found.agrees)
    assert len(rows) < 1e-3 * found.agrees.size
    for v, u in zip(rows, columns, strict=True):
        assert found.edges[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2].any(), (v, u)


@pytest.mark.parametrize("shape", ["box", "ground", "ellipsoid", "cylinder", "cone"])
def test_each_shape_is_the_one_that_embree_hits(shape):
    all_found = [compared(kind, seed) for kind in (street, room) for seed in range(5)]
    mine = [found.shapes == shape for found in all_found]
    error = np.concatenate([f.depth_error[m] for f, m in zip(all_found, mine, strict=True)])
    cosine = np.concatenate([f.cosine[m] for f, m in zip(all_found, mine, strict=True)])
    assert len(error) > 300
    if shape in ("box", "ground"):  # their triangles are exact
        assert np.quantile(error, 0.99) < 1e-6
        assert np.quantile(cosine, 0.01) > 1 - 1e-6
    else:  # a facet is off the round surface by up to (2π/96)²/8 of its radius
        assert np.median(error) < 2e-4
        assert np.median(cosine) > 0.9997
        assert np.quantile(cosine, 0.01) > 0.99


@KINDS
@SEEDS
def test_classes_are_those_of_the_solids_that_embree_hits(kind, seed):
    found, solids = compared(kind, seed), kind(seed).primitives
    classes = np.array([p.class_id for p in solids])
    solid = found.shapes != "ground"
    differs = found.classes[solid] != classes[found.solids[solid]]
    assert differs.mean() < 1e-3
