"""Normals of files in the camera's axes: x right, y down, z forward."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from mtlkit.errors import MissingError

Axis = Literal["x", "-x", "y", "-y", "z", "-z"]
_AWAY = 0.25  # mean z of normals that no view has: even a floor seen while looking up stays below


def _each_once(axes: tuple[Axis, Axis, Axis]) -> tuple[Axis, Axis, Axis]:
    if sorted(axis[-1] for axis in axes) != ["x", "y", "z"]:
        raise ValueError("takes x, y and z, each once, with or without -. Write [x, -y, -z]")
    return axes


Axes = Annotated[tuple[Axis, Axis, Axis], AfterValidator(_each_once)]
"""The files' axes that are the camera's x, y and z, with their signs."""


def in_camera_axes(vectors: Tensor, axes: Axes) -> Tensor:
    """Return vectors in the camera's axes, (3,H,W).

    Args:
        vectors: in the files' axes, (3,H,W).
        axes: the files' axes that are the camera's.
    """
    given = dict(zip("xyz", vectors, strict=True))
    return torch.stack([-given[a[-1]] if a[0] == "-" else given[a] for a in axes])


def check_direction(normals: Tensor, path: Path, key: str, axes: Axes) -> None:
    """Refuse normals that point away from the camera, as they do where signs are wrong.

    Args:
        normals: in the camera's axes, (3,H,W), NaN where there is none.
        path: the file that they come from.
        key: of the recipe that says `axes`.
        axes: that they were turned by.

    Raises:
        MissingError: no view has such normals.
    """
    if normals[2].nanmean() > _AWAY:
        raise MissingError(
            f"{path}: its normals point away from the camera, with {key}: [{', '.join(axes)}]. "
            "Correct the signs; where y is up in the files: [x, -y, -z]"
        )
