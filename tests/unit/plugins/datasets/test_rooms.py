import pickle

import numpy as np
import torch
from torchvision import tv_tensors

from mtlkit.transforms import Augmentation, ClassMap, DepthMap
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
    assert torch.allclose(zoomed.as_subclass(torch.Tensor) * 1.5, plain, equal_nan=True)
