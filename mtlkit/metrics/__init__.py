"""Metrics that are updated with (prediction, Label), an adapter for others, and Δm.

Metrics with an equal `family` have identical states and differ in what they compute from them, so
that an evaluation counts every batch once for all of them. Their updates never wait for the
device: they neither read a value nor index by a mask. States are sums, so that those of several
processes add up.
"""

from mtlkit.metrics.adapters import OnValid
from mtlkit.metrics.boundaries import BoundaryF, BoundaryPrecision, BoundaryRecall
from mtlkit.metrics.classes import (
    MeanIoU,
    MeanIoUPerImage,
    PixelAccuracy,
    PixelAccuracyPerImage,
)
from mtlkit.metrics.distances import (
    AbsoluteError,
    Conversion,
    Delta,
    RelativeError,
    RootMeanSquareError,
    RootMeanSquareLogError,
    SquaredRelativeError,
)
from mtlkit.metrics.normals import AngleWithin, MeanAngle, MedianAngle, RootMeanSquareAngle
from mtlkit.metrics.relative import delta_m

__all__ = [
    "AbsoluteError",
    "AngleWithin",
    "BoundaryF",
    "BoundaryPrecision",
    "BoundaryRecall",
    "Conversion",
    "Delta",
    "MeanAngle",
    "MeanIoU",
    "MeanIoUPerImage",
    "MedianAngle",
    "OnValid",
    "PixelAccuracy",
    "PixelAccuracyPerImage",
    "RelativeError",
    "RootMeanSquareAngle",
    "RootMeanSquareError",
    "RootMeanSquareLogError",
    "SquaredRelativeError",
    "delta_m",
]
