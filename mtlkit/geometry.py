"""Labels that follow from others: metres, normals and boundaries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mtlkit.transforms import VOID, ClassMap, DepthMap, EdgeMap, NormalMap


def points(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return what every pixel shows, (3,H,W), in the camera's axes and the unit of depth.

    Args:
        depth: along the optical axis, (1,H,W), float.
        intrinsics: K, (3,3), for this size; pixel centres at whole numbers.
    """
    z = depth.as_subclass(Tensor).double()
    height, width = z.shape[-2:]
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([across, down, torch.ones_like(down)]).double()
    rays = intrinsics.as_subclass(Tensor).double().inverse() @ pixels.flatten(1)
    return rays.view(3, height, width) * z


def normals_from_depth(depth: Tensor, intrinsics: Tensor) -> NormalMap:
    """Return the unit normals of the surface that depth describes, towards the camera.

    They are the cross product of the differences across the two neighbours on each axis, exact on
    planes. The border of one pixel and all within one pixel of an invalid depth are invalid.

    Args:
        depth: along the optical axis, (1,H,W), float, in any one unit; only finite values above 0
            are valid.
        intrinsics: K, (3,3), for this size; a K of another size bends every surface.

    Source: DenseMTL, arXiv 2206.08927, released code, which sums the cross products of neighbours
    (the same vector) and makes z positive; here axes are OpenCV's and z negative.
    """
    at = functional.pad(points(depth, intrinsics), (1, 1, 1, 1), value=torch.nan)
    across = at[:, 1:-1, 2:] - at[:, 1:-1, :-2]
    down = at[:, 2:, 1:-1] - at[:, :-2, 1:-1]
    normal = functional.normalize(torch.linalg.cross(down, across, dim=0), dim=0, eps=1e-300)
    is_seen = at[2:, 1:-1, 1:-1].isfinite() & (at[2:, 1:-1, 1:-1] > 0)
    holes = functional.max_pool2d((~is_seen).float(), 3, 1, 1) > 0
    return NormalMap(normal.masked_fill(holes, torch.nan).float())


def boundaries(classes: ClassMap) -> EdgeMap:
    """Return 1 where the pixel to the right or below has another class, (1,H,W).

    No standard: benchmarks of edges (BSDS, NYUD) have hand-drawn or instance-wise ones. Void pixels
    are not known, and an edge to void is none.

    Args:
        classes: ids, (H,W).
    """
    ids = classes.as_subclass(Tensor)
    is_known = ids != VOID
    edges = torch.zeros_like(ids)
    for axis in (0, 1):
        size = ids.shape[axis] - 1
        here, there = ids.narrow(axis, 0, size), ids.narrow(axis, 1, size)
        both = is_known.narrow(axis, 0, size) & is_known.narrow(axis, 1, size)
        edges.narrow(axis, 0, size).logical_or_((here != there) & both)
    return EdgeMap(edges.masked_fill(~is_known, VOID)[None])


def metres(distance: Tensor, at_one: float) -> DepthMap:
    """Return depth in metres from disparity or inverse depth; what is not above 0 is invalid.

    Args:
        distance: (1,H,W), float.
        at_one: the metres at which `distance` would be 1.
    """
    value = distance.as_subclass(Tensor)
    return DepthMap(torch.where(value > 0, at_one / value, torch.nan))
