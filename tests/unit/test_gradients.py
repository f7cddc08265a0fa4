"""The backward passes of a step, and which task reaches which parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mtlkit
from mtlkit.errors import UsageError
from mtlkit.gradients import Backward, last_shared, probe
from mtlkit.model import MultiTaskModel
from mtlkit.objective import Objective, build_objective
from mtlkit_plugins.edges.transfer import CrossTaskConsistency
from mtlkit_plugins.weightings.gradnorm import GradNorm

LAST = "model.architecture.encoder.stages.2.0.weight"


@pytest.fixture
def batch():
    """Two images with every label, in double precision."""
    masks = [torch.rand(2, 1, 16, 24) < share for share in (0.8, 0.6)]
    segmentation = mtlkit.Label(torch.randint(0, 7, (2, 16, 24)), masks[0])
    depth = mtlkit.Label(torch.rand(2, 1, 16, 24, dtype=torch.float64), masks[1])
    image = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    return mtlkit.Batch(image, {"segmentation": segmentation, "depth": depth})


@pytest.fixture
def objective(recipe):
    return build_objective(recipe).double().eval()


def grads(objective):
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12, msg=name)


def gradients_of(objective, loss):
    objective.zero_grad(set_to_none=True)
    loss.backward()
    return grads(objective)


def test_gradnorm_gives_the_gradient_of_the_weighted_sum_and_nothing_leaks(
    objective, batch, recipe
):
    balancer = GradNorm(lr=0.2).build_balancer(recipe.tasks)
    shared = dict(objective.named_parameters())[LAST]
    backward = Backward(balancer, shared)
    for _ in range(3):
        objective.zero_grad(set_to_none=True)
        total = backward(objective(batch), 1.0)
        found = grads(objective)
        weights = dict(zip(balancer.names, balancer.weight.tolist(), strict=True))
        losses = objective(batch).tasks
        weighted = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        torch.testing.assert_close(total, weighted.detach())
        assert_same(found, gradients_of(objective, weighted))
    assert weights["depth"] != pytest.approx(1, abs=0.1)
    assert not total.requires_grad
    assert all(p.grad is None for p in balancer.parameters())


def test_gradnorm_sees_the_gradients_at_the_last_shared_weight(objective, batch, recipe):
    balancer = GradNorm(lr=0.01, alpha=0).build_balancer(recipe.tasks)
    shared = dict(objective.named_parameters())[LAST]
    norms = {
        name: torch.autograd.grad(loss, shared, retain_graph=True)[0].norm()
        for name, loss in objective(batch).tasks.items()
    }
    Backward(balancer, shared)(objective(batch), 1.0)
    weights = dict(zip(balancer.names, balancer.weight.tolist(), strict=True))
    smaller, larger = sorted(norms, key=norms.__getitem__)
    assert weights[smaller] == pytest.approx(1.01) and weights[larger] == pytest.approx(0.99)


def test_one_backward_at_loss_level_is_that_of_the_balancers_total(objective, batch, recipe):
    balancer = recipe.weighting.build_balancer(recipe.tasks)
    total = Backward(balancer, None)(objective(batch), 1.0)
    found = grads(objective)
    learned = {name: s.grad.clone() for name, s in balancer.log_variance.items()}
    balancer.zero_grad(set_to_none=True)
    expected = balancer.total(objective(batch).tasks)
    assert_same(found, gradients_of(objective, expected))
    torch.testing.assert_close(total, expected.detach())
    for name, s in balancer.log_variance.items():
        assert torch.equal(learned[name], s.grad)


@pytest.mark.parametrize("weighting", ["equal", "gradnorm"])
def test_a_share_of_a_step_scales_gradients_and_not_the_total(objective, batch, recipe, weighting):
    plugin = recipe.loaded.types("weighting")[weighting]()
    found = []
    for share in (1.0, 0.25):
        balancer = plugin.build_balancer(recipe.tasks)
        objective.zero_grad(set_to_none=True)
        total = Backward(balancer, dict(objective.named_parameters())[LAST])(
            objective(batch), share
        )
        found.append((total, {name: grad / share for name, grad in grads(objective).items()}))
    assert torch.equal(found[0][0], found[1][0])
    assert_same(found[1][1], found[0][1])


def test_absent_tasks_are_left_out_of_the_total(tiny, batch):
    recipe = mtlkit.load_recipe(tiny, {"edges": []}, blocked=["progress"])
    objective = build_objective(recipe).double().eval()
    del batch.labels["depth"]
    for name in ("equal", "gradnorm", "uncertainty", "dwa"):
        balancer = recipe.loaded.types("weighting")[name]().build_balancer(recipe.tasks)
        objective.zero_grad(set_to_none=True)
        losses = objective(batch)
        assert losses.present == {"segmentation"}
        Backward(balancer, dict(objective.named_parameters())[LAST])(losses, 1.0)
        assert not any("decoders.depth" in n and g.any() for n, g in grads(objective).items())


class Pretrained(CrossTaskConsistency):
    """An edge that also trains its network alone, on detached maps."""

    def own_loss(self, transfer):
        source, target = transfer.source, transfer.target
        read = source.task.as_input(source.prediction.detach())
        return target.task.loss(transfer.network(read), target.label)


class Leaking(CrossTaskConsistency):
    """An edge whose own loss reaches the source's decoder."""

    def own_loss(self, transfer):
        return transfer.target.task.loss(transfer.transferred, transfer.target.label)


