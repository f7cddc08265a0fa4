from __future__ import annotations

import torch

from mtlkit_plugins.weightings.equal import Equal


def test_total_is_the_sum_of_the_losses_that_are_present():
    balancer = Equal().build_balancer({})
    losses = {"a": torch.tensor(1.0, requires_grad=True), "b": torch.tensor(2.0)}
    assert balancer.total(losses).item() == 3
    assert balancer.total({"b": losses["b"]}).item() == 2


def test_equal_weighting_has_no_state():
    assert not Equal().build_balancer({}).state_dict()
    assert Equal().as_maths == "Σ_t L_t"
