from __future__ import annotations

import math

import pytest
import torch
from fixtures.loss_level import DTYPES, SCALES, run_without_values, scalars, weights

from mtlkit_plugins.weightings.gls import Geometric

VALUES = {"a": 0.5, "b": 4.0, "c": 32.0}  # their geometric mean is 4


def built():
    return Geometric().build_balancer({})


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_total_is_the_geometric_mean(dtype):
    total = built().total(scalars(VALUES, dtype))
    assert total.dtype == dtype
    assert total.item() == pytest.approx(4)


def test_a_weight_is_the_total_over_the_number_of_tasks_times_the_loss():
    # by hand: 4/(3·0.5), 4/(3·4), 4/(3·32); the product in place of the total would be 64/…
    found = weights(built(), VALUES)
    assert found == pytest.approx({"a": 8 / 3, "b": 1 / 3, "c": 1 / 24})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 2, 10])
def test_losses_times_their_weights_are_equal_at_any_scale(dtype, scale, size):
    values = {f"task_{k}": scale * 3.0**k for k in range(size)}
    products = [w * values[name] for name, w in weights(built(), values, dtype).items()]
    mean = scale * 3.0 ** ((size - 1) / 2)
    assert products == pytest.approx([mean / size] * size, rel=1e-5)


def test_losses_over_sixteen_decades_neither_overflow_nor_vanish():
    values = {f"task_{k}": 1e8 for k in range(9)} | {"small": 1e-8}
    assert built().total(scalars(values, torch.float32)).item() == pytest.approx(10**6.4, rel=1e-5)


def test_one_loss_times_c_multiplies_the_total_by_the_root_of_c():
    scaled = built().total(scalars(VALUES | {"b": 4.0 * 27}))
    assert scaled.item() == pytest.approx(4 * 3)


def test_a_single_task_gets_its_plain_gradient():
    assert weights(built(), {"a": 0.3}) == pytest.approx({"a": 1})


@pytest.mark.parametrize("bad", [0.0, -2.0, math.nan, math.inf])
def test_a_loss_without_logarithm_counts_as_absent(bad):
    present = {"a": 0.5, "c": 32.0}
    assert weights(built(), present | {"b": bad}) == weights(built(), present) | {"b": 0}
    assert built().total(scalars(present | {"b": bad})).item() == pytest.approx(4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_total_is_zero_if_no_loss_has_a_logarithm(dtype):
    bad = {"a": 0.0, "b": -1.0}
    assert built().total(scalars(bad, dtype)).item() == 0
    assert weights(built(), bad, dtype) == {"a": 0, "b": 0}


def test_it_has_no_state():
    assert not built().state_dict()


def test_weighing_waits_for_no_device():
    assert run_without_values(built(), ["a", "b"]) == ["meta", "meta"]
