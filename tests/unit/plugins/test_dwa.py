from __future__ import annotations

import math

import pytest
import torch
from fixtures.loss_level import DTYPES, SCALES, run_without_values, scalars, weights

from mtlkit_plugins.weightings.dwa import DynamicWeightAverage

TASKS = ("a", "b", "c")


def built(**fields):
    return DynamicWeightAverage(**fields).build_balancer(dict.fromkeys(TASKS))


def epoch(balancer, *batches):
    for batch in batches:
        balancer.total({name: torch.tensor(value) for name, value in batch.items()})
    balancer.after_epoch()
    return balancer.weight.tolist()


def test_weights_are_one_in_the_first_two_epochs():
    balancer = built()
    assert balancer.weight.tolist() == [1, 1, 1]
    assert epoch(balancer, {"a": 3.0, "b": 2.0, "c": 1.0}) == pytest.approx([1, 1, 1])


def test_weights_are_the_softmax_of_rates_and_sum_to_the_number_of_tasks():
    balancer = built(temperature=0.5)
    epoch(balancer, {"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 3.0, "b": 2.0, "c": 4.0})
    weights = epoch(balancer, {"a": 1.0, "b": 2.0, "c": 8.0})
    rates = [math.exp(r / 0.5) for r in (1 / 2, 1, 2)]
    assert weights == pytest.approx([3 * r / sum(rates) for r in rates])
    assert sum(weights) == pytest.approx(3)


def test_equal_rates_give_equal_weights():
    balancer = built()
    epoch(balancer, {"a": 1.0, "b": 20.0, "c": 400.0})
    assert epoch(balancer, {"a": 0.5, "b": 10.0, "c": 200.0}) == pytest.approx([1, 1, 1])


def test_a_high_temperature_gives_equal_weights():
    balancer = built(temperature=1e9)
    epoch(balancer, {"a": 1.0, "b": 1.0, "c": 1.0})
    assert epoch(balancer, {"a": 9.0, "b": 1.0, "c": 0.1}) == pytest.approx([1, 1, 1])


def test_weights_multiply_the_losses_that_are_present():
    balancer = built()
    balancer.weight.copy_(torch.tensor([0.5, 1.0, 1.5]))
    losses = {n: torch.tensor(2.0, requires_grad=True) for n in ("c", "a")}
    total = balancer.total(losses)
    total.backward()
    assert total.item() == 4
    assert [losses[n].grad.item() for n in ("a", "c")] == [0.5, 1.5]


def test_means_are_over_the_batches_that_show_the_task():
    balancer = built()
    epoch(balancer, {"a": 1.0, "b": 1.0}, {"a": 3.0})
    assert balancer.means[0].tolist() == [2, 1, 0]


def test_a_task_absent_for_an_epoch_keeps_its_rate():
    balancer = built()
    epoch(balancer, {"a": 1.0, "b": 1.0, "c": 2.0})
    before = epoch(balancer, {"a": 1.0, "b": 1.0, "c": 1.0})
    assert epoch(balancer, {"a": 1.0, "b": 1.0}) == pytest.approx(before)


def test_evaluation_changes_no_state():
    balancer = built().eval()
    before = {name: value.clone() for name, value in balancer.state_dict().items()}
    balancer.total({"a": torch.tensor(3.0)})
    assert all(torch.equal(value, before[name]) for name, value in balancer.state_dict().items())


def test_a_loss_that_is_not_finite_changes_no_weight():
    balancer, clean = built(), built()
    for b in (balancer, clean):
        epoch(b, {"a": 1.0, "b": 1.0, "c": 2.0})
    batch = {"a": 1.0, "b": 2.0, "c": 1.0}
    assert epoch(balancer, batch, {"a": math.nan}) == epoch(clean, batch)


def test_losses_of_zero_give_finite_weights():
    balancer = built()
    epoch(balancer, {"a": 0.0, "b": 1.0, "c": 1.0})
    assert all(map(math.isfinite, epoch(balancer, {"a": 0.0, "b": 1.0, "c": 0.0})))


def test_a_restored_balancer_gives_the_identical_next_weights():
    balancer, restored = built(), built()
    epoch(balancer, {"a": 1.0, "b": 2.0, "c": 3.0})
    balancer.total({"a": torch.tensor(0.1), "c": torch.tensor(4.0)})
    restored.load_state_dict(balancer.state_dict())
    batch = {"a": 0.5, "b": 1.9, "c": 3.1}
    assert epoch(balancer, batch) == epoch(restored, batch)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_weights_do_not_depend_on_the_scale_or_the_type_of_the_losses(dtype, scale):
    balancer = built()
    for values in ((1.0, 2.0, 4.0), (0.5, 1.9, 4.4)):
        balancer.total(scalars({n: scale * v for n, v in zip(TASKS, values, strict=True)}, dtype))
        balancer.after_epoch()
    rates = [math.exp(r / 2) for r in (0.5, 0.95, 1.1)]
    expected = [3 * r / sum(rates) for r in rates]
    found = weights(balancer, dict.fromkeys(TASKS, scale), dtype)
    assert list(found.values()) == pytest.approx(expected, rel=1e-6)


def test_weighing_waits_for_no_device():
    assert run_without_values(built(), ["a", "c"]) == ["meta", "meta"]
