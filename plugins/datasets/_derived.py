"""Labels that a reader makes from others where the data set has no files for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtlkit.camera import Intrinsics
from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap, DepthMap, EdgeMap, NormalMap

from ._maps import Maps

BOUNDARY = FieldSpec(EdgeMap)
NORMALS = FieldSpec(NormalMap, channels=3)
CAMERA = FieldSpec(Intrinsics)
METRES = FieldSpec(DepthMap, unit="m")
DEPTH_AT_ONE = FieldSpec(Tensor, shape=())
"""The extra that turns disparity into metres: the metres at which the label would be 1."""


def offered(classes: tuple[str, ...], depth: FieldSpec = METRES) -> dict[str, FieldSpec]:
    """Return what every reader of scenes offers: segmentation, depth, normals, boundary, camera.

    Args:
        classes: names by id.
        depth: what the label `depth` is.
    """
    return {
        "segmentation": FieldSpec(ClassMap, classes=classes),
        "depth": depth,
        "normals": NORMALS,
        "boundary": BOUNDARY,
        "camera": CAMERA,
    }


def with_derived(
    sample: dict[str, Tensor],
    wants: frozenset[str],
    depth: DepthMap | None,
    camera: Intrinsics | None,
    maps: Maps,
) -> dict[str, Tensor]:
    """Return what is wanted of a sample, with normals, boundary and camera where they can be had.

    Args:
        sample: labels that were read, those too that are not wanted.
        wants: names.
        depth: in metres, to derive normals from; None: unknown.
        camera: at the size of the labels.
        maps: that they were read by; all files are of the image's size.
    """
    found = dict(sample)
    classes = found.get("segmentation")
    if "boundary" in wants and "boundary" not in found and isinstance(classes, ClassMap):
        found["boundary"] = boundaries(classes)
    if "normals" in wants and "normals" not in found and depth is not None and camera is not None:
        found["normals"] = normals_of(depth, camera, maps, "image")
    if "camera" in wants and camera is not None:
        found["camera"] = camera
    return {name: value for name, value in found.items() if name in wants}


def normals_of(depth: Tensor, camera: Intrinsics, maps: Maps, name: str) -> NormalMap:
    """Return normals at the size of depth, derived from the pixels of the file that it shows.

    Each pixel of the file counts once, where it lies: taken to be at the centres of the new size,
    depth would bend slanted walls, and repeated pixels of a smaller file would be stairs.

    Args:
        depth: as read, (1,H,W), float, in any one unit.
        camera: at this size.
        maps: that depth was read by.
        name: of its file, or of one of the same size.
    """
    (rows, first_rows, row_of), (columns, first_columns, column_of) = (
        np.unique(at, return_index=True, return_inverse=True) for at in maps.sampled(name)
    )
    once = depth.as_subclass(Tensor)[:, first_rows][:, :, first_columns]
    normals = normals_from_depth(once, camera, torch.from_numpy(rows), torch.from_numpy(columns))
    return NormalMap(normals.as_subclass(Tensor)[:, row_of][:, :, column_of])


def scalar(value: float) -> Tensor:
    """Return a number as an extra.

    Args:
        value: the number.
    """
    return torch.tensor(value, dtype=torch.float32)
