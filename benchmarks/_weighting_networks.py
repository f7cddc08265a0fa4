"""The networks that weighting_step.py takes steps of, with data: XTasC-Net, and a plain ResNet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import mtlkit
from mtlkit.data import meta_batch
from mtlkit.device import Placement, autocast, move, to_device
from mtlkit.gradients import Reach, probe
from mtlkit.nn import cut
from mtlkit.structures import Batch, Losses, Output
from mtlkit_plugins.encoders.resnet import ResNetEncoder

RECIPE = Path(__file__).parents[1] / "recipes" / "xtascnet_cityscapes.yaml"
CHANNELS = 8  # that each head of `PlainNetwork` predicts


@dataclass(frozen=True)
class Case:
    """What steps are taken of.

    Args:
        is_xtasc: whether the network is XTasC-Net, which has two tasks.
        tasks: how many.
        depth: of the ResNet.
        images: in a batch.
        size: (H, W) of an image.
    """

    is_xtasc: bool
    tasks: int
    depth: int
    images: int
    size: tuple[int, int]

    def build(self, device: str) -> nn.Module:
        """Return the network, whose forward gives `Losses`; its weights are always the same.

        Args:
            device: cpu or meta.
        """
        if self.is_xtasc:
            return mtlkit.build_objective(self._recipe(), device)
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.default_generator.manual_seed(0)
            return PlainNetwork(self.depth, self.tasks)

    def draw(self, device: str) -> Batch | Tensor:
        """Return what the network takes, in fp32; always the same.

        Args:
            device: cpu or meta.
        """
        generator = torch.Generator().manual_seed(1)
        if not self.is_xtasc:
            return torch.rand(self.images, 3, *self.size, generator=generator).to(device)
        batch = meta_batch(self._recipe(), self.images)
        if device == "meta":
            return batch
        batch.image = torch.rand(batch.image.shape, generator=generator)
        for name, label in batch.labels.items():
            drawn = torch.rand(label.value.shape, generator=generator)
            label.value = (7 * drawn).long() if name == "segmentation" else drawn
            label.valid = torch.ones(label.valid.shape, dtype=torch.bool)
        batch.extras = {name: torch.ones(x.shape) for name, x in batch.extras.items()}
        return batch

    def _recipe(self) -> mtlkit.Recipe:
        os.environ.setdefault("CITYSCAPES_ROOT", "nothing is read from it")
        changes = {"data.size": list(self.size), "encoder.depth": self.depth}
        return mtlkit.load_recipe(RECIPE, changes)


class PlainNetwork(nn.Module):
    """A ResNet and a 1×1 convolution per task on its last map; losses are squared errors.

    Targets are drawn from the map's size and the task's number; the scales of the losses differ.

    Args:
        depth: of the ResNet.
        tasks: how many.
    """

    def __init__(self, depth: int, tasks: int) -> None:
        super().__init__()
        self.trunk, spec = ResNetEncoder(depth=depth).build_encoder()
        names = [f"task{number}" for number in range(tasks)]
        self.heads = nn.ModuleDict({n: nn.Conv2d(spec.channels[-1], CHANNELS, 1) for n in names})
        self.targets: dict[str, Tensor] = {}

    def forward(self, image: Tensor) -> Losses:
        """Return the losses, with the trunk's last map as the place where it ends.

        Args:
            image: (N,3,H,W), float, in [0,1].
        """
        features = cut(self.trunk(image)[-1:])
        predictions = {name: head(features[0]).float() for name, head in self.heads.items()}
        losses = {
            name: (1 + number) * functional.mse_loss(x, self._target(name, number, x))
            for number, (name, x) in enumerate(predictions.items())
        }
        output = Output(predictions, features=features)
        return Losses(losses, {}, None, frozenset(losses), output)

    def _target(self, name: str, number: int, like: Tensor) -> Tensor:
        """Return what a task shall predict, drawn once."""
        if like.is_meta:
            return torch.empty_like(like)
        if name not in self.targets:
            generator = torch.Generator().manual_seed(number)
            self.targets[name] = torch.randn(like.shape, generator=generator).to(like.device)
        return self.targets[name]


@dataclass(frozen=True)
class Stage:
    """A network in place, with its data.

    Args:
        network: whose forward gives `Losses`.
        batch: what it takes.
        placement: device and precision.
        reach: which loss reaches which parameter.
    """

    network: nn.Module
    batch: Batch | Tensor
    placement: Placement
    reach: Reach

    @classmethod
    def of(cls, case: Case, placement: Placement, is_channels_last: bool) -> Stage:
        """Build and place a network.

        Args:
            case: which.
            placement: where and how.
            is_channels_last: as mtlkit does; else weights are laid out as torch makes them.
        """
        blank = case.build("meta")
        reach = probe(blank, blank(case.draw("meta")))
        network = case.build("cpu")
        network = (
            to_device(network, placement) if is_channels_last else network.to(placement.device)
        )
        batch = case.draw("cpu")
        is_plain, device = isinstance(batch, Tensor), placement.device
        there = batch.to(device) if is_plain else move(batch, device)
        return cls(network.train(), there, placement, reach)

    def losses(self) -> Losses:
        """Return the losses of a forward pass, with their graph."""
        with autocast(self.placement):
            return self.network(self.batch)

    @property
    def shared(self) -> list[nn.Parameter]:
        """Parameters that all tasks reach."""
        named = dict(self.network.named_parameters())
        return [named[name] for name in self.reach.shared]
