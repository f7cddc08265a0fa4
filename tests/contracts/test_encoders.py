"""What every encoder promises: maps as its spec says."""

from __future__ import annotations

import pytest
import torch
from arguments import make, registered, variants
from torch import nn

EVERY = pytest.mark.parametrize(("name", "fields"), variants("encoder"))
PLAIN = pytest.mark.parametrize("name", registered("encoder"))


def assert_as_the_spec_says(maps, spec, size):
    assert [x.shape[1] for x in maps] == list(spec.channels)
    for x, stride in zip(maps, spec.strides, strict=True):
        assert tuple(side * stride for side in x.shape[2:]) == size


@EVERY
def test_maps_agree_with_the_spec_on_the_meta_device(name, fields):
    with torch.device("meta"):
        encoder, spec = make("encoder", name, **fields).build_encoder()
        for rows, columns in ((1, 2), (3, 1)):
            size = (rows * spec.divisor, columns * spec.divisor)
            assert_as_the_spec_says(encoder(torch.empty(2, 3, *size)), spec, size)
    assert all(p.is_meta for p in encoder.parameters())


@PLAIN
def test_maps_agree_with_the_spec_for_real_and_are_finite(name):
    encoder, spec = make("encoder", name).build_encoder()
    size = (spec.divisor, 2 * spec.divisor)
    maps = encoder(torch.rand(2, 3, *size))
    assert_as_the_spec_says(maps, spec, size)
    assert all(x.isfinite().all() and x.requires_grad for x in maps)


@EVERY
def test_the_spec_lists_maps_from_fine_to_coarse(name, fields):
    with torch.device("meta"):
        _, spec = make("encoder", name, **fields).build_encoder()
    assert len(spec.channels) == len(spec.strides) > 0
    assert list(spec.strides) == sorted(spec.strides)
    assert all(spec.divisor % stride == 0 for stride in spec.strides)


@PLAIN
def test_the_image_is_left_alone_and_evaluation_sees_each_image_alone(name):
    encoder, spec = make("encoder", name).build_encoder()
    image = torch.rand(2, 3, spec.divisor, spec.divisor)
    kept = image.clone()
    with torch.no_grad():
        both, alone = encoder.eval()(image), encoder(image[1:])
    assert torch.equal(image, kept)
    for a, b in zip(both, alone, strict=True):
        torch.testing.assert_close(a[1:], b, rtol=1e-3, atol=1e-4)


@PLAIN
def test_stages_if_any_are_a_chain_that_gives_the_maps(name):
    encoder, spec = make("encoder", name).build_encoder()
    stages = getattr(encoder, "stages", None)
    if stages is None:
        pytest.skip("has no stages")
    assert isinstance(stages, nn.ModuleList) and all(isinstance(s, nn.Sequential) for s in stages)
    seen = []
    for stage in stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        maps = encoder.eval()(torch.rand(1, 3, spec.divisor, spec.divisor))
    assert all(any(x is output for output in seen) for x in maps)


@PLAIN
def test_two_seeds_give_two_encoders_and_one_seed_one(name):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        encoder, _ = make("encoder", name).build_encoder()
        weights.append(torch.cat([p.detach().flatten() for p in encoder.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
