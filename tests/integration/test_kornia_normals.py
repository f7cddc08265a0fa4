"""Our normals from depth against kornia's, and both against the rendered ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from mtlkit.camera import Intrinsics
from mtlkit.geometry import normals_from_depth
from mtlkit.transforms import DepthMap
from mtlkit_plugins.datasets._scenes.render import Frame, render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.street import street

kornia_depth = pytest.importorskip(
    "kornia.geometry.depth", reason="needs kornia: pip install 'mtlkit[dev]'"
)
SIZE = (64, 128)


def kornias(depth: Tensor, camera: Intrinsics) -> Tensor:
    """Return kornia's normals, (3,H,W), turned about: theirs look away from the camera."""
    plain, matrix = (x.as_subclass(Tensor).double()[None] for x in (depth, camera))
    return -kornia_depth.depth_to_normals(plain, matrix)[0]


def degrees_between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle of unit vectors, (3,N) each; exact for small ones too."""
    a, b = a.as_subclass(Tensor).double(), b.as_subclass(Tensor).double()
    return 2 * torch.atan2((a - b).norm(dim=0), (a + b).norm(dim=0)).rad2deg()


def camera_of(focal: float) -> Intrinsics:
    height, width = SIZE
    matrix = [[focal, 0, width / 2 + 3], [0, 1.1 * focal, height / 2 - 5], [0, 0, 1]]
    return Intrinsics(matrix, canvas_size=SIZE)


def waves(seed: int) -> DepthMap:
    """Return the depth of a surface whose curvature is small from pixel to pixel."""
    a, b, c, d = torch.rand(4, generator=torch.Generator().manual_seed(seed)).double()
    v, u = torch.meshgrid(*(torch.arange(n).double() for n in SIZE), indexing="ij")
    bumps = (u / (15 + 10 * a) + 6 * b).sin() + (v / (15 + 10 * c) + 6 * d).cos()
    return DepthMap((5 + 0.3 * bumps)[None].float())


@pytest.mark.parametrize("seed", range(4))
def test_normals_of_a_plane_are_kornias_turned_towards_the_camera(seed):
    camera = camera_of(100)
    normal = torch.randn(3, generator=torch.Generator().manual_seed(seed)).double()
    normal[2] = -3
    v, u = torch.meshgrid(*(torch.arange(n).double() for n in SIZE), indexing="ij")
    rays = camera.as_subclass(Tensor).double().inverse() @ torch.stack([u, v, u * 0 + 1]).flatten(1)
    depth = DepthMap((-6 / (normal @ rays)).view(1, *SIZE).float())
    assert (depth > 0).all()
    ours = normals_from_depth(depth, camera)[:, 1:-1, 1:-1]
    assert degrees_between(ours, kornias(depth, camera)[:, 1:-1, 1:-1]).max() < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_normals_of_a_smooth_surface_are_kornias(seed):
    """Kornia's differences are blurred (Sobel), which curvature would tell apart."""
    camera, depth = camera_of(100), waves(seed)
    ours = normals_from_depth(depth, camera)[:, 1:-1, 1:-1]
    apart = degrees_between(ours, kornias(depth, camera)[:, 1:-1, 1:-1])
    assert apart.median() < 0.005 and apart.max() < 0.01


def smooth(frame: Frame) -> Tensor:
    """Return where the 3×3 pixels around are of one surface, (H,W)."""
    broken = torch.from_numpy((frame.edges > 0) | (frame.depth == 0)).float()
    inside = max_pool2d(broken[None, None], 3, 1, 1)[0, 0] == 0
    inside[[0, -1]] = inside[:, [0, -1]] = False
    return inside


@pytest.mark.parametrize("kind", [street, room])
@pytest.mark.parametrize("seed", range(2))
def test_normals_from_rendered_depth_are_the_rendered_ones_where_it_is_smooth(kind, seed):
    frame = render(kind(seed), 128, 256)
    depth = DepthMap(torch.from_numpy(frame.depth).float()[None])
    camera = Intrinsics(frame.intrinsics, canvas_size=frame.depth.shape)
    ours, inside = normals_from_depth(depth, camera), smooth(frame)
    assert ours[:, inside].isfinite().all()
    exact = torch.from_numpy(np.moveaxis(frame.normals, -1, 0).copy())
    apart = degrees_between(ours[:, inside], exact[:, inside])
    theirs = degrees_between(kornias(depth, camera)[:, inside], exact[:, inside])
    assert apart.median() < 0.005
    assert apart.mean() <= theirs.mean() + 0.1
    # Occlusions within a thing of less than 5 % of the depth are no edges of `Frame`.
    assert (apart > 8).double().mean() < 0.02
