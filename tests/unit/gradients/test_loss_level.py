"""The loss level: one pass for all, started by the derivatives of the balancer's total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from fixtures.networks import (
    assert_same,
    batch_of,
    grads_of,
    objective_of,
    passes,
    step,
    task_gradients,
)
from torch import Tensor, nn

import mtlkit
from mtlkit.gradients import Conditions


class Bent(mtlkit.Balancer):
    """A total that is neither linear nor without a learned number: Σ a·L², a learned."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.calls = list[dict[str, float]]()

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        self.calls.append({name: loss.item() for name, loss in losses.items()})
        return torch.stack([self.a * loss.square() for loss in losses.values()]).sum()


@pytest.fixture
def three(tiny):
    return objective_of(tiny, 3)


def test_the_gradients_are_those_of_the_balancers_total(three):
    balancer = Bent()
    report, found = step(passes(balancer, three), three, [batch_of()])
    learned = balancer.a.grad.clone()
    three.zero_grad(set_to_none=True)
    balancer.a.grad = None
    expected = balancer.total(three(batch_of()).tasks)
    expected.backward()
    assert_same(found, grads_of(three))
    torch.testing.assert_close(learned, balancer.a.grad)
    torch.testing.assert_close(report.total, expected.detach())
    assert not report.total.requires_grad
    for name, loss in three(batch_of()).tasks.items():
        weight, loss = loss.item(), loss.item()  # the derivative of 0.5·L² is L
        assert float(report.numbers[f"weighting/weight/{name}"]) == pytest.approx(weight)
        assert float(report.numbers[f"weighting/scaled_loss/{name}"]) == pytest.approx(loss**2)


def test_batches_of_a_step_are_averaged(three):
    balancer, batches = Bent(), [batch_of(1), batch_of(2)]
    report, found = step(passes(balancer, three, Conditions(2)), three, batches)
    three.zero_grad(set_to_none=True)
    total = torch.stack([balancer.total(three(batch).tasks) for batch in batches]).mean()
    total.backward()
    assert_same(found, grads_of(three))
    torch.testing.assert_close(report.total, total.detach())


def test_trunk_and_every_decoder_are_passed_once(three):
    counts = Counter()
    architecture = three.model.architecture
    parts = {"trunk": architecture.encoder.stages[1][1]}
    parts |= {name: decoder.trunk.blocks[0][0] for name, decoder in architecture.decoders.items()}
    for name, part in parts.items():
        part.register_full_backward_hook(lambda *_, name=name: counts.update([name]))
    backward = passes(Bent(), three)
    counts.clear()
    step(backward, three, [batch_of()])
    assert counts == {"trunk": 1, "segmentation": 1, "depth": 1, "far": 1}


def test_absent_tasks_are_not_seen_and_their_parameters_have_no_gradient(three):
    balancer = Bent()
    _, found = step(
        passes(balancer, three),
        three,
        [batch_of()],
        lambda losses: replace(losses, present=frozenset({"far"})),
    )
    assert [set(call) for call in balancer.calls] == [{"far"}]
    assert not any("decoders.depth" in n or "decoders.segmentation" in n for n in found)


def spoil(losses):
    bad = losses.tasks["depth"] * torch.tensor(float("inf"))
    return replace(losses, tasks=losses.tasks | {"depth": bad})


def test_a_task_that_is_not_finite_is_left_out_where_that_is_asked_for(three):
    balancer = Bent()
    conditions = Conditions(leaves_out=True)
    report, found = step(passes(balancer, three, conditions), three, [batch_of()], spoil)
    assert report.left_out == ("depth",)
    assert set(balancer.calls[0]) == {"segmentation", "far"}
    gradients = task_gradients(three, [batch_of()])
    losses = three(batch_of()).tasks
    expected: dict[str, Tensor] = {}
    for task in ("segmentation", "far"):
        for name, grad in gradients[task].items():
            expected[name] = expected.get(name, 0) + losses[task].item() * grad
    assert_same(found, expected)


def test_else_it_spoils_the_step_for_the_monitor_to_tell(three):
    report, found = step(passes(Bent(), three), three, [batch_of()], spoil)
    assert report.left_out == () and not report.total.isfinite()
    assert any(not grad.isfinite().all() for grad in found.values())


def test_a_scale_multiplies_the_gradients_of_network_and_balancer_alone(three):
    first, second = Bent(), Bent()
    report, expected = step(passes(first, three), three, [batch_of()])
    again, found = step(passes(second, three), three, [batch_of()], scale=torch.tensor(1024.0))
    assert_same({name: grad / 1024 for name, grad in found.items()}, expected)
    torch.testing.assert_close(second.a.grad, 1024 * first.a.grad)
    assert torch.equal(again.total, report.total)
    for name, number in report.numbers.items():
        torch.testing.assert_close(again.numbers[name], number)


def test_a_step_without_any_task_is_nothing(three):
    report, found = step(
        passes(Bent(), three), three, [batch_of()], lambda x: replace(x, present=frozenset())
    )
    assert found == {} and report.total == 0 and report.numbers == {}


class Told(Bent):
    """Counts the steps that it is told of."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def before_step(self):
        self.steps += 1


def test_a_balancer_is_told_of_every_step_once(three):
    balancer = Told()
    backward = passes(balancer, three, Conditions(2))
    for _ in range(3):
        step(backward, three, [batch_of(1), batch_of(2)])
    assert balancer.steps == 3 and len(balancer.calls) == 6
