"""Updates against TorchJD's: the same where it is exact, at least as good where it is not."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import mtlkit
from mtlkit.contracts import Balancer
from mtlkit.testing.jacobians import normal
from mtlkit.testing.updates import Problem, fresh, make_step, update

theirs = pytest.importorskip(
    "torchjd.aggregation", reason="needs torchjd: pip install 'mtlkit[torchjd]'"
)

AGREES = 1e-6  # relative
ROUNDING = 1e-9
SMALL = 1e-4  # of rows about 3 long: TorchJD takes ‖J‖_F below 1e-2 for 0
C = 0.4
DRAWS = 2000
counts = pytest.mark.parametrize("count", [2, 3, 5, 8])
seeds = pytest.mark.parametrize("seed", range(5))


def conflicting(count: int, seed: int) -> Tensor:
    """Return independent rows most of which conflict, (T,D)."""
    rows = normal(count, 12, seed)
    return rows - 0.7 * rows.mean(0)


@cache
def methods() -> dict[str, type[mtlkit.Weighting]]:
    return dict(mtlkit.Plugins.load().types("weighting"))


def balancer_of(method: str, jacobian: Tensor, **fields: Any) -> Balancer:
    return fresh(methods()[method].model_validate(fields), Problem.of(jacobian))


def ours(method: str, jacobian: Tensor, **fields: Any) -> Tensor:
    """Return d, (D,), of a registered method's first step."""
    problem = Problem.of(jacobian)
    balancer = balancer_of(method, jacobian, **fields)
    return update(balancer, problem.rows, problem.losses, problem.names)


def their_upgrad(jacobian: Tensor, **tolerances: float) -> Tensor:
    for solver in ("qpsolvers", "quadprog"):
        pytest.importorskip(solver, reason="needs: pip install 'mtlkit[torchjd]'")
    linalg = pytest.importorskip("torchjd.linalg")
    d: Tensor = theirs.UPGrad(projector=linalg.QuadprogProjector(**tolerances))(jacobian)
    return d


def their_cagrad(jacobian: Tensor) -> Tensor:
    for solver in ("cvxpy", "clarabel"):
        pytest.importorskip(solver, reason="needs: pip install 'torchjd[cagrad]'")
    d: Tensor = theirs.CAGrad(c=C)(jacobian)
    return d


def worst(jacobian: Tensor, direction: Tensor) -> float:
    """Return min_i g_i·d/‖g_i‖: below 0 a task gets worse."""
    return float((jacobian @ direction / jacobian.norm(dim=1)).min())


def assert_agree(direction: Tensor, other: Tensor) -> None:
    assert (direction - other).norm() <= AGREES * other.norm()


@seeds
def test_pcgrad_of_two_tasks_is_theirs(seed):
    jacobian = conflicting(2, seed)
    assert_agree(ours("pcgrad", jacobian), theirs.PCGrad()(jacobian))


@counts
@seeds
def test_imtl_g_is_theirs(count, seed):
    jacobian = conflicting(count, seed)
    assert_agree(ours("imtl_g", jacobian), theirs.IMTLG()(jacobian))


@counts
@seeds
def test_aligned_mtl_is_theirs(count, seed):
    jacobian = conflicting(count, seed)
    assert_agree(ours("aligned_mtl", jacobian), theirs.AlignedMTL()(jacobian))


@counts
@seeds
def test_fairgrad_is_theirs(count, seed):
    pytest.importorskip("scipy", reason="TorchJD's FairGrad needs scipy")
    jacobian = conflicting(count, seed)
    assert_agree(ours("fairgrad", jacobian, alpha=1.0), theirs.FairGrad(alpha=1.0)(jacobian))


@counts
@seeds
def test_upgrad_is_theirs_with_projections_by_scipy(count, seed):
    nnls = pytest.importorskip("scipy.optimize").nnls
    linalg = pytest.importorskip("torchjd.linalg")

    class ScipyProjector(linalg.DualConeProjector):
        def __call__(self, U: Tensor, G: Tensor) -> Tensor:
            root = torch.linalg.cholesky(G).T
            added = [nnls(root.numpy(), -(root @ u).numpy())[0] for u in U]
            return U + torch.stack([torch.from_numpy(row) for row in added])

    jacobian = conflicting(count, seed)
    assert_agree(ours("upgrad", jacobian), theirs.UPGrad(projector=ScipyProjector())(jacobian))


@counts
@seeds
def test_upgrad_is_theirs_without_their_tolerances(count, seed):
    jacobian = conflicting(count, seed)
    assert_agree(ours("upgrad", jacobian), their_upgrad(jacobian, norm_eps=0.0, reg_eps=1e-12))


