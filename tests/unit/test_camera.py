"""The camera's matrix: what is seen at a pixel is seen there after any transform."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_maps import FEW, SEEDS, position_image, random_camera, seen_at
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from mtlkit.camera import Intrinsics, rewrapped
from mtlkit.errors import UsageError
from mtlkit.transforms import NormalMap

SIZES = st.tuples(st.integers(6, 20), st.integers(6, 20))
SMOOTH = {"interpolation": InterpolationMode.BILINEAR}
LENGTHS = st.integers(8, 24)


def turn_of(transform, size: tuple[int, int]) -> Tensor:
    """Return what a transform does to points, (3,3), as it does to normals."""
    columns = []
    for axis in torch.eye(3):
        turned = transform(NormalMap(axis.view(3, 1, 1).expand(3, *size))).as_subclass(Tensor)
        columns.append(turned[:, turned.isfinite().all(0)][:, 0])
    return torch.stack(columns, 1)


def assert_seen_where_the_image_shows_it(
    transform, camera: Intrinsics, pixels: float = 1e-3
) -> None:
    """Fail unless K follows the image; `transform` resamples an image bilinearly."""
    size = camera.canvas_size
    image, after = transform(position_image(size)).as_subclass(Tensor), transform(camera)
    assert after.canvas_size == image.shape[-2:]
    whole = image[2] > 1 - 1e-9  # not blended with what is outside
    low, high = (getattr(image[:2, whole], end)(1).view(2, 1, 1) for end in ("amin", "amax"))
    between = (image[:2] > low + 1e-6) & (image[:2] < high - 1e-6)  # borders are repeated by resize
    inside = whole & between.all(0)
    assert inside.any()
    found = seen_at(after, turn_of(transform, size), camera, image[:, inside])
    shown = position_image(after.canvas_size).as_subclass(Tensor)[:2, inside]
    assert (found - shown).abs().max() < pixels


@pytest.mark.parametrize(
    "transform",
    [
        functional.horizontal_flip,
        functional.vertical_flip,
        lambda x: functional.pad(x, 3),
        lambda x: functional.pad(x, [3]),
        lambda x: functional.pad(x, [1, 2]),
        lambda x: functional.pad(x, (1, 2, 3, 4)),
        lambda x: functional.pad(x, [4, 3, 2, 1], padding_mode="constant", fill=0),
        lambda x: functional.resize(x, 11, **SMOOTH, antialias=False),
        lambda x: functional.resize(x, [30], **SMOOTH, antialias=False),
        lambda x: functional.resize(x, 30, max_size=31, **SMOOTH, antialias=False),
    ],
)
@FEW
@given(size=SIZES, seed=SEEDS)
def test_flips_margins_and_sizes_move_the_camera_with_the_image(transform, size, seed):
    assert_seen_where_the_image_shows_it(transform, random_camera(size, seed))


@FEW
@given(size=SIZES, seed=SEEDS, after=st.tuples(LENGTHS, LENGTHS), data=st.data())
def test_windows_and_uneven_sizes_move_the_camera_with_the_image(size, seed, after, data):
    camera = random_camera(size, seed)
    top, left = (data.draw(st.integers(-4, 2)) for _ in range(2))
    assert_seen_where_the_image_shows_it(lambda x: functional.crop(x, top, left, *after), camera)
    assert_seen_where_the_image_shows_it(lambda x: functional.center_crop(x, after), camera)
    assert_seen_where_the_image_shows_it(lambda x: functional.center_crop(x, after[0]), camera)
    assert_seen_where_the_image_shows_it(
        lambda x: functional.resize(x, after, **SMOOTH, antialias=False), camera
    )
    window = (max(top, 0), max(left, 0), size[0] - 2, size[1] - 2)
    assert_seen_where_the_image_shows_it(
        lambda x: functional.resized_crop(x, *window, after, **SMOOTH, antialias=False), camera
    )


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("centred", [False, True])
@FEW
@given(
    size=SIZES,
    seed=SEEDS,
    angle=st.floats(-360, 360) | st.sampled_from([-270, -180, -90, 0, 90, 180, 270]),
    share=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
def test_turns_move_the_camera_with_the_image(expand, centred, size, seed, angle, share):
    center = [share[0] * size[1], share[1] * size[0]] if centred else None
    assert_seen_where_the_image_shows_it(
        lambda x: functional.rotate(x, angle, expand=expand, center=center, **SMOOTH),
        random_camera(size, seed),
    )


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(1),
        v2.RandomCrop((14, 20), pad_if_needed=True),
        v2.RandomResizedCrop((20, 20), scale=(0.5, 1), ratio=(1, 1), antialias=False),
        v2.RandomRotation(45, expand=True, interpolation=InterpolationMode.BILINEAR),
        v2.Pad([1, 2, 3, 4]),
        v2.CenterCrop(9),
        v2.Resize((24, 36), antialias=False),
        v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(20, interpolation=InterpolationMode.BILINEAR),
                v2.RandomCrop(8),
            ]
        ),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_classes_of_torchvision_move_the_camera_with_the_image(transform):
    for seed in range(5):

        def seeded(x: Tensor, seed: int = seed) -> Tensor:
            torch.manual_seed(seed)
            guide = tv_tensors.Image(torch.zeros(1, 10, 14))  # classes ask an image for its size
            return transform({"image": guide, "x": x})["x"]

        assert_seen_where_the_image_shows_it(seeded, random_camera((10, 14), seed))


@FEW
@given(size=SIZES, seed=SEEDS, data=st.data())
def test_undone_transforms_give_the_camera_back(size, seed, data):
    camera = random_camera(size, seed)
    larger = [2 * n for n in size]
    angle = data.draw(st.sampled_from([90, 180, 270]))
    left, top = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    for same in (
        functional.horizontal_flip(functional.horizontal_flip(camera)),
        functional.vertical_flip(functional.vertical_flip(camera)),
        functional.resize(functional.resize(camera, larger), list(size)),
        functional.crop(functional.pad(camera, [left, top]), top, left, *size),
        functional.rotate(functional.rotate(camera, angle, expand=True), -angle, expand=True),
    ):
        assert same.canvas_size == camera.canvas_size
        assert torch.allclose(same, camera, atol=1e-4)


def test_a_camera_keeps_its_type_and_leaves_its_source_as_it_was():
    camera = random_camera((6, 8), 0)
    before = camera.as_subclass(Tensor).clone()
    for move in (functional.horizontal_flip, lambda x: functional.resize(x, [3, 4])):
        after = move(camera)
        assert type(after) is Intrinsics and after.dtype == torch.float32
    assert torch.equal(camera.as_subclass(Tensor), before) and camera.canvas_size == (6, 8)


@pytest.mark.parametrize(
    "copied",
    [
        torch.Tensor.clone,
        torch.Tensor.detach,
        copy.copy,
        copy.deepcopy,
        lambda k: k.to("cpu", torch.float64),
        lambda k: pickle.loads(pickle.dumps(k)),
        lambda k: rewrapped(k.as_subclass(Tensor) + 0, k),
    ],
)
def test_copies_of_a_camera_know_their_image(copied):
    camera = random_camera((6, 8), 0)
    same = copied(camera)
    assert type(same) is Intrinsics and same.canvas_size == (6, 8)
    assert torch.equal(same.float(), camera.as_subclass(Tensor))


def test_numbers_are_wrapped_again_as_what_they_were():
    assert type(rewrapped(torch.zeros(2), torch.ones(2))) is Tensor
    assert type(rewrapped(torch.zeros(3, 1, 1), NormalMap.blank(3, (1, 1)))) is NormalMap


def test_an_unknown_camera_stays_unknown():
    blank = Intrinsics.blank(1, (6, 8))
    for move in (functional.horizontal_flip, lambda x: functional.rotate(x, 30, expand=True)):
        assert move(blank).isnan().any() and blank.isnan().all()


def test_transforms_of_colour_leave_the_camera_alone():
    camera = random_camera((6, 8), 0)
    image = tv_tensors.Image(torch.rand(3, 6, 8))
    assert v2.ColorJitter(0.5)({"image": image, "camera": camera})["camera"] is camera


@pytest.mark.parametrize(
    "transform", [v2.RandomAffine(10), v2.RandomPerspective(p=1), v2.ElasticTransform(sigma=0.5)]
)
def test_a_transform_without_a_rule_is_refused_with_a_cure(transform):
    with pytest.raises(UsageError, match=r"no rule for Intrinsics\. Use flips"):
        transform(tv_tensors.Image(torch.rand(3, 8, 12)), random_camera((8, 12), 0))
