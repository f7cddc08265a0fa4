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

    Each block is three convolutions with batch norm and ReLU, then a bilinear upsampling by the
    ratio of strides. Equal strides (ViT) are joined without upsampling.

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
        self.ratios = [a // b for a, b in itertools.pairwise(coarse_to_fine)]
        xavier_(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the hidden map, (N,width,H,W).

        Args:
            features: the encoder's maps, finest first.
        """
        x: Tensor | None = None
        for block, feature, ratio in zip(self.blocks, reversed(features), self.ratios, strict=True):
            x = block(feature if x is None else torch.cat((x, feature), 1))
            x = resize(x, [side * ratio for side in x.shape[-2:]])
        assert x is not None  # an encoder returns at least one map
        return x


class Decoder(nn.Module):
    """A task's way from feature maps to its prediction: `trunk`, then `head`."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the prediction, (N,C,H,W), or (N,C) for an image-level task.

        Args:
            features: the encoder's maps, finest first.
        """
        prediction: Tensor = self.head(self.trunk(features))
        return prediction


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


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are; batch norms in training mode go on with their batch's.

    Args:
        module: may hold batch norms.
    """
    norms = [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
