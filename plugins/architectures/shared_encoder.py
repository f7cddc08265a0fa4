"""Hard parameter sharing: one encoder, a decoder per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from mtlkit.contracts import Architecture, Encoder, Task
from mtlkit.hookspecs import hookimpl
from mtlkit.nn import Decoder, cut, seeded
from mtlkit.structures import Output


class SharedEncoder(Architecture):
    """One encoder for all tasks and one decoder for each, as the task builds it.

    Source: XTasC-Net, arXiv 2111.14122, section 3; released code (model/xtask_ts.py).
    """

    type: Literal["shared_encoder"] = "shared_encoder"
    width: int = Field(128, ge=1, description="channels of the decoders' blocks")

    def build_architecture(self, encoder: Encoder | None, tasks: Mapping[str, Task]) -> nn.Module:
        """Return a module, (N,3,H,W) to `Output`.

        Each part starts from its own name, so that tasks may come, go or change places without
        another weight for any other part.

        Args:
            encoder: what all decoders read.
            tasks: by name, in the recipe's order.
        """
        assert encoder is not None  # `uses_encoder`: the recipe is refused without one
        with seeded("encoder"):
            body, features = encoder.build_encoder()
        decoders = nn.ModuleDict()
        for name, task in tasks.items():
            with seeded("decoder", name):
                decoders[name] = task.build_decoder(features, self.width)
        return SharedEncoderNetwork(body, decoders)


class SharedEncoderNetwork(nn.Module):
    """Runs the encoder once and every decoder on its maps."""

    def __init__(self, encoder: nn.Module, decoders: nn.ModuleDict) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = decoders

    def forward(self, image: Tensor) -> Output:
        """Return a prediction per task, with the maps that the decoders and their heads read.

        Args:
            image: RGB, (N,3,H,W), float, in [0,1].
        """
        features = cut(self.encoder(image))
        predictions, hidden = {}, {}
        for name, decoder in self.decoders.items():
            assert isinstance(decoder, Decoder)  # what `build_decoder` returns
            hidden[name] = decoder.hide(features)
            predictions[name] = decoder.predict(hidden[name])
        return Output(predictions, features=features, hidden=hidden)


@hookimpl
def mtlkit_architectures() -> list[type[Architecture]]:
    """Return the shared encoder."""
    return [SharedEncoder]
