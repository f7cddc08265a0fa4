"""The weather of a street, from the light that it is drawn with."""

from __future__ import annotations

from mtlkit.transforms import ImageClass

from .render import Frame

WEATHER = ("clear", "hazy", "overcast")
_HAZY_FROM = 0.007  # per metre: in the middle of the densities that streets are drawn with


def weather(frame: Frame) -> ImageClass:
    """Return `overcast` where no sun shines, else `hazy` or `clear`, by the density of the haze.

    Of ten streets about four are clear, four hazy and two overcast.

    Args:
        frame: a picture of a street.
    """
    if not frame.light.strength:
        name = "overcast"
    else:
        name = "hazy" if frame.light.fog >= _HAZY_FROM else "clear"
    return ImageClass(WEATHER.index(name))
