"""How far two predictions of a task are apart, and how wrong one is, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch

from mtlkit.structures import Label
from mtlkit_plugins.tasks.boundary import Boundary
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.normals import Normals
from mtlkit_plugins.tasks.reconstruction import Reconstruction
from mtlkit_plugins.tasks.segmentation import Segmentation


def pixel(*channels):
    return torch.tensor(channels).view(1, -1, 1, 1)


def label(value):
    return Label(value, torch.ones(1, 1, 1, 1, dtype=torch.bool))


def test_classes_disagree_by_the_divergence_of_the_transferred_from_the_direct_prediction():
    direct, transferred = pixel(0.5, 0.5).log(), pixel(0.25, 0.75).log() + 7  # logits of any offset
    found = Segmentation(classes=2).disagreement(transferred, direct)
    assert found.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-5)
    other = Segmentation(classes=2).disagreement(direct, transferred)
    assert other.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-5)


def test_the_divergence_of_very_sure_predictions_is_finite():
    sure = pixel(500.0, -500.0)
    found = Segmentation(classes=2).disagreement(-sure, sure)
    assert found.item() == pytest.approx(1000)
    assert Boundary().disagreement(pixel(-500.0), pixel(500.0)).item() == pytest.approx(500)


def test_a_boundary_disagrees_as_two_classes_do():
    found = Boundary().disagreement(pixel(math.log(3)), pixel(0.0))  # 3/4 against 1/2
    assert found.item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("vector", "expected"), [((0.0, 0.0, 9.0), 0), ((0.0, 3.0, 4.0), 0.2), ((0.0, 0.0, -1.0), 2)]
)
def test_normals_disagree_by_one_less_the_cosine_whatever_their_length(vector, expected):
    found = Normals().disagreement(pixel(*vector), pixel(0.0, 0.0, 0.5))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_distances_and_colours_disagree_by_the_mean_difference_of_channels():
    assert Depth().disagreement(pixel(3.0), pixel(-1.0)).item() == 4
    found = Reconstruction().disagreement(pixel(0.1, 0.2, 0.3), pixel(0.4, 0.2, 0.9))
    assert found.item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("task", "prediction", "value", "expected"),
    [
        (Segmentation(classes=3), pixel(0.0, 2.0, 1.0), torch.tensor([[[1]]]), 0),
        (Segmentation(classes=3), pixel(0.0, 2.0, 1.0), torch.tensor([[[2]]]), 1),
        (Boundary(), pixel(math.log(3)), pixel(1.0), 0.25),
        (Boundary(), pixel(math.log(3)), pixel(0.0), 0.75),
        (Normals(), pixel(0.0, 3.0, 0.0), pixel(0.0, 0.5, math.sqrt(0.75)), 60),
        (Depth(), pixel(-1.0), pixel(0.5), 1.5),
        (Reconstruction(), pixel(2.0, 0.5, -1.0), pixel(0.7, 0.5, 0.0), 0.1),  # cut to [0,1]
    ],
)
def test_the_error_of_a_pixel_is_that_of_the_tasks_metric(task, prediction, value, expected):
    found = task.pixel_error(prediction, label(value))
    assert found.shape == (1, 1, 1, 1) and found.item() == pytest.approx(expected, rel=1e-5)
