"""Labels that follow from others, and that they follow from transformed ones as well."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_maps import FEW, SEEDS, pixels, random_camera, random_map, valid_of
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.v2 import functional

from mtlkit.camera import Intrinsics
from mtlkit.geometry import boundaries, metres, normals_from_depth, points
from mtlkit.transforms import ClassMap, DepthMap, DisparityMap, NormalMap

SIZES = st.tuples(st.integers(6, 24), st.integers(6, 24))
TILTS = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))


def inverse_depth_of_plane(camera: Intrinsics, normal: Tensor, distance: float) -> Tensor:
    """Return 1/z of the plane n·X = −distance, (1,H,W): linear in the pixel's position."""
    rays = camera.as_subclass(Tensor).double().inverse() @ pixels(camera.canvas_size).flatten(1)
    return (normal.double() @ rays / -distance).view(1, *camera.canvas_size)


def plane(camera: Intrinsics, tilt: tuple[float, float], distance: float) -> tuple[Tensor, Tensor]:
    """Return the unit normal of a plane that every pixel sees, and its depth, (1,H,W)."""
    normal = normalize(torch.tensor([*tilt, -2.0]).double(), dim=0)
    return normal, DepthMap((1 / inverse_depth_of_plane(camera, normal, distance)).float())


def smooth_depth(size: tuple[int, int], seed: int) -> DepthMap:
    """Return the depth of a smooth random surface; some pixels are invalid."""
    draws = torch.rand(4, generator=torch.Generator().manual_seed(seed)).double()
    u, v, _ = pixels(size)
    waves = (draws[0] * u / 3 + 6 * draws[1]).sin() + (draws[2] * v / 3 + 6 * draws[3]).cos()
    holes = ~valid_of(random_map(DepthMap, size, seed, invalid=0.03))
    return DepthMap((5 + waves).masked_fill(holes, torch.nan).float()[None])


@FEW
@given(size=SIZES, seed=SEEDS, tilt=TILTS, distance=st.floats(1, 20))
def test_the_normals_of_a_plane_are_exact_but_for_the_border(size, seed, tilt, distance):
    camera = random_camera(size, seed)
    normal, depth = plane(camera, tilt, distance)
    normals = normals_from_depth(depth, camera)
    assert type(normals) is NormalMap and normals.dtype == torch.float32
    valid = torch.zeros(size, dtype=torch.bool)
    valid[1:-1, 1:-1] = True
    assert torch.equal(valid_of(normals), valid)
    assert torch.allclose(normals[:, valid], normal.float()[:, None], atol=1e-4)


@FEW
@given(size=SIZES, seed=SEEDS, tilt=TILTS, distance=st.floats(1, 20))
def test_the_normals_of_a_plane_are_exact_wherever_depth_was_sampled(size, seed, tilt, distance):
    camera = random_camera(size, seed)
    random = torch.Generator().manual_seed(seed)
    rows, columns = (  # up to half a pixel off, as those of resized depth
        torch.arange(n) + torch.rand(n, generator=random, dtype=torch.float64) - 0.5 for n in size
    )
    normal = normalize(torch.tensor([*tilt, -2.0]).double(), dim=0)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    rays = camera.as_subclass(Tensor).double().inverse() @ torch.stack([u, v, u**0]).flatten(1)
    depth = (-distance / (normal @ rays)).view(1, *size)
    at = points(depth, camera, rows, columns)
    assert torch.allclose(at.flatten(1), rays * depth.flatten(), rtol=1e-12)
    normals = normals_from_depth(depth, camera, rows, columns)[:, 1:-1, 1:-1].double()
    assert ((normals - normal[:, None, None]).norm(dim=0) < 1e-5).all()  # radians, at such angles


def test_points_are_where_depth_is_whatever_the_device_of_the_rest():
    camera, depth = random_camera((6, 8), 0), torch.ones(1, 6, 8, device="meta")
    assert points(depth, camera).device == depth.device
    assert points(depth, camera, torch.arange(6), torch.arange(8)).device == depth.device
    assert normals_from_depth(depth, camera).device == depth.device


@FEW
@given(size=SIZES, seed=SEEDS)
def test_normals_are_unit_vectors_towards_the_camera_even_across_jumps(size, seed):
    camera, depth = random_camera(size, seed), random_map(DepthMap, size, seed)
    normals = normals_from_depth(depth, camera)
    valid = valid_of(normals)
    assert torch.allclose(normals[:, valid].norm(dim=0), torch.ones(int(valid.sum())), atol=1e-5)
    towards = (normals.double() * points(depth, camera)).sum(0)
    assert (towards[valid] < 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 0.0, -3.0])
def test_a_depth_that_is_none_spoils_the_normals_of_its_neighbours(bad):
    camera = random_camera((9, 9), 0)
    depth = torch.full((1, 9, 9), 4.0)
    depth[0, 4, 4] = bad
    holes = torch.zeros(9, 9, dtype=torch.bool)
    holes[3:6, 3:6] = True
    assert torch.equal(~valid_of(normals_from_depth(depth, camera))[1:-1, 1:-1], holes[1:-1, 1:-1])


