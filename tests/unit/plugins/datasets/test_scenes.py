import numpy as np
import pytest

from mtlkit_plugins.datasets._scenes.disparity import encoded, full_disparity
from mtlkit_plugins.datasets._scenes.numbering import scene_seeds
from mtlkit_plugins.datasets._scenes.render import Frame, render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.scene import Camera, Light, Primitive, Scene
from mtlkit_plugins.datasets._scenes.street import street

KINDS = pytest.mark.parametrize("kind", [street, room])
SEEDS = pytest.mark.parametrize("seed", range(3))


def points_of(frame: Frame) -> np.ndarray:
    """Return what each pixel shows, in the camera's frame, (H,W,3), metres."""
    height, width = frame.depth.shape
    across = (np.arange(width) - frame.intrinsics[0, 2]) / frame.intrinsics[0, 0]
    down = (np.arange(height) - frame.intrinsics[1, 2]) / frame.intrinsics[1, 1]
    depth = frame.depth.astype(float)
    return np.stack([across * depth, down[:, None] * depth, depth], -1)


def widened(edges: np.ndarray) -> np.ndarray:
    rolls = [np.roll(edges, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.any(rolls, 0)


@KINDS
@SEEDS
def test_normals_are_unit_vectors_that_look_at_the_camera(kind, seed):
    frame = render(kind(seed), 64, 128)
    hit = frame.depth > 0
    lengths = np.linalg.norm(frame.normals, axis=-1)
    assert np.allclose(lengths[hit], 1, atol=1e-5)
    assert not frame.normals[~hit].any()
    assert ((points_of(frame) * frame.normals).sum(-1)[hit] < 0).all()


@pytest.mark.parametrize(
    ("centre", "normal"),  # in the world: right, forward, up; in the camera: right, down, forward
    [
        ((-3, 5, 0), (1, 0, 0)),
        ((3, 5, 0), (-1, 0, 0)),
        ((0, 5, -3), (0, -1, 0)),
        ((0, 5, 3), (0, 1, 0)),
        ((0, 30, 0), (0, 0, -1)),
    ],
    ids=["left", "right", "floor", "ceiling", "end"],
)
def test_normals_of_a_corridor_look_to_its_middle_in_axes_right_down_forward(centre, normal):
    side = Primitive("box", centre, (2, 20, 2), 3, (1, 1, 1))
    frame = render(_seen((side,)), 64, 64)
    hit = frame.classes == 3
    assert hit.any()
    assert np.allclose(frame.normals[hit], normal, atol=1e-6)


@KINDS
@SEEDS
def test_the_slope_of_depth_is_the_normal_where_there_is_no_edge(kind, seed):
    frame = render(kind(seed), 96, 192)
    points = points_of(frame)
    slope = np.cross(points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2])
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True) + 1e-12
    smooth = (~widened(frame.edges > 0) & (frame.depth > 0))[1:-1, 1:-1]
    cosine = np.abs((slope * frame.normals[1:-1, 1:-1]).sum(-1))[smooth]
    assert np.median(cosine) > 0.9999
    assert (cosine < 0.98).mean() < 0.02


@KINDS
@SEEDS
def test_disparity_is_focal_length_times_baseline_over_depth(kind, seed):
    frame = render(kind(seed), 64, 128)
    hit = frame.depth > 0
    product = frame.disparity[hit] * frame.depth[hit]
    assert np.allclose(product, frame.intrinsics[0, 0] * 0.209, rtol=1e-5)
    assert not frame.disparity[~hit].any()


@KINDS
def test_things_of_one_instance_have_one_class(kind):
    frame = render(kind(1), 64, 128)
    for number in np.unique(frame.instances[frame.instances > 0]):
        assert len(np.unique(frame.classes[frame.instances == number])) == 1


@pytest.mark.parametrize(
    ("shape", "distance"), [("box", 4.5), ("ellipsoid", 4.5), ("cylinder", 4.5), ("cone", 4.75)]
)
def test_a_solid_straight_ahead_is_as_far_as_its_nearest_side(shape, distance):
    ahead = Primitive(shape, (0, 5, 0), (0.5, 0.5, 0.5), 3, (1, 1, 1))
    frame = render(_seen((ahead,)), 65, 65)
    assert frame.depth[32, 32] == pytest.approx(distance, rel=1e-5)
    assert frame.classes[32, 32] == 3
    assert frame.normals[32, 32, 2] < -0.8
    assert frame.depth[0, 0] == 0
    assert frame.classes[0, 0] == 255


def test_a_cylinder_from_above_shows_its_cap():
    below = Primitive("cylinder", (0, 5, 0), (0.5, 0.5, 0.5), 3, (1, 1, 1))
    frame = render(_seen((below,), (0, 5, 4), pitch=-np.pi / 2), 65, 65)
    assert frame.depth[32, 32] == pytest.approx(3.5, rel=1e-5)
    assert np.allclose(frame.normals[32, 32], (0, 0, -1), atol=1e-6)


def test_what_stands_between_the_sun_and_a_floor_darkens_it():
    floor = Primitive("box", (0, 5, -1), (5, 5, 0.1), 0, (0.5, 0.5, 0.5), texture="plain")
    roof = Primitive("box", (0, 5, 3), (5, 5, 0.1), 1, (0.5, 0.5, 0.5), texture="plain")
    open_air = render(_seen((floor,)), 33, 33).rgb[-1, 16]
    covered = render(_seen((floor, roof)), 33, 33).rgb[-1, 16]
    assert (covered < open_air).all()


def test_a_scene_without_solids_is_sky():
    frame = render(_seen(()), 8, 8)
    assert (frame.classes == 255).all()
    assert not frame.depth.any()


def test_train_and_val_share_no_scene_and_neither_do_seeds():
    sets = [set(scene_seeds(seed, split, 1000)) for seed in (0, 1, 2) for split in ("train", "val")]
    assert len(set().union(*sets)) == sum(map(len, sets))


def test_more_scenes_only_add_to_those_there_were():
    assert scene_seeds(3, "val", 20)[:5] == scene_seeds(3, "val", 5)


def test_disparity_in_a_file_is_cut_at_what_16_bits_hold():
    near = Primitive("box", (0, 1.5, 0), (0.5, 0.5, 0.5), 3, (1, 1, 1))
    disparity = full_disparity(render(_seen((near,)), 33, 33))
    assert disparity[16, 16] == 65534 / 256
    numbers = encoded(disparity)
    assert numbers[16, 16] == 65535
    assert numbers.dtype == np.uint16
    assert (numbers[disparity == 0] == 0).all()


def _seen(solids: tuple[Primitive, ...], position=(0, 0, 0), pitch=0.0) -> Scene:
    camera = Camera(position, 0.0, pitch, 0.0, focal=1.0)
    light = Light(sun=(0, 0, 1), strength=1.0, ambient=0.4)
    return Scene(camera, light, 255, primitives=list(solids))
