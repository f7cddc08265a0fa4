"""Depth and disparity of a user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.geometry import metres
from mtlkit.sections import Positive
from mtlkit.structures import FieldSpec
from mtlkit.transforms import DepthMap, DisparityMap

from ._folder_camera import Camera
from ._folder_labels import FilePart, Part
from ._folder_maps import FolderMaps
from ._folder_patterns import Fault


class _DistanceFiles(FilePart):
    """One distance per pixel, number · scale + offset."""

    scale: Positive = Field(description="units a step of the file; 1: its numbers are the values")
    offset: float = Field(0.0, description="what is added after `scale`")
    invalid: tuple[float, ...] = Field(
        (0.0,), description="numbers of the file without a value, beside NaN and infinity"
    )

    def _values(self, maps: FolderMaps, name: str, least: float) -> Tensor:
        """Return the values, (1,H,W) float64, NaN where there is none."""
        numbers = maps.single(name, "distances")
        is_valid = numbers.isfinite()
        for number in self.invalid:
            is_valid &= numbers != number
        values = torch.where(is_valid, numbers.double() * self.scale + self.offset, torch.nan)
        if (values < least).any():
            number = numbers[values == values[values < least].min()][0].item()
            raise MissingError(
                f"{maps.files[name]}: holds {number:g}, a {self.kind} below {least:g}. Correct the "
                f"file, or data.maps.{name}: offset, or invalid: "
                f"{[*map(_short, self.invalid), _short(number)]}"
            )
        return values


class DepthFiles(_DistanceFiles):
    """Depth along the optical axis."""

    kind: Literal["depth"] = "depth"
    unit: str = Field("m", description="unit of number · scale + offset")

    @property
    def spec(self) -> FieldSpec:
        """Depth in its unit."""
        return FieldSpec(DepthMap, unit=self.unit)

    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> DepthMap:
        """Return depth; see `FilePart`."""
        return DepthMap(self._values(maps, name, 0).float())

    def depth(self, label: Tensor, camera: Camera) -> DepthMap:
        """Return the label itself.

        Args:
            label: from `read`.
            camera: not used.
        """
        return DepthMap(label)


class DisparityFiles(_DistanceFiles):
    """Disparity in pixels of the calibrated image, which does not change with `size`.

    With a camera that has a baseline, `as` makes of it metres, z = fx · baseline / (disparity +
    doffs), or 1/z; it stays disparity otherwise.
    """

    kind: Literal["disparity"] = "disparity"
    unit: str = Field("px", description="unit of number · scale + offset")
    given_as: Literal["disparity", "inverse_depth", "metres"] = Field(
        "disparity", alias="as", description="the label: what the file has, 1/m or m"
    )

    @property
    def spec(self) -> FieldSpec:
        """What `as` says."""
        return {
            "disparity": FieldSpec(DisparityMap, unit=self.unit),
            "inverse_depth": FieldSpec(DisparityMap, unit="1/m"),
            "metres": FieldSpec(DepthMap, unit="m"),
        }[self.given_as]

    def faults_beside(self, labels: Mapping[str, Part], camera: Camera | None) -> list[Fault]:
        """Return that metres need a baseline, if so.

        Args:
            labels: not used.
            camera: of the data set.
        """
        if self.given_as == "disparity" or (camera is not None and camera.baseline is not None):
            return []
        text = f"{self.given_as} needs data.camera with focal, centre and baseline. Add what lacks"
        return [Fault(("as",), text)]

    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> Tensor:
        """Return the label; see `FilePart`."""
        doffs = 0.0 if camera is None else camera.doffs
        values = self._values(maps, name, 0 - doffs)
        if self.given_as == "disparity" or camera is None:
            return DisparityMap(values.float())
        depth = metres(values + doffs, camera.focal_baseline).as_subclass(Tensor)
        if self.given_as == "metres":
            return DepthMap(depth.float())
        return DisparityMap((1 / depth).float())

    def depth(self, label: Tensor, camera: Camera) -> DepthMap:
        """Return metres of the label.

        Args:
            label: from `read`.
            camera: has a baseline.
        """
        if self.given_as == "disparity":
            return metres(label.as_subclass(Tensor) + camera.doffs, camera.focal_baseline)
        return DepthMap(label) if self.given_as == "metres" else metres(label, 1.0)

    def depth_at_one(self, camera: Camera | None) -> float | None:
        """Return the metres at which the label would be 1; None where no number says it.

        Args:
            camera: of the data set.
        """
        if self.given_as == "inverse_depth":
            return 1.0
        if self.given_as == "metres" or camera is None or camera.baseline is None or camera.doffs:
            return None
        return camera.focal_baseline


def _short(number: float) -> int | float:
    return int(number) if number.is_integer() else number
