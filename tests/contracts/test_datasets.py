"""What every data set promises; those that read files are given rendered ones."""

from __future__ import annotations

import pytest
from arguments import make, registered
from fixtures.layouts_cityscapes import write_cityscapes
from fixtures.layouts_folder import fields, write_folder
from fixtures.layouts_nyuv2 import write_nyuv2
from fixtures.layouts_synthia import write_synthia
from fixtures.layouts_vkitti2 import write_vkitti2

from mtlkit.testing import DATASET

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
@pytest.mark.parametrize("check", DATASET.checks, ids=lambda check: check.name)
def test_a_data_set_keeps_its_promises(dataset, check):
    check(dataset)


@EVERY
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_has_as_many_samples_as_were_written(dataset, split):
    assert len(dataset.build_split(split, frozenset())) == 2


@EVERY
def test_it_finds_no_problem_in_a_recipe_of_its_own_labels(dataset, recipe):
    assert list(dataset.problems(recipe.model_copy(update={"data": dataset}))) == []
