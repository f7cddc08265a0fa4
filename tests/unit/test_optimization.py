"""Schedules by value, parameter groups, and that fused kernels compute what the others do."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from mtlkit.errors import UsageError
from mtlkit.optimization import (
    OptimizerSection,
    ScheduleSection,
    build_optimizer,
    clip_gradients,
    set_learning_rate,
)

SCHEDULE, OPTIMIZER = TypeAdapter(ScheduleSection), TypeAdapter(OptimizerSection)


def schedule(**fields):
    return SCHEDULE.validate_python(fields)


def section(**fields):
    return OPTIMIZER.validate_python({"type": "adam", **fields})


class Model(nn.Module):
    """Parameters under the names that a recipe knows."""

    def __init__(self):
        super().__init__()
        encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
        decoders = nn.ModuleDict({"depth": nn.Conv2d(8, 1, 1), "far": nn.Conv2d(8, 1, 1)})
        self.architecture = nn.ModuleDict({"encoder": encoder, "decoders": decoders})
        self.edges = nn.ModuleDict({"a_to_b_xtc": nn.Conv2d(1, 1, 1)})

    def forward(self, x):
        for part in (self.architecture["encoder"], self.architecture["decoders"]["depth"]):
            x = part(x)
        return self.edges["a_to_b_xtc"](x)


class Learned(nn.Module):
    """A balancer with a parameter."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(2))


def built(model=None, **fields):
    return build_optimizer(section(**fields), model or Model(), (nn.ModuleDict(), Learned()))


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"type": "constant"}, {0: 1, 3.5: 1, 10: 1}),
        ({"type": "step", "every": 3}, {0: 1, 2.99: 1, 3: 0.5, 5.9: 0.5, 6: 0.25, 10: 0.125}),
        ({"type": "step", "every": 4, "gamma": 0.1}, {3.9: 1, 4: 0.1, 8: 0.01}),
        ({"type": "cosine"}, {0: 1, 2.5: 0.5 + math.sqrt(2) / 4, 5: 0.5, 10: 0, 12: 0}),
        ({"type": "cosine", "final": 0.2}, {0: 1, 5: 0.6, 10: 0.2, 12: 0.2}),
        ({"type": "poly"}, {0: 1, 5: 0.5**0.9, 10: 0, 12: 0}),
        ({"type": "poly", "power": 2}, {0: 1, 2.5: 0.5625, 5: 0.25, 10: 0}),
        ({"type": "constant", "warmup": 2}, {0: 0, 0.5: 0.25, 1: 0.5, 2: 1, 9: 1}),
        ({"type": "poly", "power": 1, "warmup": 5}, {0: 0, 2.5: 0.5 * 0.75, 5: 0.5, 7.5: 0.25}),
        ({"type": "step", "every": 1, "warmup": 2}, {1: 0.5 * 0.5, 3: 0.125}),
    ],
)
def test_a_schedule_has_these_factors_in_a_run_of_ten_epochs(fields, values):
    found = {epoch: schedule(**fields).factor(epoch, 10) for epoch in values}
    assert found == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("kind", ["constant", "cosine", "poly"])
def test_the_first_step_of_a_warm_up_already_learns(kind):
    # the engine asks at the middle of a step
    assert 0 < schedule(type=kind, warmup=1).factor(0.5 / 100, 10) < 0.01


def test_without_groups_everything_learns_alike_but_the_balancer_does_not_decay():
    optimizer = built(lr=0.1, weight_decay=0.3)
    settings = {(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups}
    assert settings == {(0.1, 0.0, 1), (0.1, 0.3, 12)}


def test_groups_have_rates_and_decays_of_their_own_and_the_first_match_wins():
    model = Model()
    groups = [
        {"match": "architecture.encoder.0", "lr": 1.0},
        {"match": "architecture.encoder", "lr": 2.0, "weight_decay": 0.5},
        {"match": "architecture.decoders.*.bias", "weight_decay": 0.0},
        {"match": "balancer", "lr": 3.0},
        {"match": "edges", "lr": 4.0},
    ]
    optimizer = built(model, lr=0.1, weight_decay=0.25, groups=groups)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names.get(id(p), "balancer"): (g["lr"], g["weight_decay"])
        for g in optimizer.param_groups
        for p in g["params"]
    }
    assert found["architecture.encoder.0.bias"] == (1.0, 0.25)
    assert found["architecture.encoder.2.weight"] == (2.0, 0.5)
    assert found["architecture.decoders.far.bias"] == (0.1, 0.0)
    assert found["architecture.decoders.far.weight"] == (0.1, 0.25)
    assert found["edges.a_to_b_xtc.weight"] == (4.0, 0.25)
    assert found["balancer"][0] == 3.0
    assert len(found) == 13


