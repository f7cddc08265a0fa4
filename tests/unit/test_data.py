"""Batches: what is stacked, what is missing, and the loader with its workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.ten_samples import OFFERS, SIZE, Counted, sample

import mtlkit
from mtlkit.augmentation import Augmentation
from mtlkit.collate import Collate, Unread
from mtlkit.data import build_loader, meta_batch
from mtlkit.errors import MissingError, PluginError, RecipeError
from mtlkit.samples import Found, Part, Samples
from mtlkit.structures import Batch, FieldSpec

CPU = torch.device("cpu")


def collated(*samples: dict[str, torch.Tensor], parts: tuple[int, ...] = ()) -> Batch:
    titles = ["x", "y"]
    parts = parts or (0,) * len(samples)
    found = [Found(p, i, s) for i, (s, p) in enumerate(zip(samples, parts, strict=True))]
    batch = Collate(OFFERS, SIZE, titles)(found)
    assert isinstance(batch, Batch)
    return batch


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
    samples = Samples([Part("ten", Counted(), augmentation=Augmentation())], seed=0)
    collate = Collate(OFFERS, SIZE, ["ten"])
    for epoch in range(1, 20):
        batch = collate([samples[(epoch, index, 0)] for index in range(4)])
        depth, classes = batch.labels["depth"], batch.labels["segmentation"]
        assert torch.equal(depth.valid, classes.valid)
        assert depth.value.isfinite().all() and not depth.value[~depth.valid].any()
        assert batch.image.min() >= 0 and batch.image.max() <= 1


def test_a_label_that_no_sample_has_is_left_out_and_a_missing_one_is_invalid() -> None:
    first, second = sample(), sample()
    del second["depth"], first["segmentation"], second["segmentation"]
    batch = collated(first, second)
    assert set(batch.labels) == {"depth"}
    assert batch.labels["depth"].valid[0].any() and not batch.labels["depth"].valid[1].any()
    assert batch.rows == {"x": slice(0, 2)}


def test_samples_of_one_set_lie_beside_each_other() -> None:
    samples = [sample(value) for value in (0.1, 0.2, 0.3)]
    batch = collated(*samples, parts=(1, 0, 1))
    assert batch.rows == {"x": slice(0, 1), "y": slice(1, 3)} and batch.indices == (1, 0, 2)
    values = batch.labels["depth"].value[:, 0, -1, -1]
    assert values.tolist() == pytest.approx([0.2, 0.1, 0.3])


def test_an_extra_that_a_sample_lacks_is_nan_and_one_that_all_lack_is_left_out() -> None:
    assert collated(sample(), sample()).extras == {}
    extras = collated({**sample(), "camera": torch.eye(3)}, sample()).extras["camera"]
    assert torch.equal(extras[0], torch.eye(3)) and extras[1].isnan().all()


def test_what_is_left_out_is_told_and_a_batch_without_samples_is_no_batch() -> None:
    left_out = Found(0, 1, None, ("1.png: cannot be read",))
    collate = Collate(OFFERS, SIZE, ["x"])
    batch = collate([Found(0, 0, sample()), left_out])
    assert isinstance(batch, Batch) and len(batch.image) == 1 and batch.indices == (0,)
    assert batch.skipped == left_out.skipped
    assert collate([left_out]) == Unread(left_out.skipped)


def test_a_meta_batch_has_every_label_and_extra(recipe: mtlkit.Recipe) -> None:
    batch = meta_batch(recipe, 3)
    assert set(batch.labels) | set(batch.extras) == recipe.wants
    assert all(x.is_meta and len(x) == 3 for x in batch.extras.values())
    assert all(x.value.is_meta and len(x.valid) == 3 for x in batch.labels.values())


TWO = {
    "data": [
        {"type": "streets", "size": [32, 64], "train": 6, "val": 2},
        {"type": "rooms", "size": [32, 64], "train": 3, "val": 3, "labels": ["depth"],
         "rename": {"depth": "metres"}},
    ],
}  # fmt: skip


def test_two_data_sets_load_as_one(tiny: Path) -> None:
    recipe = mtlkit.load_recipe(tiny, TWO)
    assert [part.title for part in recipe.sets] == ["streets", "rooms"]
    loader, order = build_loader(recipe, "train", CPU)
    assert order.count == 9
    batches = list(loader)
    assert sum(len(batch.image) for batch in batches) == 9
    for batch in batches:
        assert set(batch.rows) <= {"streets", "rooms"}
        rooms = batch.rows.get("rooms", slice(0, 0))
        assert not batch.labels["segmentation"].valid[rooms].any()
    assert sum(len(b.image) for b in build_loader(recipe, "val", CPU)[0]) == 5


def test_a_loader_counts_what_it_skipped_and_stops_at_what_it_may_not(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtlkit_plugins.datasets._scenes.split import RenderedSplit

    whole = RenderedSplit.__getitem__

    def damaged(self: RenderedSplit, index: int) -> dict[str, torch.Tensor]:
        if index == 1:
            raise MissingError("1.png: cannot be read")
        return whole(self, index)

    monkeypatch.setattr(RenderedSplit, "__getitem__", damaged)
    settings = {"loader.cache": "none", "loader.on_bad_sample": "skip"}
    recipe = mtlkit.load_recipe(tiny, settings)
    for split in ("train", "val"):
        loader, order = build_loader(recipe, split, CPU)
        images = sum(len(batch.image) for batch in loader)
        assert loader.skipped == {"1.png: cannot be read": 1}
        assert images == order.count - (split == "val")
    monkeypatch.setattr(RenderedSplit, "__getitem__", lambda self, index: damaged(self, 1))
    loader = build_loader(recipe, "val", CPU)[0]
    with pytest.raises(MissingError, match=r"3 samples in a row cannot be read.*1\.png"):
        list(loader)
    recipe = mtlkit.load_recipe(tiny, {"loader.cache": "none"})
    with pytest.raises(MissingError, match=r"1\.png"):
        list(build_loader(recipe, "train", CPU)[0])


def test_a_ratio_that_leaves_a_set_nothing_is_told_at_its_line(tiny: Path) -> None:
    rare, often = ({**part, "ratio": r} for part, r in zip(TWO["data"], (1e-3, 1e3), strict=True))
    recipe = mtlkit.load_recipe(tiny, {"data": [rare, often]})
    with pytest.raises(RecipeError, match=r"data\.0\.ratio: gives none of the 9 samples"):
        build_loader(recipe, "train", CPU)


def test_a_label_kind_without_a_blank_is_refused() -> None:
    class Odd(torch.Tensor):
        def to_label(self) -> None: ...

    with pytest.raises(PluginError, match="'odd': its kind Odd needs a class method `blank`"):
        Collate({"odd": FieldSpec(Odd)}, SIZE, ["x"])


def test_a_shelf_is_written_over_only_when_a_batch_was_copied(tiny: Path) -> None:
    """Epochs that are broken off, kept batches and short ones: what was given stays as it was."""
    alone = mtlkit.load_recipe(tiny, {"data.train": 23, "loader.batch_size": 2})
    helped = mtlkit.load_recipe(
        tiny, {"data.train": 23, "loader.batch_size": 2, "loader.workers": 2}
    )
    loaders = [build_loader(recipe, "train", CPU) for recipe in (alone, helped)]
    assert loaders[0][0].shelf is None and loaders[1][0].shelf is not None
    for epoch, wanted in ((1, 3), (2, 12), (3, 1), (4, 12)):
        kept = []
        for loader, order in loaders:
            order.begin_at(epoch, 0)
            batches = iter(loader)
            kept.append([next(batches) for _ in range(wanted)])
        for a, b in zip(*kept, strict=True):
            assert torch.equal(a.image, b.image) and a.indices == b.indices and a.rows == b.rows
            assert a.labels.keys() == b.labels.keys() and a.extras.keys() == b.extras.keys()
            for name, label in a.labels.items():
                assert torch.equal(label.value, b.labels[name].value)
                assert torch.equal(label.valid, b.labels[name].valid)
            for name, extra in a.extras.items():
                assert torch.equal(extra, b.extras[name])


def test_an_augmentation_that_changes_the_size_is_blamed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(self: Augmentation, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**sample, "image": sample["image"][:, ::2]}

    monkeypatch.setattr(Augmentation, "__call__", halved)
    recipe = mtlkit.load_recipe(tiny, {"loader.workers": 2, "data.train": 4})
    with pytest.raises(PluginError, match=r"image: augmented to .*Mend build_augmentation"):
        next(iter(build_loader(recipe, "train", CPU)[0]))
