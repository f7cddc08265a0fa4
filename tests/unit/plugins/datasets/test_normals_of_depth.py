"""Normals of a slanted plane, written as each data set has depth and read at any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures import (
    layouts_cityscapes,
    layouts_folder,
    layouts_nyuv2,
    layouts_synthia,
    layouts_vkitti2,
)

from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.folder import Folder
from mtlkit_plugins.datasets.nyuv2 import NYUv2
from mtlkit_plugins.datasets.synthia import Synthia
from mtlkit_plugins.datasets.vkitti2 import VirtualKitti2

SOURCE = (37, 61)
SIZES = [SOURCE, (16, 32), (30, 60), (50, 90), (80, 20), (111, 244)]  # the last: whole multiples
NORMAL = np.array([0.2, -0.4, -0.9]) / np.linalg.norm([0.2, -0.4, -0.9])
# Depth that is off by half a step h of the file moves a point h·d/z off a plane, d from the camera,
# and a normal's two neighbours are 2z/f apart or more: a tilt of h·d·f/z² along each axis. With the
# planes below that is 0.07° at most, so 0.1° in all; floats, with h/z = 6·10⁻⁸, come to 0.0002°.
WORST_DEGREES = {"floats": 0.0005, "steps": 0.1}


def depth_of_plane(focal, centre, full, distance, size=SOURCE):
    """Return the depth of the plane NORMAL · X = −distance, (H,W), in the unit of distance.

    Args:
        focal: fx and fy, pixels.
        centre: cx and cy, pixels.
        full: height and width of the image that these are for.
        distance: of the camera.
        size: of the file.
    """
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    u, v = (u + 0.5) * full[1] / size[1] - 0.5, (v + 0.5) * full[0] / size[0] - 0.5
    x, y = (u - centre[0]) / focal[0], (v - centre[1]) / focal[1]
    return -distance / (NORMAL[0] * x + NORMAL[1] * y + NORMAL[2])


def cityscapes(root):
    inner = layouts_cityscapes.CAMERA["intrinsic"]
    focal, centre = (inner["fx"], inner["fy"]), (inner["u0"], inner["v0"])
    full = (2048 * SOURCE[0] / SOURCE[1], 2048)
    disparity = 2262.52 * 0.209313 / depth_of_plane(focal, centre, full, 4)
    layouts_cityscapes.write_sample(root, SOURCE)
    path = layouts_cityscapes.path_of(root, "disparity")
    layouts_cityscapes.put(path, np.rint(disparity * 256 + 1).astype(np.uint16))
    return Cityscapes, {}


def vkitti2(root):
    depth = depth_of_plane((725.0087, 725.0087), (620.5, 187.0), (375, 1242), 400)
    for place in layouts_vkitti2.write_vkitti2(root, size=SOURCE):
        path = layouts_vkitti2.path_of(root, "depth", place)
        layouts_vkitti2.put(path, np.rint(100 * depth).astype(np.uint16))
    return VirtualKitti2, {}


def synthia(root):
    depth = depth_of_plane((532.740352, 532.740352), (640.0, 380.0), (760, 1280), 240)
    centimetres = np.rint(100 * depth).astype(np.uint16)
    for number in layouts_synthia.write_synthia(root, size=SOURCE):
        path = layouts_synthia.path_of(root, "depth", number)
        layouts_synthia.put(path, np.dstack([centimetres] * 3))
    return Synthia, {}


def nyuv2(root):
    size = (46, 61)  # other shapes than 3:4 have no camera
    focal, centre = (518.857901, 519.469611), (324.582449, 252.736166)
    x = layouts_nyuv2.make_values(0, size)
    x.depth = depth_of_plane(focal, centre, (480, 640), 2, size).astype(np.float32)
    layouts_nyuv2.write_mat(root, {"train": [x], "val": [x]})
    return NYUv2, {}


def folder(root, kind="depth", holes=False, **label):
    """Write floats, NaN where there are holes; the images are of twice the size."""
    rig = {"focal": [40, 42], "centre": [28, 19.5], "size": SOURCE, "baseline": 0.2}
    values = depth_of_plane(rig["focal"], rig["centre"], SOURCE, 2)
    values = np.where(holes, np.nan, 40 * 0.2 / values if kind == "disparity" else values)
    layouts_folder.write_folder(root, size=(74, 122))
    for place in ("train/a", "train/b"):
        split, name = place.split("/")
        layouts_folder.put(root / split / "z" / f"{name}.npy", values.astype(np.float32))
    source = {"kind": kind, "files": "{split}/z/{id}.npy", "scale": 1} | label
    maps = {"far": source, "normals": {"kind": "normals", "from": "far"}}
    fields = layouts_folder.fields(root, camera=rig)
    return Folder, fields | {"maps": maps}


def folder_of_disparity(root):
    return folder(root, kind="disparity")


def folder_of_inverse_depth(root):
    return folder(root, kind="disparity", **{"as": "inverse_depth"})


def normals_of(written, root, size):
    kind, fields = written
    data = kind(**{"root": str(root), **fields, "size": size})
    return data.build_split("train", frozenset({"normals"}))[0]["normals"].as_subclass(torch.Tensor)


def valid_where(holes, size):
    """Return where normals are valid, size, if depth has these holes, of the file's size."""
    shown = [(np.arange(n) + 0.5) * old // n for n, old in zip(size, holes.shape, strict=True)]
    once = [np.unique(lines).astype(int) for lines in shown]
    bordered = np.pad(holes[np.ix_(*once)], 1, constant_values=True)
    near = np.lib.stride_tricks.sliding_window_view(bordered, (3, 3)).any((2, 3))
    back = [np.searchsorted(few, lines) for few, lines in zip(once, shown, strict=True)]
    return ~near[np.ix_(*back)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("write", "form"),
    [
        (cityscapes, "steps"),
        (vkitti2, "steps"),
        (synthia, "steps"),
        (nyuv2, "floats"),
        (folder, "floats"),
        (folder_of_disparity, "floats"),
        (folder_of_inverse_depth, "floats"),
    ],
)
def test_a_slanted_plane_has_one_normal_at_every_size(tmp_path, write, form, size):
    normals = normals_of(write(tmp_path), tmp_path, size)
    assert normals.shape == (3, *size) and normals.dtype == torch.float32
    valid = normals.isfinite().all(0)
    chords = (normals[:, valid].double() - torch.from_numpy(NORMAL)[:, None]).norm(dim=0)
    assert valid.any() and chords.rad2deg().max() < WORST_DEGREES[form]
    source = (46, 61) if write is nyuv2 else SOURCE
    assert np.array_equal(valid.numpy(), valid_where(np.zeros(source, bool), size))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_that_are_shown_beside_holes_or_the_border_are_invalid(tmp_path, size):
    holes = np.random.default_rng(0).random(SOURCE) < 0.02
    valid = normals_of(folder(tmp_path, holes=holes), tmp_path, size).isfinite().all(0)
    assert np.array_equal(valid.numpy(), valid_where(holes, size))
