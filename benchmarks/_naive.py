"""XTasC-Net and its training step as plain torch, the way the paper's released code does them.

Everything is fp32 and laid out as torch makes it (NCHW). A decoder's head follows its last
upsampling, every edge runs, each task's loss has a backward pass of its own through the graph that
they share, and Adam is torch's own: one tensor after another on the CPU, many at once on CUDA. Only
names are mtlkit's: parameters are called as in its state dict, so that weights can be copied.

Source: akarimoon/xtask_mt (network, losses, and the loop with one `backward(retain_graph=True)` a
task), for segmentation and depth with uncertainty weighting.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model

import mtlkit
from mtlkit.structures import Batch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
LAMBDA = 0.01  # share of a transferred prediction's loss, Cityscapes
LEARNING_RATE, BETAS = 1e-4, (0.9, 0.99)
VOID = 250  # class that cross-entropy passes over


class NaiveNetwork(nn.Module):
    """XTasC-Net for segmentation and depth: both predictions, and each transferred to the other.

    Args:
        depth: of the ResNet, 18 or 34.
        classes: of segmentation.
        width: channels of the decoders.
        widths: channels of a transfer network's three stages.
    """

    def __init__(self, depth: int, classes: int, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        outputs = {"segmentation": classes, "depth": 1}
        decoders = {name: _Decoder(width, channels) for name, channels in outputs.items()}
        self.architecture = nn.ModuleDict(
            {"encoder": _Encoder(depth), "decoders": nn.ModuleDict(decoders)}
        )
        self.edges = nn.ModuleDict(
            {
                "segmentation_to_depth_xtc": _TransferNetwork(classes, 1, widths),
                "depth_to_segmentation_xtc": _TransferNetwork(1, classes, widths),
            }
        )

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the predictions and the transferred predictions, by the task that they are of.

        Args:
            image: RGB, (N,3,H,W), float32, in [0,1].
        """
        features = self.architecture["encoder"](image)
        direct = {n: d(features) for n, d in self.architecture["decoders"].items()}
        logits = functional.log_softmax(direct["segmentation"], 1)
        transferred = {
            "depth": self.edges["segmentation_to_depth_xtc"](logits),
            "segmentation": self.edges["depth_to_segmentation_xtc"](direct["depth"]),
        }
        return direct, transferred


def naive_losses(network: NaiveNetwork, batch: Batch) -> dict[str, Tensor]:
    """Return the loss of each task, 0.99 of its own and 0.01 of what is transferred from it.

    Args:
        network: whose predictions are compared.
        batch: with labels `segmentation` and `depth`.
    """
    direct, transferred = network(batch.image)
    classes, depth = batch.labels["segmentation"], batch.labels["depth"]
    void = ~classes.valid[:, 0]
    own = {
        "segmentation": functional.cross_entropy(
            direct["segmentation"], classes.value.masked_fill(void, VOID), ignore_index=VOID
        ),
        "depth": _mean_of_images(direct["depth"], depth.value, depth.valid),
    }
    likeliest = direct["segmentation"].detach().argmax(1)
    errors = functional.cross_entropy(transferred["segmentation"], likeliest, reduction="none")
    others = {
        "segmentation": _mean_of_images(
            transferred["depth"], direct["depth"].detach(), depth.valid
        ),
        "depth": errors.masked_fill(void, 0).mean(),  # void counts below the fraction's line
    }
    return {name: (1 - LAMBDA) * own[name] + LAMBDA * others[name] for name in own}


def naive_step(network: NaiveNetwork, batch: Batch) -> Callable[[], dict[str, Tensor]]:
    """Return what takes a training step and gives the tasks' losses before it.

    Args:
        network: on its device, in training mode.
        batch: on the same.
    """
    variances = {n: torch.zeros((), device=batch.image.device) for n in ("segmentation", "depth")}
    learned = [variance.requires_grad_() for variance in variances.values()]
    parameters = [*network.parameters(), *learned]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=BETAS)

    def step() -> dict[str, Tensor]:
        optimizer.zero_grad()
        losses = naive_losses(network, batch)
        for name, loss in losses.items():
            weighed = 0.5 * torch.exp(-variances[name]) * loss + variances[name]
            weighed.backward(retain_graph=name != "depth")  # the last one frees it
        optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    return step


def naive_copy(model: nn.Module, recipe: mtlkit.Recipe) -> NaiveNetwork:
    """Return the naive network with the weights of mtlkit's, on the same device.

    Args:
        model: mtlkit's.
        recipe: of it.
    """
    classes = recipe.tasks["segmentation"].channels
    widths = recipe.all_edges[0].widths
    network = NaiveNetwork(recipe.encoder.depth, classes, recipe.architecture.width, widths)
    network.load_state_dict(model.state_dict())
    return network.to(next(model.parameters()).device)


class _Encoder(nn.Module):
    """A ResNet's five maps, finest first."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        net = get_model(f"resnet{depth}", weights=None)
        first = nn.Sequential(net.conv1, net.bn1, net.relu)
        second = nn.Sequential(net.maxpool, *net.layer1)
        self.stages = nn.ModuleList([first, second, net.layer2, net.layer3, net.layer4])

    def forward(self, image: Tensor) -> list[Tensor]:
        mean, std = (image.new_tensor(x).view(3, 1, 1) for x in (MEAN, STD))
        x, features = (image - mean) / std, []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """Five blocks, coarsest first, each upsampled; the head reads the last one at full size."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        inputs = [512, width + 256, width + 128, width + 64, width + 64]
        blocks = [_convolutions([before, width, width, width], nn.BatchNorm2d) for before in inputs]
        self.trunk = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.head = nn.Conv2d(width, outputs, 1, bias=False)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = features[-1]
        for number, block in enumerate(self.trunk["blocks"]):
            x = x if number == 0 else torch.cat((x, features[-1 - number]), 1)
            x = _twice(block(x))
        return self.head(x)


class _TransferNetwork(nn.Module):
    """TTNet: a small U-Net without batch norm, whose skips are the pooled maps."""

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        a, b, c = widths
        self.down = nn.ModuleList(
            _convolutions([x, y, y]) for x, y in ((inputs, a), (a, b), (b, c))
        )
        self.up = nn.ModuleList(
            _convolutions([x, y, y]) for x, y in ((c, b), (2 * b, a), (2 * a, a))
        )
        self.head = nn.Conv2d(a, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = functional.max_pool2d(block(x), 2)
            skips.append(x)
        x = self.up[0](_twice(skips[2]))
        for block, skip in ((self.up[1], skips[1]), (self.up[2], skips[0])):
            x = block(_twice(torch.cat((x, skip), 1)))
        return self.head(x)


def _convolutions(
    channels: Sequence[int], norm: Callable[[int], nn.Module] | None = None
) -> nn.Module:
    """Return 3×3 convolutions, each with a norm, if there is one, and a ReLU of its own memory."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        if norm is not None:
            layers.append(norm(after))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _twice(x: Tensor) -> Tensor:
    """Return the map at twice its size."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _mean_of_images(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over images of each one's mean error where it is valid."""
    errors = (prediction - target).abs().masked_fill(~valid, 0).flatten(1).sum(1)
    return (errors / valid.flatten(1).sum(1)).mean()
