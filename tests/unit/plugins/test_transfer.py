from __future__ import annotations

import pytest
import torch
from torch import nn

from mtlkit.contracts import End, Transfer
from mtlkit.structures import Counts, Label, counts_of
from mtlkit_plugins.edges.transfer import Alignment, CrossTaskConsistency
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation

SEGMENTATION = Segmentation(name="segmentation", classes=3)
DEPTH = Depth(name="depth")
POOLED = Depth(name="depth", reduction="pooled")
SHAPE = (2, 8, 8)
EDGES = [CrossTaskConsistency, Alignment]


def xtc(**fields):
    return CrossTaskConsistency(source="source", target="target", **fields)


def masked(share=0.5, seed=0):
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) > share


def label_of(task, valid):
    value = torch.rand(2, 1, 8, 8) if task.channels == 1 else torch.randint(3, SHAPE)
    return Label(value, valid)


def transfer(task, label, counts=None):
    prediction = torch.randn(2, task.channels, 8, 8, requires_grad=True)
    transferred = torch.randn(2, task.channels, 8, 8, requires_grad=True)
    source = End(DEPTH, torch.randn(2, 1, 8, 8), None)
    target = End(task, prediction, label, counts, is_labelled=label is not None)
    return Transfer(source, target, nn.Identity(), transferred)


@pytest.mark.parametrize("fields", [{}, {"pseudo_label": "soft"}, {"where": "everywhere"}])
@pytest.mark.parametrize("task", [SEGMENTATION, DEPTH])
def test_consistency_never_trains_the_target(task, fields):
    t = transfer(task, label_of(task, masked()))
    xtc(**fields).loss(t).backward()
    assert t.target.prediction.grad is None
    assert t.transferred.grad.abs().sum() > 0


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("task", [SEGMENTATION, DEPTH])
def test_without_a_label_the_loss_is_zero_on_the_graph(edge, task):
    t, choice = transfer(task, None), edge(source="a", target="b")
    loss = choice.loss(t)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(t.transferred.grad, torch.zeros_like(t.transferred))
    assert not choice.applies(t)


def test_everywhere_needs_no_label_and_compares_every_pixel():
    t = transfer(DEPTH, None)
    edge = xtc(where="everywhere")
    expected = (t.transferred - t.target.prediction).abs().mean()
    assert torch.allclose(edge.loss(t), expected)
    assert edge.applies(t)


def test_everywhere_ignores_what_the_label_leaves_out():
    t = transfer(DEPTH, label_of(DEPTH, masked()))
    expected = (t.transferred - t.target.prediction).abs().mean()
    assert torch.allclose(xtc(where="everywhere").loss(t), expected)


@pytest.mark.parametrize("task", [SEGMENTATION, POOLED])
def test_the_denominator_is_all_pixels_or_the_compared_ones(task):
    valid = masked()
    t = transfer(task, label_of(task, valid))
    by_all, by_valid = xtc().loss(t), xtc(denominator="valid").loss(t)
    assert torch.allclose(by_all * valid.numel(), by_valid * valid.sum())


def test_a_loss_of_image_means_is_the_same_under_both_denominators():
    t = transfer(DEPTH, label_of(DEPTH, masked()))
    assert torch.equal(xtc().loss(t), xtc(denominator="valid").loss(t))


@pytest.mark.parametrize("denominator", ["all", "valid"])
@pytest.mark.parametrize("where", ["labelled", "everywhere"])
@pytest.mark.parametrize("task", [SEGMENTATION, DEPTH, POOLED])
def test_micro_batches_of_a_step_average_to_the_loss_of_the_whole(task, where, denominator):
    edge = xtc(where=where, denominator=denominator)
    valid = masked()
    valid[1] = valid[1] & masked(0.9, seed=1)[1]  # an uneven share of void
    whole = transfer(task, label_of(task, valid))
    counts = Counts(*(x / 2 for x in counts_of(valid)))
    parts = []
    for row in (slice(0, 1), slice(1, 2)):
        label = Label(whole.target.label.value[row], valid[row], counts)
        target = End(task, whole.target.prediction[row], label, counts, is_labelled=True)
        part = Transfer(whole.source, target, nn.Identity(), whole.transferred[row])
        parts.append(edge.loss(part))
    assert torch.allclose(torch.stack(parts).mean(), edge.loss(whole), rtol=1e-5)


def test_soft_pseudo_labels_are_softened_probabilities():
    t = transfer(SEGMENTATION, label_of(SEGMENTATION, torch.ones(2, 1, 8, 8, dtype=torch.bool)))
    loss = xtc(pseudo_label="soft", temperature=2.0).loss(t)
    probabilities = (t.target.prediction.detach() / 2).softmax(1)
    expected = -(probabilities * t.transferred.log_softmax(1)).sum(1).mean()
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_soft_pseudo_labels_of_a_task_without_classes_are_its_predictions():
    t = transfer(DEPTH, label_of(DEPTH, masked()))
    assert torch.equal(xtc(pseudo_label="soft").loss(t), xtc().loss(t))


@pytest.mark.parametrize("task", [SEGMENTATION, DEPTH])
def test_alignment_is_the_tasks_own_loss_against_its_label(task):
    t = transfer(task, label_of(task, masked()))
    expected = task.loss(t.transferred, t.target.label)
    assert torch.equal(Alignment(source="a", target="b").loss(t), expected)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_network_turns_one_task_into_another_at_odd_sizes_too(edge, norm):
    choice = edge(source="a", target="b", norm=norm, widths=(2, 3))
    network = choice.build_network(SEGMENTATION, DEPTH)
    assert network(torch.randn(2, SEGMENTATION.input_channels, 9, 13)).shape == (2, 1, 9, 13)
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == (norm == "batch")


def test_explain_writes_the_targets_loss():
    ends = {"from": "segmentation", "to": "depth"}
    consistency = CrossTaskConsistency.model_validate(ends).as_maths(SEGMENTATION, DEPTH)
    assert consistency == "l1(T[segmentation → depth], stop(depth))"
    alignment = Alignment.model_validate(ends).as_maths(SEGMENTATION, DEPTH)
    assert alignment == "l1(T[segmentation → depth], label(depth))"
