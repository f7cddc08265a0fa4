"""Cars, trucks and people, made of a few solids each."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .classes import StreetClass
from .scene import Dice, Primitive, Shape, Triple

_PAINTS = (
    (0.7, 0.08, 0.07),
    (0.08, 0.13, 0.4),
    (0.8, 0.8, 0.8),
    (0.08, 0.08, 0.09),
    (0.45, 0.46, 0.48),
    (0.75, 0.6, 0.1),
)
_GLASS, _TYRE = (0.10, 0.12, 0.15), (0.05, 0.05, 0.05)
_CLEARANCE = 0.38  # metres below a body


def vehicle(
    dice: Dice, place: tuple[float, float], yaw: float, instance: int
) -> Iterator[Primitive]:
    """Yield the solids of a car or, more rarely, a truck.

    Args:
        dice: decides what it looks like.
        place: world x and y, metres.
        yaw: its turn, radians.
        instance: its number.
    """
    paint = dice.pick(_PAINTS)
    is_truck = dice.share() < 0.12
    if is_truck:
        length, width, height = 3.2, 1.1, 1.2  # half of each, metres
    else:
        length, width = dice.between(1.9, 2.3), dice.between(0.82, 0.92)
        height = dice.between(0.32, 0.40)
    class_id = StreetClass.TRUCK if is_truck else StreetClass.CAR

    def part(shape: Shape, centre: Triple, half: Triple, colour: Triple) -> Primitive:
        return Primitive(
            shape, _placed(centre, place, yaw), half, class_id, colour, yaw, "plain", instance
        )

    roof = _CLEARANCE + 2 * height
    yield part("box", (0, 0, _CLEARANCE + height), (width, length, height), paint)
    if not is_truck:
        yield part("box", (0, -0.25, roof + 0.28), (width * 0.86, length * 0.55, 0.28), _GLASS)
        yield part("box", (0, -0.25, roof + 0.59), (width * 0.84, length * 0.50, 0.04), paint)
    for side in (-1, 1):
        for end in (-1, 1):
            wheel = (side * width * 0.95, end * length * 0.62, 0.34)
            yield part("ellipsoid", wheel, (0.12, 0.34, 0.34), _TYRE)


def person(dice: Dice, place: tuple[float, float], instance: int) -> Iterator[Primitive]:
    """Yield the solids of a standing person.

    Args:
        dice: decides height and clothes.
        place: world x and y, metres.
        instance: the person's number.
    """
    x, y = place
    height = dice.between(1.5, 1.9)
    shirt = (dice.between(0.1, 0.8), dice.between(0.1, 0.6), dice.between(0.1, 0.7))
    yaw = dice.between(0, 3)

    def part(shape: Shape, centre: Triple, half: Triple, colour: Triple, yaw: float) -> Primitive:
        return Primitive(shape, centre, half, StreetClass.PERSON, colour, yaw, "plain", instance)

    yield part("ellipsoid", (x, y, height * 0.66), (0.22, 0.16, height * 0.22), shirt, yaw)
    for side in (-1, 1):
        leg = (x + side * 0.09, y, height * 0.24)
        yield part("cylinder", leg, (0.085, 0.085, height * 0.24), (0.12, 0.13, 0.22), 0)
    yield part("ellipsoid", (x, y, height * 0.93), (0.11, 0.12, 0.14), (0.75, 0.55, 0.45), 0)


def _placed(centre: Triple, place: tuple[float, float], yaw: float) -> Triple:
    """Return a part's centre in the world, from where it is on the vehicle."""
    across, along, up = centre
    cosine, sine = math.cos(yaw), math.sin(yaw)
    x = place[0] + cosine * across - sine * along
    y = place[1] + sine * across + cosine * along
    return (x, y, up)
