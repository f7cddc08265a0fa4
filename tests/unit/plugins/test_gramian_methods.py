"""MGDA, IMTL-G, UPGrad, Aligned-MTL, CAGrad, FairGrad and Nash-MTL give what their papers say."""

from __future__ import annotations

import pytest
import torch
from fixtures.gradient_level import (
    NAMES,
    balancer_of,
    direction,
    gradients_of,
    part,
    problem,
    restored,
)
from pydantic import ValidationError

from mtlkit_plugins.weightings.aligned_mtl import AlignedMTL
from mtlkit_plugins.weightings.cagrad import CAGrad
from mtlkit_plugins.weightings.fairgrad import FairGrad
from mtlkit_plugins.weightings.imtl_g import IMTLG
from mtlkit_plugins.weightings.mgda import MGDA
from mtlkit_plugins.weightings.nash_mtl import NashMTL
from mtlkit_plugins.weightings.upgrad import UPGrad

METHODS = [MGDA, IMTLG, UPGrad, AlignedMTL, CAGrad, FairGrad, NashMTL]
every_method = pytest.mark.parametrize("method", METHODS)
every_problem = pytest.mark.parametrize(
    ("count", "seed"), [(count, seed) for count in (1, 2, 3, 4) for seed in range(3)]
)
SIZES = pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])


def weights_of(weighting, gradients):
    return balancer_of(weighting).weights(gradients)


def worst(gradients, vector):
    return float((gradients.rows @ vector).min())


@SIZES
@every_problem
def test_mgda_gains_at_least_the_square_of_its_length_for_every_task(count, seed, scale):
    g = problem(count, seed, scale)
    weights = weights_of(MGDA(), g)
    d = direction(weights, g)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    assert worst(g, d) >= float(d @ d) - 1e-9 * scale**2


def test_mgda_of_orthogonal_gradients_weighs_by_the_inverse_of_their_squares():
    assert weights_of(MGDA(), gradients_of([[2, 0], [0, 1]])).tolist() == pytest.approx([0.2, 0.8])


def test_mgda_takes_the_shorter_gradient_alone_where_the_longer_one_has_all_of_it():
    assert weights_of(MGDA(), gradients_of([[1, 0], [3, 1]])).tolist() == [1, 0]


def test_mgda_takes_gradients_whose_square_is_above_1e8():
    g = gradients_of([[3e4, 0], [0, 3e4]])
    assert weights_of(MGDA(), g).tolist() == pytest.approx([0.5, 0.5])


