"""Label kinds: validity, and what transforms of torchvision do to their values."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_maps import FEW, KINDS, SEEDS, SIZES, assert_same_map, random_map, valid_of
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mtlkit.errors import UsageError
from mtlkit.geometry import metres
from mtlkit.transforms import (
    ClassMap,
    DepthMap,
    DisparityMap,
    EdgeMap,
    ImageClass,
    LabelKind,
    NormalMap,
)

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
BY_NAME = {kind.__name__: kind for kind in KINDS}
SIDES = st.tuples(*[st.integers(0, 5)] * 4)  # left, top, right, bottom


def enlarged_window(value: Tensor, factor: int) -> Tensor:
    height, width = value.shape[-2:]
    return functional.resized_crop(value, 0, 0, height, width, [height * factor, width * factor])


def shrunk_window(value: Tensor, factor: int) -> Tensor:
    height, width = value.shape[-2:]
    return functional.resized_crop(value, 0, 0, height, width, [height // factor, width // factor])


def resized(value: Tensor, factor: float) -> Tensor:
    return functional.resize(value, [round(n * factor) for n in value.shape[-2:]])


UNDONE = {
    "horizontal flips": lambda x: functional.horizontal_flip(functional.horizontal_flip(x)),
    "vertical flips": lambda x: functional.vertical_flip(functional.vertical_flip(x)),
    "half turns": lambda x: functional.rotate(functional.rotate(x, 180), 180),
    "quarter turns": lambda x: functional.rotate(
        functional.rotate(x, 90, expand=True), -90, expand=True
    ),
    "four quarter turns": lambda x: functional.rotate(
        functional.rotate(functional.rotate(x, 270, expand=True), 270, expand=True), 180
    ),
    "resize": lambda x: resized(resized(x, 2), 0.5),
    "zoom": lambda x: shrunk_window(enlarged_window(x, 2), 2),
}


@EVERY_KIND
@pytest.mark.parametrize("undone", UNDONE.values(), ids=UNDONE.keys())
@FEW
@given(size=SIZES, seed=SEEDS)
def test_a_transform_and_its_inverse_change_nothing(kind, undone, size, seed):
    before = random_map(kind, size, seed)
    assert_same_map(undone(before), before, 1e-6)


@EVERY_KIND
@FEW
@given(size=SIZES, seed=SEEDS, sides=SIDES)
def test_what_is_padded_and_cropped_again_is_as_before(kind, size, seed, sides):
    before = random_map(kind, size, seed)
    padded = functional.pad(before, list(sides))
    assert_same_map(functional.crop(padded, sides[1], sides[0], *size), before)


@EVERY_KIND
@FEW
@given(size=SIZES, seed=SEEDS, data=st.data())
def test_what_is_cropped_and_padded_again_is_invalid_outside_the_window(kind, size, seed, data):
    before = random_map(kind, size, seed)
    top, left = (data.draw(st.integers(0, n - 1)) for n in size)
    height, width = (
        data.draw(st.integers(1, n - m)) for n, m in zip(size, (top, left), strict=True)
    )
    cropped = functional.crop(before, top, left, height, width)
    after = functional.pad(cropped, [left, top, size[1] - left - width, size[0] - top - height])
    inside = torch.zeros(size, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    expected = before.as_subclass(Tensor).masked_fill(~inside, kind.nothing)
    assert_same_map(after, kind(expected))


def enlarged(x: Tensor, window: list[int]) -> Tensor:
    """Return a window at 23×31; of plain masks by the interpolation whose pixels are centred."""
    if type(x) is not tv_tensors.Mask:
        return functional.resized_crop(x, *window, [23, 31])
    view = functional.crop(x, *window)
    planes = view.as_subclass(Tensor).reshape(1, -1, *view.shape[-2:]).float()
    big = interpolate(planes, (23, 31), mode="nearest-exact")
    return tv_tensors.Mask(big.reshape(*view.shape[:-2], 23, 31).to(view.dtype))


def moves(data: st.DataObject, size: tuple[int, int]):
    """Draw a transform by its name and what it needs; `fill` is to be ignored."""
    angle = data.draw(st.floats(-360, 360))
    window = [data.draw(st.integers(-6, 6)) for _ in range(2)]
    window += [data.draw(st.integers(7, 20)) for _ in range(2)]  # torchvision needs them to overlap
    center = [data.draw(st.floats(0, n)) for n in size[::-1]]
    return data.draw(
        st.sampled_from(
            [
                lambda x, **fill: functional.crop(x, *window),
                lambda x, **fill: functional.center_crop(x, window[2:]),
                lambda x, **fill: functional.center_crop(x, window[2]),
                lambda x, **fill: functional.center_crop(x, window[3:]),
                lambda x, **fill: functional.pad(x, abs(window[0]), **fill),
                lambda x, **fill: functional.pad(x, [abs(window[0])], **fill),
                lambda x, **fill: functional.pad(x, [abs(n) for n in window[:2]], **fill),
                lambda x, **fill: functional.pad(x, [abs(n) for n in window], **fill),
                lambda x, **fill: functional.rotate(x, angle, **fill),
                lambda x, **fill: functional.rotate(x, angle, expand=True, **fill),
                lambda x, **fill: functional.rotate(x, angle, center=center, **fill),
                lambda x, **fill: functional.rotate(x, angle, expand=True, center=center, **fill),
                lambda x, **fill: enlarged(x, window),
            ]
        )
    )


@EVERY_KIND
@FEW
@given(size=SIZES, seed=SEEDS, fill=st.sampled_from([None, 0, 1, 7.0]), data=st.data())
def test_every_kind_moves_as_a_mask_does_and_is_invalid_outside(kind, size, seed, fill, data):
    move = moves(data, size)
    before = random_map(kind, size, seed)
    mask = tv_tensors.Mask(valid_of(before).to(torch.uint8))
    after = move(before) if fill is None else move(before, fill=fill)
    assert type(after) is kind and after.dtype == before.dtype
    assert torch.equal(valid_of(after), move(mask).as_subclass(Tensor) == 1)
    if kind in (ClassMap, EdgeMap):
        moved = move(tv_tensors.Mask(before)).as_subclass(Tensor)
        assert torch.equal(moved[..., valid_of(after)], after[..., valid_of(after)])


@EVERY_KIND
@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_margins_are_invalid_even_where_the_image_repeats_itself(kind, mode):
    before = random_map(kind, (6, 9), 0)
    assert_same_map(
        functional.pad(before, [2, 1], padding_mode=mode), functional.pad(before, [2, 1])
    )


@FEW
@given(size=SIZES, seed=SEEDS, zoom=st.floats(0.3, 4))
def test_a_zoom_divides_depth_and_multiplies_disparity(size, seed, zoom):
    after = [max(1, round(n * zoom)) for n in size]
    factor = after[1] / size[1]
    for kind, power in ((DepthMap, -1), (DisparityMap, 1)):
        before = random_map(kind, size, seed)
        zoomed = functional.resized_crop(before, 0, 0, *size, after)
        moved = functional.resize(before, after)
        assert_same_map(zoomed, kind(moved.as_subclass(Tensor) * factor**power), 1e-6)
        assert set(moved[moved.isfinite()].tolist()) <= set(before[before.isfinite()].tolist())


@FEW
@given(size=SIZES, seed=SEEDS, at_one=st.floats(1, 30), data=st.data())
def test_disparity_and_depth_agree_after_any_transform(size, seed, at_one, data):
    move = moves(data, size)
    disparity = random_map(DisparityMap, size, seed)
    assert_same_map(metres(move(disparity), at_one), move(metres(disparity, at_one)), 1e-5)


@FEW
@given(size=SIZES, seed=SEEDS, angle=st.floats(-180, 180), axis=st.sampled_from([0, 1]))
def test_normals_keep_their_length_and_their_share_towards_the_camera(size, seed, angle, axis):
    before = random_map(NormalMap, size, seed)
    flip = (functional.horizontal_flip, functional.vertical_flip)[axis]
    for after in (flip(before), functional.rotate(before, angle, expand=True)):
        value = after[:, valid_of(after)]
        assert torch.allclose(value.norm(dim=0), torch.ones(value.shape[1]), atol=1e-5)
        assert set(value[2].tolist()) <= set(before[2].flatten().tolist())


def test_flips_and_turns_move_the_normal_of_a_wall_with_the_image():
    left = NormalMap(torch.tensor([0.6, 0.0, -0.8]).view(3, 1, 1).expand(3, 4, 4))
    wall = {  # seen towards +x: a wall at the left of the image
        functional.horizontal_flip: (-0.6, 0, -0.8),
        functional.vertical_flip: (0.6, 0, -0.8),
        lambda x: functional.rotate(x, 90): (0, -0.6, -0.8),  # anticlockwise: right is up now
        lambda x: functional.rotate(x, -90): (0, 0.6, -0.8),
        lambda x: functional.rotate(x, 180): (-0.6, 0, -0.8),
    }
    for move, expected in wall.items():
        assert torch.allclose(move(left)[:, 2, 2], torch.tensor(expected), atol=1e-6)


def edges_by_hand(value: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the smaller map, pixel by pixel, from the source pixels that each one touches."""
    (height, width), after = value.shape[-2:], torch.zeros(1, *size, dtype=torch.uint8)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], math.ceil((i + 1) * height / size[0]))
            columns = slice(j * width // size[1], math.ceil((j + 1) * width / size[1]))
            seen = value.as_subclass(Tensor)[0, rows, columns]
            after[0, i, j] = 1 if (seen == 1).any() else 255 if (seen == 255).any() else 0
    return after


@FEW
@given(size=SIZES, seed=SEEDS, data=st.data())
def test_a_smaller_edge_map_keeps_every_edge_and_else_what_is_unknown(size, seed, data):
    smaller = tuple(data.draw(st.integers(1, n)) for n in size)
    before = random_map(EdgeMap, size, seed)
    assert_same_map(functional.resize(before, smaller), EdgeMap(edges_by_hand(before, smaller)))


@FEW
@given(size=SIZES, seed=SEEDS, up=st.integers(1, 4), down=st.integers(1, 4), axis=st.integers(0, 1))
def test_an_edge_map_that_grows_is_the_nearest_and_each_axis_has_its_own_rule(
    size, seed, up, down, axis
):
    before = random_map(EdgeMap, size, seed)
    larger = [n * up for n in size]
    nearest = functional.resize(tv_tensors.Mask(before), larger)
    assert_same_map(functional.resize(before, larger), nearest.as_subclass(EdgeMap))
    mixed = list(larger)
    mixed[axis] = max(1, size[axis] // down)
    halfway = list(size)
    halfway[axis] = mixed[axis]
    expected = functional.resize(tv_tensors.Mask(edges_by_hand(before, tuple(halfway))), mixed)
    assert_same_map(functional.resize(before, mixed), expected.as_subclass(EdgeMap))


@EVERY_KIND
@FEW
@given(size=SIZES, seed=SEEDS)
def test_a_label_is_finite_everywhere_and_its_mask_says_what_counts(kind, size, seed):
    before = random_map(kind, size, seed)
    value, valid = before.to_label()
    assert isinstance(before, LabelKind) and type(value) is type(valid) is Tensor
    assert value.dtype == (torch.int64 if kind is ClassMap else torch.float32)
    assert value.shape == before.shape
    assert valid.dtype == torch.bool and valid.shape == (1, *size)
    assert value.isfinite().all() and not value[..., ~valid[0]].any()
    assert torch.equal(value[..., valid[0]], before[..., valid[0]].to(value.dtype))
    blank = kind.blank(3 if kind is NormalMap else 1, size)
    assert blank.shape == before.shape and blank.dtype == before.dtype
    assert type(blank) is kind and not blank.to_label()[1].any()


def test_a_normal_that_is_known_in_part_is_not_valid():
    before = torch.full((3, 1, 4), 0.5)
    before[0, 0, 1], before[2, 0, 2], before[1, 0, 3] = torch.nan, torch.inf, -torch.inf
    value, valid = NormalMap(before).to_label()
    assert valid.tolist() == [[[True, False, False, False]]]
    assert not value[:, ~valid[0]].any()


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(1),
        v2.RandomVerticalFlip(1),
        v2.RandomCrop((12, 20), pad_if_needed=True, fill=3),
        v2.RandomResizedCrop((20, 20), ratio=(1, 1)),
        v2.RandomRotation(45, expand=True, fill=5),
        v2.Pad([1, 2, 3, 4], fill=9),
        v2.CenterCrop(13),
        v2.Resize((24, 36)),
        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(30), v2.RandomCrop(6)]),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_classes_of_torchvision_treat_all_maps_of_a_sample_alike(transform):
    for seed in range(5):
        torch.manual_seed(seed)
        sample = {name: random_map(kind, (8, 12), seed) for name, kind in BY_NAME.items()}
        after = transform({"image": tv_tensors.Image(torch.rand(3, 8, 12)), **sample})
        valid = valid_of(after["ClassMap"])
        for name, kind in BY_NAME.items():
            assert type(after[name]) is kind and torch.equal(valid_of(after[name]), valid)
        assert after["image"].shape[-2:] == valid.shape


