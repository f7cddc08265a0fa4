from __future__ import annotations

import pytest
import torch
from fixtures.gradient_level import (
    NAMES,
    balancer_of,
    gradients_of,
    part,
    problem,
    restored,
    state_of,
)

from mtlkit.errors import UsageError
from mtlkit_plugins.weightings.db_mtl import DBMTL


def step(balancer, gradients):
    """Return the direction of one step, and leave the gradients as they are."""
    copied = part(gradients, gradients.tasks)
    return balancer.direction(copied, balancer.solve(copied).shared)


def two_wide():
    balancer = balancer_of(DBMTL(), ("a", "b"))
    balancer.prepare(2, torch.zeros(1, dtype=torch.float64))
    return balancer


def test_the_first_step_brings_all_gradients_to_the_longest():
    g = gradients_of([[3, 4], [0, 1]], losses=[1.0, 2.0])
    # of ∇log L, (3,4) and (0,½), the first average keeps a tenth: lengths ½ and 1/20
    assert step(two_wide(), g).tolist() == pytest.approx([0.3, 0.4 + 0.5])


def test_the_second_step_keeps_less_of_the_average():
    balancer = two_wide()
    step(balancer, gradients_of([[1, 0], [0, 1]]))
    step(balancer, gradients_of([[0, 2], [0, 1]]))
    kept = 0.9 / 2**0.5
    assert balancer.averages[0].tolist() == pytest.approx([0.1 * kept, 2 * (1 - kept)])


@pytest.mark.parametrize("seed", range(5))
def test_every_task_has_an_equal_length_in_the_direction(seed):
    balancer = balancer_of(DBMTL())
    for k in range(3):
        d = step(balancer, problem(4, 10 * seed + k))
    norms = balancer.averages.norm(dim=1, keepdim=True)
    assert torch.allclose(d, (balancer.averages / norms).sum(0) * norms.max())


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e8])
def test_the_scale_of_a_loss_changes_nothing(scale):
    plain, scaled = balancer_of(DBMTL()), balancer_of(DBMTL())
    factors = torch.tensor([1.0, scale, 1.0], dtype=torch.float64)
    for seed in range(4):
        g = problem(3, seed)
        losses = (g.losses * factors).tolist()
        found = step(scaled, gradients_of(g.rows * factors[:, None], losses))
        assert torch.allclose(found, step(plain, g), rtol=1e-12)


def test_heads_get_the_gradient_of_the_logarithm():
    g = gradients_of([[1, 0], [0, 1]], losses=[0.5, 4.0])
    solution = balancer_of(DBMTL()).solve(g)
    assert solution.private.tolist() == pytest.approx([2, 0.25])
    assert torch.equal(solution.shared, solution.private)


def test_absent_tasks_keep_their_averages_and_counts():
    balancer = balancer_of(DBMTL())
    step(balancer, problem(4, 0))
    before = state_of(balancer)
    step(balancer, part(problem(4, 1), ("d", "b")))
    assert balancer.steps.tolist() == [1, 2, 1, 2]
    assert torch.equal(balancer.averages[[0, 2]], before["averages"][[0, 2]])
    assert not torch.equal(balancer.averages[[1, 3]], before["averages"][[1, 3]])


def test_a_task_that_comes_late_has_a_first_step_of_its_own():
    early, late = balancer_of(DBMTL()), balancer_of(DBMTL())
    for seed in range(5):
        step(late, part(problem(4, seed), ("a", "b", "d")))
    step(early, problem(4, 7)), step(late, problem(4, 7))
    assert torch.equal(late.averages[2], early.averages[2])


def test_the_order_of_tasks_is_of_no_consequence():
    straight, back = balancer_of(DBMTL()), balancer_of(DBMTL(), NAMES[::-1])
    for seed in range(3):
        g = problem(4, seed)
        assert torch.allclose(step(back, part(g, NAMES[::-1])), step(straight, g), rtol=1e-12)


def test_zero_gradients_and_a_zero_loss_are_finite():
    rows = torch.zeros(2, 6, dtype=torch.float64)
    rows[0] = 1
    balancer = balancer_of(DBMTL())
    d = step(balancer, gradients_of(rows, losses=[1.0, 0.0]))
    assert d.tolist() == pytest.approx([0.1] * 6)
    assert not step(balancer_of(DBMTL()), gradients_of(0 * rows)).any()


def test_a_negative_loss_is_refused_with_its_name():
    g = gradients_of([[1, 0], [0, 1]], losses=[0.5, -0.25])
    with pytest.raises(UsageError, match=r"logarithm of losses, and that of 'b' is -0\.25"):
        balancer_of(DBMTL()).solve(g)


def test_averages_have_the_type_of_the_parameters():
    balancer = balancer_of(DBMTL())
    balancer.prepare(6, torch.zeros(1, dtype=torch.float32))
    d = step(balancer, gradients_of(problem(3, 2).rows.float()))
    assert balancer.averages.dtype == d.dtype == torch.float32
    assert torch.allclose(d.double(), step(balancer_of(DBMTL()), gradients_of(problem(3, 2).rows)))


def test_a_restored_balancer_gives_the_identical_next_direction():
    balancer = balancer_of(DBMTL())
    for seed in range(3):
        step(balancer, problem(4, seed))
    again = restored(DBMTL(), balancer)
    assert torch.equal(step(again, problem(4, 9)), step(balancer, problem(4, 9)))