def with_edge(objective, kind, **fields):
    edge = kind(source="segmentation", target="depth", widths=(2, 3), **fields)
    model = objective.model
    return Objective(MultiTaskModel(model.tasks, [edge], model.architecture)).double().eval()


def test_an_own_loss_that_reaches_a_task_parameter_is_refused(objective, batch):
    leaking = with_edge(objective, Leaking)
    with pytest.raises(
        UsageError, match=r"an own loss and the task losses both move model\..* Detach"
    ):
        probe(leaking, leaking(batch))


def test_an_own_loss_on_parameters_that_a_task_loss_moves_is_refused(objective, batch):
    shared = with_edge(objective, Pretrained)
    with pytest.raises(UsageError, match=r"both move model\.edges\.segmentation_to_depth_xtc"):
        probe(shared, shared(batch))


class Alone(Pretrained):
    """An edge whose network only its own loss moves."""

    def loss(self, transfer):
        return transfer.target.prediction.sum() * 0


def test_an_own_loss_moves_its_own_parameters_in_the_same_pass(objective, batch, recipe):
    alone = with_edge(objective, Alone)
    losses = alone(batch)
    reach = probe(alone, losses)
    network = "model.edges.segmentation_to_depth_xtc."
    assert reach.own and all(name.startswith(network) for name in reach.own)
    assert all(not reach.tasks[name] for name in reach.own)
    balancer = recipe.loaded.types("weighting")["equal"]().build_balancer(recipe.tasks)
    total = Backward(balancer, None)(losses, 1.0)
    torch.testing.assert_close(total, torch.stack(list(losses.tasks.values())).sum().detach())
    found = grads(alone)
    expected = gradients_of(alone, alone(batch).own)
    assert_same({n: g for n, g in found.items() if n in reach.own}, expected)


def test_reach_tells_shared_and_private_parameters(objective, batch):
    reach = probe(objective, objective(batch))
    both = {"segmentation", "depth"}
    for name, tasks in reach.tasks.items():
        if "decoders.depth" in name or "edges.depth_to" in name:
            assert tasks == {"depth"}, name
        elif "encoder" in name:
            assert tasks == both, name
    assert reach.last_shared == LAST and reach.own == frozenset()
    assert last_shared(objective, reach) is dict(objective.named_parameters())[LAST]


def test_a_probe_leaves_no_gradient_behind(objective, batch):
    probe(objective, objective(batch))
    assert grads(objective) == {}


def test_frozen_parameters_are_neither_shared_nor_last(objective, batch):
    objective.model.architecture.encoder.stages[2].requires_grad_(False)
    reach = probe(objective, objective(batch))
    assert not any("stages.2" in name for name in reach.tasks)
    assert reach.last_shared == LAST.replace("2.0", "1.0")


class Elsewhere(mtlkit.GradientBalancer):
    """Looks at maps."""

    at = "features"

    def weights(self, gradients):
        return torch.ones(len(gradients.tasks))


def test_gradient_balancers_that_cannot_be_served_are_refused(recipe):
    with pytest.raises(UsageError, match="at 'features', scaling 'shared': this release knows"):
        Backward(Elsewhere(), nn.Parameter(torch.ones(2)))
    with pytest.raises(UsageError, match="share no weight"):
        Backward(GradNorm().build_balancer(recipe.tasks), None)
    assert Backward.needs_whole_steps(Elsewhere())
    assert not Backward.needs_whole_steps(recipe.weighting.build_balancer(recipe.tasks))
