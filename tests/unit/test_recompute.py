"""`train.memory: checkpoint`: the same numbers from fewer kept maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import two_ranks
from torch import nn

import mtlkit
from mtlkit.errors import RecipeError
from mtlkit.learner import Learner
from mtlkit.recompute import recomputed


@pytest.fixture
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {**learner.model.state_dict(), **learner.balancer.state_dict()}


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("model", ["xtascnet", "drawn"])
@pytest.mark.parametrize("method", ["uncertainty", "pcgrad", "nash_mtl"])
def test_a_step_ends_where_it_would_with_all_maps_kept(tiny: Path, model: str, method: str) -> None:
    kept = two_ranks.learner_of(tiny, model, method, 2)
    again = two_ranks.learner_of(tiny, model, method, 2)
    again.model.recompute()
    for number in range(2):
        for learner in (kept, again):
            learner.step(two_ranks.parts_of(number), number + 1, 1.0)
    found, expected = state_of(again), state_of(kept)
    assert any("running_mean" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.usefixtures("_double")
def test_fewer_maps_are_kept(tiny: Path) -> None:
    sizes = []
    for keeps in (True, False):
        learner = two_ranks.learner_of(tiny, "xtascnet", "uncertainty")
        if not keeps:
            learner.model.recompute()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: saved.append(x.nbytes) or x, lambda x: x
        ):
            learner.objective(two_ranks.parts_of(0)[0])
        sizes.append(sum(saved))
    assert sizes[1] < 0.6 * sizes[0]


def test_dropout_draws_once() -> None:
    network = nn.Sequential(nn.Conv2d(2, 64, 1), nn.Dropout(0.5))
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    y = recomputed(network, x)
    mask = (y.detach() != 0).float()
    y.sum().backward()
    expected = torch.autograd.grad((network[0](x) * 2 * mask).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


def test_running_statistics_move_once() -> None:
    network, alike = (nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)) for _ in range(2))
    alike.load_state_dict(network.state_dict())
    x = torch.rand(4, 2, 4, 4)
    recomputed(network, x).square().sum().backward()
    alike(x)
    assert network[1].num_batches_tracked == 1 and network[1].momentum == 0.1
    for name, value in alike.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_synced_norms_may_be_computed_again() -> None:
    torch.manual_seed(0)
    norm = nn.SyncBatchNorm(2)  # with one rank it computes what a batch norm does
    plain = nn.BatchNorm2d(2)
    x, y = (torch.randn(3, 2, 4, 4).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    out, wanted = recomputed(norm, x), plain(y)
    torch.testing.assert_close(out, wanted)
    out.square().mean().backward()
    wanted.square().mean().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(norm.state_dict(), plain.state_dict())


def test_it_is_asked_for_in_the_recipe(tiny: Path, tmp_path: Path) -> None:
    settings = {"train.memory": "checkpoint", "train.epochs": 1}
    recipe = mtlkit.load_recipe(tiny, settings, blocked=["progress"])
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    assert run.model.recomputes
    assert all(d.recomputes for d in run.model.architecture.decoders.values())
    assert run.fit().status == "done"


def test_the_compiler_chooses_itself_what_to_compute_again(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="Remove `memory`"):
        mtlkit.load_recipe(tiny, {"train.memory": "checkpoint", "train.compile": True})
