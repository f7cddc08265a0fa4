"""Batches are on the device before a step asks for them."""

from __future__ import annotations

import pytest
import torch

from mtlkit import Batch, Label
from mtlkit.ahead import ahead
from mtlkit.device import move

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")


def batch_of(number: int, side: int = 8) -> Batch:
    image = torch.full((1, 3, side, side), float(number))
    return Batch(image, {"depth": Label(image[:, :1], image[:, :1] > 0)})


def test_on_the_cpu_nothing_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []

    def ready(number: int) -> list[Batch]:
        made.append(number)
        return [batch_of(number)]

    found = ahead([1, 2, 3], ready, torch.device("cpu"))
    (first,) = next(found)
    assert made == [1] and float(first.image[0, 0, 0, 0]) == 1
    assert [float(batch.image.mean()) for (batch,) in found] == [2, 3] and made == [1, 2, 3]


@pytest.mark.cuda
@NEEDS_CUDA
def test_on_cuda_the_next_item_is_copied_before_this_one_is_used() -> None:
    device, made = torch.device("cuda"), list[int]()

    def ready(number: int) -> list[Batch]:
        made.append(number)
        return [move(batch_of(number, 512).pin_memory(), device)]

    seen = []
    for number, (batch,) in enumerate(ahead(range(6), ready, device)):
        assert made[-1] == min(number + 1, 5)
        busy = torch.rand(2048, 2048, device=device)
        for _ in range(20):
            busy = busy @ busy / busy.norm()
        seen.append(batch.image.mean())  # read behind it, while the next copy goes on
    assert [float(x) for x in seen] == [0, 1, 2, 3, 4, 5]


@pytest.mark.cuda
@NEEDS_CUDA
def test_on_cuda_a_batch_is_read_only_once_its_copy_is_there() -> None:
    device = torch.device("cuda")
    pinned = [batch_of(number).pin_memory() for number in range(1, 5)]  # pinning may itself wait

    def late(batch: Batch) -> list[Batch]:
        torch.cuda._sleep(10**8)  # cycles, some 50 ms, before the copy
        return [move(batch, device)]

    seen = [batch.image.mean() for (batch,) in ahead(pinned, late, device)]
    assert [float(x) for x in seen] == [1, 2, 3, 4]