def test_a_balancer_does_not_decay_in_a_group_of_its_rate():
    groups = built(weight_decay=0.3, groups=[{"match": "balancer", "lr": 3.0}]).param_groups
    (group,) = [g for g in groups if len(g["params"]) == 1]
    assert (group["lr"], group["weight_decay"]) == (3.0, 0.0)


def test_a_group_that_matches_nothing_is_refused_with_what_there_is():
    with pytest.raises(UsageError) as caught:
        built(groups=[{"match": "architecture.encodr"}])
    message = str(caught.value)
    assert "'architecture.encodr' matches no parameter" in message
    assert "architecture.decoders, architecture.encoder, balancer.log_variance" in message


def test_a_group_left_with_nothing_by_earlier_ones_is_refused():
    with pytest.raises(UsageError, match=r"encoder\.0' matches no parameter"):
        built(groups=[{"match": "architecture"}, {"match": "architecture.encoder.0"}])


def test_frozen_parameters_are_left_out():
    model = Model()
    model.architecture["encoder"].requires_grad_(False)
    assert sum(len(group["params"]) for group in built(model).param_groups) == 7


def test_a_factor_multiplies_each_groups_own_rate_and_never_adds_up():
    optimizer = built(lr=0.1, groups=[{"match": "edges", "lr": 4.0}])
    for factor in (0.5, 0.25, 0.0, 1.0):
        set_learning_rate(optimizer, factor)
        rates = sorted(group["lr"] for group in optimizer.param_groups)
        assert rates == pytest.approx([0.1 * factor, 0.1 * factor, 4.0 * factor])


def test_clipping_limits_the_norm_of_all_gradients_together():
    optimizer = built()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p in parameters:
        p.grad = torch.ones_like(p)
    before = math.sqrt(sum(p.numel() for p in parameters))
    assert float(clip_gradients(optimizer, 0.5)) == pytest.approx(before)
    norm = torch.stack([p.grad.square().sum() for p in parameters]).sum().sqrt()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "adam", "lr": 1e-2},
        {"type": "adam", "lr": 1e-2, "betas": [0.9, 0.99], "weight_decay": 1e-2},
        {"type": "adamw", "lr": 1e-2, "weight_decay": 0.1},
        {"type": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-2},
        {"type": "sgd", "lr": 1e-2, "momentum": 0.9, "nesterov": True},
    ],
    ids=["adam", "adam-decay", "adamw", "sgd", "nesterov"],
)
def test_fused_steps_on_channels_last_parameters_are_those_of_plain_ones(fields):
    ours, plain = Model(), Model()
    plain.load_state_dict(ours.state_dict())
    ours.to(memory_format=torch.channels_last)
    assert ours.architecture["encoder"][0].weight.stride()[1] == 1
    optimizer = built(ours, **fields)
    assert all(group["fused"] for group in optimizer.param_groups)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    settings = {"weight_decay": 0.0, **fields}
    kind = kinds[settings.pop("type")]
    slow = kind(plain.parameters(), fused=False, foreach=False, **settings)
    for step in range(20):
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        (ours(x.to(memory_format=torch.channels_last)) - 1).square().mean().backward()
        for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
            q.grad = None if p.grad is None else p.grad.contiguous()
        optimizer.step()
        slow.step()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(dict(ours.named_parameters())[name], p, rtol=0, atol=1e-6)


def test_a_step_keeps_strides_of_parameters_gradients_and_moments_alike():
    model = Model().to(memory_format=torch.channels_last)
    optimizer = built(model)
    model(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    for p in model.parameters():
        if p.grad is not None:
            assert p.grad.stride() == p.stride() == optimizer.state[p]["exp_avg"].stride()
