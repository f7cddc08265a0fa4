"""What every encoder promises: maps as its spec says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlkit.contracts import Encoder
from mtlkit.structures import FeatureSpec
from mtlkit.testing.contract import Contract, require, require_close, require_equal, told
from mtlkit.testing.stand_ins import image_of

ENCODER = Contract("encoder")


def check_encoder(encoder: Encoder) -> None:
    """Check all that an encoder promises; weights that its fields name are read.

    Args:
        encoder: with its arguments.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    ENCODER.run(encoder)


@ENCODER.promises
def maps_agree_with_the_spec_on_the_meta_device(encoder: Encoder) -> None:
    """Built and run on the meta device, its maps have the channels and strides of its spec."""
    sentence = "It does not run there. Use no value of the image"
    with told(sentence), torch.device("meta"):
        built = encoder.build_encoder()
    seen = f"build_encoder returns {type(built).__name__}"
    is_pair = isinstance(built, tuple) and len(built) == 2 and isinstance(built[1], FeatureSpec)
    require(is_pair, f"{seen}. Return the module and its FeatureSpec")
    network, spec = built
    with told(sentence), torch.device("meta"):
        sizes = [(r * spec.divisor, c * spec.divisor) for r, c in ((1, 2), (3, 1))]
        maps = [network(torch.empty(2, 3, *size)) for size in sizes]
    for found, size in zip(maps, sizes, strict=True):
        _require_spec(found, spec, size)
    has_values = [name for name, p in network.named_parameters() if not p.is_meta]
    require(not has_values, f"{has_values} are made with values there. Use torch's defaults")


@ENCODER.promises_once
def maps_agree_with_the_spec_for_real_and_are_finite(encoder: Encoder) -> None:
    """Its maps have the channels and strides of its spec, are finite, and learn."""
    network, spec = encoder.build_encoder()
    size = (spec.divisor, 2 * spec.divisor)
    maps = network(image_of(size))
    _require_spec(maps, spec, size)
    require(all(bool(x.isfinite().all()) for x in maps), "a map is not finite")
    require(
        all(x.requires_grad for x in maps), "a map is detached. Freeze by the optimizer instead"
    )


@ENCODER.promises
def the_spec_lists_maps_from_fine_to_coarse(encoder: Encoder) -> None:
    """The spec has a stride for each map, finest first, and each divides `divisor`."""
    with torch.device("meta"):
        _, spec = encoder.build_encoder()
    seen = f"channels are {spec.channels}, strides {spec.strides}, the divisor {spec.divisor}"
    is_whole = len(spec.channels) == len(spec.strides) > 0
    require(is_whole, f"{seen}. Write as many strides as channels")
    require(list(spec.strides) == sorted(spec.strides), f"{seen}. List the finest map first")
    divides = all(spec.divisor % stride == 0 for stride in spec.strides)
    require(divides, f"{seen}. Every stride has to divide the divisor")


@ENCODER.promises_once
def each_image_is_seen_alone_in_evaluation_and_left_alone(encoder: Encoder) -> None:
    """In evaluation a map does not depend on the other images, and no image is changed."""
    network, spec = encoder.build_encoder()
    image = image_of((spec.divisor, spec.divisor))
    kept = image.clone()
    with torch.no_grad():
        both, alone = network.eval()(image), network(image[1:])
    require_equal(image, kept, "the image is changed. Use no operation in place on it")
    for a, b in zip(both, alone, strict=True):
        sentence = "a map changes with the other images of the batch. Use running statistics"
        require_close(a[1:], b, sentence, rtol=1e-3, atol=1e-4)


@ENCODER.promises_once
def stages_if_any_are_a_chain_that_gives_the_maps(encoder: Encoder) -> None:
    """`stages`, if it has them, are a ModuleList of Sequentials whose outputs are the maps."""
    network, spec = encoder.build_encoder()
    stages = getattr(network, "stages", None)
    if stages is None:
        return
    is_chain = isinstance(stages, nn.ModuleList) and all(
        isinstance(stage, nn.Sequential) for stage in stages
    )
    require(is_chain, "`stages` is no ModuleList of Sequentials. Make it one, or rename it")
    seen: list[Tensor] = []
    for stage in stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        maps = network.eval()(image_of((spec.divisor, spec.divisor), images=1))
    are_outputs = all(any(x is output for output in seen) for x in maps)
    require(are_outputs, "a map is no stage's output. Return the stages' outputs")


@ENCODER.promises_once
def two_seeds_give_two_encoders_and_one_seed_one(encoder: Encoder) -> None:
    """Initial weights are drawn from torch's generator: one seed gives one encoder."""
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network, _ = encoder.build_encoder()
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    require_equal(weights[0], weights[1], "one seed gives two encoders. Draw from torch alone")
    if encoder.untrained() == encoder:  # else weights are read, and no seed has a part
        differ = not torch.equal(weights[0], weights[2])
        require(differ, "two seeds give the same weights. Set no seed")


def _require_spec(maps: Sequence[Tensor], spec: FeatureSpec, size: tuple[int, int]) -> None:
    """Require maps of the channels and strides of a spec."""
    found = [tuple(x.shape[1:]) for x in maps]
    wanted = [
        (channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(spec.channels, spec.strides, strict=True)
    ]
    seen = f"from {size[0]}×{size[1]} come maps of {found}, and the spec says {wanted}"
    require(found == wanted, f"{seen}. Mend the FeatureSpec, or the padding")
