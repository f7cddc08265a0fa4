"""NYUv2's 13 classes."""

from __future__ import annotations

# Source: class13Mapping.mat, whose ids start at 1 (0 is void); here they start at 0.
CLASSES = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)
