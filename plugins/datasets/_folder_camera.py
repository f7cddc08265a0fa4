"""The camera of a user's own data, one for all images."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mtlkit.camera import Intrinsics
from mtlkit.contracts.plugin import Side
from mtlkit.errors import UsageError
from mtlkit.sections import Positive, Section

from ._maps import Maps

_FARTHEST_RIG = 10  # m between two cameras; calibrations in millimetres give hundreds
_WIDEST = 0.1  # of the width is a focal length that sees 157°; lenses in millimetres give less


def _in_metres(baseline: float) -> float:
    if baseline > _FARTHEST_RIG:
        raise ValueError(
            f"is in metres, and two cameras are not {baseline:g} m apart. Of millimetres, write "
            f"{baseline / 1000:g}"
        )
    return baseline


class Camera(Section):
    """A pinhole camera without distortion, as calibrated; it is fitted to every size.

    Middlebury's calib.txt has it as cam0 = [fx 0 cx; 0 fy cy; 0 0 1], baseline (mm) and doffs.
    """

    focal: tuple[Positive, Positive] = Field(description="fx and fy, pixels")
    centre: tuple[float, float] = Field(
        description="cx and cy, pixels; the centre of the first pixel is 0"
    )
    size: tuple[Side, Side] | None = Field(
        None, description="height and width that it was calibrated at; null: those of the images"
    )
    baseline: Annotated[Positive, AfterValidator(_in_metres)] | None = Field(
        None, description="between the two cameras of a stereo pair, metres"
    )
    doffs: float = Field(
        0.0, description="cx of the right camera less that of the left, pixels (Middlebury's word)"
    )

    @property
    def focal_baseline(self) -> float:
        """Pixels times metres: what disparity divides."""
        assert self.baseline is not None  # the data set refuses what needs it
        return self.focal[0] * self.baseline

    def matrix(self, maps: Maps) -> Intrinsics:
        """Return the matrix for the size of a sample.

        Args:
            maps: whose image was read.

        Raises:
            UsageError: the numbers are not those of a camera with such images.
        """
        assert maps.source_size is not None
        height, width = self.size or maps.source_size
        h, w = maps.source_size
        of = f"of an image of {height}×{width} (height×width)"
        if abs(height * w - width * h) > max(w, h):
            raise UsageError(
                f"data.camera.size: {height}×{width} (height×width) has another shape than "
                f"{maps.files['image']}, {h}×{w}. Give the size that the camera was calibrated at; "
                "images may be scaled, not cropped"
            )
        cx, cy = self.centre
        if not (0 < cx < width and 0 < cy < height):
            raise UsageError(
                f"data.camera.centre: ({cx:g}, {cy:g}) lies outside {of}. Write [cx, cy], or the "
                "size that they are for as data.camera.size"
            )
        if self.focal[0] < _WIDEST * width:
            raise UsageError(
                f"data.camera.focal: {self.focal[0]:g} is too short for a camera {of}. It is in "
                "pixels: millimetres times image width over sensor width"
            )
        return maps.intrinsics(self.focal, self.centre, (height, width))
