from __future__ import annotations

import pytest
import torch

import mtlkit
from mtlkit.contracts import End, Transfer
from mtlkit.errors import RecipeError
from mtlkit.nn import frozen
from mtlkit.structures import Label
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


def test_pixels_near_an_invalid_one_are_not_compared():
    one = edge(border=2)
    transfer = transfer_of(one)
    transfer.source.label.valid[0, 0, 5, 7] = False
    inside = one._inside(transfer.source.label.valid)
    assert int((~inside).sum()) == 25
    assert not inside[0, 0, 3:8, 5:10].any()


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
