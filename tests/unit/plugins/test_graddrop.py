from __future__ import annotations

import pytest
import torch
from fixtures.gradient_level import NAMES, balancer_of, gradients_of, part, problem, restored

from mtlkit_plugins.weightings.graddrop import COLUMNS, GradDrop


def drop(balancer, gradients):
    weights = balancer.solve(gradients).shared
    copied = part(gradients, gradients.tasks)  # rows may be overwritten
    return balancer.direction(copied, weights)


def signed(rows):
    """Return the sums of the positive and of the negative entries of each column."""
    return rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_the_expected_direction_is_the_sum_of_the_gradients(leak):
    g, balancer = problem(3, 0), balancer_of(GradDrop(leak=leak))
    drawn = torch.stack([drop(balancer, g) for _ in range(4000)])
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - g.rows.sum(0)).abs() <= 4 * error + 1e-12).all()
    assert error.max() > 0


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_of_a_coordinate_has_one_sign_of_all_tasks(seed):
    g = problem(4, seed)
    up, down = signed(g.rows)
    d = drop(balancer_of(GradDrop(), seed=seed), g)
    assert torch.where(d > 0, torch.isclose(d, up), torch.isclose(d, down)).all()


def test_a_leak_keeps_its_share_of_what_is_dropped():
    g = problem(3, 1)
    up, down = signed(g.rows)
    bare, leaky = drop(balancer_of(GradDrop()), g), drop(balancer_of(GradDrop(leak=0.25)), g)
    assert torch.allclose(leaky, torch.where(bare > 0, up + 0.25 * down, down + 0.25 * up))


def test_a_leak_of_one_is_the_sum():
    g = problem(3, 2)
    assert torch.allclose(drop(balancer_of(GradDrop(leak=1.0)), g), g.rows.sum(0))


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8])
def test_the_same_entries_stay_at_any_scale(scale):
    plain, scaled = balancer_of(GradDrop()), balancer_of(GradDrop())
    for seed in range(20):
        expected = scale * drop(plain, problem(3, seed))
        assert torch.allclose(drop(scaled, problem(3, seed, scale)), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_small_entries_of_one_sign_are_never_dropped(sign):
    rows = sign * torch.full((2, 6), 1e-8)
    balancer = balancer_of(GradDrop())
    for _ in range(50):
        assert torch.equal(drop(balancer, gradients_of(rows)), rows.sum(0))


def test_coordinates_without_any_entry_stay_zero():
    rows = torch.zeros(2, 6)
    rows[0, 3] = 2
    assert drop(balancer_of(GradDrop()), gradients_of(rows)).tolist() == [0, 0, 0, 2, 0, 0]


def test_the_order_of_tasks_is_of_no_consequence():
    g = problem(4, 3)
    turned = drop(balancer_of(GradDrop(), NAMES[::-1]), part(g, NAMES[::-1]))
    assert torch.allclose(turned, drop(balancer_of(GradDrop()), g), rtol=1e-12)


def test_float32_keeps_the_entries_that_float64_keeps():
    g = problem(3, 4)
    small = drop(balancer_of(GradDrop()), gradients_of(g.rows.float()))
    assert small.dtype == torch.float32
    assert torch.allclose(small.double(), drop(balancer_of(GradDrop()), g), rtol=1e-6)


def test_every_column_of_long_rows_has_a_number_of_its_own():
    rows = torch.tensor([[1.0], [-1.0]]).expand(2, COLUMNS + 5)
    d = drop(balancer_of(GradDrop()), gradients_of(rows))
    assert d.shape == (COLUMNS + 5,) and d.abs().eq(1).all()
    assert float(d.mean()) == pytest.approx(0, abs=4 / COLUMNS**0.5)


def test_the_log_shows_the_expected_weights():
    assert balancer_of(GradDrop()).solve(problem(3, 5)).shared.tolist() == [1, 1, 1]


def test_a_restored_balancer_drops_the_same_entries():
    g, balancer = problem(4, 6), balancer_of(GradDrop())
    drop(balancer, g)
    again = restored(GradDrop(), balancer)
    for _ in range(3):
        assert torch.equal(drop(again, g), drop(balancer, g))
