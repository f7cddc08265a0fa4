"""Validation: pooled metrics, one update per family, modes, and splits without labels."""

from __future__ import annotations

import pytest
import torch

import mtlkit
from mtlkit.device import place
from mtlkit.evaluation import Evaluation, directions, task_metrics
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import AbsoluteError

LOSSES = {
    "loss/total",
    *(f"loss/{task}{part}" for task in ("segmentation", "depth") for part in ("", "/direct")),
}


def batch_of(images, seed=0):
    """Return images whose shares of void pixels are far apart."""
    generator = torch.Generator().manual_seed(seed)
    size = (images, 1, 16, 24)
    share = torch.linspace(0.05, 1.0, images).view(-1, 1, 1, 1)
    masks = [torch.rand(size, generator=generator) < share for _ in range(2)]
    classes = torch.randint(0, 7, (images, 16, 24), generator=generator)
    depth = torch.rand(size, generator=generator) + 0.1
    labels = {
        "segmentation": mtlkit.Label(classes, masks[0]),
        "depth": mtlkit.Label(depth, masks[1]),
    }
    image = torch.rand(images, 3, 16, 24, generator=generator, dtype=torch.float64)
    return mtlkit.Batch(image, labels)


def rows(batch, start, stop):
    labels = {
        name: mtlkit.Label(label.value[start:stop], label.valid[start:stop])
        for name, label in batch.labels.items()
    }
    return mtlkit.Batch(batch.image[start:stop], labels)


def evaluation_of(recipe):
    objective = mtlkit.build_objective(recipe).double()
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    return Evaluation(recipe, objective, balancer, place("cpu", "fp32"))


def test_every_metric_and_loss_has_a_number_and_a_direction(recipe):
    found = evaluation_of(recipe)([batch_of(2)])
    known = directions(recipe)
    assert {n for n in found if n.startswith("loss/")} == LOSSES
    metrics = {n for n in found if not n.startswith("loss/")}
    listed = {n for n in known if not n.startswith("loss/")}
    in_metres = {n for n in listed if n.endswith("_m")}  # known of no image here
    assert metrics == listed - in_metres and (len(metrics), len(in_metres)) == (12, 8)
    assert {"loss/total", "loss/segmentation", "loss/depth"} <= set(known)


def test_metrics_do_not_depend_on_the_batch_size(recipe):
    evaluation, whole = evaluation_of(recipe), batch_of(6)
    expected = evaluation([whole])
    splits = [[rows(whole, i, i + 1) for i in range(6)], [rows(whole, 0, 4), rows(whole, 4, 6)]]
    for batches in (*splits, splits[0][::-1]):
        found = evaluation(batches)
        for name in found:
            if not name.startswith("loss/"):
                assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    means = [evaluation([part])["depth/abs_err"] for part in splits[0]]
    assert sum(means) / 6 != pytest.approx(expected["depth/abs_err"], rel=1e-3)


def test_losses_are_means_over_images(recipe):
    evaluation, whole = evaluation_of(recipe), batch_of(3)
    large, small = rows(whole, 0, 2), rows(whole, 2, 3)
    parts, both = (evaluation([large]), evaluation([small])), evaluation([large, small])
    for name in LOSSES:
        assert both[name] == pytest.approx((2 * parts[0][name] + parts[1][name]) / 3)


def test_with_labels_on_few_images_losses_do_not_depend_on_the_batch_size(tiny):
    """Depth takes each image's mean; a batch without its label says nothing of it."""
    recipe = mtlkit.load_recipe(tiny, {"weighting": "{type: equal}", "edges": "[]"})
    evaluation, whole = evaluation_of(recipe), batch_of(4)
    whole.labels["depth"].valid[torch.tensor([0, 1, 3])] = False
    del whole.labels["segmentation"]
    found = []
    for size in (1, 2, 3, 4):
        batches = [rows(whole, i, min(i + size, 4)) for i in range(0, 4, size)]
        for batch in batches:
            if not batch.labels["depth"].valid.any():
                del batch.labels["depth"]  # as the loader does
        found.append(evaluation(batches))
    for numbers in found:
        assert numbers["loss/depth"] == pytest.approx(found[0]["loss/depth"], rel=1e-12)
        assert numbers["loss/total"] == pytest.approx(numbers["loss/depth"], rel=1e-12)


class Counting(AbsoluteError):
    """Counts how often it is updated."""

    family = "counted"
    updates = 0

    def update(self, prediction, label):
        type(self).updates += 1
        super().update(prediction, label)


class Alone(Counting):
    """The same without a family."""

    family = property()
    updates = 0


