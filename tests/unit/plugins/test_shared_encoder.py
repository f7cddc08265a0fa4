from __future__ import annotations

import pytest
import torch

from mtlkit_plugins.architectures.shared_encoder import SharedEncoder
from mtlkit_plugins.encoders.resnet import ResNetEncoder
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation

SEGMENTATION = Segmentation(name="segmentation", classes=7)
DEPTH = Depth(name="depth")
SPARE = Depth(name="spare")


def built(*tasks, seed=0):
    torch.manual_seed(seed)
    named = {task.name: task for task in tasks}
    return SharedEncoder(width=8).build_architecture(ResNetEncoder(depth=18), named)


@pytest.fixture(scope="module")
def network():
    return built(SEGMENTATION, DEPTH).eval()


def test_there_is_one_prediction_per_task_at_input_size(network):
    with torch.no_grad():
        output = network(torch.rand(2, 3, 32, 64))
    assert {name: tuple(p.shape) for name, p in output.predictions.items()} == {
        "segmentation": (2, 7, 32, 64),
        "depth": (2, 1, 32, 64),
    }
    assert {name: tuple(h.shape) for name, h in output.hidden.items()} == {
        "segmentation": (2, 8, 16, 32),  # enlarged behind the head
        "depth": (2, 8, 16, 32),
    }
    assert len(output.features) == 5


def test_predictions_are_those_of_the_decoders(network):
    with torch.no_grad():
        image = torch.rand(1, 3, 32, 32)
        output = network(image)
        expected = network.decoders["depth"](network.encoder(image))
    assert torch.equal(output.predictions["depth"], expected)


def test_all_gradients_pass_through_the_features():
    network = built(SEGMENTATION, DEPTH)
    output = network(torch.rand(2, 3, 32, 32))
    total = torch.stack([p.square().mean() for p in output.predictions.values()]).sum()
    weight = network.encoder.stages[0][0].weight
    (whole,) = torch.autograd.grad(total, weight, retain_graph=True)
    at_cut = torch.autograd.grad(total, output.features, retain_graph=True)
    (through,) = torch.autograd.grad(output.features, weight, at_cut)
    assert torch.allclose(whole, through, rtol=1e-4, atol=1e-7)


def test_other_tasks_and_their_order_change_no_weight():
    few, many = built(DEPTH), built(SPARE, SEGMENTATION, DEPTH)
    weights = many.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in few.state_dict().items())
    ours, others = many.decoders["depth"].head.weight, many.decoders["spare"].head.weight
    assert not torch.equal(ours, others)


def test_another_seed_gives_other_weights():
    first, second = built(DEPTH), built(DEPTH, seed=1)
    for part in ("encoder.stages.0.0.weight", "decoders.depth.head.weight"):
        assert not torch.equal(first.state_dict()[part], second.state_dict()[part])
