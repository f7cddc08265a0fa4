from __future__ import annotations

import pytest
import torch
from fixtures.gradient_level import balancer_of, gradients_of, restored

from mtlkit_plugins.weightings.gradnorm import GradNorm

TASKS = ("a", "b", "c")


def built(tasks=TASKS, **fields):
    return balancer_of(GradNorm(**fields), tasks)


def gradients(norms, losses, tasks=TASKS, scale=1.0):
    """Return random gradients of given norms."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(norms), 8, generator=generator, dtype=torch.float64)
    rows = scale * torch.tensor(norms)[:, None] * rows / rows.norm(dim=1, keepdim=True)
    return gradients_of(rows, losses, tasks)


def of_norm(norms, losses):
    """Return gradients whose norms are exact, so that equality can be met."""
    return gradients_of(torch.diag(torch.tensor(norms)), losses, TASKS)


def state_of_second(balancer):
    return {name: x[..., 1].tolist() for name, x in balancer.state_dict().items() if x.ndim}


def test_weights_start_at_one_and_sum_to_the_number_of_tasks():
    balancer = built()
    assert balancer.weight.tolist() == [1, 1, 1]
    for _ in range(5):
        weights = balancer.weights(gradients([1.0, 10.0, 0.1], [1.0, 2.0, 3.0]))
        assert weights.sum().item() == pytest.approx(3)
        assert (weights > 0).all()


def test_weights_rest_where_norms_meet_their_aims():
    balancer = built(alpha=1.0)
    balancer.weights(of_norm([2.0, 2.0, 2.0], [1.0, 1.0, 1.0]))
    # ratios 1/2, 1 and 3/2 have the mean 1: the norms 1, 2 and 3 are 2·r
    g = of_norm([1.0, 2.0, 3.0], [0.5, 1.0, 1.5])
    assert balancer.weights(g).tolist() == pytest.approx([1, 1, 1])


def test_the_first_step_has_the_sign_of_the_closed_form_gradient():
    balancer = built(lr=0.01)
    weights = balancer.weights(gradients([4.0, 1.0, 1.0], [1.0, 1.0, 1.0]))
    # mean 2: the first is above it, the others below; Adam's first step has the size lr
    raw = torch.tensor([0.99, 1.01, 1.01])
    assert weights.tolist() == pytest.approx((3 * raw / raw.sum()).tolist())


def test_without_alpha_norms_become_equal():
    balancer = built(alpha=0.0, lr=2e-3)
    norms = torch.tensor([1.0, 2.0, 4.0])
    g = gradients(norms.tolist(), [1.0, 1.0, 1.0])
    for _ in range(1500):
        weights = balancer.weights(g)
    weighted = weights * norms
    assert torch.allclose(weighted / weighted.mean(), torch.ones(3).double(), atol=0.02)


def test_a_task_that_learns_slowly_gets_more():
    balancer = built()
    balancer.weights(gradients([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]))
    for _ in range(10):
        weights = balancer.weights(gradients([1.0, 1.0, 1.0], [0.1, 0.5, 1.0]))
    assert weights[0] < weights[1] < weights[2]


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_scale_of_all_gradients_does_not_matter(scale):
    plain, scaled = built(), built()
    for losses in ([1.0, 2.0, 3.0], [0.5, 2.0, 1.0]):
        expected = plain.weights(gradients([1.0, 5.0, 0.3], losses))
        found = scaled.weights(gradients([1.0, 5.0, 0.3], losses, scale=scale))
    assert torch.allclose(found, expected, rtol=1e-6)


def test_an_absent_task_keeps_its_weight_and_its_state():
    balancer = built()
    balancer.weights(gradients([1.0, 5.0, 0.3], [1.0, 1.0, 1.0]))
    before = state_of_second(balancer)
    found = balancer.weights(gradients([1.0, 3.0], [0.5, 0.9], tasks=("c", "a")))
    assert state_of_second(balancer) == before
    assert balancer.weight.sum().item() == pytest.approx(3)
    assert torch.equal(found, balancer.weight[[2, 0]])


def test_a_task_alone_keeps_its_weight():
    balancer = built()
    assert balancer.weights(gradients([7.0], [1.0], tasks=("b",))).tolist() == [1]


def test_a_task_seen_late_has_its_own_first_loss():
    balancer = built()
    balancer.weights(gradients([1.0, 1.0], [4.0, 2.0], tasks=("a", "b")))
    balancer.weights(gradients([1.0, 1.0, 1.0], [2.0, 1.0, 9.0]))
    assert balancer.first.tolist() == [4, 2, 9]


def test_the_order_of_tasks_does_not_matter():
    there, back = built(), built(TASKS[::-1])
    g = gradients([1.0, 5.0, 0.3], [1.0, 2.0, 3.0])
    turned = gradients_of(g.rows.flip(0), g.losses.flip(0).tolist(), TASKS[::-1])
    for _ in range(3):
        assert torch.allclose(back.weights(turned).flip(0), there.weights(g))


def test_a_task_without_gradient_keeps_finite_weights():
    balancer = built()
    for _ in range(3):
        weights = balancer.weights(gradients([0.0, 1.0, 2.0], [1.0, 1.0, 0.0]))
    assert weights.isfinite().all()


def test_losses_that_were_zero_or_change_their_sign_keep_finite_weights():
    balancer = built()
    for losses in ([0.0, 1.0, -0.5], [0.3, -0.2, 0.5], [0.0, 1.0, 1.0]):
        weights = balancer.weights(gradients([1.0, 2.0, 3.0], losses))
        assert weights.isfinite().all() and (weights > 0).all()


def test_weights_multiply_whole_losses():
    solution = built().solve(gradients([1.0, 5.0, 0.3], [1.0, 2.0, 3.0]))
    assert torch.equal(solution.private, solution.shared)
    assert solution.shared[2] > solution.shared[1]


def test_norms_are_taken_at_the_last_shared_weight_unless_told_otherwise():
    assert built().at == "last_shared"
    assert built(at="trunk", every=3).at == "trunk" and built(every=3).every == 3


def test_validation_uses_the_weights_as_they_are():
    balancer = built().eval()
    balancer.weight.copy_(torch.tensor([0.5, 1.0, 1.5]))
    losses = {"c": torch.tensor(2.0), "a": torch.tensor(4.0)}
    assert balancer.total(losses).item() == 5
    assert balancer.weight.tolist() == [0.5, 1, 1.5]


def test_a_restored_balancer_gives_the_identical_next_weights():
    balancer = built()
    for losses in ([1.0, 2.0, 3.0], [0.9, 1.0, 2.0]):
        balancer.solve(gradients([1.0, 5.0, 0.3], losses))
    again = restored(GradNorm(), balancer)
    g = gradients([2.0, 1.0, 0.4], [0.7, 1.0, 1.0])
    assert torch.equal(again.weights(g), balancer.weights(g))
