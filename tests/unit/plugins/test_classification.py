from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from mtlkit.nn import Decoder
from mtlkit.structures import FeatureSpec, FieldSpec, Label
from mtlkit.transforms import ClassMap, ImageClass
from mtlkit_plugins.tasks.classification import Classification

FEATURES = FeatureSpec((4, 6, 10), (2, 4, 8), 8)


def task_of(**fields):
    return Classification(name="weather", classes=3, **fields)


def example():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator)
    return logits, Label(torch.tensor([0, 2, 1, 1, 0]), torch.tensor([1, 1, 0, 1, 0]).bool())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_cross_entropy_over_the_labelled_images(smoothing):
    logits, label = example()
    kept = logits[label.valid], label.value[label.valid]
    expected = functional.cross_entropy(*kept, label_smoothing=smoothing)
    assert torch.allclose(task_of(label_smoothing=smoothing).loss(logits, label), expected)


def test_loss_takes_probabilities_and_agrees_on_certain_ones():
    logits, label = example()
    certain = functional.one_hot(label.value, 3).float()
    found = task_of().transfer_loss(logits, Label(certain, label.valid))
    assert torch.allclose(found, task_of().loss(logits, label))


def test_its_decoder_averages_the_deepest_map_and_is_linear():
    maps = [torch.rand(2, c, 16 // s, 24 // s) for c, s in zip((4, 6, 10), (2, 4, 8), strict=True)]
    decoder = task_of().build_decoder(FEATURES, 32)
    assert isinstance(decoder, Decoder)
    assert sum(p.numel() for p in decoder.parameters()) == 10 * 3 + 3
    (linear,) = (m for m in decoder.modules() if isinstance(m, torch.nn.Linear))
    assert torch.allclose(decoder(maps), linear(maps[-1].mean((2, 3))))
    assert torch.equal(decoder.head(decoder.trunk(maps)), decoder(maps))


def test_its_head_serves_the_hidden_map_of_any_architecture():
    assert task_of().build_head(8)(torch.rand(2, 8, 5, 7)).shape == (2, 3)


def test_edges_and_pseudo_labels_have_the_form_of_segmentation_without_pixels():
    task, (logits, label) = task_of(), example()
    assert torch.allclose(task.as_input(logits).exp().sum(1), torch.ones(5))
    assert torch.equal(task.as_label(logits), logits.argmax(1))
    assert torch.allclose(task.as_soft_label(logits, 2.0), (logits / 2).softmax(1))
    read = task.label_as_input(label)
    assert read.isfinite().all() and torch.equal(read.argmax(1), label.value)
    soft = Label(task.as_soft_label(logits, 1.0), label.valid)
    assert torch.allclose(task.label_as_input(soft), task.as_input(logits), atol=1e-5)


def test_accuracy_is_the_share_of_labelled_images_that_are_right():
    _, label = example()
    logits = functional.one_hot(torch.tensor([0, 2, 0, 2, 2]), 3).float()
    metric = task_of().metrics()["accuracy"].metric
    for rows in (slice(0, 2), slice(2, 3), slice(3, 5)):  # the second has no label
        metric.update(logits[rows], Label(label.value[rows], label.valid[rows]))
    assert metric.compute() == pytest.approx(2 / 3)


@pytest.mark.parametrize("fields", [{"classes": 1}, {"classes": 3, "label_smoothing": 1.0}])
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValueError, match=list(fields)[-1]):
        Classification(**fields)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (FieldSpec(ImageClass, classes=("a", "b", "c")), []),
        (FieldSpec(ImageClass), []),
        (FieldSpec(ImageClass, classes=("a", "b")), ["Write `classes: 2`"]),
        (FieldSpec(ClassMap, classes=("a", "b")), ["Set `label` to one of the kind ImageClass"]),
    ],
)
def test_a_label_of_another_kind_or_number_of_classes_is_refused(spec, told):
    found = list(task_of().problems(SimpleNamespace(offers={"weather": spec})))
    assert [text for text, end in zip(found, told, strict=True) if text.endswith(end)] == found


def test_a_label_that_is_not_offered_is_not_its_to_tell():
    assert list(task_of().problems(SimpleNamespace(offers={}))) == []
