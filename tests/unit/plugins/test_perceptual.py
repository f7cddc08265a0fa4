from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import mtlkit
from mtlkit.contracts import End, Transfer
from mtlkit.errors import RecipeError
from mtlkit.nn import frozen
from mtlkit.structures import Label
from mtlkit.testing.inputs import label_of, prediction_of
from mtlkit_plugins.edges.transfer import Perceptual
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation

SEGMENTATION = Segmentation(name="segmentation", classes=3)
DEPTH = Depth(name="depth")
SIZE = (12, 16)


def edge(**fields):
    return Perceptual(source="depth", target="segmentation", widths=(2, 3), **fields)


def transfer_of(one, prediction=None, source=True, target=True):
    torch.manual_seed(0)
    network = one.build_network(DEPTH, SEGMENTATION)
    valid = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    depth = Label(torch.rand(2, 1, *SIZE), valid)
    classes = Label(torch.randint(3, (2, *SIZE)), valid)
    read = torch.rand(2, 1, *SIZE) if prediction is None else prediction(depth)
    read.requires_grad_()
    with frozen(network.parameters()):
        transferred = network(DEPTH.as_input(read))
    ends = (
        End(DEPTH, read, depth if source else None, is_labelled=source),
        End(
            SEGMENTATION, torch.randn(2, 3, *SIZE), classes if target else None, is_labelled=target
        ),
    )
    return Transfer(*ends, network, transferred)