@counts
@seeds
def test_upgrad_helps_every_task_where_gradients_are_so_small_that_theirs_is_the_mean(count, seed):
    jacobian = SMALL * conflicting(count, seed)
    direction = ours("upgrad", jacobian)
    assert worst(jacobian, direction) >= -ROUNDING * SMALL
    assert_agree(direction / SMALL, ours("upgrad", jacobian / SMALL))
    assert_agree(their_upgrad(jacobian), jacobian.mean(0))


@counts
@seeds
def test_upgrad_helps_every_task_where_gradients_differ_in_size_and_theirs_does_not(count, seed):
    sizes = 10 ** torch.linspace(-3, 0, count, dtype=torch.float64)
    jacobian = conflicting(count, seed) * sizes[:, None]
    assert worst(jacobian, ours("upgrad", jacobian)) >= -ROUNDING
    assert worst(jacobian, their_upgrad(jacobian)) < -0.05  # their diagonal is not that of G


@counts
@seeds
def test_mgda_is_no_longer_than_theirs(count, seed):
    jacobian = conflicting(count, seed)
    direction = ours("mgda", jacobian)
    shortest = direction.square().sum()
    assert shortest <= theirs.MGDA()(jacobian).square().sum() * (1 + ROUNDING)
    assert (jacobian @ direction).min() >= shortest * (1 - ROUNDING)


def test_mgda_goes_on_where_theirs_stops():
    problems = [conflicting(8, seed) for seed in range(3)]
    lengths = [(theirs.MGDA()(rows).norm(), ours("mgda", rows).norm()) for rows in problems]
    assert max((long / short) ** 2 for long, short in lengths) > 1.01


@counts
@seeds
def test_cagrad_helps_the_worst_task_as_much_as_theirs_at_the_same_distance(count, seed):
    jacobian = conflicting(count, seed)
    mean, direction, other = jacobian.mean(0), ours("cagrad", jacobian, c=C), their_cagrad(jacobian)
    radius = C * float(mean.norm())
    assert float((direction - mean).norm()) <= radius * (1 + ROUNDING)
    assert float((other - mean).norm()) == pytest.approx(radius)
    best = float((jacobian @ direction).min())
    assert best >= float((jacobian @ other).min()) - ROUNDING
    assert best >= float((jacobian @ mean).min())


@seeds
def test_cagrad_moves_where_gradients_are_so_small_that_theirs_stands_still(seed):
    jacobian = SMALL * conflicting(3, seed)
    direction = ours("cagrad", jacobian, c=C)
    assert_agree(direction / SMALL, ours("cagrad", jacobian / SMALL, c=C))
    assert not their_cagrad(jacobian).any()


def test_graddrop_keeps_entries_as_often_as_theirs():
    jacobian = normal(3, 12, 0)
    problem, balancer = Problem.of(jacobian), balancer_of("graddrop", jacobian)
    own = torch.stack([make_step(balancer, problem).direction for _ in range(DRAWS)])
    other = torch.stack([theirs.GradDrop()(jacobian) for _ in range(DRAWS)])
    positive, negative = jacobian.clamp(min=0).sum(0), jacobian.clamp(max=0).sum(0)
    for drawn in (own, other):
        is_one_sign = (drawn - positive).abs().minimum((drawn - negative).abs()) <= ROUNDING
        assert is_one_sign.all()
    error = 5 * (positive - negative) * (0.25 / DRAWS) ** 0.5
    assert ((own.mean(0) - jacobian.sum(0)).abs() <= error).all()
    assert ((own.mean(0) - other.mean(0)).abs() <= 2 * error).all()


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("AlignedMTL", {}),
        ("AlignedMTL", {"scale_mode": "median"}),
        ("IMTLG", {}),
        ("MGDA", {"epsilon": 1e-6, "max_iters": 7}),
    ],
)
@counts
def test_their_weightings_give_what_they_give_by_themselves(weighting, options, count):
    for scale in (1e-6, 1.0, 1e6):
        problem = Problem.of(scale * conflicting(count, 0))
        balancer = balancer_of("torchjd", problem.rows, weighting=weighting, options=options)
        alone = getattr(theirs, f"{weighting}Weighting")(**options)
        wanted = alone(problem.rows @ problem.rows.T)
        assert torch.equal(make_step(balancer, problem).weights, wanted)


def test_their_random_weightings_draw_alike_for_a_restored_balancer():
    problem = Problem.of(conflicting(5, 1))
    balancer = balancer_of("torchjd", problem.rows, weighting="PCGrad")
    first = make_step(balancer, problem).weights
    restored = balancer_of("torchjd", problem.rows, weighting="PCGrad")
    restored.load_state_dict(balancer.state_dict())
    torch.rand(3)  # what others draw does not matter
    second = make_step(balancer, problem).weights
    torch.rand(5)
    assert torch.equal(make_step(restored, problem).weights, second)
    assert not torch.equal(first, second)
