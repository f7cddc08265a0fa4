"""Metrics of one run relative to those of another: Δm."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Literal

from mtlkit.errors import UsageError


def delta_m(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
    form: Literal["all_metrics", "per_task"] = "all_metrics",
) -> float:
    """Return Δm: by how many percent the metrics are better than the baseline's, on average.

    Form `all_metrics` is 100/|M| · Σ ±(M_m − M_b)/M_b over all metrics, whatever task they belong
    to; `per_task` averages the metrics of each task first, then the tasks. Name the form wherever
    the number is shown: other papers average one metric per task.

    Args:
        metrics: values by key, such as "segmentation/miou".
        baseline: values by key.
        higher_is_better: direction by key; only keys in all three count.
        form: how it is averaged.

    Raises:
        UsageError: no key is in all three, or a baseline value is 0.

    Source: XTasC-Net, arXiv 2111.14122, eq. 17, for `all_metrics`.
    """
    keys = [key for key in metrics if key in baseline and key in higher_is_better]
    if not keys:
        known = ", ".join(sorted(baseline)) or "none"
        raise UsageError(f"Δm: no metric is in both; compare runs that share some of: {known}")
    if zeros := [key for key in keys if baseline[key] == 0]:
        raise UsageError(f"Δm: the baseline's {zeros[0]!r} is 0; leave it out, a ratio needs it")
    gains: dict[str, list[float]] = {}
    for key in keys:
        sign = 1 if higher_is_better[key] else -1
        gain = 100 * sign * (metrics[key] - baseline[key]) / baseline[key]
        group = key.split("/")[0] if form == "per_task" else ""
        gains.setdefault(group, []).append(gain)
    return fmean(map(fmean, gains.values()))
