"""What every task promises."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mtlkit.contracts import Task
from mtlkit.model import MultiTaskModel
from mtlkit.objective import Objective
from mtlkit.structures import Batch, Label, counts_of, mean_counts
from mtlkit.testing.contract import (
    ROUNDING,
    BrokenPromise,
    backward,
    has_gradient,
    number,
    require,
    require_close,
    require_distances,
    require_equal,
    told,
)
from mtlkit.testing.inputs import SIZE, label_of, named, on_meta, prediction_of, rows_of, spoilt
from mtlkit.testing.stand_ins import ConstantMap, reading
from mtlkit.testing.task_parts import TASK

NEARLY = 0.0051  # half a bin of a median that is read from a histogram
MASKED = "Reduce it with mtlkit.nn.masked_mean, and mask nothing yourself"


def check_task(task: Task) -> None:
    """Check all that a task promises, with random predictions and labels.

    Args:
        task: with its arguments.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    TASK.run(named(task))


@TASK.promises
def loss_is_a_finite_scalar_with_a_gradient(task: Task) -> None:
    """The loss is a finite scalar above 0, and the prediction gets a gradient."""
    prediction = prediction_of(task).requires_grad_()
    loss = task.loss(prediction, label_of(task))
    require(loss.shape == (), f"the loss has the shape {tuple(loss.shape)}. {MASKED}")
    require(loss.isfinite() and loss > 0, f"the loss is {number(loss)} on a random prediction")
    backward(loss)
    require(has_gradient(prediction.grad), "the prediction's gradient is 0, infinite or missing")


@TASK.promises
def a_right_prediction_has_a_smaller_loss_than_a_wrong_one(task: Task) -> None:
    """A prediction p has a smaller loss against `as_label(p)` than −p has."""
    right = 10 * prediction_of(task)
    label = Label(task.as_label(right), label_of(task).valid)
    losses = [float(task.loss(p, label).detach()) for p in (right, -right)]
    seen = f"the loss of p is {losses[0]:g}, that of −p {losses[1]:g}"
    require(losses[0] < losses[1], f"{seen}. Look for a wrong sign in `loss` or `as_label`")


@TASK.promises
def loss_is_zero_on_the_graph_where_nothing_is_valid(task: Task) -> None:
    """Where no pixel is valid the loss is 0, on the graph, with a gradient of 0."""
    prediction, label = prediction_of(task).requires_grad_(), label_of(task)
    loss = task.loss(prediction, replace(label, valid=torch.zeros_like(label.valid)))
    require(loss == 0, f"the loss is {number(loss)}. {MASKED}")
    require(loss.requires_grad, f"the loss is not on the graph. {MASKED}")
    backward(loss)
    is_zero = prediction.grad is not None and not prediction.grad.any()
    require(is_zero, f"the gradient is not 0. {MASKED}")


@TASK.promises
def what_a_label_says_of_invalid_pixels_does_not_matter(task: Task) -> None:
    """What a label holds at invalid pixels changes neither loss nor gradient."""
    prediction, label, other = prediction_of(task), label_of(task), label_of(task, seed=5)
    mask = label.valid if label.value.ndim == label.valid.ndim else label.valid[:, 0]
    changed = Label(torch.where(mask, label.value, other.value), label.valid)
    differ = not torch.equal(changed.value, label.value)
    require(differ, "`as_label` gives every prediction one label. Make it depend on the prediction")
    _require_same(task, (prediction, changed), (prediction, label))


@TASK.promises
def what_is_predicted_at_invalid_pixels_does_not_matter(task: Task) -> None:
    """What is predicted at invalid pixels, ±1e6 too, changes neither loss nor gradient."""
    prediction, label = prediction_of(task), label_of(task)
    for value in (1e6, -1e6):
        _require_same(task, (spoilt(task, prediction, label, value), label), (prediction, label))


@TASK.promises
def a_prediction_that_is_no_number_matters_only_where_it_counts(task: Task) -> None:
    """NaN and infinity at invalid pixels change neither the loss nor a metric."""
    prediction, label = prediction_of(task), label_of(task)
    for value in (math.nan, math.inf, -math.inf):
        other = spoilt(task, prediction, label, value)
        losses = task.loss(other, label), task.loss(prediction, label)
        require_equal(*losses, f"with {value} there the loss is {number(losses[0])}. {MASKED}")
        for key, spec in task.metrics().items():
            before, after = copy.deepcopy(spec.metric), spec.metric
            before.update(prediction, label)
            after.update(other, label)
            sentence = f"metric {key!r} changes with {value} there. Mask it, or wrap it in OnValid"
            require_close(after.compute(), before.compute(), sentence, rtol=0, atol=0)


