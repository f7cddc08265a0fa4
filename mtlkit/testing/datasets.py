"""What every data set promises, looked at in its first samples."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import Any

import torch
from torch import Tensor

from mtlkit.cache import blanks_of
from mtlkit.contracts import Dataset
from mtlkit.errors import MtlkitError
from mtlkit.structures import FieldSpec
from mtlkit.testing.contract import BrokenPromise, Contract, require, require_equal, told
from mtlkit.transforms import LabelKind

DATASET = Contract("dataset")
SPLITS = ("train", "val")
LOOKED_AT = 2  # samples of a split
COMPARED = 64  # images at either end of a split


def check_dataset(dataset: Dataset) -> None:
    """Check all that a data set promises; it needs two samples or more in each split.

    Args:
        dataset: with its arguments; its files are there.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    DATASET.run(dataset)


@DATASET.promises
def samples_have_the_kinds_shapes_and_dtypes_that_are_offered(dataset: Dataset) -> None:
    """Samples hold the image and what is wanted, in the kinds, shapes and dtypes of `offers`."""
    for name, spec in dataset.offers.items():
        require(
            isinstance(spec, FieldSpec), f"{name!r} is offered as {spec!r}. Make it a FieldSpec"
        )
    wants = frozenset(dataset.offers)
    blanks = {name: _form(x) for name, x in blanks_of(dataset, wants).items() if x is not None}
    for split in SPLITS:
        samples = _split(dataset, split, wants)
        for index in range(LOOKED_AT):
            sample = samples[index]
            seen = f"{split} {index} is {type(sample).__name__}"
            require(isinstance(sample, dict), f"{seen}. Return a dict of tensors by name")
            require(
                sample.keys() == {"image"} | wants,
                f"{split} {index} holds {sorted(sample)}, wanted {sorted({'image'} | wants)}",
            )
            found = {name: _form(sample[name]) for name in blanks}
            wrong = {name: form for name, form in found.items() if form != blanks[name]}
            said = {name: blanks[name] for name in wrong}
            seen = f"{split} {index} has {wrong}, and `offers`, `size` and `image_dtype` say {said}"
            require(not wrong, f"{seen}. Mend one of them")


@DATASET.promises
def labels_are_within_their_range(dataset: Dataset) -> None:
    """Labels are finite, valid somewhere, and of the kind, classes and size that are offered."""
    sample = _split(dataset, "train", frozenset(dataset.offers))[0]
    for name, spec in dataset.offers.items():
        kinds = f"{name!r} is a {type(sample[name]).__name__}, offered is {spec.kind.__name__}"
        require(isinstance(sample[name], spec.kind), kinds)
        is_kind = issubclass(spec.kind, LabelKind)
        require(spec.is_label == is_kind, f"{kinds}. Use a kind of mtlkit.transforms")
        if not spec.is_label:
            continue
        value, valid = sample[name].to_label()
        require(value.isfinite().all(), f"label {name!r} is not finite")
        require(valid.any(), f"label {name!r} is valid nowhere in the first training sample")
        blank = spec.blank(dataset.size)
        assert isinstance(blank, LabelKind)  # every kind of label has one
        shape = tuple(blank.to_label()[1].shape)  # (1,H,W); () of a label of the whole image
        require(
            valid.shape == shape, f"label {name!r} has a mask {tuple(valid.shape)}, not {shape}"
        )
        wanted = torch.int64 if spec.classes else torch.float32
        require(value.dtype == wanted, f"label {name!r} is {value.dtype}, not {wanted}")
        if spec.classes:
            most = int(value.max())
            seen = f"label {name!r} has class {most}, and {len(spec.classes)} are offered"
            require(most < len(spec.classes), f"{seen}. Map ids to 0, 1, …; void is 255")
            several = valid.ndim == 0 or len(value[valid[0]].unique()) > 1
            require(several, f"label {name!r} is one class in the first training sample")


@DATASET.promises
def only_what_is_wanted_is_given(dataset: Dataset) -> None:
    """A sample holds the image and what is wanted alone, and the same whatever else is wanted."""
    for split in SPLITS:
        whole = _split(dataset, split, frozenset(dataset.offers))[0]
        for wants in (frozenset[str](), *(frozenset({name}) for name in dataset.offers)):
            sample = _split(dataset, split, wants)[0]
            wanted = {"image"} | wants
            seen = f"{split} gives {sorted(sample)}, wanted is {sorted(wanted)}"
            require(set(sample) == wanted, f"{seen}. Make what `wants` names, and no more")
            for name, value in sample.items():
                sentence = f"{name!r} of {split} changes with what else is wanted"
                require_equal(value.nan_to_num(), whole[name].nan_to_num(), sentence)


@DATASET.promises
def a_split_can_be_sent_to_a_worker_and_gives_the_same_samples(dataset: Dataset) -> None:
    """A split survives pickling, and its copy gives equal samples."""
    for split in SPLITS:
        samples = _split(dataset, split, frozenset(dataset.offers))
        copied = pickle.loads(pickle.dumps(samples))
        same = len(copied) == len(samples)
        require(same, f"a copy of {split} has {len(copied)} samples, not {len(samples)}")
        again = copied[1]
        for name, value in samples[1].items():
            sentence = f"{name!r} of {split} differs in a copy. Derive every draw from the index"
            require_equal(again[name].nan_to_num(), value.nan_to_num(), sentence)


