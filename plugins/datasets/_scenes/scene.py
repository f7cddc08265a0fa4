"""What a scene is made of: primitives, ground, camera and light.

World: X right, Y forward, Z up, metres. Camera: OpenCV's axes (x right, y down, z forward).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Triple = tuple[float, float, float]
Shape = Literal["box", "ellipsoid", "cylinder", "cone"]
Texture = Literal["noise", "windows", "leaves", "plain", "brick"]

VOID_CLASS = 255
BASELINE_M = 0.209  # metres between the two eyes of Cityscapes' stereo camera


@dataclass(frozen=True)
class Primitive:
    """One solid.

    Args:
        shape: a cone's tip points up.
        centre: world, metres.
        half: half extents along the solid's own axes, metres; round shapes read x as the radius.
        class_id: class of all its pixels.
        colour: RGB in [0,1].
        yaw: turn about Z, radians, counter-clockwise.
        texture: how the colour varies.
        instance: number of the thing it is a part of; 0: of none.
        casts_shadow: whether it hides the sun from others.
    """

    shape: Shape
    centre: Triple
    half: Triple
    class_id: int
    colour: Triple
    yaw: float = 0.0
    texture: Texture = "noise"
    instance: int = 0
    casts_shadow: bool = True


@dataclass(frozen=True)
class Ground:
    """The plane Z = 0: a marked road along Y with grass on both sides.

    Args:
        road_class: class of the road.
        grass_class: class of the rest.
        colour: of the road, RGB in [0,1].
        half_width: of the road, metres.
    """

    road_class: int
    grass_class: int
    colour: Triple
    half_width: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera whose axis meets the middle of the image.

    Args:
        position: world, metres.
        yaw: to the left, radians.
        pitch: upwards, radians.
        roll: clockwise, radians.
        focal: focal length over image width.
    """

    position: Triple
    yaw: float
    pitch: float
    roll: float
    focal: float


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze.

    Args:
        sun: direction towards the sun, of any length.
        strength: of the sun; 0: overcast.
        ambient: strength of the light from everywhere.
        zenith: colour of the sky above, RGB in [0,1].
        horizon: colour of the sky at the horizon and of the haze.
        fog: density of the haze, per metre.
    """

    sun: Triple
    strength: float
    ambient: float
    zenith: Triple = (0.42, 0.58, 0.85)
    horizon: Triple = (0.80, 0.86, 0.92)
    fog: float = 0.0


@dataclass
class Scene:
    """Everything that `render` reads.

    Args:
        camera: where it is seen from.
        light: what lights it.
        sky_class: class of the pixels where no ray hits.
        ground: None: there is none.
        primitives: their order is part of the scene, for it seeds the textures.
    """

    camera: Camera
    light: Light
    sky_class: int
    ground: Ground | None = None
    primitives: list[Primitive] = field(default_factory=list)


class Dice:
    """Random numbers of one scene, equal on every machine.

    Args:
        stream: number of the kind of scene.
        seed: number of the scene, at least 0.
    """

    def __init__(self, stream: int, seed: int) -> None:
        self._generator = np.random.default_rng([stream, seed])

    def share(self) -> float:
        """Return a number in [0,1)."""
        return float(self._generator.random())

    def between(self, low: float, high: float) -> float:
        """Return a number in [low,high)."""
        return low + (high - low) * self.share()

    def integer(self, low: int, end: int) -> int:
        """Return an integer from low to end − 1."""
        return int(self._generator.integers(low, end))

    def pick(self, colours: tuple[Triple, ...]) -> Triple:
        """Return one of the colours."""
        return colours[self.integer(0, len(colours))]
