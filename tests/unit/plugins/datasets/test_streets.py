import pickle

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from mtlkit.augmentation import Augmentation
from mtlkit.camera import Intrinsics
from mtlkit.errors import UsageError
from mtlkit.geometry import metres, normals_from_depth, points
from mtlkit.transforms import ClassMap, DisparityMap, EdgeMap, ImageClass, NormalMap
from mtlkit_plugins.datasets._cityscapes_labels import label_to_class, train_to_label
from mtlkit_plugins.datasets._scenes.classes import StreetClass
from mtlkit_plugins.datasets._scenes.disparity import full_disparity
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.street import street
from mtlkit_plugins.datasets.streets import Streets

EVERYTHING = frozenset({"segmentation", "depth"})


def small(**fields):
    return Streets(size=(32, 64), train=3, val=2, **fields)


def test_a_sample_holds_the_image_and_what_is_wanted():
    sample = small().build_split("train", EVERYTHING)[0]
    assert sample.keys() == {"image", "segmentation", "depth"}
    assert isinstance(sample["image"], tv_tensors.Image)
    assert isinstance(sample["segmentation"], ClassMap)
    assert isinstance(sample["depth"], DisparityMap)
    assert sample["image"].shape == (3, 32, 64)
    assert sample["image"].dtype == sample["segmentation"].dtype == torch.uint8
    assert sample["segmentation"].shape == (32, 64)
    assert sample["depth"].shape == (1, 32, 64)
    assert sample["depth"].dtype == torch.float32


def test_a_sample_holds_only_what_is_wanted():
    assert small().build_split("val", frozenset({"depth"}))[0].keys() == {"image", "depth"}


def test_splits_are_as_long_as_asked_and_end():
    train, val = (small().build_split(split, EVERYTHING) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 2)
    assert len(list(val)) == 2  # iteration stops by IndexError


def test_no_scene_is_in_both_splits():
    data = Streets(size=(8, 16), train=6, val=6)
    images = [
        sample["image"].numpy().tobytes()
        for split in ("train", "val")
        for sample in data.build_split(split, frozenset())
    ]
    assert len(set(images)) == 12


def test_a_split_survives_pickling_as_spawned_workers_need():
    split = small().build_split("train", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[1]["image"], split[1]["image"])


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"split 'vall'.*did you mean 'val'"):
        small().build_split("vall", EVERYTHING)


@pytest.mark.parametrize("classes", [7, 16, 19])
def test_classes_are_within_the_names_and_void_is_255(classes):
    data = small(classes=classes)
    names = data.offers["segmentation"].classes
    assert len(names) == classes
    ids = torch.cat([s["segmentation"].flatten() for s in data.build_split("train", EVERYTHING)])
    assert set(ids.tolist()) <= {*range(classes), 255}


def test_the_renderer_uses_the_official_train_ids():
    names = small(classes=19).offers["segmentation"].classes
    assert all(names[c] == c.name.lower().replace("_", " ") for c in StreetClass)


def test_categories_are_those_of_the_train_ids():
    fine = small(classes=19).build_split("train", EVERYTHING)[0]["segmentation"]
    coarse = small(classes=7).build_split("train", EVERYTHING)[0]["segmentation"]
    table = torch.from_numpy(label_to_class(7)[train_to_label()])
    assert torch.equal(table[fine.int()], coarse)


def test_sixteen_classes_are_those_of_nineteen_by_name():
    fine, some = (small(classes=n).build_split("train", EVERYTHING)[0] for n in (19, 16))
    names = small(classes=19).offers["segmentation"].classes
    kept = small(classes=16).offers["segmentation"].classes
    table = torch.tensor([kept.index(name) if name in kept else 255 for name in names])
    assert torch.equal(table[fine["segmentation"].int()].to(torch.uint8), some["segmentation"])


def test_depth_is_disparity_at_full_width_over_256():
    sample = small().build_split("train", EVERYTHING)[0]
    frame = render(street(0), 32, 64)
    with np.errstate(divide="ignore"):
        expected = 1.105 * 2048 * 0.209 / frame.depth / 256
    expected = np.where(frame.depth > 0, np.minimum(expected, 65534 / 65536), np.nan)
    assert np.allclose(sample["depth"][0].numpy(), expected, rtol=1e-5, equal_nan=True)
    assert sample["depth"].isnan().any()
    assert small().offers["depth"].unit == "disparity/256"


