"""Batch norms that see the batches of all ranks."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch import distributed, nn

from mtlkit.device import distributed_backend
from mtlkit.errors import UsageError
from mtlkit.objective import build_objective
from mtlkit.parallel import synced
from mtlkit.ranks import Ranks

CPU = torch.device("cpu")


def test_synced_norms_need_gpus_and_the_error_says_what_to_write(recipe):
    with pytest.raises(UsageError, match=r"sync_batchnorm: .* on cpu\. Write false"):
        synced(build_objective(recipe), CPU, Ranks(2))


def test_one_rank_keeps_its_norms(recipe):
    objective = build_objective(recipe)
    synced(objective, CPU, Ranks())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in objective.modules())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_synced_norms_keep_names_and_values_and_train(recipe, tmp_path):
    device = torch.device("cuda")
    objective = build_objective(recipe).to(device)
    before = {name: x.clone() for name, x in objective.state_dict().items()}
    synced(objective, device, Ranks(2))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in objective.modules())
    after = objective.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group(
        distributed_backend(), store=store, rank=0, world_size=1, timeout=timedelta(seconds=60)
    )
    try:
        maps = objective.model(torch.rand(2, 3, *recipe.size, device=device)).predictions
        torch.stack([x.sum() for x in maps.values()]).sum().backward()
        Ranks.here().meet()  # by gloo, beside NCCL
    finally:
        distributed.destroy_process_group()
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())
