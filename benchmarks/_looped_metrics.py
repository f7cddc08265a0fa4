"""Metrics of segmentation and depth in loops on the host, of the kind that released codes have.

Predictions are copied there. Each image's classes are taken one by one: a mask of floats for the
prediction and one for the label, from a map that is filled with the class, then sums over pixels.
Errors of depth are numpy's over the batch, and each number selects its pixels anew. Sums are added
up over the set, so that the numbers are those that mtlkit's tasks report, and both can be compared:
dataset-level and per-image mIoU and pixel accuracy, errors of depth in the label's unit and in
metres.

Source: the kind of loops and masks is that of akarimoon/xtask_mt, Logger (module.py), which has
those of classes from MTAN; the formulas are mtlkit's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.structures import Batch

NEAREST_M, FARTHEST_M = 1e-3, 80.0  # range of depth in metres
SMALLEST = 1e-9  # of predictions before a logarithm

Array = NDArray[np.generic]
Error = Callable[[Array, Array], Array]
"""Of predictions and labels."""


class LoopedMetrics:
    """Sums over images, and what becomes of them.

    Args:
        classes: of segmentation.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.hits, self.unions = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self.of_images: list[tuple[float, float]] = []  # mIoU and pixel accuracy
        self.pixels = Counter[str]()
        self.distances: dict[str, Counter[str]] = {"": Counter(), "_m": Counter()}

    def add(self, predictions: Mapping[str, Tensor], batch: Batch) -> None:
        """Count a batch.

        Args:
            predictions: logits of `segmentation`, (N,C,H,W), and `depth`, (N,1,H,W).
            batch: with labels of both, and `depth_at_one`.
        """
        classes, depth = batch.labels["segmentation"], batch.labels["depth"]
        predicted = predictions["segmentation"].cpu().max(1).indices
        for maps in zip(predicted, classes.value.cpu(), classes.valid[:, 0].cpu(), strict=True):
            self._add_classes(*maps)
        distances = predictions["depth"], depth.value, depth.valid
        scale = batch.extras["depth_at_one"].view(-1, 1, 1, 1)
        self._add_depth(*(x.cpu().numpy() for x in (*distances, scale)))

    def values(self) -> dict[str, float]:
        """Return the numbers by `<task>/<metric>`."""
        seen = self.unions > 0
        miou, accuracy = zip(*self.of_images, strict=True)
        found = {
            "segmentation/miou": (self.hits[seen] / self.unions[seen]).mean(),
            "segmentation/miou_image": np.mean(miou),
            "segmentation/pixel_accuracy": self.pixels["right"] / self.pixels["valid"],
            "segmentation/pixel_accuracy_image": np.mean(accuracy),
        }
        for suffix, sums in self.distances.items():
            means = {name: total / sums["count"] for name, total in sums.items()}
            for name in ("rmse", "log_rmse"):
                means[name] = means[name] ** 0.5
            del means["count"]
            found |= {f"depth/{name}{suffix}": value for name, value in means.items()}
        return {name: float(value) for name, value in found.items()}

    def _add_classes(self, predicted: Tensor, label: Tensor, valid: Tensor) -> None:
        shares, seen = [], valid.float()
        for number in range(self.classes):
            ours, theirs = (_mask(ids, number) * seen for ids in (predicted, label))
            hits = float((ours * theirs).sum())
            union = float(ours.sum() + theirs.sum()) - hits
            self.hits[number] += int(hits)
            self.unions[number] += int(union)
            if union > 0:
                shares.append(hits / union)
        right, count = float(((predicted == label).float() * seen).sum()), float(seen.sum())
        self.pixels.update({"right": int(right), "valid": int(count)})
        if count > 0:
            self.of_images.append((float(np.mean(shares)), right / count))

    def _add_depth(self, p: Array, g: Array, valid: Array, scale: Array) -> None:
        seen = valid & (g > 0)
        metres = scale / np.where(seen, g, 1)
        inside = seen & (metres >= NEAREST_M) & (metres <= FARTHEST_M)
        predicted = (scale / np.maximum(p, scale / FARTHEST_M)).clip(NEAREST_M, FARTHEST_M)
        for suffix, maps in (("", (p, g, seen)), ("_m", (predicted, metres, inside))):
            for name, error in ERRORS.items():
                values = error(maps[0][maps[2]], maps[1][maps[2]])
                self.distances[suffix][name] += float(values.sum(dtype=np.float64))
            self.distances[suffix]["count"] += int(maps[2].sum())


def _mask(ids: Tensor, number: int) -> Tensor:
    return (ids == torch.full_like(ids, number)).float()


def _log(x: Array) -> Array:
    return np.log(np.maximum(x, SMALLEST))


def _within(threshold: float) -> Error:
    return lambda p, g: (p > 0) & (np.maximum(p / g, g / np.maximum(p, SMALLEST)) < threshold)


ERRORS: Mapping[str, Error] = {
    "abs_err": lambda p, g: np.abs(p - g),
    "rel_err": lambda p, g: np.abs(p - g) / g,
    "sq_rel": lambda p, g: (p - g) ** 2 / g,
    "rmse": lambda p, g: (p - g) ** 2,
    "log_rmse": lambda p, g: (_log(p) - _log(g)) ** 2,
    **{f"delta{power}": _within(1.25**power) for power in (1, 2, 3)},
}
"""Of the selected pixels, by the number that becomes of their sum."""
