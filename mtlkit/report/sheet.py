"""Sheets: rows of small pictures with titles above and legends below, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mtlkit.files import beside

# pixels of a tile; smaller maps are enlarged, larger ones thinned
LEAST_WIDTH, MOST_WIDTH = 256, 512
INVALID = 24  # grey level where a label counts for nothing; darker than any class's grey
PAPER, INK = "white", (32, 32, 32)
FRAME = (208, 208, 208)  # around captions
TEXT_SIZE, TITLE_SIZE = 16, 22
LINE = 1.4  # height of a line over the size of its letters
GAP, GROUP_GAP, MARGIN = 6, 24, 16
SWATCH = 16  # side of a colour sample in the class key
NUMBER_WIDTH = 92  # of the column with the samples' numbers
ARROW = "→"  # drawn by hand: Pillow's own font lacks it
CUT = "..."  # ends a title that is too long in the smallest letters
MOST_COLUMNS = 9  # of a sheet beside the image; more groups continue below
TITLE_STEP = 2  # by which the letters of a title shrink until it fits


@dataclass(frozen=True)
class Item:
    """A word or, with a colour, an entry of a class key; never broken between lines."""

    text: str
    colour: tuple[int, int, int] | None = None


NO_LABEL = Item("no label", (INVALID, INVALID, INVALID))
"""The entry of a key for pixels where a label counts for nothing."""


@dataclass(frozen=True)
class Group:
    """Columns that share a title and a legend.

    Args:
        title: above all of them; may be empty.
        columns: title to pictures, (K,3,H,W), uint8, or to K captions.
        legend: what stands below.
    """

    title: str
    columns: dict[str, Tensor | list[str]]
    legend: list[Item]


def draw_sheet(groups: Sequence[Group], numbers: Sequence[int]) -> Image.Image:
    """Return the whole picture: titles, a row of tiles per sample, legends.

    Groups that are too many to stand side by side continue below, beside the first again.

    Args:
        groups: the first has a column "image", which gives the size of the tiles.
        numbers: of the samples.
    """
    first, *others = groups
    return stacked([_draw_band([first, *band], numbers) for band in _bands(others)])


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return pictures below each other.

    Args:
        sheets: one at least.
    """
    width, height = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    whole = Image.new("RGB", (width, height), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def _bands(groups: Sequence[Group]) -> list[list[Group]]:
    """Return groups in order, as many in each list as have room side by side; one list at least."""
    bands: list[list[Group]] = [[]]
    for group in groups:
        used = sum(len(other.columns) for other in bands[-1])
        if bands[-1] and used + len(group.columns) > MOST_COLUMNS:
            bands.append([])
        bands[-1].append(group)
    return bands


def _draw_band(groups: Sequence[Group], numbers: Sequence[int]) -> Image.Image:
    """Return groups side by side: titles, a row of tiles per sample, legends."""
    image = groups[0].columns["image"]
    assert isinstance(image, Tensor)  # as the docstring asks
    height, width = image.shape[-2:]
    factor = -(-LEAST_WIDTH // width)
    tile = (width * factor, height * factor)
    heads = {title: wrapped(words(title), tile[0]) for g in groups for title in g.columns}
    feet = [wrapped(g.legend, _group_width(g, tile[0])) for g in groups]
    top = MARGIN + round(LINE * TITLE_SIZE) + _height(max(heads.values(), key=len)) + GAP
    bottom = top + len(numbers) * (tile[1] + GAP)
    left = NUMBER_WIDTH
    right = left + sum(_group_width(g, tile[0]) + GROUP_GAP for g in groups) - GROUP_GAP + MARGIN
    sheet = Image.new("RGB", (right, bottom + _height(max(feet, key=len)) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_lines(draw, (MARGIN, top - GAP - _height([[]])), [[Item("sample")]])
    for row, number in enumerate(numbers):
        middle = top + row * (tile[1] + GAP) + tile[1] // 2
        draw.text((MARGIN, middle), str(number), INK, _font(TEXT_SIZE), anchor="lm")
    for group, foot in zip(groups, feet, strict=True):
        _draw_title(draw, (left, MARGIN), group.title, _group_width(group, tile[0]))
        _draw_lines(draw, (left, bottom), foot)
        for title, column in group.columns.items():
            _draw_lines(draw, (left, top - GAP - _height(heads[title])), heads[title])
            if isinstance(column, Tensor):
                _paste_column(sheet, (left, top), column, tile)
            else:
                _write_column(draw, (left, top), column, tile)
            left += tile[0] + GAP
        left += GROUP_GAP - GAP
    return sheet


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as a PNG, whole or not at all.

    Args:
        sheet: the picture.
        path: of the file.

    Raises:
        MissingError: it cannot be written.
    """
    with beside(path, "the pictures") as part:
        sheet.save(part, format="PNG")


def thinned(x: Tensor) -> Tensor:
    """Return every n-th pixel, so that a tile is not wider than it needs to be.

    Args:
        x: (..., H, W).
    """
    step = max(1, x.shape[-1] // MOST_WIDTH)
    return x[..., ::step, ::step].detach().cpu()


def as_bytes(picture: Tensor) -> Tensor:
    """Return pictures as uint8.

    Args:
        picture: float, in [0,1].
    """
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)


def colour_key(names: Sequence[str], colours: Tensor) -> list[Item]:
    """Return the entries of a key, a name each, as far as there are colours.

    Args:
        names: of the classes, by id.
        colours: (3,C), uint8.
    """
    entries = zip(names, colours.T.tolist(), strict=False)
    return [Item(name, (red, green, blue)) for name, (red, green, blue) in entries]


def words(text: str) -> list[Item]:
    """Return the words of a text, to be broken into lines between them.

    Args:
        text: any.
    """
    return [Item(word) for word in text.split()]


def wrapped(items: Sequence[Item], width: int) -> list[list[Item]]:
    """Return the items as lines; an item wider than a line has one for itself.

    Args:
        items: words and entries of a key.
        width: of a line, in pixels.
    """
    lines: list[list[Item]] = []
    used = 0.0
    for item in items:
        own = _item_width(item)
        if not lines or used + own > width or (item.colour and not lines[-1][-1].colour):
            lines.append([])
            used = 0.0
        lines[-1].append(item)
        used += own
    return lines


def _draw_title(draw: ImageDraw.ImageDraw, place: tuple[int, int], title: str, width: int) -> None:
    """Draw a title, in smaller letters where it would reach into the next group."""
    title, size = _fitted(title, width)
    draw.text((place[0], place[1] + TITLE_SIZE - size), title, INK, _font(size))


def _fitted(text: str, width: int) -> tuple[str, int]:
    """Return a text, cut if need be, and the size of its letters."""
    size = TITLE_SIZE
    while size > TEXT_SIZE - 2 * TITLE_STEP and _font(size).getlength(text) > width:
        size -= TITLE_STEP
    while _font(size).getlength(text) > width and len(text) > len(CUT):
        text = text[: -len(CUT) - 1] + CUT
    return text, size


def _group_width(group: Group, tile_width: int) -> int:
    return len(group.columns) * (tile_width + GAP) - GAP


def _paste_column(
    sheet: Image.Image, place: tuple[int, int], pictures: Tensor, tile: tuple[int, int]
) -> None:
    for row, picture in enumerate(pictures.permute(0, 2, 3, 1).contiguous()):
        enlarged = Image.fromarray(picture.numpy()).resize(tile, Image.Resampling.NEAREST)
        sheet.paste(enlarged, (place[0], place[1] + row * (tile[1] + GAP)))


def _write_column(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    captions: Sequence[str],
    tile: tuple[int, int],
) -> None:
    """Write each caption in the middle of a framed tile."""
    left, top = place
    for text in captions:
        draw.rectangle((left, top, left + tile[0] - 1, top + tile[1] - 1), outline=FRAME)
        fitting, size = _fitted(text, tile[0] - 2 * GAP)
        middle = (left + tile[0] / 2, top + tile[1] / 2)
        draw.text(middle, fitting, INK, _font(size), anchor="mm")
        top += tile[1] + GAP


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _item_width(item: Item) -> float:
    letters = TEXT_SIZE if item.text == ARROW else _font(TEXT_SIZE).getlength(item.text)
    return letters + (3 * GAP + SWATCH if item.colour else GAP)


def _height(lines: Sequence[Sequence[Item]]) -> int:
    return len(lines) * round(LINE * TEXT_SIZE)


def _draw_lines(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[Sequence[Item]]
) -> None:
    font, line_height = _font(TEXT_SIZE), round(LINE * TEXT_SIZE)
    for number, line in enumerate(lines):
        x, middle = float(place[0]), place[1] + (number + 0.5) * line_height
        for item in line:
            start = x
            if item.colour:
                box = (x, middle - SWATCH / 2, x + SWATCH, middle + SWATCH / 2)
                draw.rectangle(box, item.colour, INK)
                start += SWATCH + GAP
            if item.text == ARROW:
                _draw_arrow(draw, start, middle)
            else:
                draw.text((start, middle), item.text, INK, font, anchor="lm")
            x += _item_width(item)


def _draw_arrow(draw: ImageDraw.ImageDraw, x: float, middle: float) -> None:
    tip, head = x + TEXT_SIZE - 1, TEXT_SIZE / 4
    draw.line((x, middle, tip, middle), INK, 2)
    back = tip - head
    draw.line((back, middle - head, tip, middle, back, middle + head), INK, 2)
