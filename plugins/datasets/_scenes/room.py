"""A furnished room; classes are the 13 of NYUv2."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .classes import RoomClass
from .scene import (
    VOID_CLASS,
    Camera,
    Dice,
    Light,
    Primitive,
    Scene,
    Texture,
    Triple,
)


def room(seed: int) -> Scene:
    """Return a room.

    Args:
        seed: which, at least 0.
    """
    return _Room(Dice(11, seed)).build()


class _Room:
    """Places walls and furniture; the order of the draws is part of the scene."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._half_width, self._length = dice.between(1.8, 3.2), dice.between(3.5, 6)  # metres
        self._height = dice.between(2.4, 3.0)
        self._scene = self._empty()

    def build(self) -> Scene:
        """Return the scene with everything in it."""
        dice = self._dice
        self._add_shell()
        self._add_picture()
        for instance in range(1, dice.integer(5, 10) + 1):
            reach = self._half_width * 0.8
            x, y = dice.between(-reach, reach), dice.between(1.6, self._length - 0.5)
            choice, yaw = dice.share(), dice.between(0, 3.1)
            colour = (dice.between(0.15, 0.8), dice.between(0.1, 0.6), dice.between(0.1, 0.6))
            furniture = _Furniture(dice, (x, y), yaw, colour, instance)
            self._scene.primitives.extend(furniture.parts(choice))
        return self._scene

    def _empty(self) -> Scene:
        dice, reach = self._dice, self._half_width * 0.4
        camera = Camera(
            position=(dice.between(-reach, reach), 0.3, dice.between(1.2, 1.6)),
            yaw=dice.between(-0.25, 0.25),
            pitch=dice.between(-0.32, -0.08),
            roll=dice.between(-0.02, 0.02),
            focal=0.81,  # NYUv2's Kinect: 519 of 640 pixels
        )
        sun = (dice.between(-0.8, 0.8), dice.between(-0.9, -0.1), 0.8)
        return Scene(camera, Light(sun, dice.between(0.3, 0.7), ambient=0.62), VOID_CLASS)

    def _add(
        self, centre: Triple, half: Triple, class_id: RoomClass, colour: Triple, texture: Texture
    ) -> None:
        self._scene.primitives.append(
            Primitive("box", centre, half, class_id, colour, texture=texture, casts_shadow=False)
        )

    def _add_shell(self) -> None:
        """Add floor, ceiling and three walls, each half a metre thick or more."""
        dice, width, length, height = self._dice, self._half_width, self._length, self._height
        paint = (dice.between(0.6, 0.9), dice.between(0.6, 0.85), dice.between(0.5, 0.8))
        wood = (dice.between(0.4, 0.6), dice.between(0.3, 0.45), dice.between(0.2, 0.35))
        middle, flat = length / 2, (width + 1, length, 0.5)
        self._add((0, middle, -0.5), flat, RoomClass.FLOOR, wood, "noise")
        white = (0.85, 0.85, 0.83)
        self._add((0, middle, height + 0.5), flat, RoomClass.CEILING, white, "plain")
        for side in (-1, 1):
            centre = (side * (width + 0.5), middle, height / 2)
            self._add(centre, (0.5, length, height / 2), RoomClass.WALL, paint, "noise")
        centre, half = (0.0, length + 0.5, height / 2), (width + 1, 0.5, height / 2)
        self._add(centre, half, RoomClass.WALL, paint, "noise")

    def _add_picture(self) -> None:
        """Add a picture or a window to the far wall."""
        dice, reach = self._dice, self._half_width * 0.6
        centre = (dice.between(-reach, reach), self._length - 0.01, 1.6)
        half = (dice.between(0.4, 0.8), 0.03, 0.5)
        class_id = RoomClass.WINDOW if dice.share() < 0.5 else RoomClass.PICTURE
        colour = (dice.between(0.4, 0.9), dice.between(0.4, 0.8), 0.85)
        self._scene.primitives.append(
            Primitive("box", centre, half, class_id, colour, texture="windows")
        )


@dataclass(frozen=True)
class _Furniture:
    """One piece at a place of the floor."""

    dice: Dice
    place: tuple[float, float]
    yaw: float
    colour: Triple
    instance: int

    def parts(self, choice: float) -> list[Primitive]:
        """Return the solids of the piece that a number in [0,1) chooses."""
        if choice < 0.25:
            return self._table()
        if choice < 0.5:
            return self._chair()
        if choice < 0.65:
            return self._sofa()
        if choice < 0.8:
            return self._cupboard()
        if choice < 0.9:
            return self._bed()
        return [self._ball(0.2, 0.2, self.instance)]

    def _table(self) -> list[Primitive]:
        half = (self.dice.between(0.4, 0.8), self.dice.between(0.3, 0.5), 0.025)
        top = self._box((0, 0.72), half, RoomClass.TABLE, (0.5, 0.35, 0.2), "noise")
        legs = [self._leg(0.28 * i, 0.2 * j) for i in (-1, 1) for j in (-1, 1)]
        return [top, *legs, self._ball(0.82, 0.1, self.instance + 100)]

    def _chair(self) -> list[Primitive]:
        seat, back = (0.24, 0.24, 0.22), (0.24, 0.03, 0.26)
        return [
            self._box((0, 0.22), seat, RoomClass.CHAIR, self.colour, "plain"),
            self._box((0.22, 0.66), back, RoomClass.CHAIR, self.colour, "plain"),
        ]

    def _sofa(self) -> list[Primitive]:
        seat, back = (0.8, 0.4, 0.22), (0.8, 0.1, 0.25)
        return [
            self._box((0, 0.22), seat, RoomClass.SOFA, self.colour, "noise"),
            self._box((0.34, 0.6), back, RoomClass.SOFA, self.colour, "noise"),
        ]

    def _cupboard(self) -> list[Primitive]:
        centre = (0, self.dice.between(0.5, 1.0))
        half = (0.4, 0.25, self.dice.between(0.5, 1.0))
        return [self._box(centre, half, RoomClass.FURNITURE, (0.45, 0.3, 0.2), "noise")]

    def _bed(self) -> list[Primitive]:
        half, white = (0.6, 0.95, 0.28), (0.8, 0.8, 0.85)
        return [self._box((0, 0.28), half, RoomClass.BED, white, "noise")]

    def _box(
        self,
        centre: tuple[float, float],
        half: Triple,
        class_id: RoomClass,
        colour: Triple,
        texture: Texture,
    ) -> Primitive:
        """Return a box; its centre is so far behind and above the piece's place."""
        (x, y), (back, up) = self.place, centre
        world = (x - back * math.sin(self.yaw), y + back * math.cos(self.yaw), up)
        return Primitive("box", world, half, class_id, colour, self.yaw, texture, self.instance)

    def _leg(self, across: float, along: float) -> Primitive:
        centre = (self.place[0] + across, self.place[1] + along, 0.35)
        half, wood = (0.03, 0.03, 0.35), (0.4, 0.28, 0.16)
        number = self.instance
        return Primitive("cylinder", centre, half, RoomClass.TABLE, wood, 0, "plain", number)

    def _ball(self, height: float, radius: float, instance: int) -> Primitive:
        centre, half = (*self.place, height), (radius, radius, radius)
        return Primitive(
            "ellipsoid", centre, half, RoomClass.OBJECTS, self.colour, 0, "plain", instance
        )
