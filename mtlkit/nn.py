"""Building blocks that plugins share: masked means, seeded parts, decoder and transfer network."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlkit.recompute import recomputed
from mtlkit.structures import FeatureSpec, Label, counts_of


def masked_mean(
    values: Tensor, label: Label, over: Literal["pixels", "images", "all"] = "pixels"
) -> Tensor:
    """Return the mean of `values` where the label is valid; 0, on the graph, where nothing is.

    Its denominator is that of the whole step (`label.counts`) where the engine set it.

    Args:
        values: (N,C,H,W) or (N,H,W) for maps, (N,) or (N,C) for vectors; channels are averaged.
        label: gives `valid` and `counts`.
        over: "pixels" pools all valid elements; "images" takes each image's mean first, then the
            mean of the images that have any; "all" divides by all elements, so that invalid ones
            count as 0.

    Source: spec of XTasC-Net's losses: `pixels` is eq. of l1, `images` of l2, `all` of l_{2->1}.
    """
    values = _one_channel(values, label.valid)
    kept = torch.where(label.valid, values, torch.zeros_like(values))
    counts = label.counts or counts_of(label.valid)
    if over == "images":
        valid_per_image = label.valid.reshape(len(kept), -1).sum(1).clamp(min=1)
        per_image = kept.reshape(len(kept), -1).sum(1) / valid_per_image
        return per_image.sum() / counts.images.clamp(min=1e-12).to(kept.dtype)
    denominator = counts.total if over == "all" else counts.valid
    return kept.sum() / denominator.clamp(min=1e-12).to(kept.dtype)


def _one_channel(values: Tensor, valid: Tensor) -> Tensor:
    """Return the values in the shape of the mask, averaged over channels."""
    if values.ndim == valid.ndim - 1:
        return values.unsqueeze(1)
    if values.ndim == valid.ndim + 1:
        return values.mean(1)
    return values.mean(1, keepdim=True) if values.ndim > 1 else values


def cut(features: Sequence[Tensor]) -> list[Tensor]:
    """Return views of the feature maps, so that gradients can be read where trunk ends.

    Heads must read these views and `Output.features` hold them; else a pyramid's gradients count
    twice.

    Args:
        features: maps of any shape.
    """
    return [feature.view_as(feature) for feature in features]


@contextlib.contextmanager
def seeded(*names: object) -> Iterator[None]:
    """Draw initial weights from (the seed in force, these names), then restore the generator.

    Parts that are built inside get the same weights whatever is built before or beside them.

    Args:
        names: what the part is called, such as ("decoder", "depth").
    """
    text = "/".join(map(str, (torch.initial_seed(), *names)))
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def xavier_(module: nn.Module) -> None:
    """Fill convolutions with Xavier-normal weights and zero bias, in place.

    Args:
        module: what to fill.

    Source: XTasC-Net's released code, decoders and transfer networks.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.xavier_normal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the map bilinearly resized with aligned corners; itself if it has that size.

    Args:
        x: (N,C,h,w).
        size: (H, W).
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    big: Tensor = functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
    return big


def enlarged(x: Tensor, ratio: int) -> Tensor:
    """Return the map bilinearly enlarged with aligned corners.

    Args:
        x: (N,C,h,w).
        ratio: of new to old height and width.
    """
    return resize(x, [side * ratio for side in x.shape[-2:]])


def conv_block(channels: Sequence[int], norm: bool) -> nn.Sequential:
    """Return 3×3 convolutions with bias, each followed by batch norm (if `norm`) and ReLU.

    Args:
        channels: input channels, then the output channels of each convolution.
        norm: whether batch norm stands between convolution and ReLU.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        if norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Trunk(nn.Module):
    """U-Net decoder without its head: coarsest map first, joined with the next finer one.

    Each block is three convolutions with batch norm and ReLU; between two blocks lies a bilinear
    upsampling by the ratio of strides. Equal strides (ViT) are joined without upsampling. The last
    upsampling, by `scale`, is left to the decoder.

    Args:
        features: what the encoder returns.
        width: channels of every block.

    Source: XTasC-Net, decoder of the released code (model/decoder.py).
    """

    def __init__(self, features: FeatureSpec, width: int) -> None:
        super().__init__()
        below = [0] + [width] * (len(features.channels) - 1)
        self.blocks = nn.ModuleList(
            conv_block([b + c, width, width, width], norm=True)
            for b, c in zip(below, reversed(features.channels), strict=True)
        )
        coarse_to_fine = [*reversed(features.strides), 1]
        *self.ratios, self.scale = [a // b for a, b in itertools.pairwise(coarse_to_fine)]
        xavier_(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the hidden map, (N,width,H/scale,W/scale).

        Args:
            features: the encoder's maps, finest first.
        """
        coarsest, *finer = reversed(features)
        first, *others = self.blocks
        x: Tensor = first(coarsest)
        for block, feature, ratio in zip(others, finer, self.ratios, strict=True):
            x = block(torch.cat((enlarged(x, ratio), feature), 1))
        return x


