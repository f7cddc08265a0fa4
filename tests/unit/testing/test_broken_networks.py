"""Each check of encoders and architectures catches a plugin that breaks its promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mtlkit.nn import seeded
from mtlkit.structures import FeatureSpec, Output
from mtlkit.testing import ARCHITECTURE, ENCODER, check_architecture, check_encoder
from mtlkit.testing.stand_ins import tasks_called
from mtlkit_plugins.commands._new.templates.architecture import GatedNetwork
from mtlkit_plugins.commands._new.templates.architecture import OwnPlugin as Gated
from mtlkit_plugins.commands._new.templates.encoder import OwnPlugin as Convolutions

Table = dict[str, tuple[dict[str, Any], str]]
TASKS = tasks_called(("near", "far"))


class Detaching(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return [x.detach() for x in self.network(image)]


class InPlace(Detaching):
    def forward(self, image):
        return self.network(image.mul_(0.5))


class NoChain(Detaching):
    def __init__(self, network):
        super().__init__(network)
        self.stages = nn.Sequential(*network.stages)

    def forward(self, image):
        return self.network(image)


def encoder_of(change: Callable[[nn.Module, FeatureSpec], tuple[nn.Module, FeatureSpec]]) -> Any:
    return {"build_encoder": lambda self: change(*Convolutions.build_encoder(self))}


def seedless(self):
    torch.manual_seed(3)
    return Convolutions.build_encoder(self)


ENCODERS: Table = {
    "maps_agree_with_the_spec_on_the_meta_device": (
        encoder_of(lambda network, spec: (network, FeatureSpec((1,) * 4, spec.strides, 16))),
        "and the spec says",
    ),
    "maps_agree_with_the_spec_for_real_and_are_finite": (
        encoder_of(lambda network, spec: (Detaching(network), spec)),
        "a map is detached",
    ),
    "the_spec_lists_maps_from_fine_to_coarse": (
        encoder_of(lambda network, spec: (network, FeatureSpec(spec.channels, (16, 8, 4, 2), 16))),
        "List the finest map first",
    ),
    "each_image_is_seen_alone_in_evaluation_and_left_alone": (
        encoder_of(lambda network, spec: (InPlace(network), spec)),
        "the image is changed. Use no operation in place on it",
    ),
    "stages_if_any_are_a_chain_that_gives_the_maps": (
        encoder_of(lambda network, spec: (NoChain(network), spec)),
        "`stages` is no ModuleList of Sequentials",
    ),
    "two_seeds_give_two_encoders_and_one_seed_one": (
        {"build_encoder": seedless},
        "two seeds give the same weights. Set no seed",
    ),
}


def architecture_of(forward: Callable[[Any, torch.Tensor], Output]) -> dict[str, Any]:
    def build(self, encoder, tasks):
        network = Gated.build_architecture(self, encoder, tasks)
        network.forward = lambda image: forward(network, image)
        return network

    return {"build_architecture": build}


def predicted(network, features):
    return {name: decoder(features) for name, decoder in network.decoders.items()}


def halved(network, image):
    whole = predicted(network, network.encoder(image))
    return Output({name: x[..., ::2] for name, x in whole.items()})


def uncut(network, image):
    features = network.encoder(image)
    return Output(predicted(network, features), features=features)


def cut_off(network, image):
    return Output(predicted(network, [x.detach() for x in network.encoder(image)]))


def waiting(network, image):
    return Output(predicted(network, network.encoder(image / image.max().item())))


def drawing(network, image):
    whole = predicted(network, network.encoder(image))
    return Output({name: x + torch.rand(()) for name, x in whole.items()})


def with_a_spare_decoder(self, encoder, tasks):
    network = Gated.build_architecture(self, encoder, tasks)
    network.decoders["spare"] = nn.Linear(1, 1)
    return network


def with_a_draw(self, encoder, tasks):
    torch.rand(1)
    return Gated.build_architecture(self, encoder, tasks)


def in_one_row(self, encoder, tasks):
    with seeded("everything"):
        body, features = encoder.build_encoder()
        decoders = nn.ModuleDict({n: t.build_decoder(features, 4) for n, t in tasks.items()})
    return GatedNetwork(body, decoders)


def for_two(self, encoder, tasks):
    if len(tasks) == 1:
        raise ValueError("two tasks or more")
    return Gated.build_architecture(self, encoder, tasks)


def with_twins(self, encoder, tasks):
    network = Gated.build_architecture(self, encoder, tasks)
    for name in tasks:
        network.decoders[name] = network.decoders["near"]
    return network


ARCHITECTURES: Table = {
    "every_task_has_one_prediction_at_input_size": (
        architecture_of(halved),
        "'near' is predicted as (2, 5, 16, 12), not (2, 5, 16, 24)",
    ),
    "features_are_views_that_every_prediction_is_made_from": (
        architecture_of(uncut),
        "a feature is no view of a map on the graph. Make them by mtlkit.nn.cut",
    ),
    "every_task_trains_its_decoder_and_the_encoder": (
        architecture_of(cut_off),
        "the loss of 'near' reaches no parameter of 'encoder.'",
    ),
    "weights_are_saved_under_encoder_and_decoders": (
        {"build_architecture": with_a_spare_decoder},
        "Hold decoders in a ModuleDict of that name, by task",
    ),
    "it_is_built_and_run_without_values": (
        architecture_of(waiting),
        "It is not. Use no value of the image (RuntimeError",
    ),
    "the_same_seed_gives_the_same_weights_and_moves_no_generator": (
        {"build_architecture": with_a_draw},
        "building moves torch's generator. Build parts inside mtlkit.nn.seeded",
    ),
    "initial_weights_of_a_part_depend_on_no_other_task": (
        {"build_architecture": in_one_row},
        "with the tasks in another order, decoders.far.head.weight starts from other weights",
    ),
    "a_subset_of_tasks_works_too": (
        {"build_architecture": for_two},
        "ValueError: two tasks or more. Mend the plugin",
    ),
    "evaluation_is_deterministic_and_changes_nothing": (
        architecture_of(drawing),
        "'near' is predicted in two ways. Draw nothing",
    ),
    "two_tasks_of_one_type_have_decoders_of_their_own": (
        {"build_architecture": with_twins},
        "they predict the same. Build each decoder inside mtlkit.nn.seeded(…, name)",
    ),
}


def test_there_is_a_broken_plugin_for_each_check():
    for contract, table in ((ENCODER, ENCODERS), (ARCHITECTURE, ARCHITECTURES)):
        assert list(table) == [check.name for check in contract.checks]


def caught_by(contract, name, plugin, *partners):
    with pytest.raises(AssertionError) as caught:
        contract.check(name)(plugin, *partners)
    with pytest.raises(AssertionError, match="breaks its contract"):
        contract.run(plugin, *partners)
    return str(caught.value)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_that_breaks_a_promise_is_caught(name):
    broken, words = ENCODERS[name]
    encoder = type("Broken", (Convolutions,), broken)(widths=(4, 4, 4, 4))
    assert words in caught_by(ENCODER, name, encoder)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_that_breaks_a_promise_is_caught(name):
    broken, words = ARCHITECTURES[name]
    architecture = type("Broken", (Gated,), broken)(width=4)
    assert words in caught_by(ARCHITECTURE, name, architecture, TASKS)


def test_healthy_ones_pass():
    check_encoder(Convolutions(widths=(4, 4, 4, 4)))
    check_architecture(Gated(width=4))
