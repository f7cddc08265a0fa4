from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from fixtures.gradient_level import balancer_of, direction, gradients_of, part, problem, restored

from mtlkit_plugins.weightings.imtl import IMTL
from mtlkit_plugins.weightings.imtl_g import IMTLG

S = {"a": 0.7, "b": -1.2, "c": 2.0, "d": 0.1}


def with_scales():
    balancer = balancer_of(IMTL())
    for name, value in S.items():
        balancer.log_scale[name].data.fill_(value)
    return balancer


def test_it_starts_as_imtl_g():
    g = problem(3, 0)
    solution = balancer_of(IMTL()).solve(g)
    assert torch.equal(solution.shared, balancer_of(IMTLG()).weights(g))
    assert solution.private.tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_scaled_gradients_sum_to_one_and_are_equally_far_along_each(seed):
    g = problem(4, seed)
    solution = with_scales().solve(g)
    scales = torch.tensor(list(S.values())).double().exp()
    along = g.rows @ direction(solution.shared, g) / g.rows.norm(dim=1)
    assert torch.allclose(solution.private, scales)
    assert (solution.shared / scales).sum() == pytest.approx(1)
    assert torch.allclose(along, along.mean().expand(4), rtol=1e-8)


def test_weights_of_orthogonal_gradients_have_a_closed_form():
    balancer = balancer_of(IMTL())
    balancer.log_scale["b"].data.fill_(math.log(4))
    # scaled rows (2,0) and (0,4): shares 2/3 and 1/3, of which the second counts four times
    weights = balancer.weights(gradients_of([[2, 0], [0, 1]]))
    assert weights.tolist() == pytest.approx([2 / 3, 4 / 3])


def test_the_gradient_of_s_is_that_of_the_scaled_losses():
    g, balancer = problem(4, 1), with_scales()
    balancer.weights(g)
    s = torch.tensor(list(S.values()), dtype=torch.float64, requires_grad=True)
    (s.exp() * g.losses - s).sum().backward()
    found = torch.stack([balancer.log_scale[name].grad for name in S])
    assert torch.allclose(found, s.grad)


def test_the_total_is_the_sum_of_scaled_losses_and_penalties_at_the_last_solution():
    balancer = with_scales()
    balancer.solve(problem(4, 0))
    losses = {name: torch.tensor(2.0, requires_grad=True) for name in ("c", "a")}
    total = balancer.total(losses)
    total.backward()
    assert total.item() == pytest.approx(2 * math.exp(2.0) - 2.0 + 2 * math.exp(0.7) - 0.7)
    assert float(losses["a"].grad) == pytest.approx(math.exp(0.7))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_s_of_an_absent_task_does_not_move(momentum):
    balancer = with_scales()
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.1, momentum=momentum)
    balancer.weights(problem(4, 2))
    optimizer.step()
    before = {name: float(s.detach()) for name, s in balancer.log_scale.items()}
    balancer.weights(part(problem(4, 3), ("d", "b")))
    assert balancer.log_scale["a"].grad is None and balancer.log_scale["c"].grad is None
    optimizer.step()
    moved = {name for name, s in balancer.log_scale.items() if float(s.detach()) != before[name]}
    assert moved == {"b", "d"}


def test_s_settles_where_every_scaled_loss_is_one():
    balancer = balancer_of(IMTL())
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.3)
    g = gradients_of([[1, 0], [0, 1], [1, 1]], losses=[0.2, 1.0, 5.0])
    for _ in range(300):
        balancer.weights(g)
        optimizer.step()
    assert balancer.solve(g).private.tolist() == pytest.approx([5, 1, 0.2])


def test_a_restored_balancer_gives_the_identical_next_weights():
    balancer = with_scales()
    again = restored(IMTL(), balancer)
    assert torch.equal(again.weights(problem(4, 4)), balancer.weights(problem(4, 4)))


def test_scales_that_came_with_the_rest_are_read_by_name():
    weighting, names = IMTL(), ("c", "a", "b")  # a ParameterDict holds them as a, b, c
    balancer = weighting.build_balancer(dict.fromkeys(names))
    for name in names:
        balancer.log_scale[name].data.fill_(S[name])
    g = problem(3, 0)
    g = replace(
        g, tasks=names, learned=torch.cat([s.detach()[None] for s in balancer.parameters()])
    )
    private = balancer.solve(g).private
    assert private.tolist() == pytest.approx([math.exp(S[name]) for name in names])
