"""Energies and errors by hand, their correlations, and that only who asks pays for them."""

from __future__ import annotations

import json

import pytest
import torch

import mtlkit
from mtlkit.consistency import Consistency, Relation, _standardised
from mtlkit.device import place
from mtlkit.evaluation import Evaluation, directions, loss_names
from mtlkit.structures import Batch, Label, Output
from mtlkit_plugins.edges.transfer import CrossTaskConsistency
from mtlkit_plugins.tasks.classification import Classification
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation

TRIPWIRE = """
from typing import Literal

import mtlkit
from mtlkit_plugins.tasks.depth import Depth


class Tripwire(Depth):
    type: Literal["tripwire"] = "tripwire"

    def disagreement(self, transferred, prediction):
        raise RuntimeError("an energy was measured")


@mtlkit.hookimpl
def mtlkit_tasks():
    return [Tripwire]
"""


def edge(source, target):
    return CrossTaskConsistency.model_validate({"from": source, "to": target})


TASKS = {"a": Depth(name="a"), "b": Depth(name="b"), "c": Depth(name="c")}
TO_A, OTHER_TO_A, TO_B = edge("b", "a"), edge("c", "a"), edge("a", "b")


def column(*values):
    """Return maps of one row: a number, or a list of pixels, per image."""
    rows = [value if isinstance(value, list) else [value] for value in values]
    return torch.tensor(rows)[:, None, None].float()


def everywhere(value):
    return Label(value, torch.ones_like(value, dtype=torch.bool))


def found(edges, predictions, transfers, labels):
    """Return the report of one batch of distances."""
    consistency = Consistency(TASKS, edges)
    batch = Batch(torch.zeros(len(predictions["a"]), 3, 1, 1), labels)
    keyed = {one.key: x for one, x in zip(edges, transfers, strict=True)}
    consistency.add(batch, Output(predictions, transfers=keyed))
    return consistency.report()


def report_of(energies, errors):
    """Return what is said of task a whose images have these energies and errors."""
    prediction, energy = column(*errors), column(*energies)
    labels = {"a": everywhere(torch.zeros_like(prediction))}
    return found([TO_A], {"a": prediction}, [prediction + energy], labels).targets["a"]


def test_energies_are_means_over_all_pixels_and_errors_over_valid_ones():
    prediction, transferred = column([1, 2], [3, 4]), column([2, 4], [3, 1])
    label = Label(column([0, 9], [1, 1]), column([1, 0], [1, 1]).bool())
    report = found([TO_A], {"a": prediction}, [transferred], {"a": label}).targets["a"]
    assert report.energy == pytest.approx((1.5 + 1.5) / 2)
    assert report.error == pytest.approx((1 + 2.5) / 2)
    assert report.edges == 1


def test_the_raw_energy_is_the_mean_over_edges():
    prediction = column(0, 0, 0)
    transfers = [column(1, 2, 3), column(3, 6, 9)]
    report = found([TO_A, OTHER_TO_A], {"a": prediction}, transfers, {}).targets["a"]
    assert (report.edges, report.energy) == (2, 4)


def test_standardised_energies_are_means_of_deviations_over_the_mean_deviation():
    energies = torch.tensor([[1.0, 2, 3], [2, 2, 8]])
    wanted = [(-1.5 - 0.75) / 2, (0 - 0.75) / 2, (1.5 + 1.5) / 2]
    assert _standardised(energies).tolist() == pytest.approx(wanted)
    assert _standardised(torch.tensor([[0.1, 0.1, 0.1]])).tolist() == [0, 0, 0]


def correlation(energies, errors):
    return float(torch.corrcoef(torch.tensor([energies, errors]))[0, 1])


