"""Rendered normals against those that kornia derives from the rendered depth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from mtlkit_plugins.datasets._scenes.render import Frame, render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.street import street

kornia_depth = pytest.importorskip(
    "kornia.geometry.depth", reason="needs kornia: pip install 'mtlkit[dev]'"
)
KINDS = pytest.mark.parametrize("kind", [street, room])
SEEDS = pytest.mark.parametrize("seed", range(4))


@cache
def frame_of(kind, seed: int) -> Frame:
    return render(kind(seed), 128, 256)


def depth_and_intrinsics(frame: Frame) -> tuple[Tensor, Tensor]:
    """Return depth (1,1,H,W), metres, and intrinsics (1,3,3), both float64."""
    return (
        torch.from_numpy(frame.depth).double()[None, None],
        torch.from_numpy(frame.intrinsics).double()[None],
    )


def smooth(frame: Frame) -> np.ndarray:
    """Return where the 3×3 pixels around are of one surface, (H,W)."""
    broken = torch.from_numpy((frame.edges > 0) | (frame.depth == 0)).float()
    inside = max_pool2d(broken[None, None], 3, 1, 1)[0, 0].numpy() == 0
    inside[[0, -1]] = inside[:, [0, -1]] = False  # kornia repeats the image's border
    return inside


@KINDS
@SEEDS
def test_kornias_normals_point_away_from_the_camera_and_are_else_the_rendered_ones(kind, seed):
    frame = frame_of(kind, seed)
    theirs = kornia_depth.depth_to_normals(*depth_and_intrinsics(frame))[0].movedim(0, -1).numpy()
    cosine = (theirs * frame.normals).sum(-1)[smooth(frame)]
    assert len(cosine) > 0.4 * frame.depth.size
    assert (cosine < 0).all()  # kornia: d/dx × d/dy, +z on a plane that faces the camera
    assert np.median(cosine) == pytest.approx(-1, abs=1e-6)
    # Occlusions within a thing of less than 5 % of the depth are no edges of `Frame`.
    assert (cosine > -0.99).mean() < 0.02