@TASK.promises
def losses_of_half_steps_average_to_that_of_the_whole_step(task: Task) -> None:
    """The losses of two halves of a step average to that of the whole, through `label.counts`."""
    prediction, label = prediction_of(task, images=4), label_of(task, images=4)
    label.valid[0] = False  # an image, and so an uneven share of the images, has nothing
    halves, name = (slice(0, 2), slice(2, 4)), task.name
    counts = mean_counts([{name: counts_of(label.valid[rows])} for rows in halves])[name]
    whole = task.loss(prediction, label)
    losses = [task.loss(prediction[rows], rows_of(label, rows, counts)) for rows in halves]
    require_close(torch.stack(losses).mean(), whole, f"the halves differ from the whole. {MASKED}")
    apart = torch.stack([task.loss(prediction[rows], rows_of(label, rows)) for rows in halves])
    is_uneven = not torch.allclose(apart.mean(), whole, rtol=1e-3)
    require(is_uneven, f"it takes no notice of how many pixels are valid. {MASKED}")


@TASK.promises
def bf16_predictions_are_scored_in_full_precision(task: Task) -> None:
    """A prediction in bf16 is scored as its float32 copy would be."""
    architecture, label = ConstantMap(task), label_of(task)
    task = reading(task, label)
    objective = Objective(MultiTaskModel({task.name: task}, [], architecture))
    loss = objective(Batch(torch.zeros(2, 3, *SIZE), {task.name: label})).tasks[task.name]
    wanted = task.loss(architecture.map.float(), label)
    require(loss.dtype == torch.float32, f"the loss is {loss.dtype}. Compute it in float32")
    seen = f"the loss is {number(loss)}, in float32 {number(wanted)}"
    require_equal(loss, wanted, f"{seen}. Compute it in float32")
    backward(loss)
    require(has_gradient(architecture.map.grad), "the gradient is 0, infinite or missing")


@TASK.promises
def pseudo_labels_are_detached_and_can_be_learned_from(task: Task) -> None:
    """`as_label` and `as_soft_label` are detached, and `transfer_loss` learns from them."""
    teacher, student = prediction_of(task).requires_grad_(), prediction_of(task, 7).requires_grad_()
    valid = label_of(task).valid
    for name, value in (
        ("as_label", task.as_label(teacher)),
        ("as_soft_label", task.as_soft_label(teacher, 2.0)),
    ):
        require(not value.requires_grad, f"`{name}` is on the graph. Detach the prediction first")
        backward(task.transfer_loss(student, Label(value, valid)))
        require(has_gradient(student.grad), f"nothing is learned from `{name}`: the gradient is 0")
        student.grad = None


@TASK.promises
def pictures_are_rgb_in_the_unit_range_and_have_a_legend(task: Task) -> None:
    """`render` gives (N,3,H,W) in [0,1] that show something, and `legend` one line."""
    if task.vector:
        return  # a vector has no picture
    value = task.as_label(prediction_of(task))
    pictures = task.render(value)
    seen = f"the pictures' shape is {tuple(pictures.shape)}"
    require(pictures.shape == (2, 3, *SIZE), f"{seen}. Return one RGB picture per label")
    low, high = float(pictures.min()), float(pictures.max())
    require(0 <= low <= high <= 1, f"pictures reach from {low:g} to {high:g}. Clamp them to [0,1]")
    require(low < high, "pictures are of one colour. Show the values")
    legend = task.legend(value, "m")
    require(legend and "\n" not in legend, f"the legend is {legend!r}. Return one line")


@TASK.promises
def a_prediction_disagrees_with_another_and_not_with_itself(task: Task) -> None:
    """`disagreement` is (N,1,H,W), above 0 for two predictions and 0 for one and itself."""
    if task.vector:
        return  # no edge leads to a vector
    one, other = prediction_of(task), prediction_of(task, seed=7)
    found = task.disagreement(other, one)
    require_distances(found, (2, 1, *SIZE), "disagreement")
    own, others = float(task.disagreement(one, one).abs().amax()), float(found.amax())
    seen = f"it is {own:g} for a prediction and itself, and {others:g} at most for two"
    require(own <= ROUNDING < others, f"{seen}. Return a distance")


