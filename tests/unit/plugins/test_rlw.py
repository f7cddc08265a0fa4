from __future__ import annotations

import math

import pytest
import torch
from fixtures.loss_level import (
    DTYPES,
    SCALES,
    is_unmoved,
    run_without_values,
    scalars,
    state,
    weights,
)

from mtlkit_plugins.weightings.rlw import RandomLossWeighting

TASKS = ("a", "b", "c")
ONES = dict.fromkeys(TASKS, 1.0)


def built(tasks=TASKS, **fields):
    torch.manual_seed(7)
    return RandomLossWeighting(**fields).build_balancer(dict.fromkeys(tasks))


def next_weights(balancer, values=ONES, dtype=torch.float64):
    balancer.before_step()
    return weights(balancer, values, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("sums_to", "expected"), [("one", 1), ("tasks", 3)])
def test_weights_are_positive_and_sum_to_what_is_asked(dtype, scale, sums_to, expected):
    found = next_weights(built(sums_to=sums_to), dict.fromkeys(TASKS, scale), dtype)
    assert min(found.values()) > 0
    assert sum(found.values()) == pytest.approx(expected)


def test_weights_are_the_softmax_of_the_drawn_numbers():
    balancer = built()
    balancer.z.copy_(torch.tensor([0.0, math.log(2), math.log(5)]))
    assert weights(balancer, ONES) == pytest.approx({"a": 1 / 8, "b": 2 / 8, "c": 5 / 8})
    assert balancer.total(scalars({"a": 8.0, "b": 4.0, "c": 1.6})).item() == pytest.approx(3)


def test_weights_are_equal_in_expectation():
    balancer = built()
    drawn = torch.tensor([list(next_weights(balancer).values()) for _ in range(1500)])
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert bool((drawn.std(0) > 0.1).all())
    assert bool(((drawn.mean(0) - 1 / 3).abs() < 4 * error).all())


def test_there_is_one_draw_per_step_however_many_batches_it_has():
    balancer = built()
    first, again = next_weights(balancer), weights(balancer, ONES)
    assert first == again
    assert next_weights(balancer) != first


def test_the_absent_take_no_part_and_the_present_share_the_whole():
    balancer = built(sums_to="tasks")
    every = next_weights(balancer)
    some = weights(balancer, {"c": 1.0, "a": 1.0})
    assert sum(some.values()) == pytest.approx(2)
    assert some["a"] / some["c"] == pytest.approx(every["a"] / every["c"])


def test_a_single_task_weighs_one():
    assert next_weights(built(), {"b": 0.3}) == {"b": 1}


def test_weights_are_equal_before_the_first_step():
    assert weights(built(), ONES) == pytest.approx(dict.fromkeys(TASKS, 1 / 3))


@pytest.mark.parametrize(("sums_to", "each"), [("one", 0.5), ("tasks", 1.0)])
def test_evaluation_uses_the_expected_weights_and_moves_nothing(sums_to, each):
    balancer = built(sums_to=sums_to)
    balancer.before_step()
    before = state(balancer.eval())
    assert weights(balancer, {"a": 1.0, "c": 9.0}) == pytest.approx({"a": each, "c": each})
    assert is_unmoved(balancer, before)


def test_a_restored_balancer_draws_the_identical_numbers():
    balancer = built()
    middle = next_weights(balancer)
    torch.manual_seed(8)
    restored = RandomLossWeighting().build_balancer(dict.fromkeys(TASKS))
    assert next_weights(restored) != middle
    restored.load_state_dict(state(balancer))
    assert weights(restored, ONES) == middle
    assert next_weights(restored) == next_weights(balancer)


def test_weights_belong_to_tasks_in_whatever_order():
    there, back = built(), built(TASKS[::-1])
    assert next_weights(there) == pytest.approx(next_weights(back, dict(reversed(ONES.items()))))


def test_drawing_leaves_torchs_generator_alone():
    balancer = built()
    before = torch.get_rng_state()
    next_weights(balancer)
    assert torch.equal(torch.get_rng_state(), before)


def test_weighing_waits_for_no_device():
    assert run_without_values(built(), ["a", "c"]) == ["meta", "meta"]


def test_explain_writes_the_sum():
    assert "w = softmax(z)" in RandomLossWeighting().as_maths
    assert "w = T·softmax(z)" in RandomLossWeighting(sums_to="tasks").as_maths
