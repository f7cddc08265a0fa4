"""ResNet encoders, as torchvision builds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import ResNet, get_model, get_model_weights

from mtlkit.contracts import Encoder
from mtlkit.errors import CheckpointError, MissingError
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FeatureSpec

# statistics of ImageNet's training images, as torchvision's weights expect them
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ResNetEncoder(Encoder):
    """A ResNet without its classifier; five maps, at strides 2 (before the pooling), 4, 8, 16, 32.

    Source: He et al. 2016, arXiv 1512.03385; the maps are those of XTasC-Net's released code
    (model/xtask_ts.py), which falls back on another depth where it finds no weights; this never
    does.
    """

    type: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = Field(34, description="number of layers")
    weights: str | None = Field(
        None,
        description="null: random; imagenet: torchvision's; else the path of a state dict "
        "(.pt, .pth or .safetensors)",
    )
    normalize: Literal["imagenet", "none"] = Field(
        "imagenet", description="statistics that the image is normalised by"
    )

    def build_encoder(self) -> tuple[nn.Module, FeatureSpec]:
        """Return the encoder and its spec; on the meta device no weights are read.

        Raises:
            MissingError: the weights are not there and cannot be downloaded.
            CheckpointError: they are damaged or of another network.
        """
        network = get_model(f"resnet{self.depth}", weights=None)
        network.fc = nn.Identity()
        if self.weights is not None and not network.conv1.weight.is_meta:
            self._load(network, self.weights)
        deepest = 512 if self.depth <= 34 else 2048
        channels = (64, *(deepest >> shift for shift in (3, 2, 1, 0)))
        spec = FeatureSpec(channels=channels, strides=(2, 4, 8, 16, 32), divisor=32)
        return ResNetFeatures(network, normalize=self.normalize == "imagenet"), spec

    def untrained(self) -> Encoder:
        """Return the encoder with random weights."""
        return self.model_copy(update={"weights": None})

    def _load(self, network: ResNet, weights: str) -> None:
        """Fill the network, in place; the classifier's weights are left out."""
        path = self._downloaded() if weights == "imagenet" else Path(weights).expanduser()
        state = {k: v for k, v in _read(path).items() if not k.startswith("fc.")}
        # files from before torch 0.4 lack the counters of batch norm, which training ignores
        wanted = {
            k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")
        }
        wrong = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
        wrong += [k for k in state if k not in network.state_dict()]
        if wrong:
            message = f"encoder weights: {str(path)!r} is no resnet{self.depth} ({wrong[0]!r} is "
            message += "missing, unknown or of another shape). Set `depth` to the file's, or "
            raise CheckpointError(message + "`weights: null`")
        network.load_state_dict(state)

    def _downloaded(self) -> Path:
        """Return the file of torchvision's weights, downloaded if it is not there yet."""
        # V1: the weights of the papers; V2 exists from depth 50 on alone
        weights = get_model_weights(f"resnet{self.depth}")["IMAGENET1K_V1"]
        folder = Path(torch.hub.get_dir(), "checkpoints")
        path = folder / Path(weights.url).name
        if not path.exists():
            try:
                weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
            except (OSError, RuntimeError):  # no network, no such folder; a wrong hash
                message = f"encoder weights: {path.name} is not in {str(folder)!r} and cannot be "
                message += "downloaded. Put the file there, or set `weights: null`"
                raise MissingError(message) from None
        return path


class ResNetFeatures(nn.Module):
    """Normalises an image and returns the map after each stage.

    Args:
        network: torchvision's; its parts are moved here.
        normalize: whether the image is normalised by ImageNet's statistics.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: ResNet, normalize: bool) -> None:
        super().__init__()
        mean, std = (MEAN, STD) if normalize else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.stages = nn.ModuleList(
            (
                nn.Sequential(network.conv1, network.bn1, network.relu),
                nn.Sequential(network.maxpool, *network.layer1),
                network.layer2,
                network.layer3,
                network.layer4,
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five maps, finest first.

        Args:
            image: RGB, (N,3,H,W), float, in [0,1].
        """
        x = (image - self.mean) / self.std
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _read(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict of a file, on the CPU; code in it is never run."""
    if not path.is_file():
        message = f"encoder weights: no file {str(path)!r}. Name one, or set `weights: null`"
        raise MissingError(message)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever damaged bytes lead to
        message = f"encoder weights: {str(path)!r} cannot be read as a state dict. Save the weights"
        raise CheckpointError(f"{message} alone, as .pth or .safetensors") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        message = f"encoder weights: {str(path)!r} holds more than a state dict. Save the weights"
        raise CheckpointError(f"{message} alone, as .pth or .safetensors")
    return state


@hookimpl
def mtlkit_encoders() -> list[type[Encoder]]:
    """Return the ResNet encoder."""
    return [ResNetEncoder]
