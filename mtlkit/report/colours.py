"""How labels are drawn that no task of the recipe draws, by kind."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlkit.report.sheet import INVALID, NO_LABEL, Item, as_bytes, colour_key, words
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap, EdgeMap, NormalMap

SHOWN = (0.02, 0.98)  # quantiles at the ends of a scale of grey, so that outliers do not rule it
DARKEST = 0.25  # of a scale of grey: darker is kept for pixels without a label
MOST_SAMPLES = 1_000_000  # values that quantiles are taken of; torch.quantile takes 2^24 at most
LEVELS = 7  # of red, green and blue among which colours of classes are chosen
EDGE, NO_EDGE = (0.1, 0.25, 0.6), (0.93, 0.93, 0.9)

# ColorBrewer's OrRd in nine classes: from 0, pale, to much, dark red
HEAT = (
    (255, 247, 236), (254, 232, 200), (253, 212, 158), (253, 187, 132), (252, 141, 89),
    (239, 101, 72), (215, 48, 31), (179, 0, 0), (127, 0, 0),
)  # fmt: skip


def drawn(values: Tensor, spec: FieldSpec) -> tuple[Tensor, list[Item]]:
    """Return pictures of a label, (K,3,H,W), uint8, and what explains their colours.

    Normals are drawn as the field does, (n·(1,−1,−1) + 1)/2: to the right is red, up is green and
    towards the camera is blue.

    Args:
        values: of K samples as `Label` has them; all of one call share a scale.
        spec: of the label.
    """
    if issubclass(spec.kind, ClassMap):
        return _classes(values, spec)
    if issubclass(spec.kind, NormalMap):
        flipped = values.float() * torch.tensor([1.0, -1.0, -1.0])[:, None, None]
        text = "right: red, up: green, towards the camera: blue"
        return as_bytes((flipped + 1) / 2), words(text)
    if issubclass(spec.kind, EdgeMap):
        colours = torch.tensor([NO_EDGE, EDGE])
        key = colour_key(("no edge", "edge"), as_bytes(colours.T))
        return as_bytes(colours[(values[:, 0] > 0.5).long()].permute(0, 3, 1, 2)), key
    return _greys(values.float().mean(1, keepdim=True), spec.unit)


def heat(values: Tensor, unit: str) -> tuple[Tensor, list[Item]]:
    """Return pictures of what is best at 0, (K,3,H,W), uint8, and what explains their colours.

    Args:
        values: (K,1,H,W), float, 0 or more; NaN where there is no label. All share a scale.
        unit: of the values.
    """
    known = values[~values.isnan()]
    sample = known[:: -(-len(known) // MOST_SAMPLES)] if len(known) else values.new_zeros(1)
    top = torch.quantile(sample, SHOWN[1])
    top = torch.where(top > 0, top, sample.amax()).clamp(min=1e-12)
    anchors = torch.tensor(HEAT) / 255
    position = (values[:, 0] / top).nan_to_num().clamp(0, 1) * (len(HEAT) - 1)
    below = position.long().clamp(max=len(HEAT) - 2)
    colours = torch.lerp(anchors[below], anchors[below + 1], (position - below)[..., None])
    pictures = torch.where(values.isnan(), INVALID, as_bytes(colours.permute(0, 3, 1, 2)))
    missing = [NO_LABEL] if values.isnan().any() else []
    return pictures, words(f"0 (pale) to {top:.3g} (dark red) {unit}") + missing


def class_colours(count: int) -> Tensor:
    """Return colours that differ, (count,3), in [0,1]: each as far as can be from those before.

    Args:
        count: of classes, at most 300.
    """
    levels = torch.linspace(0, 1, LEVELS)
    candidates = torch.cartesian_prod(levels, levels, levels)
    taken = torch.tensor([[INVALID / 255] * 3, [1.0, 1.0, 1.0]])  # no label, and paper
    distance = torch.cdist(candidates, taken).amin(1)
    chosen: list[Tensor] = []
    for _ in range(count):
        chosen.append(candidates[distance.argmax()])
        distance = torch.minimum(distance, (candidates - chosen[-1]).norm(dim=1))
    return torch.stack(chosen)


def _classes(ids: Tensor, spec: FieldSpec) -> tuple[Tensor, list[Item]]:
    names = spec.classes or tuple(map(str, range(int(ids.amax()) + 1)))
    colours = class_colours(len(names))
    pictures = as_bytes(colours[ids.long()].permute(0, 3, 1, 2))
    return pictures, colour_key(names, as_bytes(colours.T))


def _greys(values: Tensor, unit: str) -> tuple[Tensor, list[Item]]:
    flat = values.flatten()
    sample = flat[:: -(-len(flat) // MOST_SAMPLES)]
    low, high = torch.quantile(sample, sample.new_tensor(SHOWN)).unbind()
    share = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    pictures = as_bytes((DARKEST + (1 - DARKEST) * share).expand(-1, 3, -1, -1))
    return pictures, words(f"{low:.3g} (dark) to {high:.3g} (bright) {unit}")
