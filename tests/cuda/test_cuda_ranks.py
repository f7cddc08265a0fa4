"""Ranks whose tensors are on a CUDA device: a group of one by NCCL, and two that share it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.device_steps import Lines, assert_same_lines, by_two, lines_of, run_of
from torch import distributed

from mtlkit.device import place
from mtlkit.errors import UsageError
from mtlkit.launch import joined
from mtlkit.parallel import Parallel
from mtlkit.ranks import Ranks

pytestmark = pytest.mark.cuda


@pytest.fixture
def _group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a process that torchrun started alone."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    told = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in (told | {"TORCH_CPP_LOG_LEVEL": "ERROR"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_group_of_one")
def test_gradients_that_ddp_reduces_by_nccl_are_those_of_a_run_without(
    tiny: Path, device: str
) -> None:
    alone = lines_of(run_of(tiny, device))
    with joined():
        run = run_of(tiny, device)
        # it is told of a second rank, and so sends all; a group of one gets its own mean back
        run.learner.parallel = Parallel(run.objective, run.learner.backward, Ranks(2))
        assert run.learner.parallel.reduced is not None
        assert_same_lines(lines_of(run), alone)
        for x in (torch.ones(3), torch.ones(3, device=device)):
            distributed.all_reduce(x)
            assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize("method", ["uncertainty", "pcgrad"])
def test_two_ranks_on_one_device_take_the_steps_of_one_with_both_batches(
    tiny: Path, tmp_path: Path, device: str, method: str
) -> None:
    settings = {"weighting": {"type": method}}
    first, second = by_two(tmp_path, steps_of_a_rank, tiny, device, settings)
    assert first == second
    assert_same_lines(first, lines_of(run_of(tiny, device, train__accumulate=2, **settings)))


def steps_of_a_rank(tiny: Path, device: str, settings: dict[str, Any]) -> Lines:
    with pytest.raises(UsageError, match=r"cuda:0: is one device for all ranks\. Write cuda"):
        place("cuda:0", "fp32")
    run = run_of(tiny, device, **settings)
    assert run.ranks.count == 2
    return lines_of(run)
