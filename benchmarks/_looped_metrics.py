"""Metrics of segmentation and depth as XTasC-Net's released code counts them, on the host.

Predictions are copied there. Classes are compared by torch, image by image and class by class, with
a map made of each class's number and masks as floats, and the logits are searched for their largest
once for IoU and once for pixel accuracy. Errors of depth are numpy's over the batch, in a function
for each number that masks by itself. Sums are added up over the set, so that the numbers are those
that mtlkit's tasks report, and both can be compared: dataset-level and per-image mIoU and pixel
accuracy, errors of depth in the label's unit and in metres.

Source: akarimoon/xtask_mt, Logger (module.py), whose loops for classes are those of MTAN. Its error
of metres, and square roots that it takes pixel by pixel, are replaced by those of mtlkit.
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
BEYOND = 1e5  # a ratio that counts nowhere

Array = NDArray[np.generic]


class LoopedMetrics:
    """Sums over images, and what becomes of them.

    Args:
        classes: of segmentation.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.hits, self.unions = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self.iou_of_images: list[float] = []
        self.right_of_images: list[float] = []
        self.pixels = Counter[str]()
        self.distances: dict[str, Counter[str]] = {"": Counter(), "_m": Counter()}

    def add(self, predictions: Mapping[str, Tensor], batch: Batch) -> None:
        """Count a batch.

        Args:
            predictions: logits of `segmentation`, (N,C,H,W), and `depth`, (N,1,H,W).
            batch: with labels of both, and `depth_at_one`.
        """
        classes, depth = batch.labels["segmentation"], batch.labels["depth"]
        logits, label = predictions["segmentation"].cpu(), classes.value.cpu()
        valid = classes.valid[:, 0].cpu()
        self._add_overlaps(logits, label, valid)
        self._add_right(logits, label, valid)
        distances = predictions["depth"], depth.value, depth.valid
        scale = batch.extras["depth_at_one"].view(-1, 1, 1, 1)
        self._add_depth(*(x.cpu().numpy() for x in (*distances, scale)))

    def values(self) -> dict[str, float]:
        """Return the numbers by `<task>/<metric>`."""
        seen = self.unions > 0
        found = {
            "segmentation/miou": (self.hits[seen] / self.unions[seen]).mean(),
            "segmentation/miou_image": np.mean(self.iou_of_images),
            "segmentation/pixel_accuracy": self.pixels["right"] / self.pixels["valid"],
            "segmentation/pixel_accuracy_image": np.mean(self.right_of_images),
        }
        for suffix, sums in self.distances.items():
            means = {name: total / sums["count"] for name, total in sums.items()}
            for name in ("rmse", "log_rmse"):
                means[name] = means[name] ** 0.5
            del means["count"]
            found |= {f"depth/{name}{suffix}": value for name, value in means.items()}
        return {name: float(value) for name, value in found.items()}

    def _add_overlaps(self, logits: Tensor, labels: Tensor, valid: Tensor) -> None:
        _, predicted = torch.max(logits, dim=1)
        for image in range(len(labels)):
            shares, mask = [], valid[image].float()
            for number in range(self.classes):
                ours = torch.eq(predicted[image], number * torch.ones(labels[image].shape).long())
                theirs = torch.eq(labels[image], number * torch.ones(labels[image].shape).long())
                both = ours.float() + theirs.float()
                union = torch.sum((both > 0).float() * mask)
                hits = torch.sum((both > 1).float() * mask)
                if union == 0:
                    continue
                self.hits[number] += int(hits)
                self.unions[number] += int(union)
                shares.append((hits / union).item())
            if shares:
                self.iou_of_images.append(float(np.mean(shares)))

    def _add_right(self, logits: Tensor, labels: Tensor, valid: Tensor) -> None:
        _, predicted = torch.max(logits, dim=1)
        for image in range(len(labels)):
            mask = valid[image].float()
            right = torch.sum(torch.eq(predicted[image], labels[image]).float() * mask)
            seen = torch.sum(mask)
            self.pixels.update({"right": int(right), "valid": int(seen)})
            if seen > 0:
                self.right_of_images.append((right / seen).item())

    def _add_depth(self, p: Array, g: Array, valid: Array, scale: Array) -> None:
        valid = valid & (g > 0)
        metres = scale / np.where(valid, g, 1)
        inside = valid & (metres >= NEAREST_M) & (metres <= FARTHEST_M)
        predicted = (scale / np.maximum(p, scale / FARTHEST_M)).clip(NEAREST_M, FARTHEST_M)
        for suffix, values in (("", (p, g, valid)), ("_m", (predicted, metres, inside))):
            for name, error in ERRORS.items():
                self.distances[suffix][name] += error(*values)


def _absolute(p: Array, g: Array, seen: Array) -> float:
    return _sum(np.abs(p[seen] - g[seen]))


def _relative(p: Array, g: Array, seen: Array) -> float:
    return _sum(np.abs(p[seen] - g[seen]) / g[seen])


def _squared_relative(p: Array, g: Array, seen: Array) -> float:
    return _sum(np.abs(p[seen] - g[seen]) ** 2 / g[seen])


def _squared(p: Array, g: Array, seen: Array) -> float:
    return _sum(np.abs(p - g) ** 2 * seen)


def _squared_log(p: Array, g: Array, seen: Array) -> float:
    p, g = np.clip(p, SMALLEST, None), np.clip(g, SMALLEST, None)
    return _sum(np.abs(np.log(p) - np.log(g)) ** 2 * seen)


def _within(threshold: float) -> Callable[[Array, Array, Array], float]:
    def count(p: Array, g: Array, seen: Array) -> float:
        p, g = np.clip(p, SMALLEST, None), np.clip(g, SMALLEST, None)
        ratio = np.fmax(p / g, g / p) * seen
        ratio[~seen] += BEYOND
        return float(np.sum((ratio < threshold).astype(float)))

    return count


def _count(p: Array, g: Array, seen: Array) -> float:
    return float(np.sum(seen))


def _sum(x: Array) -> float:
    return float(x.sum(dtype=np.float64))


ERRORS: Mapping[str, Callable[[Array, Array, Array], float]] = {
    "abs_err": _absolute,
    "rel_err": _relative,
    "sq_rel": _squared_relative,
    "rmse": _squared,
    "log_rmse": _squared_log,
    **{f"delta{power}": _within(1.25**power) for power in (1, 2, 3)},
    "count": _count,
}
"""Sums over pixels, by the number that becomes of them."""
