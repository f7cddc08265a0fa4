"""A street with houses, trees, signs, cars and people; classes are Cityscapes' train ids."""

from __future__ import annotations

import math

from .classes import StreetClass
from .scene import Camera, Dice, Ground, Light, Primitive, Scene, Triple
from .things import person, vehicle

_SIGN_COLOURS = ((0.75, 0.1, 0.1), (0.1, 0.2, 0.7), (0.8, 0.75, 0.1))
_WALL = (StreetClass.WALL, (0.55, 0.42, 0.36))
_FENCE = (StreetClass.FENCE, (0.35, 0.30, 0.24))


def street(seed: int) -> Scene:
    """Return a street.

    Args:
        seed: which, at least 0.
    """
    return _Street(Dice(7, seed)).build()


class _Street:
    """Places things; the order of the draws is part of the scene."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._things = 0
        self._half_width = dice.between(3.2, 5.0)  # of the road, metres
        self._scene = self._empty()

    def build(self) -> Scene:
        """Return the scene with everything in it."""
        dice, half_width = self._dice, self._half_width
        for side in (-1, 1):
            self._add_side(side)
        for _ in range(dice.integer(0, 3)):  # moving cars
            self._add_car(
                dice.between(-half_width * 0.5, half_width * 0.5), dice.between(10, 60), 0.1
            )
        if dice.share() < 0.3:
            self._add_person(dice.between(-half_width, half_width), dice.between(8, 25))
        if dice.share() < 0.7:
            self._add_far_end()
        return self._scene

    def _empty(self) -> Scene:
        dice = self._dice
        azimuth, elevation = dice.between(0, 2 * math.pi), dice.between(0.45, 1.15)
        grey = dice.between(0.22, 0.34)
        camera = Camera(
            position=(dice.between(-1.2, 1.2), 0.0, dice.between(1.15, 1.45)),
            yaw=dice.between(-0.06, 0.06),
            pitch=dice.between(-0.05, 0.01),
            roll=dice.between(-0.01, 0.01),
            focal=1.105,  # Cityscapes: 2262 of 2048 pixels
        )
        fog = dice.between(0.002, 0.012)
        strength = dice.between(0.55, 1.25) if dice.share() < 0.8 else 0.0
        ambient = dice.between(0.4, 0.6)
        level = math.cos(elevation)
        sun = (math.cos(azimuth) * level, math.sin(azimuth) * level, math.sin(elevation))
        light = Light(sun, strength, ambient, fog=fog)
        if not strength:
            light = Light(sun, 0.0, 0.85, (0.62, 0.66, 0.72), (0.80, 0.82, 0.85), fog)
        asphalt = (grey, grey, grey * 1.03)
        ground = Ground(StreetClass.ROAD, StreetClass.TERRAIN, asphalt, self._half_width)
        return Scene(camera, light, StreetClass.SKY, ground)

    def _add(self, primitive: Primitive) -> None:
        self._scene.primitives.append(primitive)

    def _new_thing(self) -> int:
        self._things += 1
        return self._things

    def _add_side(self, side: int) -> None:
        dice = self._dice
        walk = dice.between(1.6, 3.2)  # width of the pavement, metres
        centre = (side * (self._half_width + walk / 2), 60, 0.07)
        half = (walk / 2, 75, 0.07)
        grey = (0.50, 0.48, 0.47)
        self._add(Primitive("box", centre, half, StreetClass.SIDEWALK, grey, casts_shadow=False))
        self._add_houses(side, self._half_width + walk)
        self._add_kerb(side)
        self._add_parked_cars(side)
        for _ in range(dice.integer(0, 4)):
            x = side * (self._half_width + dice.between(0.4, walk))
            self._add_person(x, dice.between(5, 35))

    def _add_houses(self, side: int, front: float) -> None:
        dice = self._dice
        y = dice.between(-6, 6)
        while y < 90:
            length, gap, choice = dice.between(9, 20), dice.between(0, 5), dice.share()
            middle = y + length / 2
            if choice < 0.72:
                self._add_house(side, front, middle, length / 2)
            elif choice < 0.86:
                barrier = _WALL if choice < 0.79 else _FENCE
                self._add_barrier((side * (front + 0.3), middle), length / 2, *barrier)
            y += length + gap

    def _add_house(self, side: int, front: float, y: float, half_length: float) -> None:
        dice = self._dice
        depth, height = dice.between(4, 8), dice.between(6, 18)
        colour = (dice.between(0.45, 0.85), dice.between(0.40, 0.70), dice.between(0.32, 0.62))
        centre = (side * (front + dice.between(0.2, 2) + depth), y, height / 2)
        half = (depth, half_length, height / 2)
        self._add(Primitive("box", centre, half, StreetClass.BUILDING, colour, texture="windows"))

    def _add_barrier(
        self,
        place: tuple[float, float],
        half_length: float,
        class_id: StreetClass,
        colour: Triple,
    ) -> None:
        half = (0.12, half_length, self._dice.between(0.6, 1.1))
        self._add(Primitive("box", (*place, 0.6), half, class_id, colour, texture="brick"))

    def _add_kerb(self, side: int) -> None:
        dice = self._dice
        y = dice.between(5, 12)
        while y < 70:
            choice = dice.share()
            x = side * (self._half_width + dice.between(0.4, 0.9))
            if choice < 0.45:
                self._add_tree(x + side * 0.5, y)
            elif choice < 0.75:
                self._add_pole(x, y)
            y += dice.between(5, 13)

    def _add_tree(self, x: float, y: float) -> None:
        dice, plant = self._dice, StreetClass.VEGETATION
        trunk, crown = dice.between(1.6, 2.6), dice.between(1.1, 2.0)  # metres
        half = (0.14, 0.14, trunk / 2)
        self._add(Primitive("cylinder", (x, y, trunk / 2), half, plant, (0.28, 0.20, 0.14)))
        if dice.share() < 0.7:
            half = (crown, crown, crown * dice.between(0.9, 1.3))
            green = (dice.between(0.14, 0.26), dice.between(0.32, 0.46), 0.12)
            centre = (x, y, trunk + crown * 0.8)
            self._add(Primitive("ellipsoid", centre, half, plant, green, texture="leaves"))
        else:
            green = (0.12, dice.between(0.26, 0.36), 0.14)
            half = (crown, crown, crown * 1.5)
            centre = (x, y, trunk + crown)
            self._add(Primitive("cone", centre, half, plant, green, texture="leaves"))

    def _add_pole(self, x: float, y: float) -> None:
        dice, half = self._dice, (0.06, 0.06, 2.2)
        grey = (0.42, 0.42, 0.43)
        self._add(Primitive("cylinder", (x, y, 2.2), half, StreetClass.POLE, grey, texture="plain"))
        if dice.share() < 0.6:
            centre, half = (x, y - 0.08, dice.between(2.1, 3.6)), (0.32, 0.03, 0.32)
            class_id, colour = StreetClass.TRAFFIC_SIGN, dice.pick(_SIGN_COLOURS)
        else:
            centre, half = (x, y - 0.1, 3.4), (0.15, 0.15, 0.42)
            class_id, colour = StreetClass.TRAFFIC_LIGHT, (0.10, 0.11, 0.10)
        self._add(Primitive("box", centre, half, class_id, colour, texture="plain"))

    def _add_parked_cars(self, side: int) -> None:
        dice = self._dice
        y = dice.between(6, 14)
        while y < 60:
            if dice.share() < 0.55:
                self._add_car(side * (self._half_width - dice.between(1.0, 1.3)), y, 0.05)
            y += dice.between(5.5, 13)

    def _add_car(self, x: float, y: float, askew: float) -> None:
        yaw = self._dice.between(-askew, askew)
        self._scene.primitives.extend(vehicle(self._dice, (x, y), yaw, self._new_thing()))

    def _add_person(self, x: float, y: float) -> None:
        self._scene.primitives.extend(person(self._dice, (x, y), self._new_thing()))

    def _add_far_end(self) -> None:
        dice = self._dice
        centre = (dice.between(-15, 15), 110, 8)
        half = (dice.between(20, 40), 8, dice.between(6, 14))
        grey = dice.between(0.5, 0.7)
        self._add(
            Primitive("box", centre, half, StreetClass.BUILDING, (grey,) * 3, texture="windows")
        )
