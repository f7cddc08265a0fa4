from __future__ import annotations

import math

import pytest
import torch
from fixtures.loss_level import DTYPES, SCALES, is_unmoved, run_without_values, scalars, state
from fixtures.loss_level import weights as weights_now
from pydantic import ValidationError

from mtlkit_plugins.weightings.stch import SmoothTchebycheff

TASKS = ("a", "b", "c")
NADIR = {"a": 0.5, "b": 2.0, "c": 30.0}
VALUES = {"a": 0.4, "b": 1.9, "c": 6.0}


def built(tasks=TASKS, **fields):
    return SmoothTchebycheff(**fields).build_balancer(dict.fromkeys(tasks))


def epoch(balancer, *batches, dtype=torch.float64):
    for batch in batches:
        balancer.total(scalars(batch, dtype))
    balancer.after_epoch()
    return balancer


def warmed(nadir=NADIR, dtype=torch.float64, **fields):
    """Past a warm-up of one epoch."""
    return epoch(built(tuple(nadir), warmup_epochs=1, **fields), nadir, dtype=dtype)


def weights(balancer, values, dtype=torch.float64):
    """The weights, looked at without being counted."""
    was_training = balancer.training
    found = weights_now(balancer.eval(), values, dtype)
    balancer.train(was_training)
    return found


