import pickle

import numpy as np
import torch
from torchvision import tv_tensors

from mtlkit.augmentation import Augmentation
from mtlkit.camera import Intrinsics
from mtlkit.geometry import normals_from_depth
from mtlkit.transforms import ClassMap, DepthMap, EdgeMap, NormalMap
from mtlkit_plugins.datasets._scenes.classes import RoomClass
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets.rooms import Rooms

EVERYTHING = frozenset({"segmentation", "depth"})


def small():
    return Rooms(size=(32, 64), train=2, val=2)


def test_a_sample_holds_image_classes_and_metres():
    sample = small().build_split("train", EVERYTHING)[0]
    frame = render(room(0), 32, 64)
    assert isinstance(sample["image"], tv_tensors.Image)
    assert isinstance(sample["segmentation"], ClassMap)
    assert isinstance(sample["depth"], DepthMap)
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), frame.image)
    assert np.array_equal(sample["segmentation"].numpy(), frame.classes)
    expected = np.where(frame.depth > 0, frame.depth, np.nan)
    assert np.array_equal(sample["depth"][0].numpy(), expected, equal_nan=True)


def test_offers_name_the_13_classes_and_the_unit():
    offers = small().offers
    names = offers["segmentation"].classes
    assert len(names) == 13
    assert all(names[member] == member.name.lower() for member in RoomClass)
    assert offers["depth"].unit == "m"


def test_normals_edges_and_camera_are_the_renderers():
    data = small()
    wants = frozenset(data.offers)
    assert "depth_at_one" not in wants  # depth is in metres already
    sample = data.build_split("val", wants)[0]
    assert sample.keys() == {"image"} | wants
    frame = render(room(1), 32, 64)
    hit = frame.depth > 0
    normals = sample["normals"].permute(1, 2, 0).numpy()
    assert isinstance(sample["normals"], NormalMap)
    assert np.array_equal(normals[hit], frame.normals[hit]) and np.isnan(normals[~hit]).all()
    assert isinstance(sample["boundary"], EdgeMap) and sample["boundary"].dtype == torch.uint8
    assert np.array_equal(sample["boundary"].numpy(), frame.edges[None])
    assert isinstance(sample["camera"], Intrinsics) and sample["camera"].canvas_size == (32, 64)
    assert np.array_equal(sample["camera"].numpy(), frame.intrinsics)


def test_depth_and_camera_agree_with_normals():
    data = Rooms(size=(64, 128), train=1, val=1)
    sample = data.build_split("train", frozenset({"depth", "normals", "camera"}))[0]
    derived = normals_from_depth(sample["depth"], sample["camera"]).as_subclass(torch.Tensor)
    cosine = (derived * sample["normals"].as_subclass(torch.Tensor)).sum(0)
    assert (cosine[cosine.isfinite()] > 0.99).float().mean() > 0.7  # all but edges and round things


def test_no_room_is_in_both_splits():
    images = [
        sample["image"].numpy().tobytes()
        for split in ("train", "val")
        for sample in small().build_split(split, frozenset())
    ]
    assert len(set(images)) == 4


def test_a_split_survives_pickling():
    split = small().build_split("val", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[0]["image"], split[0]["image"])


def test_a_zoom_brings_things_nearer():
    sample = small().build_split("train", EVERYTHING)[0]
    torch.manual_seed(0)
    zoomed = Augmentation(flip=0, scale_crop=(1.5,))(sample)["depth"]
    torch.manual_seed(0)
    plain = Augmentation(flip=0, scale_crop=(1.5,), zoom_values="official")(sample)["depth"]
    zoom = 64 / 42  # a window of 42 columns, as 64/1.5 is no whole number
    assert torch.allclose(zoomed.as_subclass(torch.Tensor) * zoom, plain, equal_nan=True)
