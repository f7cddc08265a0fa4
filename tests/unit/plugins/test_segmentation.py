from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from mtlkit.structures import Counts, FieldSpec, Label
from mtlkit.transforms import ClassMap, DepthMap
from mtlkit_plugins.tasks.segmentation import CITYSCAPES, NYU13, Segmentation


def example(classes=4, images=2):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, 3, 5, generator=generator)
    value = torch.randint(classes, (images, 3, 5), generator=generator)
    valid = torch.rand(images, 1, 3, 5, generator=generator) > 0.3
    return logits, Label(value, valid)


def test_loss_is_cross_entropy_over_all_valid_pixels():
    logits, label = example()
    void = label.value.masked_fill(~label.valid[:, 0], -100)
    expected = functional.cross_entropy(logits, void)
    assert torch.allclose(Segmentation(classes=4).loss(logits, label), expected)


def test_loss_takes_probabilities_and_agrees_on_certain_ones():
    logits, label = example()
    certain = functional.one_hot(label.value, 4).movedim(-1, 1).float()
    task = Segmentation(classes=4)
    soft = task.transfer_loss(logits, Label(certain, label.valid))
    assert torch.allclose(soft, task.transfer_loss(logits, label))


def test_loss_is_zero_and_on_the_graph_when_no_pixel_is_valid():
    logits, label = example()
    logits.requires_grad_()
    loss = Segmentation(classes=4).loss(logits, Label(label.value, torch.zeros_like(label.valid)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_loss_divides_by_the_valid_pixels_of_the_whole_step():
    logits, label = example()
    task = Segmentation(classes=4)
    n = label.valid.sum().float()
    counts = Counts(2 * n, n, n, n)
    halved = task.loss(logits, Label(label.value, label.valid, counts))
    assert torch.allclose(2 * halved, task.loss(logits, label))


def test_loss_of_half_precision_logits_is_in_single_precision():
    logits, label = example()
    assert Segmentation(classes=4).loss(logits.bfloat16(), label).dtype == torch.float32


def test_loss_runs_without_values():
    logits, label = example()
    meta = Label(label.value.to("meta"), label.valid.to("meta"))
    assert Segmentation(classes=4).loss(logits.to("meta"), meta).shape == ()


def test_edges_read_log_probabilities():
    logits, _ = example()
    task = Segmentation(classes=4)
    assert torch.allclose(task.as_input(logits).exp().sum(1), torch.ones(2, 3, 5))
    assert task.input_channels == 4


@pytest.mark.parametrize("soft", [False, True])
def test_label_as_input_is_finite_and_names_the_class(soft):
    _, label = example()
    value = functional.one_hot(label.value, 4).movedim(-1, 1).float() if soft else label.value
    read = Segmentation(classes=4).label_as_input(Label(value, label.valid))
    assert read.isfinite().all()
    assert torch.equal(read.argmax(1), label.value)
    assert read.amax() == 0


def test_pseudo_labels_are_detached():
    logits, _ = example()
    logits.requires_grad_()
    task = Segmentation(classes=4)
    hard, soft = task.as_label(logits), task.as_soft_label(logits, 2.0)
    assert not hard.requires_grad
    assert not soft.requires_grad
    assert hard.dtype == torch.int64
    assert torch.equal(soft.argmax(1), hard)
    assert torch.allclose(soft, (logits / 2).softmax(1))


@pytest.mark.parametrize(
    ("classes", "palette", "first"),
    [
        (19, "auto", CITYSCAPES[0]),
        (7, "auto", CITYSCAPES[0]),
        (13, "auto", NYU13[0]),
        (5, "nyu13", NYU13[0]),
        (40, "cityscapes", CITYSCAPES[0]),
        (5, "auto", (128, 0, 0)),
        (19, "generated", (128, 0, 0)),
    ],
)
def test_every_class_has_its_own_colour(classes, palette, first):
    task = Segmentation(classes=classes, palette=palette)
    pictures = task.render(torch.arange(classes).view(1, 1, classes))
    assert pictures.shape == (1, 3, 1, classes)
    colours = (pictures[0, :, 0] * 255).round().int().T.tolist()
    assert tuple(colours[0]) == first
    assert len({tuple(colour) for colour in colours}) == classes


def test_seven_classes_wear_the_colours_of_their_categories():
    task = Segmentation(classes=7)
    colours = (task.render(torch.tensor([[[6, 5]]])) * 255).round().int()[0, :, 0].T.tolist()
    assert colours == [[0, 0, 142], [220, 20, 60]]  # vehicle, human


def test_255_classes_have_255_generated_colours():
    pictures = Segmentation(classes=255).render(torch.arange(255).view(1, 1, 255))
    assert len({tuple(c) for c in pictures[0, :, 0].T.tolist()}) == 255


def test_legend_says_how_many_classes_there_are():
    assert Segmentation(classes=7).legend(torch.zeros(1, 2, 2), "") == "7 classes"


def recipe(**offers):
    return SimpleNamespace(offers=offers)


def problems(offered, **fields):
    task = Segmentation(name="segmentation", **fields)
    return list(task.problems(recipe(segmentation=offered)))


def test_a_data_set_of_other_classes_is_refused_with_the_number_to_write():
    offered = FieldSpec(ClassMap, classes=("a", "b", "c"))
    (message,) = problems(offered, classes=4)
    assert "`classes: 3`" in message
    assert not problems(offered, classes=3)


def test_a_label_that_is_no_class_map_is_refused():
    (message,) = problems(FieldSpec(DepthMap), classes=4)
    assert "DepthMap" in message


def test_a_label_that_is_not_offered_is_left_to_the_core():
    assert not list(Segmentation(name="segmentation", classes=4).problems(recipe()))