@EVERY_KIND
def test_transforms_of_colour_leave_labels_alone(kind):
    before = random_map(kind, (8, 12), 0)
    jitter = v2.Compose([v2.ColorJitter(0.5, 0.5, 0.5, 0.2), v2.GaussianBlur(3)])
    _, after = jitter(tv_tensors.Image(torch.rand(3, 8, 12)), before)
    assert_same_map(after, before)


@EVERY_KIND
@pytest.mark.parametrize(
    "transform", [v2.RandomAffine(10), v2.RandomPerspective(p=1), v2.ElasticTransform(sigma=0.5)]
)
def test_a_transform_without_a_rule_is_refused_with_a_cure(kind, transform):
    cure = rf"no rule for {kind.__name__}\. Use flips"
    with pytest.raises(UsageError, match=cure):
        transform(tv_tensors.Image(torch.rand(3, 8, 12)), random_map(kind, (8, 12), 0))


@EVERY_KIND
def test_copies_of_a_map_are_of_its_kind(kind):
    before = random_map(kind, (4, 6), 0)
    for same in (before.clone(), copy.deepcopy(before), pickle.loads(pickle.dumps(before))):
        assert_same_map(same, before)


TORCHVISION = [
    v2.RandomHorizontalFlip(1),
    v2.RandomVerticalFlip(1),
    v2.RandomCrop((12, 20), pad_if_needed=True, fill=3),
    v2.CenterCrop(5),
    v2.RandomResizedCrop((20, 20)),
    v2.RandomRotation(45, expand=True, fill=5),
    v2.Pad(2),
    v2.Resize((24, 36)),
    v2.RandomAffine(10),
    v2.RandomPerspective(p=1),
    v2.ElasticTransform(sigma=0.5),
    v2.ColorJitter(0.5),
]


