"""NYUv2's labels from the numbers in its files, whatever the layout."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from mtlkit.camera import Intrinsics
from mtlkit.errors import MissingError
from mtlkit.transforms import VOID, ClassMap, DepthMap, EdgeMap, NormalMap

from ._axes import Axes, check_direction, in_camera_axes
from ._contents import decoded, load_array
from ._maps import Maps
from ._nyuv2_labels import CLASSES, Classes, forty_to_class

# Source: the toolbox of NYUv2, camera_params.m, colour camera; 480×640 pixels. Its code projects
# with meshgrid(1:640, 1:480), so that cx and cy count from 1; pixel centres here count from 0.
_CX, _CY = 325.58244941119034 - 1, 253.73616633400465 - 1
KINECT = ((518.85790117450188, 0, _CX), (0, 519.46961112127485, _CY))
KINECT_SIZE = (480, 640)
_LONGEST = 1.05  # of a normal in an array: resizing shortens unit vectors, nothing lengthens them
_LENGTHS = (0.5, 1.5)  # of a normal in a picture; grey (no direction) and black lie outside


def read_labels(maps: Maps, classes: Classes, axes: Axes) -> dict[str, Tensor]:
    """Return the labels that a sample has files for.

    Args:
        maps: reads its files, which are named as the labels are.
        classes: how many classes to tell apart.
        axes: of the camera, by those of the files' normals.

    Raises:
        MissingError: a file cannot be read, or is not what it should be.
    """
    labels: dict[str, Tensor] = {}
    if "segmentation" in maps:
        labels["segmentation"] = _segmentation(maps, classes)
    if "depth" in maps:
        labels["depth"] = depth_map(maps, maps.array("depth"))
    if "normals" in maps:
        labels["normals"] = _normals(maps, axes)
    if "boundary" in maps:
        labels["boundary"] = _boundary(maps)
    return labels


def depth_map(maps: Maps, values: Tensor) -> DepthMap:
    """Return depth in metres, (1,H,W); 0, NaN and infinity are invalid.

    Args:
        maps: knows the file of "depth".
        values: of the file, (1,H,W).

    Raises:
        MissingError: a value is negative, or none is finite.
    """
    depth = _of_channels(maps, "depth", values, 1).float()
    is_finite = depth.isfinite()
    if (is_finite & (depth < 0)).any() or not is_finite.any():
        what = "depth that is negative" if is_finite.any() else "no depth that is finite"
        raise MissingError(
            f"{maps.files['depth']}: holds {what}; expected metres, 0 or NaN where it is not "
            "known. Write or copy this file again"
        )
    return DepthMap(depth.masked_fill(~is_finite | (depth == 0), torch.nan))


def kinect(maps: Maps) -> Intrinsics:
    """Return the camera's matrix at the size of the sample, whose image is a whole one.

    Args:
        maps: has read the image.

    Raises:
        MissingError: the image has not the shape of the camera's.
    """
    assert maps.source_size is not None  # the image is read first
    (height, width), (full_height, full_width) = maps.source_size, KINECT_SIZE
    if abs(height * full_width - width * full_height) > full_width:  # a pixel of height
        raise MissingError(
            f"{maps.files['image']}: is {height}×{width} (height×width), so no whole image of the "
            "Kinect, 480×640 or a resized one, and its camera is not known. Give whole images, or "
            "use no label, metric or edge that needs `camera`"
        )
    camera = Intrinsics([*KINECT, (0, 0, 1)], canvas_size=KINECT_SIZE)
    resized: Intrinsics = functional.resize(camera, list(maps.size))
    return resized


def _segmentation(maps: Maps, classes: Classes) -> ClassMap:
    path = maps.files["segmentation"]
    if path.suffix != ".npy":
        ids = maps.numbers("segmentation", "8-bit grey")[0]
        return maps.classes("segmentation", ids, forty_to_class(classes))
    ids = _of_channels(maps, "segmentation", maps.array("segmentation"), 1)[0].double()
    if not torch.equal(ids, ids.round()):  # nor is NaN equal to itself
        raise MissingError(
            f"{path}: holds numbers that are not whole, so no class ids. Give the label files "
            "themselves, not resized ones"
        )
    is_void = ids == -1
    table = torch.arange(len(CLASSES), dtype=torch.uint8).numpy()
    found = maps.classes("segmentation", ids.masked_fill(is_void, 0), table)
    return ClassMap(found.as_subclass(Tensor).masked_fill(is_void, VOID))


def _normals(maps: Maps, axes: Axes) -> NormalMap:
    """Return unit normals in the camera's axes from an array of vectors or a picture of them."""
    path = maps.files["normals"]
    if path.suffix == ".npy":
        vectors = _of_channels(maps, "normals", maps.array("normals"), 3).double()
        length = vectors.norm(dim=0)  # of a sum of components 0 could be a normal's
        if not (length <= _LONGEST).all():
            raise MissingError(
                f"{path}: holds vectors that are not finite or longer than 1. Give unit "
                "normals, and (0, 0, 0) where there is none"
            )
        is_valid = length > 0
    else:
        vectors = 2 * maps.numbers("normals", "8-bit RGB").double() / 255 - 1
        length = vectors.norm(dim=0)
        is_valid = (length > _LENGTHS[0]) & (length < _LENGTHS[1])
    unit = (in_camera_axes(vectors, axes) / length).masked_fill(~is_valid, torch.nan)
    check_direction(unit, path, "data.normal_axes", axes)
    return NormalMap(unit.float())


def _boundary(maps: Maps) -> EdgeMap:
    """Return edges; a smaller size keeps all of them."""
    path = maps.files["boundary"]
    values = load_array(path) if path.suffix == ".npy" else decoded(path, "8-bit grey")
    maps.agree("boundary", values)
    found = torch.from_numpy(values).reshape(*values.shape[:2], -1).permute(2, 0, 1).double()
    if not (_of_channels(maps, "boundary", found, 1) >= 0).all():
        raise MissingError(
            f"{path}: holds negative numbers or NaN; expected 0 beside an edge and more on one. "
            "Write or copy this file again"
        )
    edges: EdgeMap = functional.resize(EdgeMap((found > 0).to(torch.uint8)), list(maps.size))
    return edges


def _of_channels(maps: Maps, name: str, values: Tensor, channels: int) -> Tensor:
    if len(values) != channels:
        raise MissingError(
            f"{maps.files[name]}: has {len(values)} channels, expected {channels}. Give the "
            f"file of {name} that belongs to this image"
        )
    return values