def test_a_flip_and_a_crop_keep_what_is_valid_and_the_sample_aligned():
    torch.manual_seed(0)
    sample = small(classes=19).build_split("train", EVERYTHING)[0]
    flipped = Augmentation(flip=1, scale_crop=(1.0,))(sample)
    assert torch.equal(flipped["depth"].isnan(), sample["depth"].isnan().flip(-1))
    assert torch.equal(flipped["segmentation"], sample["segmentation"].flip(-1))
    cropped = Augmentation(flip=0, scale_crop=(1.5,))(sample)
    is_sky = cropped["segmentation"] == 10
    assert torch.equal(cropped["depth"][0].isnan(), is_sky)
    assert cropped["depth"].shape == sample["depth"].shape


def test_the_augmentation_is_the_one_of_the_recipe():
    augment = Augmentation(flip=0)
    assert small(augment=augment).build_augmentation() is augment


@pytest.mark.parametrize("fields", [{"train": 0}, {"val": 0}, {"seed": -1}, {"classes": 8}])
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Streets(**fields)


def test_extras_and_exact_labels_are_the_renderers():
    data = small()
    wants = frozenset(data.offers)
    sample = data.build_split("train", wants)[0]
    assert sample.keys() == {"image"} | wants
    frame = render(street(0), 32, 64)
    hit = frame.depth > 0
    normals = sample["normals"].permute(1, 2, 0).numpy()
    assert isinstance(sample["normals"], NormalMap) and normals.dtype == np.float32
    assert np.array_equal(normals[hit], frame.normals[hit])
    assert np.isnan(normals[~hit]).all() and not hit.all()
    assert isinstance(sample["boundary"], EdgeMap) and sample["boundary"].dtype == torch.uint8
    assert np.array_equal(sample["boundary"].numpy(), frame.edges[None])
    assert set(sample["boundary"].unique().tolist()) == {0, 1}
    assert isinstance(sample["camera"], Intrinsics) and sample["camera"].canvas_size == (32, 64)
    assert np.array_equal(sample["camera"].numpy(), frame.intrinsics)


def test_normals_are_unit_vectors_that_point_towards_the_camera():
    sample = small().build_split("train", frozenset({"normals", "camera"}))[0]
    normals = sample["normals"].as_subclass(torch.Tensor)
    rays = points(torch.ones(1, 32, 64), sample["camera"])
    valid = normals.isfinite().all(0)
    assert torch.allclose(normals.norm(dim=0)[valid], torch.ones(()), atol=1e-5)
    assert ((normals * rays).sum(0)[valid] < 1e-4).all()


@pytest.mark.parametrize("size", [(32, 64), (20, 48)])
def test_depth_at_one_turns_disparity_into_metres(size):
    data = Streets(size=size, train=1, val=1)
    sample = data.build_split("train", frozenset({"depth", "depth_at_one"}))[0]
    assert sample["depth_at_one"].shape == () and sample["depth_at_one"].dtype == torch.float32
    frame = render(street(0), *size)
    found = (sample["depth_at_one"] / sample["depth"].as_subclass(torch.Tensor))[0].numpy()
    whole = (frame.depth > 0) & (full_disparity(frame) < 65534 / 256)
    assert whole.mean() > 0.5
    assert np.allclose(found[whole], frame.depth[whole], rtol=1e-6)


def test_points_of_neighbours_on_the_ground_lie_across_its_normal():
    sample = Streets(size=(64, 128), train=1, val=1).build_split(
        "train", frozenset({"depth", "depth_at_one", "normals", "camera"})
    )[0]
    depth = metres(sample["depth"], float(sample["depth_at_one"]))
    derived = normals_from_depth(depth, sample["camera"]).as_subclass(torch.Tensor)
    cosine = (derived * sample["normals"].as_subclass(torch.Tensor)).sum(0)
    assert (cosine[cosine.isfinite()] > 0.99).float().mean() > 0.7  # all but edges and round things


def weather_of(light):
    """Return the name of the weather by what a street's light is drawn from."""
    return "overcast" if light.strength == 0 else "hazy" if light.fog >= 0.007 else "clear"


def test_the_weather_is_that_of_the_light_that_the_scene_is_drawn_with():
    data = Streets(size=(4, 8), train=30, val=1)
    names = data.offers["weather"].classes
    found = []
    for index, sample in enumerate(data.build_split("train", frozenset({"weather"}))):
        assert isinstance(sample["weather"], ImageClass) and sample["weather"].shape == ()
        found.append(names[int(sample["weather"])])
        assert found[-1] == weather_of(street(2 * index).light)
    assert set(found) == set(names) == {"clear", "hazy", "overcast"}


def test_no_weather_is_rare():
    found = [weather_of(street(seed).light) for seed in range(200)]
    shares = {name: found.count(name) / 200 for name in set(found)}
    assert shares == pytest.approx({"clear": 0.4, "hazy": 0.4, "overcast": 0.2}, abs=0.06)