@SIZES
@every_problem
def test_imtl_g_is_equally_far_along_every_gradient(count, seed, scale):
    g = problem(count, seed, scale)
    weights = weights_of(IMTLG(), g)
    along = g.rows @ direction(weights, g) / g.rows.norm(dim=1)
    assert weights.sum() == pytest.approx(1)
    assert torch.allclose(along, along.mean().expand(count), rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_imtl_g_is_the_form_of_the_paper_by_the_inverse_of_differences(seed):
    g = problem(3, seed)
    units = g.rows / g.rows.norm(dim=1, keepdim=True)
    lengths, turns = g.rows[0] - g.rows[1:], units[0] - units[1:]
    others = g.rows[0] @ turns.T @ torch.linalg.inv(lengths @ turns.T)
    expected = torch.cat([1 - others.sum(dim=0, keepdim=True), others])
    assert torch.allclose(weights_of(IMTLG(), g), expected, rtol=1e-9)


def test_imtl_g_of_orthogonal_gradients_weighs_by_the_inverse_of_their_lengths():
    weights = weights_of(IMTLG(), gradients_of([[2, 0], [0, 1]]))
    assert weights.tolist() == pytest.approx([1 / 3, 2 / 3])


def test_imtl_g_takes_parallel_and_zero_gradients():
    g = gradients_of([[1, 1], [2, 2], [0, 0], [1, -1]])
    d = direction(weights_of(IMTLG(), g), g)
    assert d @ g.rows[0] / 2**0.5 == pytest.approx(float(d @ g.rows[3] / 2**0.5))
    assert d.isfinite().all() and d.norm() > 0


@SIZES
@every_problem
def test_upgrad_hurts_no_task(count, seed, scale):
    g = problem(count, seed, scale)
    weights = weights_of(UPGrad(), g)
    assert weights.min() >= 1 / count - 1e-12
    assert worst(g, direction(weights, g)) >= -1e-9 * scale**2


@pytest.mark.parametrize("scale", [1e-8, 1.0])
def test_upgrad_projects_conflicts_of_small_gradients_too(scale):
    g = gradients_of([[scale, 0], [-scale, scale]])
    # (1,0) becomes (½,½) and (−1,1) becomes (0,1); their mean is (¼,¾)
    assert weights_of(UPGrad(), g).tolist() == pytest.approx([1, 0.75])


def test_upgrad_is_the_mean_without_conflicts():
    assert weights_of(UPGrad(), gradients_of([[1, 0], [1, 5]])).tolist() == [0.5, 0.5]


@SIZES
@every_problem
def test_aligned_mtl_averages_the_nearest_orthogonal_gradients(count, seed, scale):
    g = problem(count, seed, scale)
    left, values, right = torch.linalg.svd(g.rows, full_matrices=False)
    orthogonal = values.min() * left @ right
    d = direction(weights_of(AlignedMTL(), g), g)
    assert torch.allclose(d, orthogonal.mean(0), rtol=1e-9, atol=1e-9 * scale)


def test_aligned_mtl_may_take_the_sum():
    g = problem(3, 0)
    assert torch.allclose(
        weights_of(AlignedMTL(preference="sum"), g), 3 * weights_of(AlignedMTL(), g)
    )


def test_aligned_mtl_leaves_orthogonal_gradients_of_one_length_as_they_are():
    g = gradients_of(7 * torch.eye(3).double())
    assert weights_of(AlignedMTL(), g).tolist() == pytest.approx([1 / 3] * 3)


def test_aligned_mtl_shortens_the_longer_of_orthogonal_gradients():
    weights = weights_of(AlignedMTL(), gradients_of([[2, 0], [0, 1]]))
    assert weights.tolist() == pytest.approx([0.25, 0.5])


@SIZES
@pytest.mark.parametrize("c", [0.0, 0.4])
@every_problem
def test_cagrad_moves_from_the_mean_by_its_radius_and_hurts_the_worst_task_less(
    count, seed, c, scale
):
    g = problem(count, seed, scale)
    mean = g.rows.mean(0)
    d = direction(weights_of(CAGrad(c=c), g), g)
    assert (d - mean).norm() == pytest.approx(c * float(mean.norm()), abs=1e-9 * scale)
    assert worst(g, d) >= worst(g, mean) - 1e-9 * scale**2


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_cagrad_of_two_tasks_is_the_best_of_a_fine_search(seed, scale):
    g = problem(2, seed, scale)
    mean = g.rows.mean(0)
    share = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    mixes = share * g.rows[0] + (1 - share) * g.rows[1]
    bounds = mixes @ mean + 0.4 * mean.norm() * mixes.norm(dim=1)
    d = direction(weights_of(CAGrad(), g), g)
    assert worst(g, d) == pytest.approx(float(bounds.min()), rel=1e-6)


def test_cagrad_of_orthogonal_gradients_lifts_the_shorter_one():
    # g_0 = (1, ½), and all of 0.4·‖g_0‖ goes to the second
    weights = weights_of(CAGrad(c=0.4), gradients_of([[2, 0], [0, 1]]))
    assert weights.tolist() == pytest.approx([0.5, 0.5 + 0.4 * 1.25**0.5])


def test_cagrad_may_be_divided_by_one_plus_c_squared():
    g = problem(3, 1)
    divided = weights_of(CAGrad(c=0.5, rescale="one_plus_c_squared"), g)
    assert torch.allclose(divided, weights_of(CAGrad(c=0.5), g) / 1.25)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e8])
@every_problem
def test_fairgrad_solves_its_equation(count, seed, scale, alpha):
    g = problem(count, seed, scale)
    weights = weights_of(FairGrad(alpha=alpha), g)
    assert weights.min() > 0
    assert torch.allclose(g.gramian @ weights, weights ** (-1 / alpha), rtol=1e-8, atol=0)