class Added:
    """Adds three metrics of one family, and two that have none."""

    @hookimpl
    def mtlkit_metrics(self, name, task):
        if name != "depth":
            return {}
        made = {"one": Counting(), "two": Counting(), "three": Counting()}
        made |= {"four": Alone(), "five": Alone()}
        return {key: mtlkit.MetricSpec(metric, "", False) for key, metric in made.items()}


def test_metrics_of_one_family_are_updated_once_a_batch(recipe):
    recipe.loaded.manager.register(Added())
    Counting.updates = Alone.updates = 0
    found = evaluation_of(recipe)([batch_of(2), batch_of(2, seed=1)])
    assert Counting.updates == 2 and Alone.updates == 4
    names = ("one", "two", "three", "four", "five")
    assert {found[f"depth/{name}"] for name in names} == {found["depth/abs_err"]}


def test_metrics_of_a_plugin_are_added_and_replace_by_name(recipe):
    class Replacing:
        @hookimpl
        def mtlkit_metrics(self, name, task):
            return {"abs_err": mtlkit.MetricSpec(AbsoluteError(), "mine", False)}

    recipe.loaded.manager.register(Replacing())
    specs = task_metrics(recipe)
    assert specs["depth"]["abs_err"].unit == "mine" == specs["segmentation"]["abs_err"].unit
    assert specs["depth"]["rmse"].unit == "disparity/256"


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_restored_also_after_an_error(recipe, training):
    evaluation = evaluation_of(recipe)
    modules = (evaluation.objective, evaluation.balancer)
    for module in modules:
        module.train(training)

    def batches():
        assert not any(module.training for module in modules)
        assert not torch.is_grad_enabled()
        yield batch_of(1)
        raise RuntimeError("no more")

    evaluation([batch_of(1)])
    assert all(module.training is training for module in modules)
    with pytest.raises(RuntimeError, match="no more"):
        evaluation(batches())
    assert all(module.training is training for module in modules)
    assert torch.is_grad_enabled()


def test_evaluation_changes_no_weight_buffer_or_generator(recipe):
    evaluation = evaluation_of(recipe)
    modules = (evaluation.objective, evaluation.balancer)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    generator = torch.get_rng_state()
    evaluation([batch_of(2)])
    for module, kept in zip(modules, before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in module.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize("weighting", ["uncertainty", "equal", "dwa", "gradnorm"])
def test_a_split_without_labels_gives_no_metric_and_no_warning(tiny, weighting):
    recipe = mtlkit.load_recipe(tiny, {"weighting": {"type": weighting}}, blocked=["progress"])
    evaluation, batch = evaluation_of(recipe), batch_of(2)
    batch.labels.clear()
    found = evaluation([batch])
    assert not any(name.partition("/")[0] in recipe.tasks for name in found)
    assert all(value == 0 for value in found.values())
    assert evaluation([]) == {}


def test_labels_that_are_valid_nowhere_give_no_metric(recipe):
    batch = batch_of(2)
    for label in batch.labels.values():
        label.valid[:] = False
    found = evaluation_of(recipe)([batch])
    assert not any(name.partition("/")[0] in recipe.tasks for name in found)


def test_a_label_that_some_batches_lack_is_measured_on_the_others(recipe):
    evaluation, first, second = evaluation_of(recipe), batch_of(2), batch_of(2, seed=1)
    expected = evaluation([first])
    del second.labels["depth"]
    found = evaluation([first, second])
    assert found["depth/rmse"] == pytest.approx(expected["depth/rmse"], rel=1e-12)
    assert found["segmentation/miou"] != expected["segmentation/miou"]


def test_a_task_that_is_not_evaluated_has_losses_and_no_metrics(tiny):
    recipe = mtlkit.load_recipe(tiny, {"tasks.depth.evaluate": False}, blocked=["progress"])
    found = evaluation_of(recipe)([batch_of(2)])
    assert not any(name.startswith("depth/") for name in found) and "loss/depth" in found
    assert "depth/rmse" not in directions(recipe)


def test_no_transfer_network_runs_and_losses_are_those_without_edges(recipe):
    evaluation = evaluation_of(recipe)
    networks = evaluation.objective.model.edges
    ran = []
    for network in networks.values():
        network.register_forward_hook(lambda *_: ran.append(1))
    found = evaluation([batch_of(2)])
    assert len(networks) == 2 and not ran
    for name in recipe.tasks:
        assert found[f"loss/{name}"] == pytest.approx(found[f"loss/{name}/direct"], rel=1e-12)


def test_an_observer_gets_every_transfer_and_changes_no_number(recipe):
    evaluation = evaluation_of(recipe)
    alone = evaluation([batch_of(2)])
    seen = []
    evaluation.observer = lambda batch, output: seen.append((batch, set(output.transfers)))
    assert evaluation([batch_of(2)]) == alone
    ((batch, transfers),) = seen
    assert len(batch.image) == 2 and transfers == {edge.key for edge in recipe.all_edges}
