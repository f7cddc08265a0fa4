from __future__ import annotations

import pytest
import torch
from fixtures.loss_level import DTYPES, SCALES, run_without_values, scalars, weights

from mtlkit_plugins.weightings.equal import Equal


def test_total_is_the_sum_of_the_losses_that_are_present():
    balancer = Equal().build_balancer({})
    losses = {"a": torch.tensor(1.0, requires_grad=True), "b": torch.tensor(2.0)}
    assert balancer.total(losses).item() == 3
    assert balancer.total({"b": losses["b"]}).item() == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_weight_is_exactly_one(dtype, scale):
    balancer = Equal().build_balancer({})
    values = {f"task_{k}": scale * (k + 1) for k in range(10)}
    assert set(weights(balancer, values, dtype).values()) == {1.0}
    assert balancer.total(scalars(values, dtype)).dtype == dtype


def test_equal_weighting_has_no_state():
    assert not Equal().build_balancer({}).state_dict()
    assert Equal().as_maths == "Σ_t L_t"


def test_weighing_waits_for_no_device():
    assert run_without_values(Equal().build_balancer({}), ["a", "b"]) == ["meta", "meta"]
