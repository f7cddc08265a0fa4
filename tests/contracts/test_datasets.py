"""What every data set promises; those that read files are given rendered ones."""

from __future__ import annotations

import pickle

import pytest
import torch
from arguments import make, registered
from fixtures.layouts_cityscapes import write_cityscapes
from fixtures.layouts_folder import fields, write_folder
from fixtures.layouts_nyuv2 import write_nyuv2
from fixtures.layouts_synthia import write_synthia
from fixtures.layouts_vkitti2 import write_vkitti2

from mtlkit.cache import blank_sample
from mtlkit.errors import MtlkitError
from mtlkit.transforms import LabelKind

SIZE = (16, 32)
SCENES = {"size": SIZE, "train": 2, "val": 2}
ARGUMENTS = {"rooms": SCENES, "streets": SCENES}
FILES = {  # what writes two samples a split, and what reads them
    "cityscapes": (write_cityscapes, {}),
    "folder": (write_folder, None),
    "nyuv2": (lambda root: write_nyuv2(root, size=(12, 16)), {"layout": "npy"}),
    "nyuv2 mat": (lambda root: write_nyuv2(root, "mat", size=(12, 16)), {"layout": "mat"}),
    "nyuv2 png": (lambda root: write_nyuv2(root, "png", size=(12, 16)), {"layout": "png"}),
    "synthia": (write_synthia, {}),
    "vkitti2": (write_vkitti2, {}),
}
EVERY = pytest.mark.parametrize("name", [*registered("dataset"), "nyuv2 mat", "nyuv2 png"])
SPLITS = pytest.mark.parametrize("split", ["train", "val"])


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return what gives the folder of a data set, written once."""
    roots = {}

    def root_of(name):
        if name not in roots:
            roots[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
            FILES[name][0](roots[name])
        return roots[name]

    return root_of


@pytest.fixture
def dataset(name, written):
    kind = name.split()[0]
    if name in FILES:
        root = written(name)
        given = FILES[name][1]
        given = fields(root) if given is None else {"root": str(root), **given}
        given.pop("type", None)
        return make("dataset", kind, **{**given, "size": SIZE})
    if name not in ARGUMENTS:
        pytest.fail(f"data set {name!r} has no arguments: add them to ARGUMENTS in {__file__}")
    return make("dataset", kind, **ARGUMENTS[name])


@EVERY
@SPLITS
def test_samples_have_the_kinds_shapes_and_dtypes_of_blank_ones(dataset, split):
    wants = frozenset(dataset.offers)
    blanks = blank_sample(dataset, wants)
    samples = dataset.build_split(split, wants)
    assert len(samples) == 2
    for index in range(2):
        sample = samples[index]
        assert {n: (type(x), x.shape, x.dtype) for n, x in sample.items()} == {
            n: (type(x), x.shape, x.dtype) for n, x in blanks.items()
        }


@EVERY
def test_labels_are_of_the_kind_that_is_offered_and_within_its_range(dataset):
    sample = dataset.build_split("train", frozenset(dataset.offers))[0]
    for name, spec in dataset.offers.items():
        assert isinstance(sample[name], spec.kind)
        assert spec.is_label == issubclass(spec.kind, LabelKind)
        if not spec.is_label:
            continue
        value, valid = sample[name].to_label()
        assert value.isfinite().all() and valid.any()
        assert valid.shape == (1, *SIZE)
        assert value.dtype == (torch.int64 if spec.classes else torch.float32)
        if spec.classes:
            assert value.max() < len(spec.classes) and len(value[valid[0]].unique()) > 1


@EVERY
@SPLITS
def test_only_what_is_wanted_is_given(dataset, split):
    for wants in (frozenset(), *(frozenset({name}) for name in dataset.offers)):
        samples = dataset.build_split(split, wants)
        assert set(samples[0]) == {"image"} | wants
        whole = dataset.build_split(split, frozenset(dataset.offers))[0]
        assert all(
            torch.equal(x.nan_to_num(), whole[n].nan_to_num()) for n, x in samples[0].items()
        )


@EVERY
@SPLITS
def test_a_split_can_be_sent_to_a_worker_and_gives_the_same_samples(dataset, split):
    samples = dataset.build_split(split, frozenset(dataset.offers))
    copied = pickle.loads(pickle.dumps(samples))
    assert len(copied) == len(samples)
    for name, value in samples[1].items():
        assert torch.equal(copied[1][name].nan_to_num(), value.nan_to_num())


@EVERY
def test_samples_differ_within_and_between_splits(dataset):
    images = [
        dataset.build_split(split, frozenset())[i]["image"]
        for split in ("train", "val")
        for i in (0, 1)
    ]
    for i, image in enumerate(images):
        assert not any(torch.equal(image, other) for other in images[:i])


@EVERY
def test_an_unknown_split_is_refused(dataset):
    with pytest.raises(MtlkitError, match="test"):
        dataset.build_split("test", frozenset())


@EVERY
def test_it_finds_no_problem_in_a_recipe_of_its_own_labels(dataset, recipe):
    assert list(dataset.problems(recipe.model_copy(update={"data": dataset}))) == []


@EVERY
def test_augmented_samples_keep_their_kinds_and_draw_from_torch_alone(dataset):
    augmentation = dataset.build_augmentation()
    if augmentation is None:
        pytest.skip("varies nothing")
    sample = dataset.build_split("train", frozenset(dataset.offers))[0]
    whole = 255 if sample["image"].dtype == torch.uint8 else 1
    sample["image"] = (sample["image"] / whole).as_subclass(type(sample["image"]))
    before = {name: value.clone() for name, value in sample.items()}
    varied = []
    for _ in range(2):
        torch.manual_seed(4)
        varied.append(augmentation(dict(sample)))
    for name, value in sample.items():
        first, second = (found[name] for found in varied)
        assert (type(first), first.shape, first.dtype) == (type(value), value.shape, value.dtype)
        assert torch.equal(first.nan_to_num(), second.nan_to_num())
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num())
    seen = [augmentation(dict(sample))["image"] for _ in range(6)]
    assert any(not torch.equal(image, sample["image"]) for image in seen)


@EVERY
def test_settings_survive_the_way_to_a_file(dataset):
    assert type(dataset).model_validate(dataset.model_dump(mode="json", by_alias=True)) == dataset


# all samples of the .mat are in one file; its splits are tested with the reader
@pytest.mark.parametrize("name", sorted(FILES.keys() - {"nyuv2 mat"}))
def test_train_and_val_never_share_a_file(dataset):
    splits = [dataset.build_split(split, frozenset(dataset.offers)) for split in ("train", "val")]
    train, val = ({p for i in range(len(s)) for p in s.files(i).values()} for s in splits)
    assert train and val and not train & val
