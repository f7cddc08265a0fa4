"""What makes metrics of other libraries ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from mtlkit.structures import Label


class OnValid(WrapperMetric):
    """Any plain torchmetrics metric, updated with the valid elements alone.

    Maps become (P,C), or (P,) where they have one channel; a batch without valid ones is skipped.

    Args:
        metric: updated with (prediction, value).
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: (N,C,H,W), or (N,C) for vectors, float.
            label: ids (N,H,W), maps (N,C,H,W), or vectors (N,) or (N,C).
        """
        valid = label.valid if label.valid.ndim == 1 else label.valid[:, 0]
        kept = _elements(label.value, valid)
        if len(kept):
            self.metric.update(_elements(prediction.detach().float(), valid), kept)

    @property
    def update_called(self) -> bool:
        """Whether any batch was counted: the base class leaves it to the wrapped metric."""
        return self.metric.update_called

    def compute(self) -> Any:
        """Return what the metric computes."""
        return self.metric.compute()

    def reset(self) -> None:
        """Forget every batch."""
        super().reset()
        self.metric.reset()


def _elements(values: Tensor, valid: Tensor) -> Tensor:
    """Return the valid elements, (P,C), or (P,) where there is one channel or none."""
    last = values if values.ndim <= valid.ndim else values.movedim(1, -1)
    kept = last[valid]
    return kept.squeeze(1) if kept.ndim == 2 and kept.shape[1] == 1 else kept
