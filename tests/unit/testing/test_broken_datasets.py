"""Each check of data sets catches one that breaks its promise, and says what to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field
from torch.utils.data import Dataset, Subset

from mtlkit.structures import FieldSpec
from mtlkit.testing import DATASET, check_dataset
from mtlkit.transforms import ClassMap, DisparityMap
from mtlkit_plugins.commands._new.templates.dataset import OwnPlugin as Discs

ARGUMENTS = {"size": (16, 32), "train": 4, "val": 4}


def dataset_of(build: Callable[..., Any]) -> dict[str, Any]:
    return {"build_split": lambda self, split, wants: build(self, split, wants)}


def of_one_process(self, split, wants):
    samples = Discs.build_split(self, split, wants)
    samples.draw = lambda: None  # no pickle takes it
    return samples


class Fading(Dataset):
    """Keeps samples, and darkens them in place each time that they are asked for."""

    def __init__(self, samples):
        self.samples, self.kept = samples, {}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.kept.setdefault(index, self.samples[index])
        sample["image"].sub_(1)
        return dict(sample)


class Recycling(Fading):
    """Hands out one tensor for all images."""

    def __getitem__(self, index):
        sample = self.samples[index]
        image = self.kept.setdefault("image", sample["image"])
        return {**sample, "image": image.copy_(sample["image"])}


DATASETS: dict[str, tuple[dict[str, Any], str]] = {
    "samples_have_the_kinds_shapes_and_dtypes_that_are_offered": (
        {
            "offers": property(
                lambda self: Discs.offers.fget(self) | {"depth": FieldSpec(DisparityMap)}
            )
        },
        "train 0 has {'depth': ('DepthMap', (1, 16, 32), 'float32')}, and `offers`",
    ),
    "labels_are_within_their_range": (
        {"offers": property(lambda self: {"segmentation": FieldSpec(ClassMap, classes=("disc",))})},
        "label 'segmentation' has class 1, and 1 are offered. Map ids to 0, 1, …",
    ),
    "only_what_is_wanted_is_given": (
        dataset_of(
            lambda self, split, wants: Discs.build_split(self, split, frozenset(self.offers))
        ),
        "Make what `wants` names, and no more",
    ),
    "a_split_can_be_sent_to_a_worker_and_gives_the_same_samples": (
        dataset_of(of_one_process),
        "pickle",
    ),
    "a_sample_is_the_same_each_time": (
        dataset_of(lambda self, split, wants: Fading(Discs.build_split(self, split, wants))),
        "'image' of train 0 is another one the second time. Vary samples in `build_augmentation`",
    ),
    "settings_that_are_read_back_give_the_same_samples": (
        {"__annotations__": {"train": int}, "train": Field(200, exclude=True)},
        "train has 200 samples with the settings read back, before 4. Keep all settings in fields",
    ),
    "samples_differ_within_and_between_splits": (
        dataset_of(lambda self, split, wants: Discs.build_split(self, "train", wants)),
        "is that of [('train', 0)]. Keep the splits apart",
    ),
    "an_unknown_split_is_refused": (
        dataset_of(lambda self, split, wants: Discs.build_split(self, "train", wants)),
        "`build_split('holiday', …)` works. Raise mtlkit.errors.UsageError",
    ),
    "augmented_samples_keep_their_form_and_draw_from_torch_alone": (
        {"build_augmentation": lambda self: darkened},
        "'image' differs at one seed. Draw from torch's generator alone",
    ),
}


def darkened(sample):
    image = sample["image"]
    return {**sample, "image": (image * random.random()).as_subclass(type(image))}


def darkened_in_place(sample):
    sample["image"].mul_(0.5)
    return sample


def backwards(self, split, wants):
    samples = Discs.build_split(self, "train", wants)
    return samples if split == "train" else Subset(samples, [3, 2, 1, 0])


def broken_by(methods: dict[str, Any]) -> Discs:
    return type("Broken", (Discs,), methods)(**ARGUMENTS)


def test_there_is_a_broken_data_set_for_each_check():
    assert list(DATASETS) == [check.name for check in DATASET.checks]


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_that_breaks_a_promise_is_caught(name):
    broken, words = DATASETS[name]
    dataset = broken_by(broken)
    with pytest.raises(AssertionError) as caught:
        DATASET.check(name)(dataset)
    assert words in str(caught.value)
    with pytest.raises(AssertionError, match="breaks its contract"):
        check_dataset(dataset)


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        (
            "a_sample_is_the_same_each_time",
            dataset_of(lambda self, split, wants: Recycling(Discs.build_split(self, split, wants))),
            "'image' of train 0 changes when train 1 is asked for. Return tensors that",
        ),
        (
            "settings_that_are_read_back_give_the_same_samples",
            {"model_dump": lambda self, **options: {"size": self.size, "train": {4}}},
            "Its settings cannot be read back. Keep them in fields that JSON can hold (TypeError",
        ),
        (
            "samples_differ_within_and_between_splits",
            dataset_of(backwards),
            "4 images are in both splits: train 0 is val 3, train 1 is val 2. Keep the splits",
        ),
        (
            "augmented_samples_keep_their_form_and_draw_from_torch_alone",
            {"build_augmentation": lambda self: darkened_in_place},
            "'image' changes in the sample that is varied. Use no operation in place",
        ),
    ],
)
def test_another_way_to_break_a_promise_is_caught(name, broken, words):
    with pytest.raises(AssertionError) as caught:
        DATASET.check(name)(broken_by(broken))
    assert words in str(caught.value)


def test_a_healthy_one_passes():
    check_dataset(Discs(**ARGUMENTS))
