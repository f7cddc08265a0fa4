from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mtlkit.structures import Counts, FieldSpec, Label
from mtlkit.transforms import ClassMap, DepthMap, DisparityMap
from mtlkit_plugins.tasks.depth import VIRIDIS, Depth


def one(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


def label(value, valid=None):
    mask = torch.ones_like(value, dtype=torch.bool)
    return Label(value, mask if valid is None else torch.tensor(valid).view_as(value))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l1", 2.5),
        ("mse", (1 + 16) / 2),
        ("log_l1", (torch.tensor(2.0).log() + torch.tensor(5.0).log()).item() / 2),
        ("smooth_l1", (0.5 + 3.5) / 2),
        ("berhu", ((1 + 0.8**2) / 1.6 + (16 + 0.8**2) / 1.6) / 2),
    ],
)
def test_each_loss_has_its_textbook_value(kind, expected):
    task = Depth(loss=kind)
    # errors 1 and 4; berhu's threshold is 0.2 · 4
    assert task.loss(one(2.0, -1.0), label(one(1.0, 3.0))).item() == pytest.approx(expected)
    assert task.loss_name == kind


def test_berhu_is_l1_below_its_threshold_and_continuous_there():
    task = Depth(loss="berhu")
    value = task.loss(one(0.1, 0.2, 1.0), label(one(0.0, 0.0, 0.0)))
    assert value.item() == pytest.approx((0.1 + 0.2 + (1 + 0.04) / 0.4) / 3)


@pytest.mark.parametrize("kind", ["l1", "mse", "log_l1", "smooth_l1", "berhu"])
def test_a_perfect_prediction_has_no_loss_and_finite_gradients(kind):
    prediction = one(1.0, 2.0).requires_grad_()
    loss = Depth(loss=kind).loss(prediction, label(one(1.0, 2.0)))
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad.isfinite().all()


def test_image_means_weigh_images_and_pooled_means_weigh_pixels():
    prediction = torch.zeros(3, 1, 1, 2)
    value = torch.tensor([[1.0, 1.0], [5.0, 0.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    valid = torch.tensor([[True, True], [True, False], [False, False]]).view(3, 1, 1, 2)
    target = Label(value, valid)
    assert Depth(reduction="image").loss(prediction, target).item() == pytest.approx((1 + 5) / 2)
    pooled = Depth(reduction="pooled").loss(prediction, target).item()
    assert pooled == pytest.approx((1 + 1 + 5) / 3)


@pytest.mark.parametrize("reduction", ["image", "pooled"])
@pytest.mark.parametrize("kind", ["l1", "berhu"])
def test_loss_is_zero_and_on_the_graph_when_no_pixel_is_valid(kind, reduction):
    prediction = one(1.0, 2.0).requires_grad_()
    nothing = label(one(0.0, 0.0), [False, False])
    loss = Depth(loss=kind, reduction=reduction).loss(prediction, nothing)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_denominators_of_the_whole_step_are_used():
    two = torch.tensor(2.0)
    target = Label(one(1.0), torch.ones(1, 1, 1, 1, dtype=torch.bool), Counts(two, two, two, two))
    for reduction in ("image", "pooled"):
        assert Depth(reduction=reduction).loss(one(2.0), target).item() == 0.5


def test_loss_of_half_precision_predictions_is_in_single_precision():
    loss = Depth().loss(one(2.0).bfloat16(), label(one(1.001)))
    assert loss.item() == pytest.approx(0.999, rel=1e-6)


def test_the_recipe_names_the_loss_by_its_key():
    assert Depth.model_validate({"loss": "mse"}).loss_kind == "mse"


def test_larger_values_are_brighter_and_the_ends_are_those_of_the_palette():
    value = torch.linspace(0, 1, 1001).view(1, 1, 1, -1)
    pictures = Depth().render(value)
    assert pictures.shape == (1, 3, 1, 1001)
    brightness = (pictures[0, :, 0] * torch.tensor([[0.2126], [0.7152], [0.0722]])).sum(0)
    assert (brightness.diff() >= -1e-6).all()
    assert torch.allclose(pictures[0, :, 0, 0], torch.tensor(VIRIDIS[0]) / 255)
    assert torch.allclose(pictures[0, :, 0, -1], torch.tensor(VIRIDIS[-1]) / 255)


def test_outliers_do_not_rule_the_scale_and_the_legend_tells_it():
    value = torch.cat((torch.linspace(0, 10, 999), torch.tensor([1e6]))).view(1, 1, 1, -1)
    assert Depth().legend(value, "m") == "0.2 (dark) to 9.81 (bright) m"
    assert Depth().legend(value, "").endswith("(bright)")


@pytest.mark.parametrize("value", [3.0, float("nan")])
def test_maps_without_range_still_have_colours(value):
    pictures = Depth().render(torch.full((1, 1, 2, 2), value))
    assert ((pictures >= 0) & (pictures <= 1)).all()


def test_metrics_carry_units_and_directions():
    specs = Depth().metrics()
    assert [name for name, spec in specs.items() if spec.higher_is_better] == [
        "delta1",
        "delta2",
        "delta3",
    ]
    assert [name for name, spec in specs.items() if spec.unit] == ["abs_err", "rmse"]


def problems(**offers):
    recipe = SimpleNamespace(offers=offers, train=SimpleNamespace(accumulate=1))
    return list(Depth(name="depth").problems(recipe))


def test_only_distances_can_be_learned():
    assert not problems(depth=FieldSpec(DepthMap))
    assert not problems(depth=FieldSpec(DisparityMap))
    (message,) = problems(depth=FieldSpec(ClassMap))
    assert "ClassMap" in message
    assert not problems()  # a label that is not offered is the core's to tell
