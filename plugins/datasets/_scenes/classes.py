"""What the scenes hold, by the ids of the data sets that they imitate."""

from __future__ import annotations

from enum import IntEnum


class StreetClass(IntEnum):
    """Cityscapes' train ids of what a street holds."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    TRAFFIC_SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    CAR = 13
    TRUCK = 14


class RoomClass(IntEnum):
    """Ids, from 0, of what a room holds of NYUv2's 13 classes."""

    BED = 0
    CEILING = 2
    CHAIR = 3
    FLOOR = 4
    FURNITURE = 5
    OBJECTS = 6
    PICTURE = 7
    SOFA = 8
    TABLE = 9
    WALL = 11
    WINDOW = 12
