from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from mtlkit.structures import FieldSpec, Label, counts_of, mean_counts
from mtlkit.transforms import EdgeMap, NormalMap
from mtlkit_plugins.tasks.boundary import Boundary


def example(images=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, 1, 6, 7, generator=generator)
    value = (torch.rand(images, 1, 6, 7, generator=generator) < 0.2).float()
    valid = torch.rand(images, 1, 6, 7, generator=generator) < 0.8
    return logits, Label(value, valid)


def terms(logits, value):
    return functional.binary_cross_entropy_with_logits(logits, value, reduction="none")


@pytest.mark.parametrize("weight", [0.95, 0.5, 0.2])
def test_a_fixed_weight_is_that_of_boundaries_and_the_rest_has_what_is_left(weight):
    logits, label = example()
    is_boundary = label.value == 1
    both = torch.where(is_boundary, weight, 1 - weight) * terms(logits, label.value)
    expected = both[label.valid].mean()
    assert torch.allclose(Boundary(positive_weight=weight).loss(logits, label), expected)


def test_the_default_weight_is_095():
    assert Boundary() == Boundary(positive_weight=0.95)


def test_a_balanced_weight_is_the_share_of_the_rest_in_each_image():
    logits, label = example()
    total = 0.0
    for x, g, valid in zip(logits, label.value, label.valid, strict=True):
        share = float((g[valid] == 0).float().mean())
        total += (torch.where(g == 1, share, 1 - share) * terms(x, g))[valid].sum()
    found = Boundary(positive_weight="balanced").loss(logits, label)
    assert torch.allclose(found, total / label.valid.sum())


def test_a_balanced_image_without_a_boundary_has_no_loss():
    logits, label = example()
    label.value[1] = 0
    leaf = logits.clone().requires_grad_()
    Boundary(positive_weight="balanced").loss(leaf, label).backward()
    assert not leaf.grad[1].any() and leaf.grad[0].any()


@pytest.mark.parametrize("weight", [0.95, "balanced"])
def test_the_loss_does_not_depend_on_which_images_share_a_batch(weight):
    logits, label = example()
    task = Boundary(positive_weight=weight)
    parts = [mean_counts([{"b": counts_of(v[None])} for v in label.valid])["b"]] * 3
    alone = [
        task.loss(logits[i : i + 1], Label(label.value[i : i + 1], label.valid[i : i + 1], c))
        for i, c in enumerate(parts)
    ]
    assert torch.allclose(torch.stack(alone).mean(), task.loss(logits, label))


@pytest.mark.parametrize("weight", [0.0, 1.0, -1, True, None, "even"])
def test_impossible_weights_are_refused_in_one_sentence(weight):
    with pytest.raises(ValidationError) as told:
        Boundary(positive_weight=weight)
    (fault,) = told.value.errors()
    assert fault["loc"] == ("positive_weight",)
    assert f"must be a number between 0 and 1, or balanced, got {weight!r}" in fault["msg"]


def test_large_logits_have_a_finite_loss_and_gradient():
    logits = torch.tensor([1e4, -1e4]).view(1, 1, 1, 2).requires_grad_()
    value = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    loss = Boundary().loss(logits, Label(value, torch.ones(1, 1, 1, 2, dtype=torch.bool)))
    loss.backward()
    assert loss.item() == pytest.approx((0.05 * 1e4 + 0.95 * 1e4) / 2)
    assert logits.grad.isfinite().all()


def test_edges_read_the_logarithms_of_both_probabilities():
    task, (logits, _) = Boundary(), example()
    read = task.as_input(logits)
    assert task.input_channels == 2
    assert torch.allclose(read.exp(), torch.cat((logits.sigmoid(), 1 - logits.sigmoid()), 1))
    assert task.as_input(torch.full((1, 1, 1, 1), 1e5)).isfinite().all()


def test_a_label_is_read_as_a_sure_prediction_and_is_finite():
    task, (_, label) = Boundary(), example()
    read = task.label_as_input(label)
    assert read.isfinite().all()
    assert torch.equal((read[:, :1] == 0).float(), label.value)
    assert torch.allclose(read.exp(), torch.cat((label.value, 1 - label.value), 1), atol=1e-5)


def test_pseudo_labels_are_hard_at_one_half_or_probabilities():
    task = Boundary()
    logits = torch.tensor([-1.0, 0.0, 2.0]).view(1, 1, 1, 3).requires_grad_()
    hard, soft = task.as_label(logits), task.as_soft_label(logits, 2.0)
    assert hard.flatten().tolist() == [0, 1, 1]
    assert soft.flatten().tolist() == pytest.approx(
        [1 / (1 + math.exp(-x / 2)) for x in (-1, 0, 2)]
    )
    assert not hard.requires_grad and not soft.requires_grad


def test_metrics_are_those_of_the_best_threshold():
    task, (_, label) = Boundary(), example()
    sure = 20 * label.value - 10
    for name, spec in task.metrics().items():
        spec.metric.update(sure, label)
        assert spec.metric.compute() == 1, name
    assert list(task.metrics()) == ["f", "precision", "recall"]


def test_boundaries_are_darker_than_the_rest():
    value = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    shades = Boundary().render(value).mean(1).flatten()
    assert shades[0] > shades[1] > shades[2] > 0.2  # darker is kept for what has no label
    assert "dark" in Boundary().legend(value, "")


@pytest.mark.parametrize(("kind", "faults"), [(EdgeMap, 0), (NormalMap, 1)])
def test_only_a_label_of_another_kind_is_refused(kind, faults):
    recipe = SimpleNamespace(offers={"edges": FieldSpec(kind)})
    found = list(Boundary(name="boundary", label="edges").problems(recipe))
    assert len(found) == faults
    assert all("'edges' is of the kind NormalMap" in text for text in found)
