"""Trainable parameters of XTasC-Net, counted in the modules of its released code.

github.com/akarimoon/xtask_mt at 167ee59: model/xtask_ts.py and model/transfer_net.py.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from mtlkit.model import MultiTaskModel
from mtlkit_plugins.architectures.shared_encoder import SharedEncoder
from mtlkit_plugins.edges.transfer import CrossTaskConsistency
from mtlkit_plugins.encoders.resnet import ResNetEncoder
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation

TABLE = [  # depth, classes, encoder, both decoders, both networks, all
    (18, 7, 11_176_512, 3_250_688, 3_249_920, 1_885_568, 1_882_496, 21_445_184),
    (18, 13, 11_176_512, 3_251_456, 3_249_920, 1_889_024, 1_882_880, 21_449_792),
    (34, 7, 21_284_672, 3_250_688, 3_249_920, 1_885_568, 1_882_496, 31_553_344),
    (34, 13, 21_284_672, 3_251_456, 3_249_920, 1_889_024, 1_882_880, 31_557_952),
    (50, 7, 23_508_032, 6_568_448, 6_567_680, 1_885_568, 1_882_496, 40_412_224),
    (50, 13, 23_508_032, 6_569_216, 6_567_680, 1_889_024, 1_882_880, 40_416_832),
]
WITHOUT_NETWORKS = {
    (18, 7): 17_677_120,
    (18, 13): 17_677_888,
    (34, 7): 27_785_280,
    (34, 13): 27_786_048,
    (50, 7): 36_644_160,
    (50, 13): 36_644_928,
}


def built(depth, tasks, edges=()):
    with torch.device("meta"):
        architecture = SharedEncoder().build_architecture(ResNetEncoder(depth=depth), tasks)
        return MultiTaskModel(tasks, edges, architecture)


def two_tasks(classes):
    segmentation = Segmentation(name="segmentation", classes=classes)
    return {"segmentation": segmentation, "depth": Depth(name="depth")}


def both_edges(**fields):
    pairs = itertools.permutations(("segmentation", "depth"))
    return [CrossTaskConsistency(source=a, target=b, **fields) for a, b in pairs]


def count(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"resnet{row[0]}-{row[1]}")
def test_every_part_has_the_parameters_of_the_released_code(row):
    depth, classes, *parts, total = row
    model = built(depth, two_tasks(classes), both_edges())
    decoders, edges = model.architecture.decoders, model.edges
    found = [
        count(model.architecture.encoder),
        count(decoders["segmentation"]),
        count(decoders["depth"]),
        count(edges["segmentation_to_depth_xtc"]),
        count(edges["depth_to_segmentation_xtc"]),
    ]
    assert found == parts
    assert count(model) == total
    assert count(model.architecture) == WITHOUT_NETWORKS[depth, classes]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ({"segmentation": Segmentation(classes=7)}, 24_535_360),
        ({"segmentation": Segmentation(classes=13)}, 24_536_128),
        ({"depth": Depth()}, 24_534_592),
    ],
    ids=["segmentation-7", "segmentation-13", "depth"],
)
def test_single_task_networks_have_the_parameters_of_the_released_code(tasks, expected):
    assert count(built(34, tasks)) == expected


@pytest.mark.parametrize(
    ("classes", "fields", "expected"),
    [
        (19, {}, 31_562_560),
        (7, {"norm": "batch"}, 31_558_976),
        (7, {"widths": (128, 256, 512)}, 42_841_664),
    ],
    ids=["19-classes", "batch-norm", "wider"],
)
def test_variants_have_the_parameters_of_the_released_code(classes, fields, expected):
    assert count(built(34, two_tasks(classes), both_edges(**fields))) == expected
