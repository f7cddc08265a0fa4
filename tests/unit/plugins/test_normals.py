from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from mtlkit.structures import FieldSpec, Label
from mtlkit.transforms import ClassMap, NormalMap
from mtlkit_plugins.tasks.normals import LEAST_LENGTH, Normals


def one(*vector):
    return torch.tensor(vector).view(1, 3, 1, 1)


def label(value):
    return Label(value, torch.ones(len(value), 1, *value.shape[2:], dtype=torch.bool))


# of the directions (0.6, 0, 0.8) and (0, 0, 1)
@pytest.mark.parametrize(("kind", "expected"), [("cosine", 1 - 0.8), ("l1", (0.6 + 0.2) / 3)])
def test_each_loss_has_its_textbook_value(kind, expected):
    task = Normals(loss=kind)
    loss = task.loss(5 * one(0.6, 0.0, 0.8), label(one(0.0, 0.0, 1.0)))
    assert loss.item() == pytest.approx(expected)
    assert task.loss_name == kind


@pytest.mark.parametrize("kind", ["cosine", "l1"])
def test_the_length_of_a_prediction_does_not_matter(kind):
    task, prediction = Normals(loss=kind), torch.randn(2, 3, 4, 5)
    target = label(normalize(torch.randn(2, 3, 4, 5), dim=1))
    assert torch.allclose(task.loss(7 * prediction, target), task.loss(prediction, target))
    assert torch.allclose(task.as_input(7 * prediction), task.as_input(prediction))


@pytest.mark.parametrize("kind", ["cosine", "l1"])
@pytest.mark.parametrize("length", [0.0, 1e-30, LEAST_LENGTH])
def test_gradients_are_finite_where_a_prediction_has_hardly_a_length(kind, length):
    prediction = one(0.0, 0.0, length).requires_grad_()
    loss = Normals(loss=kind).loss(prediction, label(one(0.0, 0.6, -0.8)))
    loss.backward()
    assert loss.isfinite() and prediction.grad.any()
    assert prediction.grad.abs().max() <= 1.01 / LEAST_LENGTH


def test_what_edges_read_has_length_1_and_a_finite_gradient_at_0():
    task = Normals()
    prediction = torch.randn(1, 3, 4, 5)
    prediction[..., 0] = 0
    prediction.requires_grad_()
    read = task.as_input(prediction)
    assert torch.allclose(read[..., 1:].norm(dim=1), torch.ones(1, 4, 4))
    assert not read[..., 0].any()
    read.sum().backward()
    assert prediction.grad.isfinite().all()
    assert task.input_channels == 3


def test_half_precision_is_read_and_scored_in_single_precision():
    task, prediction = Normals(), torch.randn(1, 3, 4, 5).bfloat16()
    assert task.as_input(prediction).dtype == torch.float32
    assert task.as_label(prediction).dtype == torch.float32
    assert task.loss(prediction, label(task.as_label(prediction))).dtype == torch.float32


def test_pseudo_labels_are_detached_unit_vectors():
    value = Normals().as_label(1e-6 * torch.randn(2, 3, 4, 5, requires_grad=True))
    assert not value.requires_grad
    assert torch.allclose(value.norm(dim=1), torch.ones(2, 4, 5))


def test_metrics_measure_angles():
    prediction = torch.cat([3 * one(0.0, 0.0, -1.0), one(0.0, math.sqrt(0.75), -0.5)], 3)
    target = label(torch.cat([one(0.0, 0.0, -1.0)] * 2, 3))
    found = {}
    for name, spec in Normals().metrics().items():
        spec.metric.update(prediction, target)
        found[name] = float(spec.metric.compute())
    assert found["mean_angle"] == pytest.approx(30, abs=1e-4)
    assert found["rms_angle"] == pytest.approx(60 / math.sqrt(2), abs=1e-4)
    assert [found[f"within_{name}"] for name in ("11_25", "22_5", "30")] == [0.5] * 3


@pytest.mark.parametrize(
    ("normal", "colour"),
    [
        ((1.0, 0.0, 0.0), (1.0, 0.5, 0.5)),  # to the right
        ((0.0, -1.0, 0.0), (0.5, 1.0, 0.5)),  # up
        ((0.0, 0.0, -1.0), (0.5, 0.5, 1.0)),  # towards the camera
    ],
)
def test_pictures_have_the_colours_of_the_field(normal, colour):
    task = Normals()
    assert task.render(one(*normal)).flatten().tolist() == pytest.approx(colour)
    assert task.legend(one(*normal), "m") == "right: red, up: green, towards the camera: blue"


@pytest.mark.parametrize(("kind", "faults"), [(NormalMap, 0), (ClassMap, 1), (None, 0)])
def test_only_a_label_of_another_kind_is_refused(kind, faults):
    offers = {"normals": FieldSpec(kind, channels=3)} if kind else {}
    found = list(Normals(name="normals").problems(SimpleNamespace(offers=offers)))
    assert len(found) == faults
    assert all("of the kind ClassMap" in text and "NormalMap" in text for text in found)
