"""Labels that follow from others: metres, normals and boundaries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mtlkit.transforms import VOID, ClassMap, DepthMap, EdgeMap, NormalMap


def points(
    depth: Tensor, intrinsics: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
) -> Tensor:
    """Return what every pixel shows, (3,H,W) float64, in the camera's axes and the unit of depth.

    Args:
        depth: along the optical axis, (1,H,W), float.
        intrinsics: K, (3,3); pixel centres at whole numbers.
        rows: where depth was sampled, (H,), in pixels of K; None: 0 to H − 1.
        columns: the same across, (W,); None: 0 to W − 1.
    """
    z = depth.as_subclass(Tensor).double()
    height, width = z.shape[-2:]
    down = (torch.arange(height) if rows is None else rows).to(z)
    across = (torch.arange(width) if columns is None else columns).to(z)
    v, u = torch.meshgrid(down, across, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)])
    rays = intrinsics.as_subclass(Tensor).to(z).inverse() @ pixels.flatten(1)
    return rays.view(3, height, width) * z


def normals_from_depth(
    depth: Tensor, intrinsics: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
) -> NormalMap:
    """Return the unit normals of the surface that depth describes, towards the camera.

    They are the cross product of the differences across the two neighbours on each axis, exact on
    planes. The border of one pixel and all within one pixel of an invalid depth are invalid.

    Args:
        depth: along the optical axis, (1,H,W), float, in any one unit; only finite values above 0
            are valid.
        intrinsics: K, (3,3), for these pixels; a K of another size bends every surface.
        rows: where depth was sampled, (H,), in pixels of K, ascending without repeats; None: 0 to
            H − 1. Depth that was resized to the nearest pixel was not sampled at the new centres:
            half a pixel of the old ones off is degrees on a slanted wall.
        columns: the same across, (W,); None: 0 to W − 1.

    Source: DenseMTL, arXiv 2206.08927, released code, which sums the cross products of neighbours
    (the same vector) and makes z positive; here axes are OpenCV's and z negative.
    """
    at = functional.pad(points(depth, intrinsics, rows, columns), (1, 1, 1, 1), value=torch.nan)
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
