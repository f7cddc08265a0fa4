from __future__ import annotations

import math

import pytest
import torch
from fixtures.loss_level import (
    DTYPES,
    ends_alike,
    is_unmoved,
    optimizer_of,
    run_without_values,
    scalars,
    state,
    step,
    weights,
)

from mtlkit_plugins.weightings.imtl_l import ImpartialLoss

TASKS = ("a", "b", "c")


def built(**at):
    balancer = ImpartialLoss().build_balancer(dict.fromkeys(TASKS))
    for name, value in at.items():
        balancer.log_scale[name].data.fill_(value)
    return balancer


def test_a_fresh_balancer_weighs_every_task_alike():
    assert weights(built(), {"a": 1e-8, "b": 1.0, "c": 1e8}) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_total_is_that_of_the_paper(dtype):
    total = built(a=0.5, b=-2.0).total(scalars({"a": 3.0, "b": 0.1}, dtype))
    expected = math.exp(0.5) * 3 - 0.5 + math.exp(-2) * 0.1 + 2
    assert total.dtype == dtype
    assert total.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [1e-8, 0.3, 40.0, 1e8])
def test_at_rest_the_scaled_loss_is_one(loss):
    balancer = built(a=-math.log(loss))
    balancer.total(scalars({"a": loss})).backward()
    assert balancer.log_scale["a"].grad.item() == pytest.approx(0, abs=1e-5)
    assert weights(balancer, {"a": loss})["a"] * loss == pytest.approx(1, rel=1e-5)


def test_learning_finds_the_rest_from_both_sides():
    balancer = built()
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.2)
    for _ in range(100):
        step(balancer, optimizer, {"a": 0.2, "b": 5.0})
    found = weights(balancer, {"a": 0.2, "b": 5.0})
    assert found == pytest.approx({"a": 5, "b": 0.2}, rel=1e-3)


def test_weight_decay_does_not_pull_the_scales_and_a_group_gives_their_learning_rate():
    groups = [{"match": "balancer", "lr": 0.25}]
    balancer = built(a=math.log(2))
    optimizer = optimizer_of(balancer, type="sgd", lr=1e-3, weight_decay=0.5, groups=groups)
    step(balancer, optimizer, {"a": 0.5, "b": 3.0})
    assert balancer.log_scale["a"].item() == pytest.approx(math.log(2))  # at rest: it stays there
    assert balancer.log_scale["b"].item() == pytest.approx(-0.25 * (3 - 1))


def test_the_scale_of_an_absent_task_does_not_move():
    balancer = built()
    optimizer = torch.optim.Adam(balancer.parameters(), lr=0.1)
    step(balancer, optimizer, {"a": 3.0, "b": 0.1})
    before = balancer.log_scale["b"].item()
    step(balancer, optimizer, {"a": 3.0})  # Adam's momentum would carry b on
    assert balancer.log_scale["b"].item() == before != 0
    assert balancer.log_scale["c"].item() == 0


def test_a_restored_balancer_takes_the_identical_next_step():
    balancer, restored = built(), built()
    assert ends_alike(balancer, restored, [{"a": 3.0, "b": 0.1}, {"a": 1.5, "c": 0.7}])


def test_evaluation_moves_nothing():
    balancer = built(a=1.0).eval()
    before = state(balancer)
    balancer.total(scalars({"a": 2.0, "b": 1.0}))
    assert is_unmoved(balancer, before)


def test_weighing_waits_for_no_device():
    assert run_without_values(built(), ["a", "c"]) == ["meta", "meta"]
