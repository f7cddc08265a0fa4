"""The augmentation: flip, scale-crop and rotation, alike for every map of a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode, functional

from mtlkit.transforms import DepthMap, DisparityMap, LabelKind

Scale = Annotated[float, Field(ge=1, le=4)]
Window = tuple[int, int, int, int]  # top, left, height, width


class Augmentation(BaseModel):
    """Horizontal flip, then scale-crop: a random window of 1/scale of the size, enlarged to full.

    All random numbers come from torch's default generator. `official` options do what XTasC-Net's
    released code does where it differs: validity taken before the crop (D34 in docs/parity.md),
    values not rescaled by the zoom (D35), the image and its labels enlarged by torch's
    `interpolate` with aligned corners and to the nearest pixel, which lie up to a pixel apart.

    Source: XTasC-Net, released code (data loaders), also for the order; it does not rotate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    scale_crop: tuple[Scale, ...] = Field(
        (1.0, 1.2, 1.5), min_length=1, description="enlargements, each as likely"
    )
    rotate: float = Field(0.0, ge=0, le=45, description="largest rotation either way, degrees")
    zoom_values: Literal["rescaled", "official"] = Field(
        "rescaled", description="whether a zoom changes depth and disparity, as geometry says"
    )
    masks: Literal["recomputed", "official"] = Field(
        "recomputed", description="whether validity follows the crop"
    )
    sampling: Literal["centred", "official"] = Field(
        "centred", description="official: corners of images aligned, labels up to a pixel off"
    )

    def __call__(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sample, varied; every map of it alike.

        Args:
            sample: tv_tensors by name, among them "image" (3,H,W); what torchvision does not
                transform, such as a plain tensor, passes unchanged.
        """
        if torch.rand(()) < self.flip:
            sample = _varied(sample, functional.horizontal_flip)
        scale = self.scale_crop[int(torch.randint(len(self.scale_crop), ()))]
        height, width = sample["image"].shape[-2:]
        h, w = int(height / scale), int(width / scale)
        top, left = (int(torch.randint(n + 1, ())) for n in (height - h, width - w))
        window = (top, left, h, w)
        if scale != 1:
            sample = _varied(sample, lambda value: self._enlarged(value, window, (height, width)))
        if self.rotate:
            angle = float(torch.empty(()).uniform_(-self.rotate, self.rotate))
            sample = _varied(sample, lambda value: _rotated(value, angle))
        return sample

    def _enlarged(self, value: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
        """Return the window at full size."""
        aligned = self.sampling == "official"
        if isinstance(value, tv_tensors.Image):
            view = functional.crop(value, *window)[None].float()
            big = interpolate(view, size=size, mode="bilinear", align_corners=aligned)[0]
            exact = big if value.is_floating_point() else big.round()
            image: Tensor = tv_tensors.Image(exact.to(value.dtype))
            return image
        if not isinstance(value, LabelKind):
            camera: Tensor = functional.resized_crop(value, *window, list(size))
            return camera
        view = functional.crop(value, *window)
        enlarged: Any = _floored(view, size) if aligned else functional.resize(view, list(size))
        if self.zoom_values == "rescaled":
            enlarged = enlarged.zoomed(size[1] / window[3])
        if self.masks == "official" and isinstance(value, DepthMap | DisparityMap):
            before = value.as_subclass(Tensor).isfinite()
            after = enlarged.as_subclass(Tensor).nan_to_num(0.0)
            enlarged = torch.where(before, after, torch.nan).as_subclass(type(value))
        result: Tensor = enlarged
        return result


def _floored(value: Tensor, size: tuple[int, int]) -> Tensor:
    """Return each pixel's source at ⌊i·source/n⌋, as `interpolate` takes it."""
    if value.ndim < 2:
        return value  # about the whole image
    planes = value.as_subclass(Tensor).reshape(1, -1, *value.shape[-2:])
    big = interpolate(planes, size=size, mode="nearest").reshape(*value.shape[:-2], *size)
    return big.as_subclass(type(value))


def _varied(sample: dict[str, Tensor], vary: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {
        name: vary(value) if isinstance(value, tv_tensors.TVTensor) else value
        for name, value in sample.items()
    }


def _rotated(value: Tensor, angle: float) -> Tensor:
    is_image = isinstance(value, tv_tensors.Image)
    mode = InterpolationMode.BILINEAR if is_image else InterpolationMode.NEAREST
    rotated: Tensor = functional.rotate(value, angle, interpolation=mode)
    return rotated
