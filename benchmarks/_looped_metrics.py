"""Metrics of segmentation and depth as released codes count them: numpy, image by image.

A loop over the images, in it one over the classes, for every number a mask and a sum of its own.
The numbers are those that mtlkit's tasks report, so that both can be compared: dataset-level and
per-image mIoU and pixel accuracy, and errors of depth over all valid pixels, in the label's unit
and in metres. Arrays are float32, as networks give them, and sums float64, as mtlkit's are.

Source: the shape of MTAN's and XTasC-Net's per-image loops, and of the meters of Vandenhende et
al.'s survey (arXiv 2004.13379), which loop over classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.structures import Batch

NEAREST_M, FARTHEST_M = 1e-3, 80.0  # range of depth in metres
SMALLEST = 1e-9  # of predictions before a logarithm
THRESHOLDS = {"delta1": 1.25, "delta2": 1.25**2, "delta3": 1.25**3}

Array = NDArray[np.generic]


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
        """Count a batch, one image after another.

        Args:
            predictions: logits of `segmentation`, (N,C,H,W), and `depth`, (N,1,H,W).
            batch: with labels of both, and `depth_at_one`.
        """
        for number in range(len(batch.image)):
            classes, depth = batch.labels["segmentation"], batch.labels["depth"]
            self._add_classes(
                _array(predictions["segmentation"][number]).argmax(0),
                _array(classes.value[number]),
                _array(classes.valid[number, 0]),
            )
            self._add_depth(
                _array(predictions["depth"][number, 0]),
                _array(depth.value[number, 0]),
                _array(depth.valid[number, 0]),
                float(batch.extras["depth_at_one"][number]),
            )

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

    def _add_classes(self, predicted: Array, label: Array, valid: Array) -> None:
        shares = []
        for number in range(self.classes):
            is_predicted, is_label = (predicted == number) & valid, (label == number) & valid
            hits, union = (is_predicted & is_label).sum(), (is_predicted | is_label).sum()
            self.hits[number] += hits
            self.unions[number] += union
            if union > 0:
                shares.append(hits / union)
        right = ((predicted == label) & valid).sum()
        self.pixels.update({"right": int(right), "valid": int(valid.sum())})
        if valid.any():
            self.of_images.append((float(np.mean(shares)), float(right / valid.sum())))

    def _add_depth(self, predicted: Array, label: Array, valid: Array, scale: float) -> None:
        valid = valid & (label > 0)
        p, g = predicted[valid], label[valid]
        self._add_distances("", p, g)
        metres = scale / g
        inside = (metres >= NEAREST_M) & (metres <= FARTHEST_M)
        p = (scale / np.maximum(p, scale / FARTHEST_M)).clip(NEAREST_M, FARTHEST_M)
        self._add_distances("_m", p[inside], metres[inside])

    def _add_distances(self, suffix: str, p: Array, g: Array) -> None:
        sums, ratio = self.distances[suffix], np.maximum(p / g, g / np.maximum(p, SMALLEST))
        sums["abs_err"] += _sum(np.abs(p - g))
        sums["rel_err"] += _sum(np.abs(p - g) / g)
        sums["sq_rel"] += _sum((p - g) ** 2 / g)
        sums["rmse"] += _sum((p - g) ** 2)
        sums["log_rmse"] += _sum((np.log(np.maximum(p, SMALLEST)) - np.log(g)) ** 2)
        for name, threshold in THRESHOLDS.items():
            sums[name] += ((p > 0) & (ratio < threshold)).sum()
        sums["count"] += len(g)


def _sum(x: Array) -> float:
    return float(x.sum(dtype=np.float64))


def _array(x: Tensor) -> Array:
    return x.cpu().numpy()
