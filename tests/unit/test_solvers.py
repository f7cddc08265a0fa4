"""The solvers of weighting do what their formulas say, on easy and on degenerate Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtlkit.solvers import (
    aligned,
    conflict_averse,
    fair,
    gradvac,
    impartial,
    min_norm,
    nash,
    pcgrad,
    upgrad,
)
from mtlkit.solvers.quadratic import minimise
from mtlkit.testing.jacobians import ZOO, cancelling, in_turn, normal, units

EXACT = 1e-9
SOLVERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {  # and how d grows with J
    "min_norm": (min_norm, 1),
    "conflict_averse": (lambda gram: conflict_averse(gram, 0.4), 1),
    "conflict_averse_far": (lambda gram: conflict_averse(gram, 0.9), 1),
    "impartial": (impartial, 1),
    "aligned": (lambda gram: aligned(gram, torch.ones(len(gram)).double()), 1),
    "upgrad": (upgrad, 1),
    "nash": (nash, 0),
    "fair": (lambda gram: fair(gram, 2.0), -1 / 3),
    "pcgrad": (lambda gram: pcgrad(gram, in_turn(len(gram))), 1),
    "gradvac": (
        lambda gram: gradvac(gram, 0.3 * torch.ones_like(gram), in_turn(len(gram)), 0.1)[0],
        1,
    ),
}
each = pytest.mark.parametrize("jacobian", ZOO.values(), ids=ZOO.keys())


@each
def test_min_norm_gives_the_shortest_mix(jacobian):
    norms, unit = units(jacobian)
    weights = min_norm(jacobian @ jacobian.T)
    direction = jacobian.T @ weights
    size = norms @ weights
    lead = unit @ direction - direction.square().sum() * torch.where(norms > 0, 1 / norms, 0)
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    assert not weights[norms == 0].any()
    assert lead[norms > 0].min() >= -EXACT * size  # g_i·d ≥ ‖d‖²
    assert (lead * weights * norms).abs().max() <= EXACT * size**2  # equal where α_i > 0


@pytest.mark.parametrize("seed", range(20))
def test_min_norm_of_two_rows_is_the_closed_form(seed):
    first, second = jacobian = normal(2, 3, seed)
    share = ((second - first) @ second / (first - second).square().sum()).clamp(0, 1)
    assert min_norm(jacobian @ jacobian.T)[0] == pytest.approx(float(share), abs=1e-14)


@pytest.mark.parametrize("c", [0.0, 0.1, 0.5, 0.9])
@each
def test_conflict_averse_raises_the_worst_task_most(jacobian, c):
    norms, _ = units(jacobian)
    seen = norms > 0
    mean = jacobian.mean(0)
    weights = conflict_averse(jacobian @ jacobian.T, c)
    direction = jacobian.T @ weights
    excess = (weights - 1 / len(jacobian)) * seen
    moved, radius = (direction - mean).norm(), c * mean.norm()
    worst = (jacobian @ direction)[seen].min()
    assert not weights[~seen].any() and (excess * norms).min() >= -1e-15 * norms.max()
    if c == 0 or mean.norm() < EXACT * norms.max():
        assert moved <= EXACT * norms.max()
    elif cancelling(jacobian) and moved < radius * (1 - EXACT):
        length = float(mean.norm())  # t = 0, reached within the ball
        assert worst >= -EXACT * length * norms.max()
        assert direction @ (direction - mean) == pytest.approx(0, abs=EXACT * length**2)
    else:
        mix = excess / excess.sum()
        bound = mix @ jacobian @ mean + radius * (jacobian.T @ mix).norm()
        assert moved == pytest.approx(float(radius), rel=EXACT)
        assert worst == pytest.approx(float(bound), abs=EXACT * float(mean.norm() * (mix @ norms)))


@each
def test_impartial_projections_are_equal_unless_rows_depend_on_each_other(jacobian):
    norms, unit = units(jacobian)
    weights = impartial(jacobian @ jacobian.T)
    wanted = (norms > 0).double()
    fitted = torch.linalg.lstsq(unit, wanted[:, None], rcond=1e-7, driver="gelsd").solution[:, 0]
    direction = jacobian.T @ weights
    size = (weights * norms).abs().sum()
    if weights.any():
        assert weights.sum() == pytest.approx(1)
        along = fitted * (direction @ fitted) / fitted.square().sum()
        assert (direction - along).norm() < 1e-7 * size
    if (unit @ fitted - wanted).norm() < EXACT:
        projections = (unit @ direction)[norms > 0]
        assert weights.any() and projections.max() - projections.min() <= EXACT * size


@pytest.mark.parametrize("name", ["opposed_pair", "cancelling_pair"])
def test_impartial_gives_up_where_no_direction_is_fair(name):
    assert not impartial(ZOO[name] @ ZOO[name].T).any()


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0, 5.0])
@each
def test_fair_weights_solve_their_equation_or_cancel(jacobian, a):
    norms, unit = units(jacobian)
    gram = jacobian @ jacobian.T
    weights = fair(gram, a)
    assert not weights[norms == 0].any()
    if cancelling(jacobian):
        assert (unit.T @ (weights * norms)).norm() < 1e-6 and weights.min() >= 0
        return
    seen = norms > 0
    product, terms = (gram @ weights)[seen], (gram.abs() @ weights)[seen]
    weights = weights[seen]
    assert weights.min() > 0
    wanted = weights ** (-1 / a)
    assert ((product - wanted).abs() <= EXACT * wanted + 1e-14 * terms).all()
    if a == 1:
        assert torch.equal(weights, nash(gram)[seen])
        assert weights @ product == pytest.approx(int(seen.sum()))


def test_nash_is_blind_to_the_scale_of_a_loss():
    jacobian = normal(4, 9, 3)
    scaled = jacobian * torch.tensor([1e-4, 1, 1e4, 30.0])[:, None]
    directions = [rows.T @ nash(rows @ rows.T) for rows in (jacobian, scaled)]
    assert torch.allclose(*directions, rtol=EXACT)


@each
def test_aligned_singular_values_are_equal(jacobian):
    gram = jacobian @ jacobian.T
    balance = torch.stack([aligned(gram, row) for row in torch.eye(len(gram)).double()], dim=1)
    values = torch.linalg.svdvals(balance @ jacobian)
    own = torch.linalg.svdvals(jacobian)
    kept = own**2 > own[0] ** 2 * len(gram) * 1e-13
    least = own[kept][-1]
    assert (values[: len(own)][kept] / least - 1).abs().max() < 10 * 2e-16 * (own[0] / least) ** 2
    assert (values[: len(own)][~kept] < 1e-6 * own[0]).all()


def test_aligned_leaves_orthogonal_rows_of_one_length_alone():
    wanted = torch.tensor([0.2, 0.3, 0.5]).double()
    assert torch.allclose(aligned(4 * torch.eye(3).double(), wanted), wanted)


@each
def test_upgrad_is_the_mean_of_the_projections(jacobian):
    norms, unit = units(jacobian)
    cosines, free = unit @ unit.T, torch.zeros(0, len(unit)).double()
    projections = []
    for own, row in zip(cosines, unit, strict=True):
        lengths = minimise(cosines, -own, free, torch.zeros_like(own))
        projections.append(row + lengths @ unit)
        slopes, size = unit @ projections[-1], 1 + lengths.sum()
        assert lengths.min() >= 0 and slopes.min() >= -EXACT * size
        assert (slopes * lengths).abs().max() <= EXACT * size
    weights = upgrad(jacobian @ jacobian.T)
    mean = torch.stack(projections).mul(norms[:, None]).mean(0)
    assert (jacobian.T @ weights - mean).norm() <= EXACT * (weights @ norms)
    assert (weights[norms > 0] * len(jacobian)).min() >= 1 - 1e-12
    assert not weights[norms == 0].any()


@pytest.mark.parametrize("count", range(2, 11))
def test_upgrad_agrees_with_scipy(count):
    nnls = pytest.importorskip("scipy.optimize").nnls
    jacobian = ZOO[f"lopsided_{count}"]
    parts = [row + jacobian.T.numpy() @ nnls(jacobian.T, -row)[0] for row in jacobian.numpy()]
    direction = jacobian.T @ upgrad(jacobian @ jacobian.T)
    assert torch.allclose(direction, torch.tensor(sum(parts)) / count)


@pytest.mark.parametrize("solve", [pcgrad, upgrad])
def test_no_conflict_changes_nothing(solve):
    gram = (lambda rows: rows @ rows.T)(normal(4, 8, 0).abs())
    weights = pcgrad(gram, in_turn(4)) if solve is pcgrad else 4 * upgrad(gram)
    assert torch.allclose(weights, torch.ones(4).double())


def agreement(jacobian: Tensor, solver: str) -> float:
    """Return how exactly two directions must agree, relative to the terms they are summed from."""
    values = torch.linalg.svdvals(jacobian) ** 2
    least = values[values > values[0] * len(jacobian) * 1e-13]
    return max(1e-8, 1e-15 * float(values[0] / least[-1]) if solver == "aligned" else 0.0)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_scale_of_all_losses_changes_no_direction(solver, scale):
    solve, power = SOLVERS[solver]
    for name, jacobian in ZOO.items():
        gram = jacobian @ jacobian.T
        before = gram.clone()
        weights, scaled = solve(gram), solve(gram * scale**2) * scale ** (1 - power)
        assert torch.equal(gram, before)
        if power != 1 and cancelling(jacobian):
            scaled = scaled * scale**power  # d = 0: the weights are unit lengths
        size = (weights.abs() + scaled.abs()) @ jacobian.norm(dim=1)
        difference = (jacobian.T @ (weights - scaled)).norm()
        assert difference <= agreement(jacobian, solver) * size, name


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in ("pcgrad", "gradvac")])
def test_the_order_of_tasks_changes_no_direction(solver):
    solve, _ = SOLVERS[solver]
    for name, jacobian in ZOO.items():
        order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(1))
        moved = jacobian[order]
        weights, others = solve(jacobian @ jacobian.T), solve(moved @ moved.T)
        size = weights.abs() @ jacobian.norm(dim=1)
        difference = (jacobian.T @ weights - moved.T @ others).norm()
        assert difference <= agreement(jacobian, solver) * size, name


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_of_zero_take_no_part(solver):
    solve, _ = SOLVERS[solver]
    assert not solve(torch.zeros(3, 3).double()).any()
    jacobian = normal(3, 8, 1)
    padded = torch.cat([jacobian, torch.zeros(1, 8).double()])
    weights = solve(padded @ padded.T)
    assert weights.isfinite().all() and weights[3] == 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        *[(name, 1.0) for name in ("min_norm", "impartial", "aligned", "upgrad", "pcgrad")],
        ("gradvac", 1.0),
        ("conflict_averse", 1.4),
        ("conflict_averse_far", 1.9),
        ("nash", 1 / 5),
        ("fair", math.pow(25, -2 / 3)),
    ],
)
def test_one_task_keeps_its_gradient(name, wanted):
    weights = SOLVERS[name][0](torch.tensor([[25.0]]).double())
    assert weights.tolist() == pytest.approx([wanted])
