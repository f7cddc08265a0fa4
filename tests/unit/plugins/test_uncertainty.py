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

from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation
from mtlkit_plugins.weightings.uncertainty import Uncertainty


class Normals(Depth):
    likelihood = "gaussian"


TASKS = {"segmentation": Segmentation(classes=7), "depth": Depth(), "normals": Normals()}
FORMS = ["xtasc", "kendall", "kendall_typed"]


def losses(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("form", "task", "stationary"),
    [
        ("xtasc", "depth", lambda loss: math.log(loss / 2)),
        ("kendall", "segmentation", math.log),
        ("kendall_typed", "normals", math.log),
        ("kendall_typed", "depth", math.log),
        ("kendall_typed", "segmentation", lambda loss: math.log(2 * loss)),
    ],
)
def test_log_variance_settles_where_the_method_says(form, task, stationary):
    balancer = Uncertainty(form=form).build_balancer(TASKS)
    s = balancer.log_variance[task]
    s.data.fill_(stationary(0.3))
    balancer.total(losses(**{task: 0.3})).backward()
    assert s.grad.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "weights"),
    [("xtasc", [2.5, 2.5]), ("kendall", [1.25, 1.25]), ("kendall_typed", [1.25, 2.5])],
)
def test_weights_at_rest_are_inverse_to_the_loss(form, weights):
    # L = 0.4: 1/L is 2.5 and 1/(2L) is 1.25; laplace settles at 1/L, categorical at 1/(2L)
    balancer = Uncertainty(form=form).build_balancer(TASKS)
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        balancer.total(losses(segmentation=0.4, depth=0.4)).backward()
        optimizer.step()
    values = {n: torch.tensor(0.4, requires_grad=True) for n in ("segmentation", "depth")}
    balancer.total(values).backward()
    assert [x.grad.item() for x in values.values()] == pytest.approx(weights, rel=1e-3)


def test_xtasc_form_is_that_of_the_released_code():
    balancer = Uncertainty(init=0.2).build_balancer(TASKS)
    expected = 0.5 * math.exp(-0.2) * 3 + 0.2
    assert balancer.total(losses(depth=3.0)).item() == pytest.approx(expected)


def test_total_may_be_negative():
    balancer = Uncertainty(init=-3.0).build_balancer(TASKS)
    assert balancer.total(losses(depth=0.01)).item() < 0


@pytest.mark.parametrize("form", FORMS)
def test_an_absent_task_adds_nothing_and_does_not_move(form):
    balancer = Uncertainty(form=form, init=0.5).build_balancer(TASKS)
    balancer.total(losses(depth=1.0)).backward()
    assert balancer.log_variance["depth"].grad is not None
    assert balancer.log_variance["segmentation"].grad is None


def test_there_is_one_learned_number_per_task_by_its_name():
    state = Uncertainty(init=-0.5).build_balancer(TASKS).state_dict()
    assert {name: value.item() for name, value in state.items()} == {
        "log_variance.segmentation": -0.5,
        "log_variance.depth": -0.5,
        "log_variance.normals": -0.5,
    }


def test_the_total_does_not_depend_on_the_order_of_tasks():
    there = Uncertainty(form="kendall_typed").build_balancer(TASKS)
    back = Uncertainty(form="kendall_typed").build_balancer(dict(reversed(TASKS.items())))
    values = losses(segmentation=0.3, depth=2.0, normals=0.7)
    reordered = dict(reversed(values.items()))
    assert there.total(values).item() == pytest.approx(back.total(reordered).item())


def test_explain_writes_the_form():
    assert Uncertainty().as_maths == "Σ_t 0.5·exp(−s_t)·L_t + s_t"
    assert Uncertainty(form="kendall").as_maths == "Σ_t 0.5·exp(−s_t)·L_t + 0.5·s_t"
    assert "likelihood" in Uncertainty(form="kendall_typed").as_maths


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [1e-8, 1.0, 1e8])
def test_weights_at_rest_are_exact_for_losses_of_any_size(form, dtype, loss):
    balancer = Uncertainty(form=form).build_balancer(TASKS)
    a, b = balancer.factors["segmentation"]
    balancer.log_variance["segmentation"].data.fill_(math.log(loss * a / b))
    found = weights(balancer, {"segmentation": loss}, dtype)
    assert found["segmentation"] * loss == pytest.approx(b, rel=1e-5)


def test_weight_decay_does_not_pull_s_and_a_group_gives_its_learning_rate():
    balancer = Uncertainty(form="kendall").build_balancer(TASKS)
    balancer.log_variance["segmentation"].data.fill_(math.log(3))
    groups = [{"match": "balancer", "lr": 0.25}]
    optimizer = optimizer_of(balancer, type="sgd", lr=1e-3, weight_decay=0.5, groups=groups)
    step(balancer, optimizer, {"segmentation": 3.0, "depth": 5.0})
    s = balancer.log_variance
    assert s["segmentation"].item() == pytest.approx(math.log(3))  # at rest: it stays there
    assert s["depth"].item() == pytest.approx(-0.25 * (0.5 - 0.5 * 5))


def test_momentum_does_not_carry_on_the_s_of_an_absent_task():
    balancer = Uncertainty().build_balancer(TASKS)
    optimizer = torch.optim.Adam(balancer.parameters(), lr=0.1)
    step(balancer, optimizer, {"depth": 3.0, "normals": 0.1})
    before = balancer.log_variance["depth"].item()
    step(balancer, optimizer, {"normals": 0.1})
    assert balancer.log_variance["depth"].item() == before != 0


def test_a_restored_balancer_takes_the_identical_next_step():
    balancer, restored = (Uncertainty().build_balancer(TASKS) for _ in range(2))
    assert ends_alike(
        balancer, restored, [{"depth": 3.0, "normals": 0.1}, {"depth": 1.5, "segmentation": 0.7}]
    )


def test_evaluation_moves_nothing():
    balancer = Uncertainty().build_balancer(TASKS).eval()
    before = state(balancer)
    balancer.total(scalars({"depth": 2.0}))
    assert is_unmoved(balancer, before)


def test_weighing_waits_for_no_device():
    balancer = Uncertainty().build_balancer(TASKS)
    assert run_without_values(balancer, ["depth", "normals"]) == ["meta", "meta"]
