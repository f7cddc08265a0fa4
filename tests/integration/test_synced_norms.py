"""Batch norms that see the batches of all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.device_steps import by_two
from fixtures.tiny import load
from torch import Tensor, nn

from mtlkit.compiled import arrange
from mtlkit.device import seed_everything
from mtlkit.errors import UsageError
from mtlkit.objective import build_objective
from mtlkit.parallel import synced
from mtlkit.ranks import Ranks

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
IMAGES = 4


def test_synced_norms_need_gpus_and_the_error_says_what_to_write(recipe):
    with pytest.raises(UsageError, match=r"sync_batchnorm: .* on cpu\. Write false"):
        synced(build_objective(recipe), CPU, Ranks(2))


def test_one_rank_keeps_its_norms(recipe):
    objective = build_objective(recipe)
    synced(objective, CPU, Ranks())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in objective.modules())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
@pytest.mark.parametrize("memory", ["keep", "checkpoint"])
def test_two_ranks_normalise_their_halves_as_one_does_the_whole(
    tiny: Path, tmp_path: Path, memory: str
) -> None:
    whole = passed(tiny, memory)
    halves = by_two(tmp_path, passed, tiny, memory)
    for name, x in whole.items():
        parts = [half[name] for half in halves]
        # each rank has its own images, and the statistics of all
        alike = [torch.cat(parts)] if len(x.shape) == 4 else parts
        for found in alike:
            torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-9, msg=name)
    assert all(half.keys() == whole.keys() for half in halves)


def passed(tiny: Path, memory: str) -> dict[str, Tensor]:
    """Return predictions, the images' gradients and the statistics of a pass with this rank's part.

    Args:
        tiny: the recipe.
        memory: `train.memory`.
    """
    recipe, ranks = load(tiny, train__memory=memory), Ranks.here()
    seed_everything(recipe.seed)
    objective = build_objective(recipe).double().to(CUDA)
    synced(objective, CUDA, ranks)
    is_synced = any(isinstance(module, nn.SyncBatchNorm) for module in objective.modules())
    assert is_synced is (ranks.count == 2)
    arrange(objective.model, recipe.train)
    images = torch.rand(IMAGES, 3, *recipe.size, dtype=torch.float64)
    mine = images.chunk(ranks.count)[ranks.rank].to(CUDA).requires_grad_()
    predictions = objective.model(mine).predictions
    torch.stack([x.square().sum() for x in predictions.values()]).sum().backward()
    assert mine.grad is not None
    statistics = {name: x for name, x in objective.named_buffers() if ".running_" in name}
    assert statistics
    found = {**predictions, "gradient": mine.grad, **statistics}
    return {name: x.detach().cpu() for name, x in found.items()}