@pytest.mark.parametrize("transform", TORCHVISION, ids=lambda transform: type(transform).__name__)
def test_no_transform_changes_the_class_of_an_image(transform):
    before = ImageClass(3)
    image, after = transform(tv_tensors.Image(torch.rand(3, 8, 12)), before)
    assert image.ndim == 3
    assert_same_map(after, before)


def test_no_function_of_torchvision_changes_the_class_of_an_image():
    before = ImageClass(3)
    for after in (
        functional.horizontal_flip(before),
        functional.vertical_flip(before),
        functional.crop(before, 0, 0, 2, 2),
        functional.center_crop(before, [2, 2]),
        functional.pad(before, [1, 1]),
        functional.resize(before, [4, 4]),
        functional.resized_crop(before, 0, 0, 2, 2, [4, 4]),
        functional.rotate(before, 30),
        before.zoomed(2.0),
    ):
        assert_same_map(after, before)


def test_the_class_of_an_image_is_a_number_and_void_is_none():
    value, valid = ImageClass(3).to_label()
    assert type(value) is type(valid) is Tensor and value.shape == valid.shape == ()
    assert (int(value), value.dtype, bool(valid)) == (3, torch.int64, True)
    blank = ImageClass.blank(1, (8, 12))
    assert isinstance(blank, LabelKind) and (blank.shape, blank.dtype) == ((), torch.uint8)
    assert [int(x) for x in blank.to_label()] == [0, 0]


def test_copies_of_the_class_of_an_image_are_of_its_kind():
    before = ImageClass(3)
    for same in (before.clone(), copy.deepcopy(before), pickle.loads(pickle.dumps(before))):
        assert_same_map(same, before)
