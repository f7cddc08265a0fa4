"""Each check of tasks and edges catches a plugin that breaks its promise, and says what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ConfigDict
from torch import nn
from torchmetrics import MeanAbsoluteError

from mtlkit.contracts import Edge, Task
from mtlkit.metrics import OnValid
from mtlkit.nn import masked_mean
from mtlkit.structures import MetricSpec
from mtlkit.testing import EDGE, TASK, check_edge, check_task, label_of
from mtlkit.testing.stand_ins import ClassTask, ValueTask, pair_of
from mtlkit_plugins.commands._new.templates.edge import OwnPlugin as Healthy
from mtlkit_plugins.commands._new.templates.task import OwnPlugin as HealthyTask

ENDS = {"source": "near", "target": "far"}
KEPT = {"abs_err": MetricSpec(OnValid(MeanAbsoluteError()), "", False)}
WRONG_WAY = {"abs_err": MetricSpec(OnValid(MeanAbsoluteError()), "", True)}


def error(prediction, label):
    return (prediction - label.value).abs()


def live_on_both_sides(edge, transfer):
    target = transfer.target
    wanted = target.task.as_input(target.prediction)
    return masked_mean((target.task.as_input(transfer.transferred) - wanted).abs(), target.label)


def of_the_whole_map(edge, transfer):
    label = transfer.target.label
    if label is None:
        return transfer.transferred.sum() * 0
    everywhere = replace(label, valid=torch.ones_like(label.valid))
    return transfer.target.task.loss(transfer.transferred, everywhere)


def own_loss_of_the_transferred(edge, transfer):
    target = transfer.target
    return None if target.label is None else target.task.loss(transfer.transferred, target.label)


def asking_its_network(edge, transfer):
    return Healthy.loss(edge, transfer) * (1 if transfer.network.training else 2)


TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "decoder_and_head_end_in_its_prediction": (
        {"build_head": lambda self, width: nn.Conv2d(width, 2, 1)},
        "`build_head` ends in (2, 2, 16, 24), and `channels` and `vector` say (2, 1, 16, 24)",
    ),
    "what_an_edge_reads_of_a_prediction_is_live": (
        {"as_input": lambda self, p: p.detach()},
        "`as_input` is detached. Keep it on the graph",
    ),
    "a_label_is_read_in_the_form_of_a_prediction": (
        {"label_as_input": lambda self, label: label.value[:, :, ::2]},
        "its shape is (2, 1, 17, 47), that of `as_input` (2, 1, 33, 47)",
    ),
    "a_label_is_read_as_the_prediction_that_it_equals": (
        {"label_as_input": lambda self, label: -label.value},
        "from that of −p 0. Look for a wrong sign in `label_as_input`",
    ),
    "loss_is_a_finite_scalar_with_a_gradient": (
        {"loss": lambda self, p, label: error(p, label)},
        "the loss has the shape (2, 1, 33, 47). Reduce it with mtlkit.nn.masked_mean",
    ),
    "a_right_prediction_has_a_smaller_loss_than_a_wrong_one": (
        {"loss": lambda self, p, label: -masked_mean(error(p, label), label)},
        "Look for a wrong sign in `loss` or `as_label`",
    ),
    "loss_is_zero_on_the_graph_where_nothing_is_valid": (
        {"loss": lambda self, p, label: masked_mean(error(p, label), label) + 1},
        "the loss is 1. Reduce it with mtlkit.nn.masked_mean",
    ),
    "what_a_label_says_of_invalid_pixels_does_not_matter": (
        {"loss": lambda self, p, label: error(p, label).mean()},
        "Reduce it with mtlkit.nn.masked_mean",
    ),
    "what_is_predicted_at_invalid_pixels_does_not_matter": (
        {"loss": lambda self, p, label: error(p, label).mean()},
        "Reduce it with mtlkit.nn.masked_mean",
    ),
    "a_prediction_that_is_no_number_matters_only_where_it_counts": (
        {"loss": lambda self, p, label: (error(p, label) * label.valid).sum()},
        "with nan there the loss is nan",
    ),
    "losses_of_half_steps_average_to_that_of_the_whole_step": (
        {"loss": lambda self, p, label: masked_mean(error(p, label), replace(label, counts=None))},
        "the halves differ from the whole. Reduce it with mtlkit.nn.masked_mean",
    ),
    "bf16_predictions_are_scored_in_full_precision": (
        {"loss": lambda self, p, label: masked_mean(error(p, label), label).bfloat16()},
        "the loss is torch.bfloat16. Compute it in float32",
    ),
    "pseudo_labels_are_detached_and_can_be_learned_from": (
        {"as_label": lambda self, p: p},
        "`as_label` is on the graph. Detach the prediction first",
    ),
    "pictures_are_rgb_in_the_unit_range_and_have_a_legend": (
        {"render": lambda self, value: 9 * value.expand(-1, 3, -1, -1)},
        "Clamp them to [0,1]",
    ),
    "a_prediction_disagrees_with_another_and_not_with_itself": (
        {"disagreement": lambda self, transferred, p: (transferred + p).abs()},
        "for a prediction and itself, and 4.1",
    ),
    "the_error_of_a_pixel_is_smaller_where_the_prediction_is_right": (
        {"pixel_error": lambda self, p, label: (self.as_label(p) + label.value).abs()},
        "the mean error of p is 2.18297, that of −p 0. Look for its sign",
    ),
    "metrics_are_best_where_the_prediction_is_right": (
        {"metrics": lambda self: dict(WRONG_WAY)},
        "metric 'abs_err' is 0 where all is right, not 1. Look at `as_label`",
    ),
    "metrics_are_new_each_time": (
        {"metrics": lambda self: KEPT},
        "the same metric is returned again: ['abs_err']. Make it in `metrics`",
    ),
    "loss_and_input_run_without_values": (
        {"loss": lambda self, p, label: masked_mean(error(p, label), label) * p.sum().item()},
        "Use no `.item()`, `if` on a value or indexing by a mask (RuntimeError",
    ),
    "it_is_frozen_and_reads_nothing_from_nothing": (
        {"model_config": ConfigDict(frozen=False)},
        "a field can be set. Leave `model_config` frozen",
    ),
}
EDGES: dict[str, tuple[dict[str, Any], str]] = {
    "the_network_turns_one_prediction_into_the_other": (
        {"build_network": lambda self, a, b: nn.Conv2d(a.input_channels, b.channels, 2, 2)},
        "from a source of 16×32 it makes (2, 1, 8, 16), and the target has (2, 1, 16, 32)",
    ),
    "the_loss_trains_network_and_source_and_never_the_target": (
        {"loss": live_on_both_sides},
        "the target's prediction gets a gradient. Detach it",
    ),
    "the_loss_is_zero_on_the_graph_where_nothing_can_be_compared": (
        {"loss": lambda self, transfer: transfer.transferred.sum() * 0 + 1},
        "the loss is 1, and `applies` is False. Return 0 there",
    ),
    "the_loss_runs_without_values": (
        {
            "loss": lambda self, transfer: (
                transfer.transferred.sum() * transfer.transferred[0].item()
            )
        },
        "Use no `.item()`, `if` on a value or indexing by a mask",
    ),
    "explain_names_both_ends": (
        {"as_maths": lambda self, source, target: "T"},
        "it is 'T'. Write the names of both tasks",
    ),
    "copies_and_pickles_are_equal": (
        {"__deepcopy__": lambda self, memo: self.model_copy(update={"weight": 0.5})},
        "a copy differs. Keep all state in fields",
    ),
    "it_is_charged_to_one_of_its_ends_and_keeps_its_fields": (
        {"charged_to": property(lambda self: "nobody")},
        "`charged_to` is 'nobody', not 'near'",
    ),
    "what_is_void_changes_no_loss": (
        {"loss": of_the_whole_map},
        "with other values at the target's void pixels the loss is ",
    ),
    "its_own_loss_trains_the_network_alone": (
        {"trains_network": False, "own_loss": own_loss_of_the_transferred},
        "the prediction of 'near' gets a gradient. Read labels, or detach it",
    ),
    "as_a_path_it_keeps_its_promises": (
        {"loss": asking_its_network},
        "AttributeError: 'NoneType' object has no attribute 'training'",
    ),
}


class BrokenEdge(Healthy):
    """At module level, for pickle; what is broken is set by each test."""


def test_there_is_a_broken_plugin_for_each_check():
    assert list(TASKS) == [check.name for check in TASK.checks]
    assert list(EDGES) == [check.name for check in EDGE.checks]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_breaks_a_promise_is_caught(name):
    broken, words = TASKS[name]
    task = type("Broken", (HealthyTask,), broken)(name="broken")
    with pytest.raises(AssertionError) as caught:
        TASK.check(name)(task)
    assert str(caught.value).startswith("task 'own_plugin' breaks its contract.\nPromised: ")
    assert words in str(caught.value)
    with pytest.raises(AssertionError, match="breaks its contract"):
        check_task(task)


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_that_breaks_a_promise_is_caught(name, monkeypatch):
    broken, words = EDGES[name]
    for key, value in broken.items():
        monkeypatch.setattr(BrokenEdge, key, value, raising=False)
    edge = BrokenEdge(**ENDS)
    with pytest.raises(AssertionError) as caught:
        EDGE.check(name)(edge, *pair_of("near", "far")[0])
    assert words in str(caught.value)
    with pytest.raises(AssertionError, match="breaks its contract"):
        check_edge(edge)


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        ("disagreement", lambda a, b: (a - b).abs().mean(1), "has the shape (2, 33, 47), not"),
        ("disagreement", lambda a, b: a - b, "Return finite numbers from 0 up"),
        ("disagreement", lambda a, b: (a - b).abs() / 0, "Return finite numbers from 0 up"),
        ("disagreement", lambda a, b: 0 * a, "and 0 at most for two. Return a distance"),
        ("pixel_error", lambda p, label: p.amax((2, 3)), "`pixel_error` has the shape (2, 1)"),
        ("pixel_error", lambda p, label: label.value - p - 9, "`pixel_error` reaches from -"),
    ],
)
def test_each_way_to_be_no_distance_is_caught(name, broken, words):
    task = type("Broken", (HealthyTask,), {name: staticmethod(broken)})(name="broken")
    with pytest.raises(AssertionError) as caught:
        check_task(task)
    assert words in str(caught.value)


def test_healthy_ones_pass():
    task: Task = HealthyTask()
    edge: Edge = Healthy(**ENDS)
    check_task(task)
    check_edge(edge)


@pytest.mark.parametrize("stand_in", [ClassTask, ValueTask])
def test_stand_ins_keep_the_promises_of_tasks(stand_in):
    check_task(stand_in())


def test_a_stand_in_reads_a_label_as_logarithms_of_probabilities():
    task = ClassTask(name="near")
    label = label_of(task)
    read = task.label_as_input(label)
    torch.testing.assert_close(read.exp().sum(1), torch.ones(read.shape[0], *read.shape[2:]))
    assert torch.equal(read.argmax(1), label.value) and bool(read.isfinite().all())


def test_an_error_of_the_plugin_is_told_with_its_line(tmp_path, monkeypatch):
    task = type("Broken", (HealthyTask,), {"loss": raises, "__module__": __name__})(name="broken")
    with pytest.raises(AssertionError) as caught:
        check_task(task)
    line = raises.__code__.co_firstlineno + 1
    words = (
        f"ZeroDivisionError: division by zero (test_broken_tasks.py, line {line}). Mend the plug"
    )
    assert words in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def raises(task, prediction, label):
    return 1 / 0
