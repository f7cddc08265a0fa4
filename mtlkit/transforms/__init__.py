"""Label kinds: what is valid in them, and what each transform of an image does to their values.

Every kind of map is a `tv_tensors.Mask` with kernels of its own, so that the transforms of
torchvision (v2, functions and classes) treat it right: flips, crop, resize, resized_crop, pad and
rotate. What has no rule (affine, perspective, elastic) is refused rather than done wrong. Pixels
that come from outside the image are invalid, whatever `fill` is asked for. The class of a whole
image is what no transform changes.
"""

from mtlkit.transforms._kernels import REFUSED, middle, refusal
from mtlkit.transforms._kinds import (
    VOID,
    ClassMap,
    DepthMap,
    DisparityMap,
    EdgeMap,
    ImageClass,
    LabelKind,
    NormalMap,
)

__all__ = [
    "REFUSED",
    "VOID",
    "ClassMap",
    "DepthMap",
    "DisparityMap",
    "EdgeMap",
    "ImageClass",
    "LabelKind",
    "NormalMap",
    "middle",
    "refusal",
]