def times(values, factor):
    return {name: factor * value for name, value in values.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_warm_up_adds_logarithms(dtype, scale):
    values = times(VALUES, scale)
    total = built().total(scalars(values, dtype))
    assert total.dtype == dtype
    assert total.item() == pytest.approx(sum(map(math.log, values.values())), rel=1e-6)
    expected = {name: 1 / value for name, value in values.items()}
    assert weights(built(), values, dtype) == pytest.approx(expected)


@pytest.mark.parametrize("mu", [1e-6, 1e6])
def test_the_warm_up_does_not_depend_on_mu_and_has_no_hidden_nan(mu):
    balancer = built(mu=mu)
    assert balancer.total(scalars(VALUES)).item() == built().total(scalars(VALUES)).item()
    with torch.autograd.set_detect_anomaly(True):
        assert weights(balancer, VALUES) == weights(built(), VALUES)


@pytest.mark.parametrize("mu", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_after_the_warm_up_the_total_is_that_of_the_paper(mu, dtype):
    ratios = {name: VALUES[name] / NADIR[name] for name in TASKS}
    powers = {name: ratio ** (1 / mu) for name, ratio in ratios.items()}
    whole = sum(powers.values())
    balancer = warmed(mu=mu)
    assert balancer.total(scalars(VALUES, dtype)).item() == pytest.approx(
        3 * mu * math.log(whole), rel=1e-5
    )
    expected = {name: 3 * powers[name] / whole / VALUES[name] for name in TASKS}
    assert weights(balancer, VALUES, dtype) == pytest.approx(expected, rel=1e-5)


def test_the_warm_up_ends_after_as_many_epochs_as_it_is_set_to():
    balancer = built(warmup_epochs=4)
    warm = weights(balancer, VALUES)
    for _ in range(3):
        epoch(balancer, NADIR)
    assert weights(balancer, VALUES) == warm
    assert weights(epoch(balancer, NADIR), VALUES) == pytest.approx(weights(warmed(), VALUES))


def test_the_nadir_is_the_mean_over_the_last_warm_up_epoch_alone():
    balancer = built(warmup_epochs=2)
    epoch(balancer, {"a": 90.0, "b": 90.0, "c": 90.0})
    epoch(balancer, {"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 2.0, "b": 6.0}, {"a": 6.0})
    assert balancer.nadir.tolist() == [3, 4, 4]
    epoch(balancer, {"a": 7.0, "b": 7.0, "c": 7.0})
    assert balancer.nadir.tolist() == [3, 4, 4]


def test_a_small_mu_gives_the_worst_task_alone():
    balancer = warmed(mu=1e-12)
    worst = math.log(1.9 / 2.0)
    assert balancer.total(scalars(VALUES)).item() == pytest.approx(3 * worst)
    assert weights(balancer, VALUES) == pytest.approx({"a": 0, "b": 3 / 1.9, "c": 0})


@pytest.mark.parametrize("mu", [1e-6, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("factor", [1e-16, 1e16])
def test_losses_far_from_the_nadir_give_finite_numbers(mu, factor):
    balancer = warmed(mu=mu)
    values = VALUES | {"b": VALUES["b"] * factor}
    found = weights(balancer, values)
    assert all(map(math.isfinite, found.values()))
    assert sum(w * values[name] for name, w in found.items()) == pytest.approx(3)
    assert math.isfinite(balancer.total(scalars(values)).item())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_and_its_nadir_times_c_change_nothing(scale, dtype):
    scaled = warmed(NADIR | {"b": NADIR["b"] * scale}, dtype)
    values = VALUES | {"b": VALUES["b"] * scale}
    expected = warmed().total(scalars(VALUES)).item()
    assert scaled.total(scalars(values, dtype)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_losses_times_weights_sum_to_the_number_of_tasks(size):
    nadir = {f"task_{k}": 3.0**k for k in range(size)}
    values = times(nadir, 0.7)
    for balancer in (built(tuple(nadir)), warmed(nadir, mu=0.5)):
        found = weights(balancer, values)
        assert sum(w * values[name] for name, w in found.items()) == pytest.approx(size)


def test_an_absent_task_takes_no_part_and_keeps_its_state():
    balancer = built(warmup_epochs=2)
    epoch(balancer, NADIR)
    epoch(balancer, {"a": 0.25, "b": 1.0})
    assert balancer.nadir.tolist() == [0.25, 1, 30]
    some = {"c": 6.0, "b": 1.9}
    alone = epoch(built(("b", "c"), warmup_epochs=1), {"b": 1.0, "c": 30.0})
    assert weights(balancer, some) == pytest.approx(weights(alone, some))


def test_a_task_that_the_warm_up_never_shows_has_one_of_its_own():
    balancer = epoch(built(warmup_epochs=1), {"a": 0.5, "b": 2.0})
    without = weights(balancer, {"a": 0.4, "b": 1.9})
    assert weights(balancer, VALUES) == pytest.approx(without | {"c": 1 / 6})
    assert weights(epoch(balancer, NADIR), VALUES) == pytest.approx(weights(warmed(), VALUES))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_loss_without_logarithm_counts_as_absent(bad):
    present = {"a": 0.4, "c": 6.0}
    for balancer in (built(), warmed()):
        balancer.eval()
        assert weights(balancer, present | {"b": bad}) == weights(balancer, present) | {"b": 0}
        assert weights(balancer, dict.fromkeys(TASKS, bad)) == dict.fromkeys(TASKS, 0)
    clean, hurt = built(warmup_epochs=1), built(warmup_epochs=1)
    epoch(clean, NADIR, present)
    epoch(hurt, NADIR, present | {"b": bad})
    assert is_unmoved(hurt, state(clean))


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_a_balancer_restored_within_an_epoch_goes_on_identically(done):
    balancer, restored = built(warmup_epochs=2), built(warmup_epochs=2)
    for _ in range(done):
        epoch(balancer, NADIR, VALUES)
    balancer.total(scalars({"a": 0.3, "c": 11.0}))
    restored.load_state_dict(state(balancer))
    for x in (balancer, restored):
        epoch(x, {"a": 0.2, "b": 0.9})
    assert is_unmoved(restored, state(balancer))
    assert weights(restored, VALUES) == weights(balancer, VALUES)


@pytest.mark.parametrize("make", [built, warmed])
def test_evaluation_moves_nothing(make):
    balancer = make().eval()
    before = state(balancer)
    balancer.total(scalars(VALUES))
    assert is_unmoved(balancer, before)


def test_a_warm_up_without_epochs_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SmoothTchebycheff(warmup_epochs=0)


def test_weighing_waits_for_no_device():
    assert run_without_values(built(), ["a", "c"]) == ["meta", "meta"]


def test_explain_writes_both_parts():
    maths = SmoothTchebycheff(mu=0.5, warmup_epochs=3).as_maths
    assert maths == "Σ_t log L_t for 3 epochs, then T·0.5·log Σ_t (L_t/n_t)^(1/0.5)"