def test_raw_and_standardised_energies_differ_where_edges_differ_in_scale():
    prediction = column(1, 2, 3, 4)  # the error of an image, as its label is 0
    transfers = [prediction + column(90, 30, 70, 10), prediction + column(0.1, 0.2, 0.3, 0.4)]
    labels = {"a": everywhere(torch.zeros_like(prediction))}
    report = found([TO_A, OTHER_TO_A], {"a": prediction}, transfers, labels).targets["a"]
    raw = correlation([90.1, 30.2, 70.3, 10.4], [1.0, 2, 3, 4])
    scaled = [4 / 3 - 1.5, -2 / 3 - 0.5, 2 / 3 + 0.5, -4 / 3 + 1.5]
    assert report.raw.pearson == pytest.approx(raw, abs=1e-5)
    assert report.standardised.pearson == pytest.approx(
        correlation(scaled, [1.0, 2, 3, 4]), abs=1e-5
    )
    assert raw < -0.7 and report.standardised.pearson > 0.1


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_an_energy_that_is_the_error_correlates_fully_and_its_reverse_inversely(scale):
    same = report_of([scale * x for x in (1, 2, 5, 7)], (1, 2, 5, 7)).raw
    assert (same.pearson, same.spearman) == pytest.approx((1, 1), abs=1e-5)
    reverse = report_of([scale * x for x in (7, 6, 3, 1)], (1, 2, 5, 7)).raw
    assert (reverse.pearson, reverse.spearman) == pytest.approx((-1, -1), abs=1e-5)
    assert (same.images, same.reason) == (4, "")


def test_ties_have_the_mean_of_their_ranks():
    relation = report_of((1, 1, 3, 4), (1, 2, 3, 4)).raw
    ranks = torch.tensor([[1.5, 1.5, 3, 4], [1, 2, 3, 4]])
    assert relation.spearman == pytest.approx(float(torch.corrcoef(ranks)[0, 1]), abs=1e-5)


@pytest.mark.parametrize(
    ("energies", "errors", "relation"),
    [
        ((0.1, 0.1, 0.1), (1, 2, 3), Relation(3, reason="all images have the same energy")),
        ((1, 2, 3), (0.7, 0.7, 0.7), Relation(3, reason="all images have the same error")),
        ((0, 0, 0), (0, 0, 0), Relation(3, reason="all images have the same energy")),
        ((1, 2), (1, 2), Relation(2, reason="2 with a label, 3 are needed")),
        ((float("inf"),) * 3, (1, 2, 3), Relation(0, reason="no image has a finite energy")),
    ],
)
def test_a_correlation_that_says_nothing_is_left_out_with_the_reason(energies, errors, relation):
    report = report_of(energies, errors)
    assert report.raw == relation == report.standardised


def test_images_without_a_valid_pixel_have_an_energy_and_no_error():
    prediction = column(1, 2, 3, 50)
    label = Label(torch.zeros_like(prediction), column(1, 1, 1, 0).bool())
    report = found([TO_A], {"a": prediction}, [2 * prediction], {"a": label}).targets["a"]
    assert (report.energy, report.error) == (56 / 4, 2)
    assert report.raw.images == 3 and report.raw.pearson == pytest.approx(1)


def test_without_labels_there_are_energies_alone():
    report = found([TO_A], {"a": column(1, 2, 3)}, [column(2, 4, 6)], {})
    assert (report.targets["a"].energy, report.targets["a"].error) == (2, None)
    nothing = Relation(0, reason="no image has a label")
    assert report.targets["a"].raw == nothing == report.graph


def test_the_graph_is_related_to_the_mean_of_the_tasks_z_scored_errors():
    predictions = {"a": column(1, 2, 6), "b": column(30, 20, 70)}
    transfers = [predictions["a"] + column(1, 3, 2), predictions["b"] + column(8, 4, 9)]
    labels = {name: everywhere(torch.zeros(3, 1, 1, 1)) for name in "ab"}
    report = found([TO_A, TO_B], predictions, transfers, labels)
    errors = torch.tensor([[1.0, 2, 6], [30, 20, 70]])
    z_scores = (errors - errors.mean(1, True)) / errors.std(1, correction=0, keepdim=True)
    energy = [-1.5 + 0.5, 1.5 - 1.5, 0 + 1.0]
    wanted = correlation(energy, z_scores.mean(0).tolist())
    assert report.graph.pearson == pytest.approx(wanted, abs=1e-5)
    assert report.graph.spearman == pytest.approx(0.5, abs=1e-5)  # errors rank 2, 1, 3


def test_only_edges_to_evaluated_maps_have_an_energy():
    weather, silent = Classification(name="w", classes=2), Depth(name="c", evaluate=False)
    tasks = {**TASKS, "c": silent, "w": weather}
    consistency = Consistency(tasks, [TO_A, edge("a", "w"), edge("a", "c"), edge("w", "b")])
    assert [one.hops for one in consistency.edges] == [("b", "a"), ("w", "b")]
    assert list(consistency.targets) == ["a", "b"]


