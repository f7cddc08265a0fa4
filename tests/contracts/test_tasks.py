"""What every task promises; parametrised over all that is registered, with each option in turn."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from arguments import label_of, make, prediction_of, registered, variants
from torch import nn

import mtlkit
from mtlkit.model import MultiTaskModel
from mtlkit.objective import Objective
from mtlkit.structures import counts_of, mean_counts

EVERY = pytest.mark.parametrize(("name", "fields"), variants("task"))
PLAIN = pytest.mark.parametrize("name", registered("task"))
# its threshold is a share of the batch's largest error, as its docstring says
LOOKS_AT_THE_BATCH = [("depth", {"loss": "berhu"})]


def task_of(name, fields=None):
    return make("task", name, name=name, **(fields or {}))


def row(label, rows, counts=None):
    return mtlkit.Label(label.value[rows], label.valid[rows], counts)


def spoilt(task, prediction, label, value):
    """Return the prediction with a value wherever the label is not valid."""
    mask = label.valid[:, None] if task.vector else label.valid
    return torch.where(mask, prediction, torch.full_like(prediction, value))


def gradient(task, prediction, label):
    leaf = prediction.clone().requires_grad_()
    return torch.autograd.grad(task.loss(leaf, label), leaf)[0]


@EVERY
def test_loss_is_a_finite_scalar_with_a_gradient(name, fields):
    task = task_of(name, fields)
    prediction, label = prediction_of(task).requires_grad_(), label_of(task)
    loss = task.loss(prediction, label)
    loss.backward()
    assert loss.shape == () and loss.isfinite() and loss > 0
    assert prediction.grad.isfinite().all() and prediction.grad.any()


@EVERY
def test_a_right_prediction_has_a_smaller_loss_than_a_wrong_one(name, fields):
    task = task_of(name, fields)
    right = 10 * prediction_of(task)
    label = mtlkit.Label(task.as_label(right), label_of(task).valid)
    assert task.loss(right, label) < task.loss(-right, label)


@EVERY
def test_loss_is_zero_on_the_graph_where_nothing_is_valid(name, fields):
    task = task_of(name, fields)
    prediction, label = prediction_of(task).requires_grad_(), label_of(task)
    loss = task.loss(prediction, replace(label, valid=torch.zeros_like(label.valid)))
    loss.backward()
    assert loss == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


@EVERY
def test_what_the_label_says_of_invalid_pixels_does_not_matter(name, fields):
    task = task_of(name, fields)
    prediction, label, other = prediction_of(task), label_of(task), label_of(task, seed=5)
    mask = label.valid if label.value.ndim == label.valid.ndim else label.valid[:, 0]
    changed = mtlkit.Label(torch.where(mask, label.value, other.value), label.valid)
    assert not torch.equal(changed.value, label.value)
    assert torch.equal(task.loss(prediction, changed), task.loss(prediction, label))
    assert torch.equal(gradient(task, prediction, changed), gradient(task, prediction, label))


@EVERY
@pytest.mark.parametrize("value", [1e6, -1e6])
def test_what_is_predicted_at_invalid_pixels_does_not_matter(name, fields, value):
    task = task_of(name, fields)
    prediction, label = prediction_of(task), label_of(task)
    other = spoilt(task, prediction, label, value)
    assert torch.equal(task.loss(other, label), task.loss(prediction, label))
    assert torch.equal(gradient(task, other, label), gradient(task, prediction, label))


@EVERY
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_prediction_that_is_no_number_matters_only_where_it_counts(name, fields, value):
    task = task_of(name, fields)
    prediction, label = prediction_of(task), label_of(task)
    other = spoilt(task, prediction, label, value)
    assert torch.equal(task.loss(other, label), task.loss(prediction, label))
    for key, spec in task.metrics().items():
        before, after = copy.deepcopy(spec.metric), spec.metric
        before.update(prediction, label)
        after.update(other, label)
        torch.testing.assert_close(  # NaN: a metric that needs more than these labels say
            after.compute(), before.compute(), rtol=0, atol=0, equal_nan=True, msg=key
        )


@EVERY
def test_losses_of_half_steps_average_to_that_of_the_whole_step(name, fields):
    if (name, fields) in LOOKS_AT_THE_BATCH:
        pytest.skip("looks at the largest error of the batch")
    task = task_of(name, fields)
    prediction, label = prediction_of(task, images=4), label_of(task, images=4)
    label.valid[0] = False  # an image, and so an uneven share of the images, has nothing
    halves = [slice(0, 2), slice(2, 4)]
    counts = mean_counts([{name: counts_of(label.valid[rows])} for rows in halves])[name]
    losses = [task.loss(prediction[rows], row(label, rows, counts)) for rows in halves]
    torch.testing.assert_close(torch.stack(losses).mean(), task.loss(prediction, label))
    apart = [task.loss(prediction[rows], row(label, rows)) for rows in halves]
    assert not torch.allclose(torch.stack(apart).mean(), task.loss(prediction, label), rtol=1e-3)


class Constant(nn.Module):
    """An architecture whose predictions are bf16 parameters, as autocast makes them."""

    def __init__(self, task):
        super().__init__()
        self.task, self.map = task, nn.Parameter(prediction_of(task).bfloat16())

    def forward(self, image):
        return mtlkit.Output({self.task.name: self.map})


@EVERY
def test_bf16_predictions_are_scored_in_full_precision(name, fields):
    task = task_of(name, fields)
    objective = Objective(MultiTaskModel({name: task}, [], Constant(task)))
    label = label_of(task)
    losses = objective(mtlkit.Batch(torch.zeros(2, 3, 33, 47), {name: label}))
    prediction = objective.model.architecture.map
    assert losses.tasks[name].dtype == torch.float32
    assert torch.equal(losses.tasks[name], task.loss(prediction.float(), label))
    losses.tasks[name].backward()
    assert prediction.grad.isfinite().all() and prediction.grad.any()


@EVERY
def test_pseudo_labels_are_detached_and_can_be_learned_from(name, fields):
    task = task_of(name, fields)
    teacher, student = prediction_of(task).requires_grad_(), prediction_of(task, 7).requires_grad_()
    valid = label_of(task).valid
    for value in (task.as_label(teacher), task.as_soft_label(teacher, 2.0)):
        assert not value.requires_grad
        task.transfer_loss(student, mtlkit.Label(value, valid)).backward()
        assert student.grad.any()
        student.grad = None
    assert teacher.grad is None


@PLAIN
def test_what_an_edge_reads_of_a_prediction_is_live(name):
    task = task_of(name)
    prediction = prediction_of(task).requires_grad_()
    read = task.as_input(prediction)
    assert read.shape[1] == task.input_channels
    read.square().sum().backward()
    assert prediction.grad.isfinite().all() and prediction.grad.any()


@PLAIN
def test_a_label_is_read_in_the_form_of_a_prediction(name):
    task = task_of(name)
    read = task.label_as_input(label_of(task))
    assert read.shape == task.as_input(prediction_of(task)).shape
    assert read.is_floating_point() and read.isfinite().all()


@EVERY
def test_pictures_are_rgb_in_the_unit_range_and_have_a_legend(name, fields):
    task = task_of(name, fields)
    if task.vector:
        pytest.skip("a vector has no picture")
    value = task.as_label(prediction_of(task))
    pictures = task.render(value)
    assert pictures.shape == (2, 3, 33, 47)
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert len(pictures.flatten(2).unique()) > 1
    legend = task.legend(value, "m")
    assert legend and "\n" not in legend


@PLAIN
def test_metrics_are_best_where_the_prediction_is_right(name):
    task = task_of(name)
    right = prediction_of(task)
    label = mtlkit.Label(task.as_label(right), label_of(task).valid)
    for key, spec in task.metrics().items():
        good, bad = spec.metric, copy.deepcopy(spec.metric)
        good.update(right, label)
        bad.update(-right, label)
        best, worse = float(good.compute()), float(bad.compute())
        if math.isnan(best) and math.isnan(worse):
            continue  # it needs more than this label says
        assert best == (1 if spec.higher_is_better else 0), key
        assert (worse < best) is spec.higher_is_better and worse != best, key
        assert spec.metric.higher_is_better in (None, spec.higher_is_better), key


@PLAIN
def test_metrics_are_new_each_time(name):
    task = task_of(name)
    first, second = task.metrics(), task.metrics()
    assert list(first) == list(second)
    assert all(first[key].metric is not second[key].metric for key in first)


@EVERY
def test_loss_and_input_run_without_values(name, fields):
    task = task_of(name, fields)
    prediction, label = prediction_of(task).to("meta").requires_grad_(), label_of(task)
    meta = mtlkit.Label(label.value.to("meta"), label.valid.to("meta"))
    loss = task.loss(prediction, meta)
    assert loss.shape == () and loss.requires_grad
    assert task.as_input(prediction).is_meta


@PLAIN
def test_it_is_frozen_named_by_the_recipe_and_reads_its_label(name):
    task = task_of(name, {"label": "other"})
    assert task.reads == ("other",) and task_of(name).reads == (name,)
    label = label_of(task)
    image = torch.zeros(len(label.value), 3, 4, 4)
    assert task.read(mtlkit.Batch(image, {"other": label})) is label
    assert task.read(mtlkit.Batch(image)) is None
    with pytest.raises(ValueError, match="frozen"):
        task.weight = 2.0
