"""The decoder: its head goes before the last upsampling where that changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mtlkit import FeatureSpec
from mtlkit.nn import Decoder, Trunk

FEATURES = FeatureSpec((3, 5, 6), (2, 4, 8), 8)


def maps_of(features: FeatureSpec) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pairs = zip(features.channels, features.strides, strict=True)
    return [
        torch.rand(2, c, 32 // s, 48 // s, generator=generator, dtype=torch.float64)
        for c, s in pairs
    ]


def big(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, (32, 48), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("bias", [False, True])
def test_a_pointwise_head_may_go_before_the_upsampling(bias: bool) -> None:
    decoder = Decoder(Trunk(FEATURES, 4), nn.Conv2d(4, 7, 1, bias=bias)).double()
    maps = maps_of(FEATURES)
    hidden = decoder.trunk(maps)
    assert hidden.shape == (2, 4, 16, 24) and decoder.is_pointwise
    torch.testing.assert_close(decoder(maps), decoder.head(big(hidden)), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_head_at_input_size() -> None:
    decoder = Decoder(Trunk(FEATURES, 4), nn.Conv2d(4, 2, 1, bias=False)).double()
    maps = maps_of(FEATURES)
    parameters = list(decoder.parameters())
    first = torch.autograd.grad(decoder(maps).square().mean(), parameters)
    plain = decoder.head(big(decoder.trunk(maps))).square().mean()
    for found, expected in zip(first, torch.autograd.grad(plain, parameters), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "head",
    [
        nn.Conv2d(4, 2, 3, padding=1),
        nn.Sequential(nn.Conv2d(4, 2, 1), nn.Tanh()),
        nn.Conv2d(4, 2, 1, padding=1),
    ],
    ids=["3x3", "not linear", "padded"],
)
def test_any_other_head_reads_the_hidden_map_at_input_size(head: nn.Module) -> None:
    decoder = Decoder(Trunk(FEATURES, 4), head).double()
    maps = maps_of(FEATURES)
    assert not decoder.is_pointwise
    assert torch.equal(decoder(maps), decoder.head(big(decoder.trunk(maps))))


def test_maps_of_one_stride_are_joined_as_they_are() -> None:
    features = FeatureSpec((3, 5), (8, 8), 8)
    decoder = Decoder(Trunk(features, 4), nn.Conv2d(4, 2, 1)).double()
    maps = maps_of(features)
    assert decoder.hide(maps).shape == (2, 4, 4, 6) and decoder(maps).shape == (2, 2, 32, 48)


def test_a_trunk_with_a_layer_behind_it_is_enlarged_as_well() -> None:
    layer = nn.Conv2d(4, 4, 1)
    decoder = Decoder(nn.Sequential(Trunk(FEATURES, 4), layer), nn.Conv2d(4, 2, 1)).double()
    assert decoder(maps_of(FEATURES)).shape == (2, 2, 32, 48)


def test_a_trunk_of_ones_own_decides_the_size() -> None:
    decoder = Decoder(nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 1)).double()
    (finest, *_) = maps_of(FEATURES)
    assert decoder(finest).shape == (2, 2, 32, 48)
