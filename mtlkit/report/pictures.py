"""Pictures of predictions: a grid of validation samples, as in figure 3 of the XTasC-Net paper."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from mtlkit.contracts import Task
from mtlkit.device import autocast, move, seeded_draws
from mtlkit.files import beside
from mtlkit.structures import Batch, FieldSpec, Output
from mtlkit.transforms import ClassMap

if TYPE_CHECKING:
    from mtlkit.engine import Run

LEAST_WIDTH, MOST_WIDTH = (
    256,
    512,
)  # pixels of a tile; smaller maps are enlarged, larger ones thinned
INVALID = 24  # grey level where a label counts for nothing; darker than any class's grey
PAPER, INK = "white", (32, 32, 32)
TEXT_SIZE, TITLE_SIZE = 16, 22
LINE = 1.4  # height of a line over the size of its letters
GAP, GROUP_GAP, MARGIN = 6, 24, 16
SWATCH = 16  # side of a colour sample in the class key
NUMBER_WIDTH = 92  # of the column with the samples' numbers
ARROW = "→"  # drawn by hand: Pillow's own font lacks it


@dataclass(frozen=True)
class Maps:
    """Every map of one task that is shown: label, prediction and what edges transfer into it.

    Args:
        titles: one per column, the label first.
        values: one per column, label or pseudo-label values of K samples.
        valid: where the label counts, (K,1,H,W), bool.
    """

    titles: list[str]
    values: list[Tensor]
    valid: Tensor


@dataclass(frozen=True)
class Item:
    """A word or, with a colour, an entry of a class key; never broken between lines."""

    text: str
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Group:
    """Columns that share a title and a legend.

    Args:
        title: above all of them; may be empty.
        columns: title to pictures, (K,3,H,W), uint8.
        legend: what stands below.
    """

    title: str
    columns: dict[str, Tensor]
    legend: list[Item]


def draw_predictions(run: Run, path: Path, count: int, split: str = "val") -> Path | None:
    """Draw samples of a split beside their labels, predictions and transferred predictions.

    The samples lie evenly over the split. All maps of a task share one scale. Neither the mode of
    the model nor any random generator is changed.

    Args:
        run: gives model, data and placement.
        path: the PNG to write.
        count: most samples to draw, a row each.
        split: "val" or "train".

    Returns:
        `path`; None where there is nothing to draw: no sample, or no evaluated task with maps.

    Raises:
        MissingError: the file cannot be written.
    """
    tasks = {n: t for n, t in run.recipe.tasks.items() if t.evaluate and not t.vector}
    chosen = _spread(run.loader(split)[1].count, count)
    if not chosen or not tasks:
        return None
    with _evaluating(run.model), seeded_draws(run.recipe.seed, 0):
        image, maps = _predict(run, split, chosen, tasks)
    offers = run.recipe.offers
    groups = [_group(n, task, maps[n], offers[task.reads[0]]) for n, task in tasks.items()]
    _write(_sheet([Group("", {"image": _bytes(image)}, []), *groups], chosen), path)
    return path


def _spread(size: int, count: int) -> list[int]:
    """Return numbers of samples that lie evenly over a split, in order and without repeats."""
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, then give every module its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _predict(
    run: Run, split: str, chosen: Sequence[int], tasks: Mapping[str, Task]
) -> tuple[Tensor, dict[str, Maps]]:
    """Return images (K,3,H,W) and the maps of every task, thinned and on the CPU."""
    loader, size = run.loader(split)[0], run.recipe.loader.batch_size
    assert loader.collate_fn is not None  # build_loader gives one
    images: list[Tensor] = []
    parts: dict[str, list[Maps]] = {name: [] for name in tasks}
    for start in range(0, len(chosen), size):
        samples = [loader.dataset[(0, i)] for i in chosen[start : start + size]]
        batch = move(loader.collate_fn(samples), run.placement.device)
        with autocast(run.placement):
            output = run.model(batch.image)
        images.append(_thinned(batch.image))
        for name, task in tasks.items():
            parts[name].append(_maps(name, task, batch, output))
    return torch.cat(images), {name: _joined(several) for name, several in parts.items()}


def _maps(name: str, task: Task, batch: Batch, output: Output) -> Maps:
    into = {key: x for key, x in output.transfers.items() if key[-2] == name}
    titles = [f" {ARROW} ".join(key[:-1]) + f" ({key[-1]})" for key in into]
    raw = [output.predictions[name], *into.values()]
    shown = [_thinned(task.as_label(prediction.float())) for prediction in raw]
    prediction, label = shown[0], task.read(batch.labels)
    if label is None:
        valid = torch.zeros(len(prediction), 1, *prediction.shape[-2:], dtype=torch.bool)
        value = prediction
    else:
        valid, value = _thinned(label.valid), _thinned(label.value)
        # an invalid pixel holds a filler, which must not stretch the colour scale
        value = torch.where(valid if value.ndim == 4 else valid[:, 0], value, prediction)
    return Maps(["label", "prediction", *titles], [value, *shown], valid)


def _thinned(x: Tensor) -> Tensor:
    """Return every n-th pixel, so that a tile is not wider than it needs to be."""
    step = max(1, x.shape[-1] // MOST_WIDTH)
    return x[..., ::step, ::step].detach().cpu()


def _joined(parts: Sequence[Maps]) -> Maps:
    values = [torch.cat(same) for same in zip(*(part.values for part in parts), strict=True)]
    return Maps(parts[0].titles, values, torch.cat([part.valid for part in parts]))


def _group(name: str, task: Task, maps: Maps, spec: FieldSpec) -> Group:
    together = torch.cat(maps.values)  # one call: one scale
    pictures = list(_bytes(task.render(together)).chunk(len(maps.values)))
    pictures[0] = torch.where(maps.valid, pictures[0], INVALID)
    legend = _words(task.legend(together, spec.unit))
    if issubclass(spec.kind, ClassMap) and not together.is_floating_point():
        ids = torch.arange(min(len(spec.classes), task.channels))[None, None]
        colours = _bytes(task.render(ids))[0, :, 0].T.tolist()
        legend += [Item(n, (r, g, b)) for n, (r, g, b) in zip(spec.classes, colours, strict=False)]
    if not maps.valid.all():
        legend.append(Item("no label", (INVALID, INVALID, INVALID)))
    return Group(name, dict(zip(maps.titles, pictures, strict=True)), legend)


def _bytes(picture: Tensor) -> Tensor:
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)


def _sheet(groups: Sequence[Group], numbers: Sequence[int]) -> Image.Image:
    """Return the whole picture: titles, a row of tiles per sample, legends."""
    height, width = groups[0].columns["image"].shape[-2:]
    factor = -(-LEAST_WIDTH // width)
    tile = (width * factor, height * factor)
    heads = {title: _wrapped(_words(title), tile[0]) for g in groups for title in g.columns}
    feet = [_wrapped(g.legend, _group_width(g, tile[0])) for g in groups]
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
        draw.text((left, MARGIN), group.title, INK, _font(TITLE_SIZE))
        _draw_lines(draw, (left, bottom), foot)
        for title, pictures in group.columns.items():
            _draw_lines(draw, (left, top - GAP - _height(heads[title])), heads[title])
            _paste_column(sheet, (left, top), pictures, tile)
            left += tile[0] + GAP
        left += GROUP_GAP - GAP
    return sheet


def _group_width(group: Group, tile_width: int) -> int:
    return len(group.columns) * (tile_width + GAP) - GAP


def _paste_column(
    sheet: Image.Image, place: tuple[int, int], pictures: Tensor, tile: tuple[int, int]
) -> None:
    for row, picture in enumerate(pictures.permute(0, 2, 3, 1).contiguous()):
        enlarged = Image.fromarray(picture.numpy()).resize(tile, Image.Resampling.NEAREST)
        sheet.paste(enlarged, (place[0], place[1] + row * (tile[1] + GAP)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _words(text: str) -> list[Item]:
    return [Item(word) for word in text.split()]


def _item_width(item: Item) -> float:
    letters = TEXT_SIZE if item.text == ARROW else _font(TEXT_SIZE).getlength(item.text)
    return letters + (3 * GAP + SWATCH if item.colour else GAP)


def _wrapped(items: Sequence[Item], width: int) -> list[list[Item]]:
    """Return the items as lines; an item wider than a line has one for itself."""
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


def _write(sheet: Image.Image, path: Path) -> None:
    with beside(path, "the pictures") as part:
        sheet.save(part, format="PNG")
