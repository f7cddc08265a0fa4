"""Numbers about labels that add up over samples: what is valid, and how values are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.camera import Intrinsics
from mtlkit.geometry import points
from mtlkit.structures import FieldSpec
from mtlkit.transforms import VOID, ClassMap, EdgeMap, ImageClass, LabelKind, NormalMap

UNIT_TOLERANCE = 0.02  # of a normal's length; 8-bit files round each part by up to 0.004
_DROPPED = 12  # lowest bits of a float32 that quantiles ignore: 11 bits of its fraction are left


@dataclass(frozen=True)
class Coverage:
    """How much of a label is there.

    Args:
        images: samples with any valid element.
        valid: valid elements.
        total: elements, valid or not.
    """

    images: int
    valid: int
    total: int

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            self.images + other.images, self.valid + other.valid, self.total + other.total
        )


@dataclass(frozen=True)
class ClassCounts:
    """Valid pixels, or images, of each class, (C,), int64."""

    counts: NDArray[np.int64]

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(self.counts + other.counts)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of what is valid, (C,), which add up to 1; 0 where nothing is valid."""
        shares: NDArray[np.float64] = self.counts / max(1, self.counts.sum())
        return shares


@dataclass(frozen=True)
class Distribution:
    """How numbers are spread: exact ends, and quantiles within 1/2048 of a value.

    Args:
        low: the smallest.
        high: the largest.
        keys: cells that hold any, sorted, (K,); in the order of the numbers.
        counts: numbers in each cell, (K,).
        above_zero: numbers above 0.
    """

    low: float
    high: float
    keys: NDArray[np.uint32]
    counts: NDArray[np.int64]
    above_zero: int

    def __add__(self, other: Distribution) -> Distribution:
        keys, place = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Distribution(
            min(self.low, other.low),
            max(self.high, other.high),
            keys,
            counts,
            self.above_zero + other.above_zero,
        )

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the smallest number that at least a share of them does not exceed.

        Args:
            share: from 0 to 1.
        """
        if not self.total:
            return float("nan")
        place = int(np.searchsorted(self.counts.cumsum(), share * self.total))
        middle = _number(int(self.keys[min(place, len(self.keys) - 1)]))
        return min(max(middle, self.low), self.high)


@dataclass(frozen=True)
class NormalCounts:
    """What is right about normals.

    Args:
        valid: pixels.
        unit: pixels whose normal has length 1.
        facing: pixels whose normal points towards the camera.
        by_rays: pixels judged by the ray through them; others by the normal's z alone.
    """

    valid: int
    unit: int
    facing: int
    by_rays: int

    def __add__(self, other: NormalCounts) -> NormalCounts:
        return NormalCounts(
            self.valid + other.valid,
            self.unit + other.unit,
            self.facing + other.facing,
            self.by_rays + other.by_rays,
        )


@dataclass(frozen=True)
class EdgeCounts:
    """Known pixels, and those on an edge."""

    known: int
    edges: int

    def __add__(self, other: EdgeCounts) -> EdgeCounts:
        return EdgeCounts(self.known + other.known, self.edges + other.edges)


@dataclass(frozen=True)
class LabelNumbers:
    """Numbers about one label, of one sample or of many.

    Args:
        coverage: how much is there.
        values: what holds for its kind; None: nothing is known of it.
    """

    coverage: Coverage
    values: ClassCounts | Distribution | NormalCounts | EdgeCounts | None

    def __add__(self, other: LabelNumbers) -> LabelNumbers:
        mine, others = self.values, other.values
        assert type(mine) is type(others)  # numbers of one label
        both: Any = None if mine is None else mine + others  # type: ignore[operator]
        return LabelNumbers(self.coverage + other.coverage, both)


def measured(label: Tensor, spec: FieldSpec, camera: Tensor | None) -> LabelNumbers:
    """Return the numbers of one sample's label.

    Args:
        label: of a label kind.
        spec: of the label.
        camera: of the sample, where it has one.
    """
    assert isinstance(label, LabelKind)  # labels are
    value, valid = label.to_label()
    count = int(valid.sum())
    coverage = Coverage(int(count > 0), count, valid.numel())
    return LabelNumbers(coverage, _values(label, spec, value, valid, camera))


def unknown_ids(label: Tensor, spec: FieldSpec) -> list[int]:
    """Return the class ids of a label that its spec has no name for, sorted.

    Args:
        label: of any kind.
        spec: of the label.
    """
    if not isinstance(label, ClassMap | ImageClass) or not spec.classes:
        return []
    ids = label.as_subclass(Tensor)
    found: list[int] = ids[(ids >= len(spec.classes)) & (ids != VOID)].unique().tolist()
    return found


def _values(
    label: Tensor, spec: FieldSpec, value: Tensor, valid: Tensor, camera: Tensor | None
) -> ClassCounts | Distribution | NormalCounts | EdgeCounts | None:
    if isinstance(label, ClassMap | ImageClass):
        ids = value[valid.reshape(value.shape)].numpy()
        return ClassCounts(np.bincount(ids, minlength=len(spec.classes) or VOID).astype(np.int64))
    if isinstance(label, NormalMap):
        return _normals(value, valid[0], camera)
    if isinstance(label, EdgeMap):
        return EdgeCounts(int(valid.sum()), int(value.sum()))
    if value.is_floating_point():
        return _distribution(value[valid.expand_as(value)].float().numpy())
    return None


def _normals(value: Tensor, valid: Tensor, camera: Tensor | None) -> NormalCounts:
    is_unit = (value.norm(dim=0) - 1).abs() <= UNIT_TOLERANCE
    has_rays = isinstance(camera, Intrinsics) and bool(camera.as_subclass(Tensor).isfinite().all())
    if has_rays:
        assert camera is not None
        rays = points(torch.ones(1, *value.shape[-2:]), camera)
        is_facing = (value * rays).sum(0) < 0
    else:
        is_facing = value[2] < 0
    count = int(valid.sum())
    return NormalCounts(
        count, int((is_unit & valid).sum()), int((is_facing & valid).sum()), count * has_rays
    )


def _distribution(values: NDArray[np.float32]) -> Distribution:
    if not len(values):
        return Distribution(
            float("inf"), float("-inf"), np.empty(0, np.uint32), np.empty(0, np.int64), 0
        )
    keys, counts = np.unique(_keys(values), return_counts=True)
    above = int((values > 0).sum())
    return Distribution(float(values.min()), float(values.max()), keys, counts, above)


def _keys(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the upper bits of floats, as whole numbers in the same order."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return ordered >> np.uint32(_DROPPED)


def _number(key: int) -> float:
    """Return the number in the middle of a cell."""
    ordered = (key << _DROPPED) + (1 << (_DROPPED - 1))
    bits = ordered ^ (1 << 31) if ordered >> 31 else ~ordered & 0xFFFFFFFF
    return float(np.array([bits], np.uint32).view(np.float32)[0])
