from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from mtlkit import build_objective
from mtlkit.device import place
from mtlkit.evaluation import Evaluation
from mtlkit.structures import LABEL_UNIT, Batch, Counts, FieldSpec, Label
from mtlkit.transforms import ClassMap, DepthMap, DisparityMap
from mtlkit_plugins.tasks.depth import VIRIDIS, Depth, DistanceLabel, Metres

PLAIN = ["abs_err", "rel_err", "sq_rel", "rmse", "log_rmse", "delta1", "delta2", "delta3"]


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
    assert list(specs) == PLAIN + [f"{name}_m" for name in PLAIN]
    upwards = {name for name, spec in specs.items() if spec.higher_is_better}
    assert upwards == {name for name in specs if name.startswith("delta")}
    units = {name: spec.unit for name, spec in specs.items() if spec.unit}
    errors = ("abs_err", "sq_rel", "rmse")
    assert units == dict.fromkeys(errors, LABEL_UNIT) | {f"{name}_m": "m" for name in errors}


def test_metrics_are_of_two_families_each_updated_once():
    specs = Depth().metrics()
    families = {name: spec.metric.family for name, spec in specs.items()}
    assert {families[name] for name in specs if not name.endswith("_m")} == {families["rmse"]}
    assert {families[name] for name in specs if name.endswith("_m")} == {families["rmse_m"]}
    assert families["rmse"] != families["rmse_m"]


def evaluated(prediction, target):
    specs = Depth().metrics()
    for spec in specs.values():
        spec.metric.update(prediction, target)
    return {name: float(spec.metric.compute()) for name, spec in specs.items()}


def disparities(value, depth_at_one, valid=None):
    plain = label(value, valid)
    return DistanceLabel(plain.value, plain.valid, depth_at_one=depth_at_one)


def test_errors_in_metres_are_those_of_depth_at_one_over_disparity():
    # metres: 20 and 40 predicted, 10 and 40 labelled
    found = evaluated(one(2.0, 1.0), disparities(one(4.0, 1.0), torch.tensor([40.0])))
    expected = {
        "abs_err_m": 10 / 2,
        "rel_err_m": 1 / 2,
        "sq_rel_m": 100 / 10 / 2,
        "rmse_m": math.sqrt(100 / 2),
        "log_rmse_m": math.sqrt(math.log(2) ** 2 / 2),
        "delta1_m": 1 / 2,
        "delta2_m": 1 / 2,
        "delta3_m": 1 / 2,
    }
    assert {n: x for n, x in found.items() if n.endswith("_m")} == pytest.approx(expected)
    assert found["abs_err"] == 1  # as without a camera


def test_metres_are_those_of_float64():
    generator = torch.Generator().manual_seed(2)
    prediction, value = (torch.rand(3, 1, 7, 9, generator=generator) + 0.5 for _ in range(2))
    scale = torch.tensor([3.0, 20.0, 30.0])
    found = evaluated(prediction, disparities(value, scale))
    p, g = (scale.double().view(-1, 1, 1, 1) / x.double() for x in (prediction, value))
    assert found["abs_err_m"] == pytest.approx((p - g).abs().mean().item(), rel=1e-6)
    assert found["sq_rel_m"] == pytest.approx(((p - g) ** 2 / g).mean().item(), rel=1e-6)
    root = (p.log() - g.log()).square().mean().sqrt().item()
    assert found["log_rmse_m"] == pytest.approx(root, rel=1e-5)


def test_images_without_a_known_camera_are_left_out_of_metres():
    prediction, value = torch.full((3, 1, 1, 1), 2.0), torch.full((3, 1, 1, 1), 4.0)
    scale = torch.tensor([torch.nan, 40.0, torch.inf])
    assert evaluated(prediction, disparities(value, scale))["abs_err_m"] == 10


@pytest.mark.parametrize(
    "target",
    [
        label(one(1.0)),
        disparities(one(1.0), None),
        disparities(one(1.0), torch.tensor([torch.nan])),
        disparities(one(1.0), torch.tensor([40.0]), [False]),
        disparities(one(0.0), torch.tensor([40.0])),
    ],
    ids=["plain", "no extra", "unknown", "invalid", "infinitely far"],
)
def test_metrics_in_metres_are_nan_where_nothing_is_known(target):
    found = evaluated(one(1.0), target)
    assert all(math.isnan(x) for name, x in found.items() if name.endswith("_m"))


@pytest.mark.parametrize("prediction", [0.0, -5.0, 1e-20, 0.1, -math.inf])
def test_what_is_predicted_too_far_is_at_the_farthest(prediction):
    target = disparities(one(1.0), torch.tensor([40.0]))
    assert evaluated(one(prediction), target)["abs_err_m"] == pytest.approx(80 - 40)


def test_what_is_predicted_too_near_is_at_the_nearest():
    target = disparities(one(1.0), torch.tensor([40.0]))
    assert evaluated(one(1e9), target)["abs_err_m"] == pytest.approx(40 - 1e-3)


def test_labels_beyond_the_range_are_left_out_of_metres():
    # labels at 100, 40 and 0.0005 m
    target = disparities(one(0.4, 1.0, 80000.0), torch.tensor([40.0]))
    assert evaluated(one(1.0, 2.0, 1.0), target)["abs_err_m"] == 20
    _, wider = Metres(1e-4, 200.0)(one(1.0, 2.0, 1.0), target)
    assert wider.valid.all() and wider.value.flatten().tolist() == pytest.approx([100, 40, 5e-4])
    _, inside = Metres()(one(1.0, 2.0, 1.0), target)
    assert inside.valid.flatten().tolist() == [False, True, False]
    assert inside.value.isfinite().all()


def test_a_batch_is_read_with_what_makes_metres_of_it():
    task, scale = Depth(name="depth"), torch.tensor([40.0])
    image, target = torch.zeros(1, 3, 1, 1), label(one(1.0))
    assert task.uses == ("depth_at_one",)
    assert task.read(Batch(image)) is None
    read = task.read(Batch(image, {"depth": target}, {"depth_at_one": scale}))
    assert read.value is target.value and read.valid is target.valid
    assert read.depth_at_one is scale and read.counts is None
    assert task.read(Batch(image, {"depth": target})) is target


def test_validation_shows_metres_where_the_camera_is_known_and_no_nan(recipe):
    objective = build_objective(recipe)
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    evaluation = Evaluation(recipe, objective, balancer, place("cpu", "fp32"))
    image, value = torch.rand(2, 3, 32, 64), torch.rand(2, 1, 32, 64) + 0.5
    labels = {"depth": label(value)}
    without = evaluation([Batch(image, labels)])
    known = evaluation([Batch(image, labels, {"depth_at_one": torch.tensor([10.0, torch.nan])})])
    assert not [name for name in without if name.endswith("_m")]
    assert {n for n in known if n not in without} == {f"depth/{n}_m" for n in PLAIN}
    assert not [name for name, x in known.items() if math.isnan(x)]


def problems(**offers):
    recipe = SimpleNamespace(offers=offers, train=SimpleNamespace(accumulate=1))
    return list(Depth(name="depth").problems(recipe))


def test_only_distances_can_be_learned():
    assert not problems(depth=FieldSpec(DepthMap))
    assert not problems(depth=FieldSpec(DisparityMap))
    (message,) = problems(depth=FieldSpec(ClassMap))
    assert "ClassMap" in message
    assert not problems()  # a label that is not offered is the core's to tell