def test_fairgrad_of_orthogonal_gradients_has_a_closed_form():
    # 4w = w^(−½) and w = w^(−½)
    weights = weights_of(FairGrad(alpha=2.0), gradients_of([[2, 0], [0, 1]]))
    assert weights.tolist() == pytest.approx([4 ** (-2 / 3), 1])


@every_problem
def test_fairgrad_with_alpha_one_is_nash_mtl(count, seed):
    g = problem(count, seed)
    assert torch.allclose(weights_of(FairGrad(), g), weights_of(NashMTL(max_norm=None), g))


@SIZES
@every_problem
def test_nash_mtl_gains_the_inverse_of_its_weight_for_every_task(count, seed, scale):
    g = problem(count, seed, scale)
    weights = weights_of(NashMTL(max_norm=None), g)
    d = direction(weights, g)
    assert weights.min() > 0
    assert torch.allclose(g.rows @ d, 1 / weights, rtol=1e-8, atol=0)
    assert d @ d == pytest.approx(count)


def test_nash_mtl_of_orthogonal_gradients_weighs_by_the_inverse_of_their_lengths():
    weights = weights_of(NashMTL(max_norm=None), gradients_of([[2, 0], [0, 0.1]]))
    assert weights.tolist() == pytest.approx([0.5, 10])


def test_nash_mtl_is_not_moved_by_the_scale_of_one_loss():
    plain = problem(3, 2)
    rows = plain.rows * torch.tensor([1.0, 1e5, 1.0])[:, None]
    rescaled = gradients_of(rows)
    found = direction(weights_of(NashMTL(), rescaled), rescaled)
    assert torch.allclose(found, direction(weights_of(NashMTL(), plain), plain), rtol=1e-8)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nash_mtl_clips_the_shared_gradient_and_whole_losses_alike(count):
    g = problem(count, 3)
    free = weights_of(NashMTL(max_norm=None), g)
    solution = balancer_of(NashMTL(max_norm=0.3)).solve(g)
    assert direction(solution.shared, g).norm() == pytest.approx(0.3)
    assert torch.allclose(solution.shared, free * 0.3 / count**0.5)
    assert torch.equal(solution.private, solution.shared)


def test_nash_mtl_does_not_lengthen_a_gradient_to_its_largest_norm():
    g = problem(3, 3)
    assert torch.equal(weights_of(NashMTL(max_norm=5.0), g), weights_of(NashMTL(max_norm=None), g))


def test_nash_mtl_of_gradients_that_are_all_zero_is_finite():
    assert weights_of(NashMTL(), gradients_of(torch.zeros(2, 3).double())).tolist() == [0, 0]


@pytest.mark.parametrize("method", [m for m in METHODS if m is not NashMTL])
def test_parameters_of_one_task_get_its_plain_gradient(method):
    assert balancer_of(method()).solve(problem(3, 4)).private.tolist() == [1, 1, 1]


@every_method
def test_absent_tasks_take_no_part(method):
    some = part(problem(4, 5), ("d", "b"))
    alone = balancer_of(method(), ("b", "d")).weights(some)
    assert torch.equal(balancer_of(method()).weights(some), alone)


@every_method
def test_a_restored_balancer_goes_on_with_the_same_weights(method):
    weighting = method(every=2)
    balancer = balancer_of(weighting)
    balancer.solve(problem(4, 6))
    again = restored(weighting, balancer)
    assert torch.equal(torch.stack(again.last(NAMES)), torch.stack(balancer.last(NAMES)))
    for is_due in (False, True):
        again.before_step()
        assert again.is_due == is_due
    assert torch.equal(again.weights(problem(3, 7)), balancer.weights(problem(3, 7)))


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [(CAGrad, "c", 1.0), (CAGrad, "c", -0.1), (FairGrad, "alpha", 0.0), (NashMTL, "max_norm", 0.0)],
)
def test_numbers_out_of_range_are_refused(method, field, value):
    with pytest.raises(ValidationError, match=field):
        method(**{field: value})
