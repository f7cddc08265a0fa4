"""Labels and extras that every kind of scene has, straight from the renderer."""

from __future__ import annotations

import numpy as np
import torch

from mtlkit.camera import Intrinsics
from mtlkit.transforms import EdgeMap, NormalMap

from .render import Frame


def normal_map(frame: Frame) -> NormalMap:
    """Return the surfaces' normals, (3,H,W); NaN where no ray hits.

    Args:
        frame: whose camera has the axes of `NormalMap`.
    """
    normals = np.where(frame.depth[..., None] > 0, frame.normals, np.float32("nan"))
    return NormalMap(torch.from_numpy(normals).permute(2, 0, 1).contiguous())


def edge_map(frame: Frame) -> EdgeMap:
    """Return 1 at borders of things, creases and occlusions, else 0, (1,H,W); all is known.

    Args:
        frame: a picture.
    """
    return EdgeMap(torch.from_numpy(frame.edges)[None])


def intrinsics(frame: Frame) -> Intrinsics:
    """Return the camera's matrix.

    Args:
        frame: its picture.
    """
    height, width = frame.depth.shape
    return Intrinsics(frame.intrinsics, canvas_size=(height, width))
