"""Samples that are kept: equal, checked, made anew when damaged, and never another data set's."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.ten_samples import FIELDS, Counted, assert_same_sample, sample

import mtlkit
from mtlkit import cache
from mtlkit.cache import CachedSplit, blank_sample, plan_of
from mtlkit.camera import Intrinsics
from mtlkit.errors import MissingError, PluginError
from mtlkit.memory import DiskMemory, RamMemory, pack, record_size, unpack
from mtlkit.transforms import DisparityMap


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cached_sample_is_decoded_once_and_equal(kind: str, tmp_path: Path) -> None:
    source = Counted()
    size = record_size(FIELDS)
    memory = RamMemory(10, size) if kind == "ram" else DiskMemory(tmp_path / "x", size)
    split = CachedSplit(source, FIELDS, memory)
    for _ in range(3):
        for index in range(10):
            assert_same_sample(split[index], source.samples[index])
    assert source.decoded == [1] * 10
    copy = pickle.loads(pickle.dumps(split)) if kind == "disk" else split
    assert_same_sample(copy[4], source.samples[4])


def test_a_damaged_record_is_made_anew(tmp_path: Path) -> None:
    source, file = Counted(), tmp_path / "x"
    split = CachedSplit(source, FIELDS, DiskMemory(file, record_size(FIELDS)))
    for index in range(10):
        split[index]
    content = bytearray(file.read_bytes())
    for index in range(10):
        content[index * record_size(FIELDS) + 8 + 37 * index] ^= 1
    file.write_bytes(content)
    for index in range(10):
        assert_same_sample(split[index], source.samples[index])
    assert source.decoded == [2] * 10


def test_a_record_keeps_which_labels_were_missing() -> None:
    part = sample()
    del part["depth"]
    record = pack(part, FIELDS)
    assert record is not None
    found = unpack(record, FIELDS)
    assert found is not None
    assert_same_sample(found, part)


def test_a_sample_that_is_not_as_the_data_set_says_is_refused_and_not_kept(tmp_path: Path) -> None:
    odd: dict[str, Any] = {**sample(), "camera": torch.eye(3)}
    assert pack(odd, FIELDS) is None
    source = Counted()
    source.samples[3] = {**sample(), "depth": DisparityMap(torch.zeros(1, 4, 4))}
    split = CachedSplit(source, FIELDS, DiskMemory(tmp_path / "x", record_size(FIELDS)), "mine")
    with pytest.raises(
        PluginError, match=r"mine: sample 3 has .*depth \(1, 4, 4\) float32.*offers"
    ):
        split[3]
    assert not split.is_kept(3)


def test_float_images_extras_and_cameras_are_kept_exactly() -> None:
    camera = Intrinsics(torch.rand(3, 3), canvas_size=(8, 16))
    fields = {
        "image": torch.zeros(3, 8, 16),
        "camera": Intrinsics.blank(1, (8, 16)),
        "depth_at_one": torch.full((), torch.nan),
    }
    whole = {"image": torch.rand(3, 8, 16), "camera": camera, "depth_at_one": torch.tensor(3.5)}
    record = pack(whole, fields)
    assert record is not None
    found = unpack(record, fields)
    assert found is not None
    assert_same_sample(found, whole)
    assert found["camera"].canvas_size == (8, 16)


def test_auto_keeps_nothing_that_fills_more_than_half_of_what_is_free(
    recipe: mtlkit.Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path))
    data = recipe.sets[0]
    plan = plan_of(data, "train", recipe.wants, "auto", 10)
    assert plan.where == "disk" and plan.path.parent == tmp_path / "samples"
    monkeypatch.setattr(cache, "_free_bytes", lambda folder: 2 * plan.size - 1)
    assert plan_of(data, "train", recipe.wants, "auto", 10).where == "none"
    assert plan_of(data, "train", recipe.wants, "disk", 10).where == "disk"
    plan.path.parent.mkdir()
    plan.path.touch()  # what is there already takes no more
    assert plan_of(data, "train", recipe.wants, "auto", 10).where == "disk"


def test_the_name_of_a_cache_does_not_depend_on_how_samples_are_used(
    recipe: mtlkit.Recipe,
) -> None:
    data = recipe.sets[0]
    choice = {"mode": "random_one"}
    same = [{"name": "x"}, {"ratio": 2.0}, {"rename": {"depth": "d"}}, {"labels_per_image": choice}]
    paths = {
        plan_of(data.model_copy(update=u), "train", recipe.wants, "disk", 4).path for u in same
    }
    assert len(paths) == 1
    other = data.model_copy(update={"size": (64, 64)})
    assert plan_of(other, "train", recipe.wants, "disk", 4).path not in paths


def test_a_cache_that_cannot_be_written_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    memory = DiskMemory(tmp_path / "file" / "x", 100)
    with pytest.raises(MissingError, match="MTLKIT_CACHE"):
        memory.write(0, bytes(100))


def test_blank_samples_have_the_shape_of_real_ones(recipe: mtlkit.Recipe) -> None:
    blanks = blank_sample(recipe.sets[0], recipe.wants)
    assert blanks is not None
    real = recipe.sets[0].build_split("val", recipe.wants)[0]
    assert {n: (x.shape, x.dtype) for n, x in real.items()} == {
        n: (x.shape, x.dtype) for n, x in blanks.items()
    }
