"""Which samples an epoch has, in which order, and what happens to one that cannot be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from fixtures.ten_samples import FIELDS, Counted, assert_same_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.augmentation import Augmentation
from mtlkit.errors import CacheError, MissingError, PluginError
from mtlkit.order import BatchOrder, Deal
from mtlkit.ranks import Ranks
from mtlkit.samples import MOST_BAD, Failed, Found, Part, Samples


class Damaged(Counted):
    """Ten samples of which some cannot be read."""

    def __init__(self, bad: Sequence[int], error: type[Exception] = MissingError) -> None:
        super().__init__()
        self.bad, self.error = bad, error

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index in self.bad:
            raise self.error(f"{index}.png: cannot be read")
        return super().__getitem__(index)


def numbers(order: BatchOrder, epoch: int = 1) -> list[int]:
    order.begin_at(epoch, 0)
    return [index for batch in order for _, index, _ in batch]


@pytest.mark.parametrize(
    ("count", "accumulate", "start"), [(2, 1, 0), (2, 2, 0), (3, 2, 4), (4, 1, 7), (2, 3, 9)]
)
def test_ranks_share_the_batches_of_a_step_out_and_each_counts_once(count, accumulate, start):
    deals = [Deal(Ranks(count, rank), accumulate) for rank in range(count)]
    steps = [list(deal.groups(start, 10)) for deal in deals]
    for groups in zip(*steps, strict=True):
        assert len({len(group.mine) for group in groups}) == 1  # as many passes on every rank
        shares = Counter[int]()
        for group in groups:
            for number, weight in zip(group.mine, group.weights, strict=True):
                shares[number] += weight / len(group.mine) / count
        wanted = list(range(start, start + groups[0].batches))
        assert sorted(shares) == wanted
        assert [shares[i] for i in wanted] == pytest.approx([1 / len(wanted)] * len(wanted))
        start += groups[0].batches
    assert start == 10


def test_ranks_evaluate_every_batch_once() -> None:
    mine = [Deal(Ranks(3, rank)).mine(0, 7) for rank in range(3)]
    assert mine == [[0, 3, 6], [1, 4], [2, 5]]


def test_batches_do_not_depend_on_the_number_of_ranks() -> None:
    alone = BatchOrder([10], 2, seed=0, drop_last=False)
    alone.begin_at(1, 0)
    parts = []
    for rank in (0, 1):
        order = BatchOrder([10], 2, seed=0, drop_last=False)
        order.deal = Deal(Ranks(2, rank), accumulate=1)
        order.begin_at(1, 0)
        parts.append(list(order))
        assert len(order) == len(parts[rank]) == 3
    first, second = parts
    whole = list(alone)
    assert [first[0], second[0], first[1], second[1], first[2]] == whole
    assert second[2] == whole[4]  # taken along, and counted by the first rank
    assert alone.images(4, 1) == 2


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own() -> None:
    order = BatchOrder([10], 4, seed=0, drop_last=False)
    epochs = []
    for epoch in (1, 2, 1):
        order.begin_at(epoch, 0)
        epochs.append([index for batch in order for _, index, _ in batch])
    assert sorted(epochs[0]) == list(range(10))
    assert epochs[0] == epochs[2] != epochs[1]


def test_an_epoch_goes_on_in_the_middle() -> None:
    order = BatchOrder([10], 4, seed=0, drop_last=False)
    order.begin_at(3, 0)
    whole = list(order)
    order.begin_at(3, 1)
    assert list(order) == whole[1:] and len(order) == 2 and order.batches == 3


def test_dropping_the_last_batch_leaves_whole_ones() -> None:
    order = BatchOrder([10], 4, seed=None, drop_last=True)
    assert [[i for _, i, _ in batch] for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_augmentation_depends_on_seed_epoch_and_index_alone() -> None:
    samples = Samples([Part("ten", Counted(), augmentation=Augmentation())], seed=5)
    torch.manual_seed(99)
    first = samples[(2, 3, 0)].sample
    state = torch.get_rng_state()
    samples[(2, 4, 0)]
    assert torch.equal(state, torch.get_rng_state())
    assert_same_sample(first, samples[(2, 3, 0)].sample)
    others = [samples[(epoch, 3, 0)].sample["image"] for epoch in range(3, 9)]
    assert any(not torch.equal(first["image"], other) for other in others)


def test_several_sets_are_mixed_evenly_and_each_sample_comes_once() -> None:
    order = BatchOrder([90, 30], 4, seed=0, drop_last=False)
    for epoch in (1, 2):
        found = numbers(order, epoch)
        assert sorted(found) == list(range(120))
        seconds = [n >= 90 for n in found]
        assert {sum(seconds[i : i + 4]) for i in range(0, 120, 4)} == {1}
    assert numbers(order, 1) != numbers(order, 2)


def test_the_order_of_one_set_does_not_depend_on_whether_a_ratio_is_given() -> None:
    plain, given_ratio = (BatchOrder([10], 4, 3, False, r) for r in ((), (2.0,)))
    assert numbers(plain) == numbers(given_ratio)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    weights=st.lists(st.floats(0.05, 10), min_size=4, max_size=4),
    epoch=st.integers(1, 3),
)
def test_ratios_rule_the_shares_of_an_epoch(counts, weights, epoch) -> None:
    ratios = weights[: len(counts)]
    order = BatchOrder(counts, 4, 0, False, ratios)
    found = numbers(order, epoch)
    assert len(found) == sum(counts) == order.count
    start = 0
    for count, ratio in zip(counts, ratios, strict=True):
        mine = Counter(n for n in found if start <= n < start + count)
        wanted = sum(counts) * ratio / sum(ratios)
        assert abs(mine.total() - wanted) < 1
        # none comes a second time before every other came once
        assert max(mine.values(), default=0) - min(mine[start + i] for i in range(count)) <= 1
        start += count


def test_validation_keeps_the_order_of_the_sets() -> None:
    assert numbers(BatchOrder([3, 2], 4, None, False)) == [0, 1, 2, 3, 4]


def test_a_number_finds_its_data_set_and_names_are_the_recipes() -> None:
    parts = [Part("a", Counted()), Part("b", Counted(), {"depth": "range"})]
    samples = Samples(parts, seed=0)
    assert len(samples) == 20
    found = samples[(1, 13, 0)]
    assert isinstance(found, Found) and (found.part, found.index) == (1, 13)
    assert found.sample is not None
    assert set(found.sample) == {"image", "segmentation", "range"}
    assert torch.equal(found.sample["range"].nan_to_num(), Counted()[3]["depth"].nan_to_num())


def test_hidden_labels_are_missing_and_others_are_not() -> None:
    hidden = {"depth": torch.arange(10) < 5}
    samples = Samples([Part("a", Counted(), hidden=hidden)], seed=0)
    for index in range(10):
        assert ("depth" in samples[(1, index, 0)].sample) == (index >= 5)
        assert "segmentation" in samples[(1, index, 0)].sample


def test_an_unreadable_sample_fails_by_default() -> None:
    found = Samples([Part("a", Damaged([2]))], seed=0)[(1, 2, 0)]
    assert found == Failed(MissingError, "2.png: cannot be read")


def test_in_training_the_next_readable_sample_of_the_set_comes_instead() -> None:
    parts = [Part("a", Counted()), Part("b", Damaged([8, 9, 0]))]
    samples = Samples(parts, seed=0, on_bad="replace")
    found = samples[(1, 18, 0)]
    assert (found.part, found.index) == (1, 11)
    assert found.skipped == tuple(f"{i}.png: cannot be read" for i in (8, 9, 0))
    assert samples[(1, 12, 0)].skipped == ()


def test_in_validation_it_is_left_out() -> None:
    found = Samples([Part("a", Damaged([2]))], seed=0, on_bad="leave_out")[(1, 2, 0)]
    assert found == Found(0, 2, None, ("2.png: cannot be read",))


def test_skipping_ends_where_nothing_can_be_read() -> None:
    found = Samples([Part("a", Damaged(range(10)))], seed=0, on_bad="replace")[(1, 2, 0)]
    assert isinstance(found, Failed)
    assert "10 samples in a row" in found.text and "2.png" in found.text
    assert MOST_BAD >= 10


def test_a_broken_plugin_is_never_skipped() -> None:
    found = Samples([Part("a", Damaged([2], PluginError))], 0, on_bad="replace")[(1, 2, 0)]
    assert found == Failed(PluginError, "2.png: cannot be read")


def test_a_full_cache_is_no_bad_sample() -> None:
    for on_bad in ("fail", "replace", "leave_out"):
        found = Samples([Part("a", Damaged([2], CacheError))], 0, on_bad=on_bad)[(1, 2, 0)]
        assert found == Failed(CacheError, "2.png: cannot be read")


def test_a_sample_that_comes_again_in_an_epoch_is_varied_anew() -> None:
    order = BatchOrder([2, 30], 4, 0, False, [9.0, 1.0])
    order.begin_at(1, 0)
    keys = [key for batch in order for key in batch if key[1] == 0]
    assert [turn for *_, turn in keys] == list(range(len(keys))) and len(keys) > 10
    samples = Samples([Part("a", Counted(), augmentation=Augmentation())], seed=0)
    images = [samples[key].sample["image"] for key in keys]
    assert sum(not torch.equal(images[0], other) for other in images[1:]) > 5


def test_what_comes_in_the_place_of_a_bad_sample_is_varied_for_its_place() -> None:
    part = Part("a", Damaged([3]), augmentation=Augmentation())
    samples = Samples([part], seed=0, on_bad="replace")
    assert samples[(1, 3, 0)].index == samples[(1, 4, 0)].index == 4
    pairs = [[samples[(e, i, 0)].sample["image"] for i in (3, 4)] for e in range(6)]
    assert any(not torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"image": torch.zeros(1, 8, 16, dtype=torch.uint8)}, r"image \(1, 8, 16\) uint8"),
        ({"image": None}, "has segmentation"),
        ({"depth": torch.zeros(1, 4, 4)}, r"depth \(1, 4, 4\) float32"),
    ],
)
def test_a_sample_that_is_not_what_its_data_set_says_is_refused_by_name(wrong, says) -> None:
    split = Counted()
    split.samples[2] |= wrong
    split.samples[2] = {n: x for n, x in split.samples[2].items() if x is not None}
    found = Samples([Part("mine", split, fields=FIELDS)], 0, on_bad="replace")[(1, 2, 0)]
    assert found.kind is PluginError
    assert "mine: sample 2 has " in found.text and re.search(says, found.text)


def test_an_error_of_a_plugin_names_it_and_the_place_and_is_never_skipped() -> None:
    def broken(sample):
        raise ZeroDivisionError("of mine")

    reading = Part("mine", Damaged([2], ValueError))
    varying = Part("mine", Counted(), augmentation=broken)
    for part, word in ((reading, "ValueError"), (varying, "ZeroDivisionError")):
        found = Samples([part], 0, on_bad="replace")[(1, 2, 0)]
        assert found.kind is PluginError
        assert f"mine: sample 2 cannot be made: {word}" in found.text
        assert "test_samples.py:" in found.text and "Mend the data set's plugin" in found.text
