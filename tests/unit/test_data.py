"""Order, augmentation, batches and the cache of samples."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import tv_tensors

import mtlkit
from mtlkit.cache import CachedSplit, DiskMemory, RamMemory, blank_sample, pack, record_size, unpack
from mtlkit.data import BatchOrder, Collate, Samples, build_loader
from mtlkit.errors import MissingError
from mtlkit.transforms import Augmentation, ClassMap, DepthMap, DisparityMap

CPU = torch.device("cpu")


def sample(value: float = 0.5) -> dict[str, torch.Tensor]:
    depth = torch.full((1, 8, 16), value)
    depth[:, 0] = torch.nan
    classes = torch.arange(128, dtype=torch.uint8).reshape(8, 16) % 7
    classes[0] = 255
    return {
        "image": tv_tensors.Image(torch.randint(0, 256, (3, 8, 16), dtype=torch.uint8)),
        "segmentation": ClassMap(classes),
        "depth": DisparityMap(depth),
    }


class Counted(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Ten samples; counts how often each is decoded."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.samples = [sample(i / 10) for i in range(10)]
        self.decoded = [0] * 10

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.decoded[index] += 1
        return self.samples[index]


FIELDS = {
    "image": tv_tensors.Image(torch.zeros(3, 8, 16, dtype=torch.uint8)),
    "segmentation": ClassMap.blank(1, (8, 16)),
    "depth": DisparityMap.blank(1, (8, 16)),
}


def assert_same_sample(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert type(a[name]) is type(b[name])
        assert torch.equal(torch.nan_to_num(a[name]), torch.nan_to_num(b[name]))


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own() -> None:
    order = BatchOrder(10, 4, seed=0, drop_last=False)
    epochs = []
    for epoch in (1, 2, 1):
        order.begin_at(epoch, 0)
        epochs.append([index for batch in order for _, index in batch])
    assert sorted(epochs[0]) == list(range(10))
    assert epochs[0] == epochs[2] != epochs[1]


def test_an_epoch_goes_on_in_the_middle() -> None:
    order = BatchOrder(10, 4, seed=0, drop_last=False)
    order.begin_at(3, 0)
    whole = list(order)
    order.begin_at(3, 1)
    assert list(order) == whole[1:] and len(order) == 2 and order.batches == 3


def test_dropping_the_last_batch_leaves_whole_ones() -> None:
    order = BatchOrder(10, 4, seed=None, drop_last=True)
    assert [[i for _, i in batch] for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_augmentation_depends_on_seed_epoch_and_index_alone() -> None:
    samples = Samples(Counted(), Augmentation(), seed=5)
    torch.manual_seed(99)
    first = samples[(2, 3)]
    state = torch.get_rng_state()
    samples[(2, 4)]
    assert torch.equal(state, torch.get_rng_state())
    assert_same_sample(first, samples[(2, 3)])
    others = [samples[(epoch, 3)]["image"] for epoch in range(3, 9)]
    assert any(not torch.equal(first["image"], other) for other in others)


def test_workers_give_the_batches_of_the_main_process(recipe: mtlkit.Recipe, tiny: Path) -> None:
    with_workers = mtlkit.load_recipe(tiny, {"loader.workers": 2})
    found = []
    for chosen in (recipe, with_workers):
        loader, order = build_loader(chosen, "train", CPU)
        order.begin_at(2, 1)
        found.append(list(loader))
    assert len(found[0]) == 2
    for a, b in zip(*found, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.labels["depth"].value, b.labels["depth"].value)
        assert torch.equal(a.labels["depth"].valid, b.labels["depth"].valid)


def test_a_mask_equals_what_is_valid_after_any_augmentation() -> None:
    samples = Samples(Counted(), Augmentation(), seed=0)
    collate = Collate(FIELDS, "counted")
    for epoch in range(1, 20):
        batch = collate([samples[(epoch, index)] for index in range(4)])
        depth, classes = batch.labels["depth"], batch.labels["segmentation"]
        assert torch.equal(depth.valid, classes.valid)
        assert depth.value.isfinite().all() and not depth.value[~depth.valid].any()
        assert batch.image.min() >= 0 and batch.image.max() <= 1


def test_a_label_that_no_sample_has_is_left_out_and_a_missing_one_is_invalid() -> None:
    first, second = sample(), sample()
    del second["depth"], first["segmentation"], second["segmentation"]
    batch = Collate(FIELDS, "x")([first, second])
    assert set(batch.labels) == {"depth"}
    assert batch.labels["depth"].valid[0].any() and not batch.labels["depth"].valid[1].any()
    assert batch.rows == {"x": slice(0, 2)}


def test_zoom_scales_disparity_up_and_depth_down() -> None:
    augmentation = Augmentation(flip=0, scale_crop=(2.0,))
    maps = {"image": sample()["image"], "a": DisparityMap(torch.ones(1, 8, 16))}
    maps["b"] = DepthMap(torch.ones(1, 8, 16))
    maps["image"] = tv_tensors.Image(maps["image"].float() / 255)
    zoomed = augmentation(maps)
    assert zoomed["a"].unique().tolist() == [2.0] and zoomed["b"].unique().tolist() == [0.5]
    official = Augmentation(flip=0, scale_crop=(2.0,), zoom_values="official")(maps)
    assert official["a"].unique().tolist() == [1.0]


def test_official_masks_are_those_before_the_crop() -> None:
    augmentation = Augmentation(flip=0, scale_crop=(2.0,), masks="official")
    before = sample()
    before["image"] = tv_tensors.Image(before["image"].float() / 255)
    for _ in range(5):
        after = augmentation(before)["depth"]
        assert torch.equal(after.isfinite(), before["depth"].isfinite())


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


def test_a_sample_of_another_shape_is_not_kept() -> None:
    odd: dict[str, Any] = {**sample(), "camera": torch.eye(3)}
    assert pack(odd, FIELDS) is None
    odd = {**sample(), "depth": DisparityMap(torch.zeros(1, 4, 4))}
    assert pack(odd, FIELDS) is None


def test_a_cache_that_cannot_be_written_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    memory = DiskMemory(tmp_path / "file" / "x", 100)
    with pytest.raises(MissingError, match="MTLKIT_CACHE"):
        memory.write(0, bytes(100))


def test_blank_samples_have_the_shape_of_real_ones(recipe: mtlkit.Recipe) -> None:
    blanks = blank_sample(recipe.data, recipe.wants)
    assert blanks is not None
    real = recipe.data.build_split("val", recipe.wants)[0]
    assert {n: (x.shape, x.dtype) for n, x in real.items()} == {
        n: (x.shape, x.dtype) for n, x in blanks.items()
    }
