"""Each check of weightings catches one that breaks its promise, and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import mtlkit
from mtlkit.testing import WEIGHTING, check_weighting
from mtlkit_plugins.commands._new.templates.weighting import OwnPlugin as Healthy
from mtlkit_plugins.commands._new.templates.weighting import PowerBalancer

Values = Callable[[Tensor], Tensor]


class OfGradients(mtlkit.GradientWeighting):
    """All gradients get the length 1."""

    type: Literal["of_gradients"] = "of_gradients"

    def build_balancer(self, tasks: Mapping[str, mtlkit.Task]) -> mtlkit.Balancer:
        return ToUnitLength(tuple(tasks), self.at, self.every)


class ToUnitLength(mtlkit.GradientBalancer):
    def weights(self, gradients: mtlkit.Gradients) -> Tensor:
        return gradients.gramian.diagonal().clamp(min=1e-30).rsqrt()


def of_values(function: Values) -> Any:
    """Return a weighting whose total is a function of the losses, (T,)."""
    return with_methods(total=lambda self, losses: function(torch.stack(list(losses.values()))))


def with_methods(base: type[Any] = PowerBalancer, **methods: Any) -> Any:
    """Return a weighting whose balancer has other methods."""
    kind = type("BrokenBalancer", (base,), methods)
    if base is PowerBalancer:
        return type("Broken", (Healthy,), {"build_balancer": lambda self, tasks: kind(0.5)})()
    build = {"build_balancer": lambda self, tasks: kind(tuple(tasks), self.at, self.every)}
    return type("Broken", (OfGradients,), build)()


def counting(self, losses):
    self.count += 1
    return PowerBalancer.total(self, losses)


def with_buffer(name: str, value: Tensor) -> Any:
    def build(self, power):
        PowerBalancer.__init__(self, power)
        self.register_buffer(name, value.clone())

    return build


def with_attribute(self, power):
    PowerBalancer.__init__(self, power)
    self.hidden = torch.ones(3)
    self.steps = 1


def stepping(self):
    self.steps = getattr(self, "steps", 0) + 1


def by_position(values: Tensor) -> Tensor:
    return (values * torch.arange(1, len(values) + 1)).sum()


def above_the_mean(values: Tensor) -> Tensor:
    return (values * (1 + (values > values.mean()).to(values))).sum().square()


BROKEN: dict[str, tuple[Any, str]] = {
    "the_total_is_a_scalar_that_rises_with_every_present_loss": (
        of_values(lambda values: -values.sum()),
        "Give every loss that is present a weight above 0",
    ),
    "totals_of_one_step_are_equal": (
        of_values(lambda values: values.sum() * torch.rand(())),
        "Draw in `before_step`",
    ),
    "evaluation_changes_no_state": (
        with_methods(__init__=with_buffer("count", torch.tensor(0)), total=counting),
        "count changes. Keep state in buffers or parameters",
    ),
    "state_lives_in_the_state_dict_as_tensors_that_move": (
        with_methods(__init__=with_attribute),
        "['hidden'] are plain attributes. Use register_buffer",
    ),
    "epochs_without_a_step_are_survived": (
        with_methods(after_epoch=lambda self: setattr(self, "power", float("nan"))),
        "after three empty epochs, the weights are [nan",
    ),
    "a_task_without_loss_and_gradient_leaves_all_weights_finite": (
        of_values(lambda values: values.sqrt().sum()),
        "beside a loss of 0, the weights are",
    ),
    "a_loss_that_is_not_finite_spoils_no_weight_of_another_task": (
        of_values(lambda values: values.sum().square()),
        "beside nan the weight of t0 is nan",
    ),
    "weights_are_used_again_for_the_steps_between_solutions": (
        with_methods(ToUnitLength, is_due=property(lambda self: True)),
        "they change. Hand `every` to the balancer",
    ),
    "weights_that_are_kept_survive_a_restart": (
        with_methods(
            ToUnitLength,
            last=lambda self, tasks: mtlkit.Weights(*torch.ones(2, len(tasks)).double()),
        ),
        "the restored ones differ. Keep state in buffers or parameters",
    ),
    "explain_can_write_the_total": (
        type("Broken", (Healthy,), {"as_maths": property(lambda self: "sum")})(),
        "it is 'sum'. Write the total in terms of L_t",
    ),
    "every_weight_and_direction_is_finite": (
        of_values(lambda values: values.exp().sum()),
        "Divide by nothing that may be 0",
    ),
    "a_restored_balancer_goes_on_bit_for_bit": (
        with_methods(
            before_step=stepping,
            total=lambda self, losses: PowerBalancer.total(self, losses) * self.steps,
        ),
        "its direction differ after a restart",
    ),
    "a_step_of_some_tasks_moves_no_state_of_the_others": (
        with_methods(
            __init__=with_buffer("seen", torch.zeros(3)),
            after_step=lambda self, again: self.seen.add_(1),
        ),
        "seen of tasks [1, 2], which are absent, moves. Index by present names",
    ),
    "weights_of_gradients_are_float64_on_the_cpu": (
        with_methods(ToUnitLength, weights=lambda self, g: torch.ones(len(g.tasks))),
        "they are torch.float32 on cpu",
    ),
    "property_scale": (of_values(lambda values: (values + values.square()).sum()), "times 1e+08"),
    "property_permutation": (of_values(by_position), "in the order [1, 0]"),
    "property_duplicate": (of_values(by_position), "with its first task again"),
    "property_zero": (of_values(above_the_mean), "with a row of 0"),
    "property_parallel": (of_values(lambda values: -values.sum()), "one row times [1.0, 3.0]"),
    "property_opposed": (of_values(lambda values: values.sum() * torch.nan), "opposed_pair"),
    "property_single": (of_values(lambda values: -values.sum()), "random_1"),
    "property_precision": (
        of_values(lambda values: values.sum() * (1 + (values.dtype == torch.float32))),
        "random_2",
    ),
}


def test_there_is_a_broken_weighting_for_each_check():
    assert list(BROKEN) == [check.name for check in WEIGHTING.checks]


@pytest.mark.parametrize("name", BROKEN)
def test_a_weighting_that_breaks_a_promise_is_caught(name):
    weighting, words = BROKEN[name]
    with pytest.raises(AssertionError) as caught:
        WEIGHTING.check(name)(weighting)
    assert "breaks its contract.\nPromised: " in str(caught.value)
    assert words in str(caught.value)


def test_healthy_ones_pass():
    check_weighting(Healthy())
    check_weighting(OfGradients())


def test_a_card_excuses_from_a_property_and_from_no_other():
    weighting = of_values(by_position)
    excuses = {"permutation": "its order counts", "duplicate": "so here"}
    card = {"card": mtlkit.Card(exceptions=excuses)}
    excused = type("Excused", (type(weighting),), card)()
    for law in excuses:
        WEIGHTING.check(f"property_{law}")(excused)
    wrong = type("Wrong", (Healthy,), {"card": mtlkit.Card(exceptions={"scales": "a slip"})})()
    with pytest.raises(AssertionError, match=r"its card excuses from \['scales'\]"):
        WEIGHTING.check("property_scale")(wrong)
