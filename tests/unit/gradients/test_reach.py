"""Which task reaches which parameter, and where the trunk ends."""

from __future__ import annotations

import pytest
import torch
from fixtures.networks import alone, batch_of, grads_of, tied

from mtlkit.errors import UsageError
from mtlkit.gradients import Conditions, build_backward, probe
from mtlkit.model import MultiTaskModel
from mtlkit.objective import Objective, build_objective
from mtlkit_plugins.edges.transfer import CrossTaskConsistency

LAST = "model.architecture.encoder.stages.2.0.weight"


@pytest.fixture
def batch():
    return batch_of()


@pytest.fixture
def objective(recipe):
    return build_objective(recipe).double().eval()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12, msg=name)


def gradients_of(objective, loss):
    objective.zero_grad(set_to_none=True)
    loss.backward()
    return grads_of(objective)


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


def test_an_own_loss_moves_its_own_parameters_in_the_same_pass(objective, batch, recipe):
    trained = alone(objective)
    losses = trained(batch)
    reach = probe(trained, losses)
    network = "model.edges.segmentation_to_depth_xtc."
    assert reach.own and all(name.startswith(network) for name in reach.own)
    assert all(not reach.tasks[name] for name in reach.own)
    balancer = recipe.loaded.types("weighting")["equal"]().build_balancer(recipe.tasks)
    report = build_backward(balancer, trained, reach, Conditions())(losses)
    expected = torch.stack(list(losses.tasks.values())).sum().detach()
    torch.testing.assert_close(report.total, expected)
    found = grads_of(trained)
    expected = gradients_of(trained, trained(batch).own)
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


def test_a_transfer_network_that_paths_share_is_not_the_last_shared_layer(objective, batch):
    model = objective.model
    ways = [("segmentation", "depth"), ("depth", "segmentation")]
    edges = [CrossTaskConsistency(source=a, target=b, widths=(2,)) for a, b in ways]
    edges += [CrossTaskConsistency(path=(a, b, a), widths=(2,)) for a, b in ways]
    cyclic = Objective(MultiTaskModel(model.tasks, edges, model.architecture)).double().eval()
    reach = probe(cyclic, cyclic(batch))
    networks = [name for name in reach.tasks if name.startswith("model.edges.")]
    assert networks and set(networks) <= set(reach.shared)
    assert reach.last_shared == LAST


def test_a_probe_leaves_no_gradient_behind(objective, batch):
    probe(objective, objective(batch))
    assert grads_of(objective) == {}


def test_frozen_parameters_are_neither_shared_nor_last(objective, batch):
    objective.model.architecture.encoder.stages[2].requires_grad_(False)
    reach = probe(objective, objective(batch))
    assert not any("stages.2" in name for name in reach.tasks)
    assert reach.last_shared == LAST.replace("2.0", "1.0")


def test_the_trunk_is_what_makes_the_features_and_nothing_else(objective, batch):
    reach = probe(objective, objective(batch))
    names = {name for name in reach.tasks if "encoder" in name}
    assert reach.trunk == names and reach.around == frozenset() and reach.has_cut
    assert reach.unreached == []
    assert reach.private("depth") == [n for n, t in reach.tasks.items() if t == {"depth"}]


def test_losses_are_tangled_where_two_share_a_part_behind_the_features(objective, batch):
    assert objective.model.edge_list  # their targets are detached
    assert not probe(objective, objective(batch)).is_tangled
    both = tied(objective)
    reach = probe(both, both(batch))
    assert reach.is_tangled and reach.has_cut
    assert any("decoders.depth" in name for name in reach.shared)


def test_without_features_there_is_no_trunk_and_no_cut(objective, batch):
    losses = objective(batch)
    losses.output.features = []
    reach = probe(objective, losses)
    assert reach.trunk == frozenset() and not reach.has_cut and reach.is_tangled


def test_a_parameter_that_no_loss_reaches_is_told(objective, batch):
    objective.model.spare = torch.nn.Parameter(torch.ones(2).double())
    reach = probe(objective, objective(batch))
    assert reach.unreached == ["model.spare"]