class Decoder(nn.Module):
    """A task's way from feature maps to its prediction: `trunk`, then `head`.

    The head of a `Trunk` reads the hidden map at input size. A 1×1 convolution commutes with the
    bilinear upsampling, whose weights sum to 1, so it goes first: the same prediction, up to
    rounding, without a wide map at input size.

    Args:
        trunk: maps, finest first, to the hidden map; a `Trunk`, or what holds one or none.
        head: hidden map to prediction.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        scales = [part.scale for part in trunk.modules() if isinstance(part, Trunk)]
        self.scale = scales[0] if scales else 1
        self.is_pointwise = isinstance(head, nn.Conv2d) and _is_pointwise(head)
        self.recomputes = False  # set by the model, for `train.memory: checkpoint`

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the prediction, (N,C,H,W), or (N,C) for an image-level task.

        Args:
            features: the encoder's maps, finest first.
        """
        return self.predict(self.hide(features))

    def hide(self, features: Sequence[Tensor]) -> Tensor:
        """Return the hidden map, (N,width,H/scale,W/scale).

        Args:
            features: the encoder's maps, finest first.
        """
        hidden: Tensor = (
            recomputed(self.trunk, features) if self.recomputes else self.trunk(features)
        )
        return hidden

    def predict(self, hidden: Tensor) -> Tensor:
        """Return the prediction, (N,C,H,W), or (N,C) for an image-level task.

        Args:
            hidden: from `hide`.
        """
        if self.is_pointwise:
            return enlarged(self.head(hidden), self.scale)
        prediction: Tensor = self.head(enlarged(hidden, self.scale))
        return prediction


def _is_pointwise(head: nn.Conv2d) -> bool:
    no_padding = head.padding in ((0, 0), "same", "valid")
    return head.kernel_size == (1, 1) and head.stride == (1, 1) and no_padding


class TransferNetwork(nn.Module):
    """TTNet: one task's prediction to another's, a small U-Net whose skips are the pooled maps.

    Args:
        inputs: channels of the source, as an edge reads it.
        outputs: channels of the target's prediction.
        widths: channels of the stages, finest first.
        norm: batch norm after each convolution.

    Source: XTasC-Net, released code (model/task_transfer.py); parameter counts in tests/golden.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], norm: bool) -> None:
        super().__init__()
        ups = [*reversed(widths[:-1]), widths[0]]
        into = [widths[-1]] + [2 * width for width in ups[:-1]]
        self.down = nn.ModuleList(
            conv_block([a, b, b], norm) for a, b in itertools.pairwise([inputs, *widths])
        )
        self.up = nn.ModuleList(conv_block([a, b, b], norm) for a, b in zip(into, ups, strict=True))
        self.head = nn.Conv2d(ups[-1], outputs, 1, bias=False)
        xavier_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transferred prediction, (N,outputs,H,W).

        Args:
            x: (N,inputs,H,W).
        """
        sizes, skips = [], []
        for block in self.down:
            sizes.append(x.shape[-2:])
            x = functional.max_pool2d(block(x), 2)
            skips.append(x)
        skips.pop()
        for block, size in zip(self.up, reversed(sizes), strict=True):
            x = block(resize(x, size))
            if skips:
                x = torch.cat((x, skips.pop()), 1)
        out: Tensor = self.head(x)
        return out


@contextlib.contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let nothing that runs inside give these parameters a gradient.

    Args:
        parameters: as they are, they come back.
    """
    free = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)