def test_a_path_is_measured_at_its_end():
    path = CrossTaskConsistency.model_validate({"path": ["a", "b", "c"]})
    predictions = {"a": column(100.0), "b": column(50.0), "c": column(1.0)}
    consistency = Consistency(TASKS, [path])
    output = Output(predictions, transfers={path.key: column(3.0)})
    consistency.add(Batch(torch.zeros(1, 3, 1, 1)), output)
    assert list(consistency.targets) == ["c"] and consistency.report().targets["c"].energy == 2


def test_before_any_batch_nothing_is_reported_and_nothing_warns():
    report = Consistency(TASKS, [TO_A]).report()
    assert report.targets["a"].energy is None and report.graph.pearson is None
    assert Consistency(TASKS, []).report().targets == {}


def batches(images, size):
    """Return samples of classes and distances, with void, in batches of some size."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(images, 3, 32, 64, generator=generator)
    classes = torch.randint(0, 7, (images, 32, 64), generator=generator)
    depth = torch.rand(images, 1, 32, 64, generator=generator)
    valid = torch.rand(images, 1, 32, 64, generator=generator) < 0.6
    for rows in torch.arange(images).split(size):
        labels = {
            "segmentation": Label(classes[rows], valid[rows]),
            "depth": Label(depth[rows], valid[rows]),
        }
        yield Batch(image[rows], labels)


def watched(recipe, objective, size):
    """Return the metrics and the report of an evaluation in batches of some size."""
    consistency = Consistency(recipe.tasks, recipe.all_edges)
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    placement = place("cpu", "fp32")
    evaluate = Evaluation(recipe, objective, balancer, placement, consistency.add)
    return evaluate(batches(6, size)), consistency.report()


def test_neither_batch_size_nor_measuring_changes_a_number(recipe):
    objective = mtlkit.build_objective(recipe)
    metrics, one_by_one = watched(recipe, objective, 1)
    _, by_three = watched(recipe, objective, 3)
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    alone = Evaluation(recipe, objective, balancer, place("cpu", "fp32"))(batches(6, 1))
    assert alone == metrics and list(one_by_one.targets) == ["segmentation", "depth"]
    for name, target in one_by_one.targets.items():
        other = by_three.targets[name]
        assert target.energy == pytest.approx(other.energy, rel=1e-5) and target.energy > 0
        assert target.raw.pearson == pytest.approx(other.raw.pearson, abs=1e-3)
        assert target.raw.images == 6
    assert one_by_one.graph.images == 6
    # every image has as many valid pixels as the loss counts: its mean is that of the metric
    assert one_by_one.targets["depth"].error == pytest.approx(metrics["loss/depth/direct"])


def test_a_class_task_is_measured_by_its_divergence():
    tasks = {"s": Segmentation(name="s", classes=2), "d": Depth(name="d")}
    into = edge("d", "s")
    consistency = Consistency(tasks, [into])
    logits = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1)
    other = torch.tensor([0.25, 0.75]).log().view(1, 2, 1, 1)
    consistency.add(
        Batch(torch.zeros(1, 3, 1, 1)), Output({"s": logits}, transfers={into.key: other})
    )
    assert consistency.report().targets["s"].energy == pytest.approx(0.143841, rel=1e-5)


def test_training_and_its_validation_measure_no_energy(tiny, tmp_path):
    (tmp_path / "tripwire.py").write_text(TRIPWIRE, encoding="utf-8")
    settings = {
        "train.epochs": 1,
        "data.train": 2,
        "data.val": 2,
        "tasks.depth": "{type: tripwire}",
    }
    plugins = [tmp_path / "tripwire.py"]
    recipe = mtlkit.load_recipe(tiny, settings, plugins=plugins, blocked=["progress"])
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    run.fit()
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    (validation,) = [line for line in lines if line["split"] == "val"]
    known = {*directions(recipe), *loss_names(recipe)}
    assert validation["metrics"] and validation["metrics"].keys() <= known
    consistency = Consistency(recipe.tasks, recipe.all_edges)
    with pytest.raises(RuntimeError, match="was measured"):
        run.evaluate(observer=consistency.add)