@DATASET.promises
def a_sample_is_the_same_each_time(dataset: Dataset) -> None:
    """A sample is the same each time, and what was given before stays as it was."""
    for split in SPLITS:
        samples = _split(dataset, split, frozenset(dataset.offers))
        given = samples[0]
        kept = _copied(given)
        samples[1]
        advice = "Return tensors that nothing else writes to"
        _require_same(given, kept, f"of {split} 0 changes when {split} 1 is asked for. {advice}")
        advice = "Vary samples in `build_augmentation` alone, and nothing in place"
        _require_same(samples[0], kept, f"of {split} 0 is another one the second time. {advice}")


@DATASET.promises
def settings_that_are_read_back_give_the_same_samples(dataset: Dataset) -> None:
    """Its settings, written as JSON and read back, give the same samples: so is a run resumed."""
    with told("Its settings cannot be read back. Keep them in fields that JSON can hold"):
        written = json.dumps(dataset.model_dump(mode="json", by_alias=True))
        again = type(dataset).model_validate(json.loads(written))
    for split in SPLITS:
        wants = frozenset(dataset.offers)
        before, after = _split(dataset, split, wants), _split(again, split, wants)
        seen = f"{split} has {len(after)} samples with the settings read back, before {len(before)}"
        require(len(before) == len(after), f"{seen}. Keep all settings in fields")
        for index in range(LOOKED_AT):
            sentence = f"of {split} {index} is another one with the settings read back"
            advice = "Keep all settings in fields, and derive every draw from them and the index"
            _require_same(after[index], before[index], f"{sentence}. {advice}")


@DATASET.promises
def samples_differ_within_and_between_splits(dataset: Dataset) -> None:
    """No image is there twice in one split, and none of the first and last 64 of each in both."""
    places = [(split, i) for split in SPLITS for i in range(LOOKED_AT)]
    images = [_split(dataset, split, frozenset())[i]["image"] for split, i in places]
    for i, image in enumerate(images):
        twins = [places[j] for j in range(i) if torch.equal(image, images[j])]
        require(not twins, f"the image of {places[i]} is that of {twins}. Keep the splits apart")
    train, val = (_images(dataset, split) for split in SPLITS)
    shared = sorted(f"{train[key]} is {val[key]}" for key in train.keys() & val.keys())
    seen = f"{len(shared)} images are in both splits: {', '.join(shared[:LOOKED_AT])}"
    require(not shared, f"{seen}. Keep the splits apart")


@DATASET.promises
def an_unknown_split_is_refused(dataset: Dataset) -> None:
    """A split other than train and val is refused with an MtlkitError that names it."""
    try:
        dataset.build_split("holiday", frozenset())
    except MtlkitError as error:
        require("holiday" in str(error), f"the error is {str(error)!r}. Name the split in it")
        return
    raise BrokenPromise("`build_split('holiday', …)` works. Raise mtlkit.errors.UsageError")


@DATASET.promises
def augmented_samples_keep_their_form_and_draw_from_torch_alone(dataset: Dataset) -> None:
    """The augmentation, if any, keeps kinds, shapes and dtypes, and draws from torch alone."""
    augmentation = dataset.build_augmentation()
    if augmentation is None:
        return
    sample = _split(dataset, "train", frozenset(dataset.offers))[0]
    whole = 255 if sample["image"].dtype == torch.uint8 else 1
    sample["image"] = (sample["image"] / whole).as_subclass(type(sample["image"]))
    kept, varied = _copied(sample), []
    for _ in range(2):
        torch.manual_seed(4)
        varied.append(augmentation(dict(sample)))
    sentence = "changes in the sample that is varied. Use no operation in place"
    _require_same(sample, kept, sentence)
    for name, value in sample.items():
        first, second = (found[name] for found in varied)
        seen = f"{name!r} becomes {_form(first)}, and was {_form(value)}"
        require(_form(first) == _form(value), f"{seen}. Use the kinds' own transforms")
        sentence = f"{name!r} differs at one seed. Draw from torch's generator alone"
        require_equal(first.nan_to_num(), second.nan_to_num(), sentence)


def _split(dataset: Dataset, split: str, wants: frozenset[str]) -> Any:
    """Return a split of two samples or more."""
    samples: Any = dataset.build_split(split, wants)
    seen = f"build_split({split!r}, …) returns {type(samples).__name__}, which has no length"
    require(hasattr(samples, "__len__"), f"{seen}. Return samples with __len__ and __getitem__")
    require(len(samples) >= LOOKED_AT, f"{split} has {len(samples)} samples; the checks need two")
    return samples


def _images(dataset: Dataset, split: str) -> dict[bytes, str]:
    """Return where the first and last images of a split are, by what they hold."""
    samples = _split(dataset, split, frozenset())
    numbers = range(len(samples))
    chosen = sorted({*numbers[:COMPARED], *numbers[-COMPARED:]})
    images = ((i, samples[i]["image"].contiguous().numpy()) for i in chosen)
    return {hashlib.sha256(image.tobytes()).digest(): f"{split} {i}" for i, image in images}


def _copied(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in sample.items()}


def _require_same(found: dict[str, Tensor], wanted: dict[str, Tensor], sentence: str) -> None:
    """Require equal values under each name; NaN equals NaN."""
    for name, value in wanted.items():
        require_equal(found[name].nan_to_num(), value.nan_to_num(), f"{name!r} {sentence}")


def _form(value: Tensor) -> tuple[str, tuple[int, ...], str]:
    """Return kind, shape and dtype."""
    return type(value).__name__, tuple(value.shape), str(value.dtype).removeprefix("torch.")
