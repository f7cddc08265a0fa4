"""Labels that a reader makes from others where the data set has no files for them."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.camera import Intrinsics
from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap, DepthMap, EdgeMap, NormalMap

BOUNDARY = FieldSpec(EdgeMap)
NORMALS = FieldSpec(NormalMap, channels=3)
CAMERA = FieldSpec(Intrinsics)
DEPTH_AT_ONE = FieldSpec(Tensor, shape=())
"""The extra that turns disparity into metres: the metres at which the label would be 1."""


def with_derived(
    sample: dict[str, Tensor],
    wants: frozenset[str],
    depth: DepthMap | None,
    camera: Intrinsics | None,
) -> dict[str, Tensor]:
    """Return what is wanted of a sample, with normals, boundary and camera where they can be had.

    Args:
        sample: labels that were read, those too that are not wanted.
        wants: names.
        depth: in metres, to derive normals from; None: unknown.
        camera: at the size of the labels.
    """
    found = dict(sample)
    classes = found.get("segmentation")
    if "boundary" in wants and "boundary" not in found and isinstance(classes, ClassMap):
        found["boundary"] = boundaries(classes)
    if "normals" in wants and "normals" not in found and depth is not None and camera is not None:
        found["normals"] = normals_from_depth(depth, camera)
    if "camera" in wants and camera is not None:
        found["camera"] = camera
    return {name: value for name, value in found.items() if name in wants}


def scalar(value: float) -> Tensor:
    """Return a number as an extra.

    Args:
        value: the number.
    """
    return torch.tensor(value, dtype=torch.float32)
