"""Rendered scenes as files, in the folders that readers of real data expect."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._cityscapes_labels import LABELS, train_to_label
from .disparity import FULL_WIDTH, encoded, full_disparity
from .numbering import scene_seeds
from .render import Frame, render
from .room import room
from .scene import BASELINE_M, VOID_CLASS, Camera, Scene
from .street import street

Kind = Literal["streets", "rooms"]
CITY = "streets"  # the one city of the rendered Cityscapes folders


@dataclass(frozen=True)
class Job:
    """One scene to render and write.

    Args:
        kind: of scene; decides the layout too.
        split: "train" or "val".
        index: place in the split.
        seed: of the scene.
        size: height and width, pixels.
        root: folder to write to.
    """

    kind: Kind
    split: str
    index: int
    seed: int
    size: tuple[int, int]
    root: Path

    @property
    def paths(self) -> dict[str, Path]:
        """Where each file goes, by what it holds."""
        return {
            name: self.root / pattern.format(split=self.split, index=self.index, city=CITY)
            for name, pattern in _PATTERNS[self.kind].items()
        }

    def write(self) -> None:
        """Render the scene and write its files, each beside its place first and then renamed."""
        build, encode = _WRITERS[self.kind]
        scene = build(self.seed)
        contents = encode(scene, render(scene, *self.size))
        for name, path in self.paths.items():
            _write(path, contents[name])


_PATTERNS: dict[Kind, dict[str, str]] = {
    "streets": {
        name: f"{folder}/{{split}}/{{city}}/{{city}}_{{index:06d}}_000000_{ending}"
        for name, folder, ending in (
            ("image", "leftImg8bit", "leftImg8bit.png"),
            ("labels", "gtFine", "gtFine_labelIds.png"),
            ("instances", "gtFine", "gtFine_instanceIds.png"),
            ("colours", "gtFine", "gtFine_color.png"),
            ("disparity", "disparity", "disparity.png"),
            ("camera", "camera", "camera.json"),
        )
    },
    "rooms": {
        name: f"{{split}}/{name}/{{index}}.npy" for name in ("image", "label", "depth", "normal")
    },
}


def all_jobs(
    kind: Kind, counts: dict[str, int], seed: int, size: tuple[int, int], root: Path
) -> list[Job]:
    """Return one job for each scene that the data set of this kind and seed holds.

    Args:
        kind: "streets" or "rooms".
        counts: number of scenes by split.
        seed: of the data set.
        size: height and width, pixels.
        root: folder to write to.
    """
    return [
        Job(kind, split, index, scene_seed, size, root)
        for split, count in counts.items()
        for index, scene_seed in enumerate(scene_seeds(seed, split, count))
    ]


def written_files(kind: Kind, root: Path) -> Iterator[Path]:
    """Yield the files below the folders that a render of this kind writes to, but hidden ones.

    Args:
        kind: "streets" or "rooms".
        root: folder of the render.
    """
    tops = {tuple(pattern.split("/")[:2]) for pattern in _PATTERNS[kind].values()}
    for top in sorted(tops):
        for split in ("train", "val"):
            folder = root.joinpath(*(part.format(split=split) for part in top))
            yield from (path for path in folder.rglob("*") if _is_shown(path))


def _is_shown(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def cityscapes_files(scene: Scene, frame: Frame) -> dict[str, bytes]:
    """Return the contents of a scene's files in Cityscapes' layout.

    Args:
        scene: gives the camera.
        frame: its picture.
    """
    label_ids = train_to_label()[frame.classes]
    palette = np.array([(*label.colour, 255) for label in LABELS], np.uint8)
    camera = camera_json(scene.camera, *frame.depth.shape)
    return {
        "image": _png(frame.image),
        "labels": _png(label_ids),
        "instances": _png(instance_ids(label_ids, frame.instances)),
        "colours": _png(palette[label_ids]),
        "disparity": _png(encoded(full_disparity(frame))),
        "camera": json.dumps(camera, indent=4).encode() + b"\n",
    }


def instance_ids(label_ids: NDArray[np.uint8], instances: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Return label·1000 + number within the class for things that are counted, else the label.

    Args:
        label_ids: (H,W), Cityscapes' label ids.
        instances: (H,W), numbers within the scene, 0: of none.
    """
    ids = label_ids.astype(np.uint16)
    for label_id, label in enumerate(LABELS):
        if label.has_instances:
            mine = (label_ids == label_id) & (instances > 0)
            _, numbers = np.unique(instances[mine], return_inverse=True)
            ids[mine] = label_id * 1000 + numbers
    return ids


def camera_json(camera: Camera, height: int, width: int) -> dict[str, dict[str, float]]:
    """Return Cityscapes' calibration, for an image that is 2048 pixels wide.

    Its vehicle's axes are x forward, y left, z up; a positive pitch looks down.

    Args:
        camera: the scene's.
        height: of the rendered image, pixels.
        width: of the rendered image, pixels.
    """
    focal = camera.focal * FULL_WIDTH
    x, y, z = camera.position
    return {
        "extrinsic": {
            "baseline": BASELINE_M,
            "pitch": -camera.pitch,
            "roll": camera.roll,
            "x": y,
            "y": -x,
            "yaw": camera.yaw,
            "z": z,
        },
        "intrinsic": {
            "fx": focal,
            "fy": focal,
            "u0": FULL_WIDTH / 2 - 0.5,
            "v0": height * FULL_WIDTH / width / 2 - 0.5,
        },
    }


def nyuv2_files(scene: Scene, frame: Frame) -> dict[str, bytes]:
    """Return the contents of a scene's .npy files, all float32, as MTAN's copy of NYUv2 has them.

    Image (H,W,3) in [0,1], label (H,W) with −1 for void, depth (H,W,1) in metres, normal (H,W,3),
    unit, in the camera's frame (x right, y down, z forward) towards the camera, 0 where invalid.

    Args:
        scene: not needed.
        frame: its picture.
    """
    is_void = frame.classes == VOID_CLASS
    return {
        "image": _npy(frame.image.astype(np.float32) / np.float32(255)),
        "label": _npy(np.where(is_void, np.float32(-1), frame.classes.astype(np.float32))),
        "depth": _npy(frame.depth[..., None]),
        "normal": _npy(frame.normals),
    }


_WRITERS: dict[Kind, tuple[Callable[[int], Scene], Callable[[Scene, Frame], dict[str, bytes]]]] = {
    "streets": (street, cityscapes_files),
    "rooms": (room, nyuv2_files),
}


def _png(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
