import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from mtlkit_plugins.datasets._scenes.render import Frame, render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.scene import Camera, Light, Primitive, Scene
from mtlkit_plugins.datasets._scenes.street import street

KINDS = pytest.mark.parametrize("kind", [street, room])


def before_a_wall(yaw: float, class_id: int) -> Frame:
    """Return a box of half a metre, turned, 3 m before a wall of class 1."""
    wall = Primitive("box", (0, 7.5, 0), (20, 0.5, 20), 1, (1, 1, 1))
    box = Primitive("box", (0, 4, 0), (0.5, 0.5, 0.5), class_id, (1, 1, 1), yaw)
    camera = Camera((0, 0, 0), 0.0, 0.0, 0.0, focal=1.0)
    return render(Scene(camera, Light((0, 0, 1), 1, 0.4), 255, primitives=[wall, box]), 65, 65)


@KINDS
def test_edges_are_some_of_the_pixels_but_never_most(kind):
    shares = [render(kind(seed), 128, 256).edges.mean() for seed in range(10)]
    assert min(shares) > 0.02
    assert max(shares) < 0.15


@KINDS
def test_edges_are_lines_and_not_areas(kind):
    for seed in range(10):
        edges = render(kind(seed), 128, 256).edges
        areas = sliding_window_view(edges, (5, 5)).all((2, 3))  # close legs of a table give some
        assert areas.sum() < 0.15 * edges.sum(), f"seed {seed}"


@KINDS
def test_every_border_of_classes_and_instances_is_an_edge(kind):
    for seed in range(3):
        frame = render(kind(seed), 64, 128)
        for labels in (frame.classes, frame.instances):
            assert frame.edges[:-1][labels[:-1] != labels[1:]].all()
            assert frame.edges[:, :-1][labels[:, :-1] != labels[:, 1:]].all()


@pytest.mark.parametrize("class_id", [1, 2], ids=["same-class", "other-class"])
def test_an_occlusion_is_two_pixels_thick_and_nothing_else_is_an_edge(class_id):
    frame = before_a_wall(0, class_id)
    near = frame.depth < 5
    assert near.any()
    beside = np.zeros(near.shape, bool)
    for axis in (0, 1):
        step, across = near.swapaxes(0, axis), beside.swapaxes(0, axis)
        across[:-1] |= step[:-1] != step[1:]
        across[1:] |= step[:-1] != step[1:]
    assert np.array_equal(frame.edges > 0, beside)


def test_a_crease_is_one_pixel_thick():
    frame = before_a_wall(np.pi / 4, 2)  # its upright edge is in the middle
    row, box = frame.edges[32], np.flatnonzero(frame.classes[32] == 2)
    inside = row[box[2] : box[-2]]
    assert inside.sum() == 1


def test_a_slanted_plane_has_no_edge():
    floor = Primitive("box", (0, 0, -2), (500, 500, 1), 1, (1, 1, 1))
    camera = Camera((0, 0, 0), 0.3, -0.6, 0.1, focal=1.0)
    frame = render(Scene(camera, Light((0, 0, 1), 1, 0.4), 255, primitives=[floor]), 64, 64)
    assert (frame.depth > 0).all()
    assert not frame.edges.any()