@pytest.mark.parametrize(
    "move",
    [
        functional.horizontal_flip,
        functional.vertical_flip,
        lambda x: functional.crop(x, 1, 2, 5, 4),
        lambda x: functional.center_crop(x, [30, 5]),
        lambda x: functional.pad(x, [1, 2, 3, 4]),
        lambda x: functional.rotate(x, 90, expand=True),
        lambda x: functional.rotate(x, 180),
        lambda x: functional.rotate(x, 270, expand=True),
    ],
    ids=["flip", "vertical", "crop", "center_crop", "pad", "90", "180", "270"],
)
@FEW
@given(size=SIZES, seed=SEEDS)
def test_normals_of_moved_depth_and_camera_are_the_moved_normals(move, size, seed):
    camera, depth = random_camera(size, seed), smooth_depth(size, seed)
    expected = move(normals_from_depth(depth, camera))
    found = normals_from_depth(move(depth), move(camera))
    both = valid_of(found)
    assert not (both & ~valid_of(expected)).any()  # a crop has a border of its own
    assert torch.allclose(found[:, both], expected[:, both], atol=1e-5)


def assert_plane_moves_with_its_depth(move, zoom, size, seed, tilt, off: float) -> None:
    """Fail unless turned normal and new K predict the moved depth of a plane.

    The nearest pixel is at most `off` source pixels from the right place along each axis. 1/z of a
    plane is linear in that place, so that it errs by no more than `off` times its slopes' sum.
    """
    camera = random_camera(size, seed)
    normal, depth = plane(camera, tilt, 6.0)
    depth_now, now = move(depth).as_subclass(Tensor)[0], move(camera)
    turned = move(NormalMap(normal.float().view(3, 1, 1).expand(3, *size)))
    valid = valid_of(turned)
    assert torch.equal(depth_now.isfinite(), valid)
    unit = turned[:, valid][:, 0]
    expected = inverse_depth_of_plane(now, unit, 6.0 / zoom)[0]
    slopes = (normal @ camera.as_subclass(Tensor).double().inverse() / 6.0)[:2].abs()
    error = (1 / depth_now.double() - expected)[valid].abs()
    assert (error <= zoom * (off * slopes.sum() + 1e-5)).all()


@pytest.mark.parametrize("expand", [False, True])
@FEW
@given(size=SIZES, seed=SEEDS, tilt=TILTS, angle=st.floats(-360, 360))
def test_a_turned_plane_has_the_depth_that_its_turned_normal_predicts(
    expand, size, seed, tilt, angle
):
    assert_plane_moves_with_its_depth(
        lambda x: functional.rotate(x, angle, expand=expand), 1, size, seed, tilt, 0.5
    )


@FEW
@given(size=SIZES, seed=SEEDS, tilt=TILTS, zoom=st.floats(1, 4))
def test_a_zoomed_plane_is_nearer_and_has_the_same_normal(size, seed, tilt, zoom):
    window = (1, 2, *(round(n / zoom) for n in (size[0] - 1, size[1] - 2)))
    zoom = size[1] / window[3]
    assert_plane_moves_with_its_depth(  # torchvision's nearest looks up and left: less than 1 off
        lambda x: functional.resized_crop(x, *window, list(size)), zoom, size, seed, tilt, 1.0
    )
    camera = random_camera(size, seed)
    normal, _ = plane(camera, tilt, 6.0)
    now = functional.resized_crop(camera, *window, list(size))
    nearer = 1 / inverse_depth_of_plane(now, normal, 6.0 / zoom)
    normals = normals_from_depth(nearer, now)[:, 1:-1, 1:-1]
    assert torch.allclose(normals.double(), normal.view(3, 1, 1).expand(normals.shape), atol=1e-5)


@FEW
@given(size=SIZES, seed=SEEDS)
def test_points_are_seen_at_their_pixels_and_as_far_as_depth_says(size, seed):
    camera, depth = random_camera(size, seed), random_map(DepthMap, size, seed, invalid=0)
    at = points(depth, camera)
    seen = camera.as_subclass(Tensor).double() @ at.flatten(1)
    assert torch.allclose(seen / seen[2], pixels(size).flatten(1), atol=1e-4)
    assert torch.equal(at[2:].float(), depth.as_subclass(Tensor))


@FEW
@given(size=SIZES, seed=SEEDS)
def test_boundaries_are_where_the_next_known_pixel_has_another_class(size, seed):
    classes = ClassMap(random_map(ClassMap, size, seed).as_subclass(Tensor).clamp(max=2))
    classes = ClassMap(classes.masked_fill(~valid_of(random_map(ClassMap, size, seed)), 255))
    before = classes.as_subclass(Tensor).clone()
    edges = boundaries(classes)
    for i in range(size[0]):
        for j in range(size[1]):
            here = before[i, j]
            nexts = [
                before[y, x] for y, x in ((i + 1, j), (i, j + 1)) if y < size[0] and x < size[1]
            ]
            is_edge = any(there not in (here, 255) for there in nexts)
            assert edges[0, i, j] == (255 if here == 255 else is_edge)
    assert torch.equal(classes.as_subclass(Tensor), before)


def test_metres_are_those_at_one_over_the_distance_and_invalid_without_one():
    disparity = DisparityMap(torch.tensor([[[0.5, 1, 2, 0, -1, torch.nan]]]))
    depth = metres(disparity, 10)
    assert type(depth) is DepthMap and depth[0, 0, :3].tolist() == [20, 10, 5]
    assert depth[0, 0, 3:].isnan().all()


def test_a_wall_in_front_looks_back_and_a_floor_looks_up():
    camera = Intrinsics([[8, 0, 7.5], [0, 8, 1], [0, 0, 1]], canvas_size=(16, 16))
    wall = normals_from_depth(torch.full((1, 16, 16), 3.0), camera)
    assert torch.allclose(wall[:, 5, 5], torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)
    below = 1.5 * 8 / (pixels((16, 16))[1] - 1).clamp(min=0)  # 1.5 m under the camera
    floor = normals_from_depth(below[None].float(), camera)
    assert torch.allclose(floor[:, 8, 8], torch.tensor([0.0, -1.0, 0.0]), atol=1e-5)