def test_a_prediction_that_equals_its_label_is_as_good_as_the_network_can_tell():
    soft = edge(pseudo_label="soft")
    right = transfer_of(soft, lambda label: label.value.clone())
    wrong = transfer_of(soft, lambda label: 3 - 2 * label.value)
    best = -(right.transferred.softmax(1) * right.transferred.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(soft.loss(right), best)
    assert soft.loss(wrong) > soft.loss(right)


def test_the_loss_trains_the_source_and_leaves_the_network_as_it_is():
    one = edge()
    transfer = transfer_of(one)
    one.loss(transfer).backward()
    assert transfer.source.prediction.grad.abs().sum() > 0
    assert all(p.grad is None for p in transfer.network.parameters())


def test_its_own_loss_trains_the_network_on_labels_alone():
    one = edge()
    transfer = transfer_of(one)
    one.own_loss(transfer).backward()
    assert transfer.source.prediction.grad is None
    assert all(p.grad is not None for p in transfer.network.parameters())
    logits = transfer.network(transfer.source.label.value)
    expected = torch.nn.functional.cross_entropy(logits, transfer.target.label.value)
    torch.testing.assert_close(one.own_loss(transfer), expected)


def compared(one, valid):
    """Return the pixels, (N,H,W), whose transferred prediction gets a gradient."""
    transfer = transfer_of(one)
    transfer.source.label.valid = valid
    transferred = transfer.transferred.detach().requires_grad_()
    one.loss(replace(transfer, transferred=transferred)).backward()
    return transferred.grad.abs().sum(1) > 0


@pytest.mark.parametrize(
    ("border", "void", "rows", "columns"),
    [
        (0, (5, 7), slice(5, 6), slice(7, 8)),
        (2, (5, 7), slice(3, 8), slice(5, 10)),
        (2, (0, 0), slice(0, 3), slice(0, 3)),
        (2, (11, 14), slice(9, 12), slice(12, 16)),
        (3, (0, 15), slice(0, 4), slice(12, 16)),
    ],
)
def test_pixels_up_to_border_from_a_void_one_are_not_compared(border, void, rows, columns):
    valid = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    valid[0, 0, *void] = False
    expected = torch.ones(2, *SIZE, dtype=torch.bool)
    expected[0, rows, columns] = False
    assert torch.equal(compared(edge(border=border), valid), expected)


def test_what_lies_beyond_the_image_is_not_void():
    valid = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    assert compared(edge(border=4), valid).all()


def test_void_pixels_of_the_target_are_compared():
    one, transfer = edge(), transfer_of(edge())
    before = one.loss(transfer)
    transfer.target.label.valid = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    assert torch.equal(one.loss(transfer), before)


def seen_alone(source, target):
    """Return an edge and its transfer, whose network reads one pixel at a time.

    So a void pixel can reach a loss by being compared, and not by what surrounds it.
    """
    torch.manual_seed(0)
    one = Perceptual(source=source.name, target=target.name, border=1)
    network = nn.Conv2d(source.input_channels, target.channels, 1)
    ends = [
        End(
            task,
            prediction_of(task, seed, size=SIZE),
            label_of(task, seed + 2, size=SIZE),
            is_labelled=True,
        )
        for seed, task in enumerate((source, target))
    ]
    for i, end in enumerate(ends):
        end.label.valid = torch.ones(2, 1, *SIZE, dtype=torch.bool)
        end.label.valid[:, :, 3 + i : 7 + i, 5:9] = False
    return one, Transfer(*ends, network, network(source.as_input(ends[0].prediction)))


def other_where(end, mask):
    """Return an end whose label and prediction are others where the mask, (N,1,H,W), is True."""
    label, prediction = label_of(end.task, 9, size=SIZE), prediction_of(end.task, 8, size=SIZE)
    where = mask if end.label.value.ndim == 4 else mask[:, 0]
    value = torch.where(where, label.value, end.label.value)
    return replace(
        end,
        prediction=torch.where(mask, prediction, end.prediction),
        label=Label(value, end.label.valid),
    )


def losses_of(one, transfer):
    task = transfer.source.task
    transferred = transfer.network(task.as_input(transfer.source.prediction))
    here = replace(transfer, transferred=transferred)
    return torch.stack((one.loss(here), one.own_loss(here)))


BOTH_WAYS = pytest.mark.parametrize(
    ("source", "target"), [(DEPTH, SEGMENTATION), (SEGMENTATION, DEPTH)]
)


@BOTH_WAYS
def test_what_void_pixels_hold_changes_neither_loss(source, target):
    one, transfer = seen_alone(source, target)
    ends = [other_where(end, ~end.label.valid) for end in (transfer.source, transfer.target)]
    assert not torch.equal(ends[0].label.value, transfer.source.label.value)
    found = losses_of(one, replace(transfer, source=ends[0], target=ends[1]))
    assert torch.equal(found, losses_of(one, transfer))


@BOTH_WAYS
def test_what_valid_pixels_hold_changes_both_losses(source, target):
    one, transfer = seen_alone(source, target)
    before = losses_of(one, transfer)
    changed = other_where(transfer.source, transfer.source.label.valid)
    assert (losses_of(one, replace(transfer, source=changed)) != before).all()


@BOTH_WAYS
def test_predictions_that_are_not_compared_change_no_loss(source, target):
    one, transfer = seen_alone(source, target)
    inside = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    inside[:, :, 2:8, 4:10] = False  # the source's void pixels and one around them
    other = prediction_of(source, 8, size=SIZE)
    read = torch.where(inside, transfer.source.prediction, other)
    changed = replace(transfer, source=replace(transfer.source, prediction=read))
    assert torch.equal(losses_of(one, changed), losses_of(one, transfer))


@BOTH_WAYS
def test_the_targets_own_prediction_changes_neither_loss(source, target):
    one, transfer = seen_alone(source, target)
    end = replace(transfer.target, prediction=prediction_of(target, 8, size=SIZE))
    assert torch.equal(losses_of(one, replace(transfer, target=end)), losses_of(one, transfer))


def test_without_a_label_of_the_source_there_is_nothing_to_compare():
    one = edge()
    transfer = transfer_of(one, source=False)
    loss = one.loss(transfer)
    loss.backward()
    assert loss.item() == 0 and not one.applies(transfer)


@pytest.mark.parametrize("missing", ["source", "target"])
def test_without_both_labels_the_network_learns_nothing(missing):
    transfer = transfer_of(edge(), **{missing: False})
    assert edge().own_loss(transfer) is None


def test_a_label_of_the_source_is_enough_to_compare():
    transfer = transfer_of(edge(), target=False)
    assert edge().applies(transfer) and edge().loss(transfer) > 0
    assert edge().compared == "depth"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"detach_input": True}, "the source is all that this loss trains. Remove detach_input"),
        ({"norm": "batch"}, "whose batch statistics differ. Write norm: none"),
    ],
)
def test_settings_that_leave_nothing_to_learn_are_refused(tiny, fields, message):
    ends = {"from": "depth", "to": "segmentation", "type": "perceptual"}
    with pytest.raises(RecipeError, match=message):
        mtlkit.load_recipe(tiny, {"edges": [{**ends, **fields}]})


def test_a_path_is_refused(tiny):
    there = {"from": "depth", "to": "segmentation", "type": "perceptual", "widths": [2]}
    back = {"from": "segmentation", "to": "depth", "type": "perceptual", "widths": [2]}
    path = {"path": ["depth", "segmentation", "depth"], "type": "perceptual", "widths": [2]}
    with pytest.raises(RecipeError, match="perceptual has no paths: it needs one network"):
        mtlkit.load_recipe(tiny, {"edges": [there, back, path]})


def test_explain_names_both_ends_of_both_outputs():
    text = edge().as_maths(DEPTH, SEGMENTATION)
    assert text.startswith("cross_entropy(") and text.endswith("T[label(depth) → segmentation])")