@TASK.promises
def the_error_of_a_pixel_is_smaller_where_the_prediction_is_right(task: Task) -> None:
    """`pixel_error` is (N,1,H,W), and against `as_label(p)` smaller for p than for −p."""
    if task.vector:
        return  # metrics tell of vectors
    right = prediction_of(task)
    label = Label(task.as_label(right), label_of(task).valid)
    errors = [task.pixel_error(p, label) for p in (right, -right)]
    require_distances(errors[1], (2, 1, *SIZE), "pixel_error")
    good, bad = (float(error[label.valid].mean()) for error in errors)
    require(good < bad, f"the mean error of p is {good:g}, that of −p {bad:g}. Look for its sign")


@TASK.promises_once
def metrics_are_best_where_the_prediction_is_right(task: Task) -> None:
    """Metrics are 1 (or 0, where lower is better) for a right prediction, and worse for −p."""
    right = prediction_of(task)
    label = Label(task.as_label(right), label_of(task).valid)
    for key, spec in task.metrics().items():
        good, bad = spec.metric, copy.deepcopy(spec.metric)
        good.update(right, label)
        bad.update(-right, label)
        best, worse = float(good.compute()), float(bad.compute())
        if math.isnan(best) and math.isnan(worse):
            continue  # it needs more than this label says
        wanted, seen = int(spec.higher_is_better), f"metric {key!r} is {best:g} where all is right"
        is_best = abs(best - wanted) <= NEARLY or best == math.inf  # PSNR has no upper end
        require(is_best, f"{seen}, not {wanted}. Look at `as_label` and `higher_is_better`")
        is_worse = worse < best if spec.higher_is_better else worse > best
        require(is_worse, f"{seen}, and {worse:g} where all is wrong")
        said = spec.metric.higher_is_better
        agree = said in (None, spec.higher_is_better)
        require(agree, f"metric {key!r} says higher_is_better {said}, its MetricSpec the contrary")


@TASK.promises_once
def metrics_are_new_each_time(task: Task) -> None:
    """`metrics` returns new objects at every call, so that no evaluation sees another's counts."""
    first, second = task.metrics(), task.metrics()
    require(list(first) == list(second), "two calls return other names")
    kept = [key for key in first if first[key].metric is second[key].metric]
    require(not kept, f"the same metric is returned again: {kept}. Make it in `metrics`")


@TASK.promises
def loss_and_input_run_without_values(task: Task) -> None:
    """`loss` and `as_input` run on meta tensors: they wait for no value."""
    prediction, label = prediction_of(task).to("meta").requires_grad_(), on_meta(label_of(task))
    with told("They do not. Use no `.item()`, `if` on a value or indexing by a mask"):
        loss, read = task.loss(prediction, label), task.as_input(prediction)
    require(loss.shape == () and loss.requires_grad, "the loss is no scalar on the graph")
    require(read.is_meta, "`as_input` makes values. Compute it from the prediction alone")


@TASK.promises_once
def it_is_frozen_and_reads_nothing_from_nothing(task: Task) -> None:
    """It cannot be changed, and it reads None from a batch without the labels that it `reads`."""
    if task.reads:  # else it learns the image itself
        empty = task.read(Batch(torch.zeros(2, 3, 4, 4)))
        require(empty is None, "`read` finds a label in a batch that has none. Return None there")
    try:
        task.weight = 2.0  # type: ignore[misc]  # this is what must not work
    except ValueError:
        return
    raise BrokenPromise("a field can be set. Leave `model_config` frozen")


def _require_same(task: Task, one: tuple[Tensor, Label], other: tuple[Tensor, Label]) -> None:
    """Require equal losses and gradients of two pairs of prediction and label."""
    losses, gradients = zip(*_scored(task, one, other), strict=True)
    sentence = f"the loss is {number(losses[0])}, before {number(losses[1])}. {MASKED}"
    require_equal(losses[0], losses[1], sentence)
    require_equal(gradients[0], gradients[1], f"the gradient changes. {MASKED}")


def _scored(task: Task, *pairs: tuple[Tensor, Label]) -> Iterator[tuple[Tensor, Tensor]]:
    for prediction, label in pairs:
        leaf = prediction.clone().requires_grad_()
        loss = task.loss(leaf, label)
        yield loss.detach(), torch.autograd.grad(loss, leaf)[0]
