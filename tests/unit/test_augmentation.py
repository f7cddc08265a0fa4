"""Augmentation: alike for every map of a sample, and as its options say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_maps import (
    FEW,
    KINDS,
    SEEDS,
    assert_same_map,
    pixels,
    random_camera,
    random_map,
    seen_at,
    valid_of,
)
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from mtlkit.augmentation import Augmentation
from mtlkit.camera import Intrinsics
from mtlkit.transforms import ClassMap, DepthMap, DisparityMap, ImageClass, NormalMap

SIZES = st.tuples(st.integers(6, 20), st.integers(6, 20))
SCALES = st.lists(st.floats(1, 4), min_size=1, max_size=3).map(tuple)
MIRROR = torch.tensor([-1.0, 1.0, 1.0]).diag()


def random_sample(size: tuple[int, int], seed: int) -> dict[str, Tensor]:
    """Return a sample with maps of every kind, a camera, and a plain tensor."""
    return {
        "image": tv_tensors.Image(torch.rand(3, *size)),
        **{kind.__name__: random_map(kind, size, seed) for kind in KINDS},
        "camera": random_camera(size, seed),
        "depth_at_one": torch.tensor(54.0),
    }


@FEW
@given(size=SIZES, seed=SEEDS, scales=SCALES, rotate=st.floats(0, 45))
def test_every_map_of_a_sample_is_varied_alike(size, seed, scales, rotate):
    torch.manual_seed(seed)
    before = random_sample(size, seed)
    ids = before["ClassMap"].as_subclass(Tensor).float()
    holes = ~valid_of(before["ClassMap"])
    before["DepthMap"] = DepthMap((ids + 1).masked_fill(holes, torch.nan)[None])
    kept = {name: value.clone() for name, value in before.items()}
    after = Augmentation(scale_crop=scales, rotate=rotate, zoom_values="official")(before)
    valid = valid_of(after["ClassMap"])
    for kind in KINDS:
        found = after[kind.__name__]
        assert type(found) is kind and found.shape == before[kind.__name__].shape
        assert torch.equal(valid_of(found), valid)
    now = after["ClassMap"].as_subclass(Tensor).float() + 1
    assert torch.equal(after["DepthMap"][0, valid], now[valid])
    assert type(after["image"]) is tv_tensors.Image and after["image"].shape == (3, *size)
    assert after["depth_at_one"] is before["depth_at_one"]
    for name in KINDS:
        assert_same_map(before[name.__name__], kept[name.__name__])


@pytest.mark.parametrize("sampling", ["centred", "official"])
@FEW
@given(size=SIZES, seed=SEEDS, scale=st.floats(1, 4), flip=st.sampled_from([0, 1]))
def test_the_camera_sees_what_the_enlarged_image_shows(sampling, size, seed, scale, flip):
    """The official image is enlarged from corner to corner: (zoom − 1) / 2 off at the border."""
    camera = random_camera(size, seed)
    torch.manual_seed(seed)
    sample = {"image": tv_tensors.Image(pixels(size)), "camera": camera}
    after = Augmentation(flip=flip, scale_crop=(scale,), sampling=sampling)(sample)
    assert type(after["camera"]) is Intrinsics and after["camera"].canvas_size == size
    positions = after["image"].as_subclass(Tensor).double().flatten(1)
    found = seen_at(after["camera"], MIRROR if flip else torch.eye(3), camera, positions)
    off = (found - pixels(size)[:2].flatten(1)).abs().view(2, *size)
    for axis, o in zip((-1, -2), off, strict=True):
        zoom = size[axis] / int(size[axis] / scale)
        assert o.max() <= (zoom - 1) / 2 + 1e-3  # what is repeated at the border is this far off
        rim = math.ceil(zoom / 2)
        inside = o.narrow(axis, rim, max(0, size[axis] - 2 * rim))
        assert sampling == "official" or (inside <= 1e-3).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_bright_dot_is_where_the_camera_sees_its_point(seed):
    torch.manual_seed(seed)
    size, row, column = (32, 48), 17, 20
    image = torch.zeros(3, *size)
    image[:, row, column] = 1
    axes = {n: NormalMap(torch.eye(3)[n].view(3, 1, 1).expand(3, *size)) for n in range(3)}
    camera = random_camera(size, seed)
    sample = {"image": tv_tensors.Image(image), "camera": camera, **axes}
    after = Augmentation(scale_crop=(1.3,), rotate=20)(sample)
    turn = torch.stack([after[n][:, valid_of(after[n])][:, 0] for n in axes], 1)
    dot = torch.tensor([[column], [row], [1.0]]).double()
    across, down = seen_at(after["camera"], turn, camera, dot)[:, 0].tolist()
    brightest = divmod(int(after["image"][0].flatten().argmax()), size[1])
    assert after["image"].any(), "the dot is in every window of 1/1.3"
    assert brightest == pytest.approx((down, across), abs=1)


@FEW
@given(size=SIZES, seed=SEEDS, scales=SCALES)
def test_without_rotation_the_draws_are_flip_scale_and_window_alone(size, seed, scales):
    torch.manual_seed(seed)
    Augmentation(scale_crop=scales)(random_sample(size, seed))
    torch.manual_seed(seed)
    random_sample(size, seed)
    torch.rand(())
    scale = scales[int(torch.randint(len(scales), ()))]
    for n in size:
        torch.randint(n - int(n / scale) + 1, ())
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    Augmentation(scale_crop=scales)(random_sample(size, seed))
    assert torch.equal(torch.get_rng_state(), state)


@FEW
@given(size=SIZES, seed=SEEDS, angle=st.floats(1, 45))
def test_a_rotation_comes_last_and_changes_no_other_draw(size, seed, angle):
    sample = random_sample(size, seed)
    torch.manual_seed(seed)
    straight = Augmentation()(sample)
    turn = float(torch.empty(()).uniform_(-angle, angle))
    torch.manual_seed(seed)
    turned = Augmentation(rotate=angle)(sample)
    for kind in KINDS:
        expected = functional.rotate(straight[kind.__name__], turn)
        assert_same_map(turned[kind.__name__], expected)
    camera = functional.rotate(straight["camera"], turn)
    assert torch.equal(turned["camera"].as_subclass(Tensor), camera.as_subclass(Tensor))


def test_nothing_changes_without_flip_zoom_and_rotation():
    sample = random_sample((8, 12), 0)
    after = Augmentation(flip=0, scale_crop=(1,))(sample)
    assert all(after[name] is value for name, value in sample.items())


def test_a_flip_alone_is_torchvisions():
    sample = random_sample((8, 12), 0)
    after = Augmentation(flip=1, scale_crop=(1,))(sample)
    for kind in KINDS:
        expected = functional.horizontal_flip(sample[kind.__name__])
        assert_same_map(after[kind.__name__], expected)


def flat_sample() -> dict[str, Tensor]:
    """Return distances of 1, of which the first row is invalid."""
    ones = torch.ones(1, 8, 16)
    ones[:, 0] = torch.nan
    ids = torch.zeros(8, 16, dtype=torch.uint8)
    ids[0] = 255
    return {
        "image": tv_tensors.Image(torch.rand(3, 8, 16)),
        "segmentation": ClassMap(ids),
        "disparity": DisparityMap(ones),
        "depth": DepthMap(ones.clone()),
    }


def values_of(value: Tensor) -> set[float]:
    plain = value.as_subclass(Tensor)
    return set(plain[plain.isfinite()].tolist())


def test_a_zoom_scales_disparity_up_and_depth_down():
    zoomed = Augmentation(flip=0, scale_crop=(2.0,))(flat_sample())
    assert values_of(zoomed["disparity"]) == {2.0} and values_of(zoomed["depth"]) == {0.5}


def test_the_official_zoom_changes_no_value_but_the_camera():
    """Difference D35 in docs/parity.md."""
    camera = random_camera((8, 16), 0)
    official = Augmentation(flip=0, scale_crop=(2.0,), zoom_values="official")
    zoomed = official({**flat_sample(), "camera": camera})
    assert values_of(zoomed["disparity"]) == values_of(zoomed["depth"]) == {1.0}
    assert zoomed["camera"][0, 0] == 2 * camera[0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_official_masks_of_distances_are_those_before_the_crop(seed):
    """Difference D34 in docs/parity.md; class maps know what is void after the crop."""
    before = flat_sample()
    torch.manual_seed(seed)
    after = Augmentation(flip=0, scale_crop=(2.0,), masks="official")(before)
    for name in ("disparity", "depth"):
        assert type(after[name]) is type(before[name])
        assert torch.equal(after[name].isfinite(), before[name].isfinite())
    torch.manual_seed(seed)
    recomputed = Augmentation(flip=0, scale_crop=(2.0,))(before)
    assert_same_map(after["segmentation"], recomputed["segmentation"])
    both = valid_of(recomputed["depth"]) & valid_of(after["depth"])
    assert torch.equal(after["depth"][:, both], recomputed["depth"][:, both])


def test_an_image_of_whole_numbers_is_rounded_and_keeps_its_type():
    image = tv_tensors.Image(torch.full((3, 8, 12), 201, dtype=torch.uint8))
    after = Augmentation(scale_crop=(1.2,))({"image": image})["image"]
    assert after.dtype == torch.uint8 and (after == 201).all()


@pytest.mark.parametrize("sampling", ["centred", "official"])
def test_the_class_of_an_image_survives_every_step(sampling):
    augment = Augmentation(flip=1, scale_crop=(1.5,), rotate=30, sampling=sampling)
    after = augment({**flat_sample(), "weather": ImageClass(2)})["weather"]
    assert type(after) is ImageClass and after.shape == () and int(after) == 2
