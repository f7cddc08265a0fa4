from __future__ import annotations

import pytest

from mtlkit.errors import UsageError
from mtlkit.metrics import delta_m


def test_delta_m_flips_the_sign_of_errors_and_averages_all_metrics():
    directions = {"s/miou": True, "d/abs": False, "d/rel": False, "unused": True}
    baseline = {"s/miou": 50.0, "d/abs": 2.0, "d/rel": 4.0}
    metrics = {"s/miou": 55.0, "d/abs": 1.0, "d/rel": 5.0, "loss/total": 3.0}
    assert delta_m(metrics, baseline, directions) == pytest.approx((10 + 50 - 25) / 3)
    per_task = delta_m(metrics, baseline, directions, form="per_task")
    assert per_task == pytest.approx((10 + (50 - 25) / 2) / 2)


def test_delta_m_of_the_baseline_is_zero():
    values = {"s/miou": 0.5, "d/abs": 0.1}
    assert delta_m(values, values, {"s/miou": True, "d/abs": False}) == 0


@pytest.mark.parametrize(
    ("baseline", "message"),
    [({"other": 1.0}, "share some of: other"), ({"s/miou": 0.0}, "'s/miou' is 0")],
)
def test_delta_m_says_what_cannot_be_compared(baseline, message):
    with pytest.raises(UsageError, match=message):
        delta_m({"s/miou": 1.0}, baseline, {"s/miou": True})
