"""Generators, moving batches, precision and memory format."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import mtlkit
from mtlkit.device import (
    Placement,
    autocast,
    move,
    pins_memory,
    place,
    restore_rng,
    rng_state,
    seed_everything,
    seeded_draws,
    set_threads,
    to_device,
    without_autocast,
)
from mtlkit.errors import CheckpointError, MissingError, UsageError
from mtlkit.structures import counts_of

CPU = torch.device("cpu")


def draws():
    return (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)])


def test_one_seed_seeds_all_generators():
    found = []
    for seed in (5, 5, 6, 2**40):
        seed_everything(seed)
        found.append(draws())
    assert found[0] == found[1]
    for other in found[2:]:
        assert all(a != b for a, b in zip(found[0], other, strict=True))


def test_seeded_draws_depend_on_the_seeds_alone_and_disturb_nothing():
    seed_everything(1)
    whole = [draws(), draws()]
    seed_everything(1)
    first = draws()
    with seeded_draws(7, 1, 2):
        inside = draws()
    assert [first, draws()] == whole
    seed_everything(99)
    with seeded_draws(7, 1, 2):
        assert draws() == inside
    for other in ((7, 2, 1), (7, 1, 3), (7, 1), (8, 1, 2), (0, 0, 0)):
        with seeded_draws(*other):
            assert all(a != b for a, b in zip(draws(), inside, strict=True))


def test_seeded_draws_restore_generators_after_an_error_and_nest():
    seed_everything(1)
    expected = draws()
    seed_everything(1)
    with pytest.raises(ZeroDivisionError), seeded_draws(7), seeded_draws(8):
        draws()
        raise ZeroDivisionError
    assert draws() == expected


def test_large_seeds_are_taken_and_differ():
    with seeded_draws(2**62 - 1, 1):
        first = draws()
    with seeded_draws(2**62 - 2, 1):
        assert draws()[0] != first[0]


def test_generators_go_on_from_a_saved_state(tmp_path):
    seed_everything(3)
    random.gauss(0, 1), np.random.randn()  # both keep a second number
    torch.save(rng_state(), tmp_path / "state.pt")
    expected = (draws(), random.gauss(0, 1), np.random.randn())
    seed_everything(4)
    restore_rng(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (draws(), random.gauss(0, 1), np.random.randn()) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("torch"),
        lambda state: state.update(torch=torch.zeros(3, dtype=torch.uint8)),
        lambda state: state.update(numpy=["MT19937"]),
        lambda state: state.update(python=[3, [1, 2], None]),
        lambda state: state.update(python=None),
    ],
)
def test_a_damaged_state_is_refused(change):
    state = rng_state()
    change(state)
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError, match="random generators is damaged"):
        restore_rng(state)
    torch.set_rng_state(before)


def batch():
    classes, masks = torch.randint(0, 7, (2, 4, 6)), torch.rand(2, 1, 4, 6) > 0.5
    labels = {
        "segmentation": mtlkit.Label(classes, masks),
        "depth": mtlkit.Label(torch.rand(2, 1, 4, 6), ~masks),
    }
    counts = {"depth": counts_of(masks)}
    extras = {"camera": torch.eye(3).expand(2, 3, 3), "bytes": torch.ones(2, 5, dtype=torch.uint8)}
    image = torch.rand(2, 3, 4, 6)
    return mtlkit.Batch(image, labels, extras, {"x": slice(0, 2)}, counts, frozenset({"depth"}))


def test_moving_a_batch_orders_the_image_and_changes_no_value():
    before = batch()
    after = move(before, CPU)
    assert after.image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(after.image, before.image)
    for name, label in before.labels.items():
        found = after.labels[name]
        assert (found.value.dtype, found.valid.dtype) == (label.value.dtype, torch.bool)
        assert torch.equal(found.value, label.value) and torch.equal(found.valid, label.valid)
    assert after.extras["bytes"].dtype == torch.uint8
    assert after.counts["depth"] == before.counts["depth"]
    assert (after.rows, after.labelled) == (before.rows, before.labelled)


def test_a_batch_moves_as_a_whole():
    moved = move(batch(), torch.device("meta"))
    tensors = [moved.image, *moved.extras.values(), *moved.counts["depth"]]
    tensors += [x for label in moved.labels.values() for x in (label.value, label.valid)]
    assert all(x.is_meta for x in tensors)


def test_convolutions_are_put_in_channels_last_order():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4))
    weights = module[0].weight.detach().clone()
    moved = to_device(module, Placement(CPU, "fp32"))
    assert moved[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved[0].weight, weights)


def test_automatic_precision_is_said_in_the_first_line():
    placement = place("cpu", "auto")
    assert placement.precision in ("fp32", "bf16")
    assert placement.line == f"cpu (1 threads), {placement.precision}"
    assert place("auto", "fp32").precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_that_is_asked_for_is_used(precision):
    placement, layer = place("cpu", precision), nn.Conv2d(3, 4, 3)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    x = torch.rand(1, 3, 8, 8)
    with autocast(placement):
        assert layer(x).dtype == wanted
        with without_autocast(CPU):
            assert layer(x).dtype == torch.float32
        with without_autocast(torch.device("meta")):
            pass
    assert layer(x).dtype == torch.float32


def test_a_cuda_device_without_a_number_is_the_first(monkeypatch):
    """Asked of torch by its number: it takes no other."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch._C, "_cuda_setDevice", taken.append, raising=False)
    for asked, found in (("auto", 0), ("cuda", 0), ("cuda:1", 1)):
        assert place(asked, "fp32").device == torch.device("cuda", found)
    assert taken == [0, 0, 1]


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(MissingError, match=r"tf32: cpu has none.*Write auto, or fp32"):
        place("cpu", "tf32")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
@pytest.mark.parametrize(
    ("precision", "convolutions", "products"),
    [("fp32", False, False), ("tf32", True, True), ("bf16", True, False)],
)
def test_tf32_is_used_only_where_it_is_asked_for(precision, convolutions, products):
    place("cuda", precision)
    assert torch.backends.cudnn.allow_tf32 is convolutions
    assert torch.backends.cuda.matmul.allow_tf32 is products
    place("cuda", "fp32")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
def test_the_generator_of_a_cuda_device_goes_on_from_a_saved_state(tmp_path):
    device = torch.device("cuda")
    torch.rand(3, device=device)
    torch.save(rng_state(), tmp_path / "state.pt")
    expected = torch.rand(3, device=device)
    seed_everything(4)
    assert not torch.equal(torch.rand(3, device=device), expected)
    restore_rng(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(torch.rand(3, device=device), expected)


def test_devices_that_are_not_there_are_refused_with_what_to_do(monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(MissingError, match=r"cuda:1.*sees 0 CUDA devices here.*--device cpu"):
            place("cuda:1", "fp32")
        assert place("auto", "fp32").device == CPU
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="do not know each other"):
        place("cpu", "fp32")


def test_threads_are_set_or_left_as_they_are():
    assert set_threads(2) == 2 == torch.get_num_threads()
    assert set_threads(None) == 2
    assert set_threads(1) == 1


def test_memory_is_pinned_for_devices_that_copy_from_it():
    assert pins_memory(torch.device("cuda:0")) and not pins_memory(CPU)
