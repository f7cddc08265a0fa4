"""The architecture `own_plugin`: one encoder, seen by each task its way."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

import mtlkit
from mtlkit.nn import Decoder, cut, seeded


class OwnPlugin(mtlkit.Architecture):
    """A shared encoder, and for each task gates on its maps before the task's decoder."""

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe
    width: int = Field(128, ge=1, description="channels of the decoders' blocks")

    def build_architecture(
        self, encoder: mtlkit.Encoder | None, tasks: Mapping[str, mtlkit.Task]
    ) -> nn.Module:
        """Return the network, (N,3,H,W) to `Output`.

        Args:
            encoder: what all tasks share.
            tasks: by name, in the recipe's order.
        """
        assert encoder is not None  # a recipe without one is refused before
        with seeded("encoder"):  # a part's weights do not depend on the other parts
            body, features = encoder.build_encoder()
        decoders = nn.ModuleDict()
        for name, task in tasks.items():
            with seeded("decoder", name):
                decoder = task.build_decoder(features, self.width)
                decoders[name] = GatedDecoder(features.channels, decoder)  # EDIT
        return GatedNetwork(body, decoders)


class GatedDecoder(nn.Module):
    """A decoder that sees each map times a gate in (0,1), made from the map itself.

    Args:
        channels: of the maps, finest first.
        decoder: of the task.
    """

    def __init__(self, channels: Sequence[int], decoder: Decoder) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels)
        self.decoder = decoder

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the task's prediction, (N,C,H,W).

        Args:
            features: the encoder's maps, finest first.
        """
        pairs = zip(features, self.gates, strict=True)
        prediction: Tensor = self.decoder([x * gate(x).sigmoid() for x, gate in pairs])
        return prediction


class GatedNetwork(nn.Module):
    """Weights are saved as `encoder.…` and `decoders.<task>.…`; keep these two names."""

    def __init__(self, encoder: nn.Module, decoders: nn.ModuleDict) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = decoders

    def forward(self, image: Tensor) -> mtlkit.Output:
        """Return a prediction for each task, and the maps that all of them read.

        Args:
            image: (N,3,H,W), in [0,1].
        """
        features = cut(self.encoder(image))  # where gradients of tasks can be compared
        predictions = {name: decoder(features) for name, decoder in self.decoders.items()}
        return mtlkit.Output(predictions, features=features)


@mtlkit.hookimpl
def mtlkit_architectures() -> list[type[mtlkit.Architecture]]:
    """Offer the architecture to recipes."""
    return [OwnPlugin]
