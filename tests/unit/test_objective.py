"""Mixing, transfers and gradients: what reaches what, and that names decide initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.tiny import load

import mtlkit
from mtlkit.data import meta_batch
from mtlkit.gradients import probe
from mtlkit.graph import walked


@pytest.fixture
def batch(recipe: mtlkit.Recipe) -> mtlkit.Batch:
    """Two scenes with void pixels."""
    torch.manual_seed(1)
    segmentation = mtlkit.Label(torch.randint(0, 7, (2, 32, 64)), torch.rand(2, 1, 32, 64) < 0.8)
    depth = mtlkit.Label(torch.rand(2, 1, 32, 64), torch.rand(2, 1, 32, 64) < 0.6)
    return mtlkit.Batch(torch.rand(2, 3, 32, 64), {"segmentation": segmentation, "depth": depth})


def reached(loss: torch.Tensor, model: torch.nn.Module) -> set[str]:
    """Return the parts of the model where the loss has a gradient that is not 0."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    found = [n for n, g in zip(names, grads, strict=True) if g is not None and bool(g.any())]
    return {".".join(n.split(".")[: 3 if "decoders" in n else 2]) for n in found}


def edge_loss(objective: Any, batch: mtlkit.Batch, source: str, target: str) -> torch.Tensor:
    """Return the loss of one xtc edge alone."""
    model = objective.model
    output = model(batch.image)
    ends = objective._ends(output, batch)
    edge = next(e for e in model.edge_list if e.hops == (source, target))
    network = model.network(edge)
    transfer = mtlkit.Transfer(ends[source], ends[target], network, output.transfers[edge.key])
    return edge.loss(transfer)


def test_an_xtc_loss_never_reaches_the_target_decoder(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    objective = mtlkit.build_objective(recipe)
    loss = edge_loss(objective, batch, "segmentation", "depth")
    assert reached(loss, objective.model) == {
        "architecture.encoder",
        "architecture.decoders.segmentation",
        "edges.segmentation_to_depth_xtc",
    }


def test_a_detached_input_trains_the_network_alone(tiny: Path, batch: mtlkit.Batch) -> None:
    objective = mtlkit.build_objective(load(tiny, edges__0__detach_input=True))
    loss = edge_loss(objective, batch, "segmentation", "depth")
    assert reached(loss, objective.model) == {"edges.segmentation_to_depth_xtc"}


def test_two_tasks_give_equation_11(recipe: mtlkit.Recipe, batch: mtlkit.Batch) -> None:
    losses = mtlkit.build_objective(recipe)(batch)
    for task, other in (("segmentation", "depth"), ("depth", "segmentation")):
        direct, edge = losses.terms[f"{task}/direct"], losses.terms[f"{task}_to_{other}/xtc"]
        torch.testing.assert_close(losses.tasks[task], 0.99 * direct + 0.01 * edge)


def test_an_edge_of_weight_0_equals_no_edge(tiny: Path, batch: mtlkit.Batch) -> None:
    bare = mtlkit.build_objective(load(tiny, edges=[]))(batch)
    zero = mtlkit.build_objective(load(tiny, edges__0__weight=0, edges__1__weight=0))(batch)
    for task in bare.tasks:
        assert torch.equal(bare.tasks[task], zero.tasks[task])


def test_adding_an_edge_or_reordering_tasks_changes_no_initial_weight(tiny: Path) -> None:
    whole = mtlkit.build_model(load(tiny)).state_dict()
    bare = mtlkit.build_model(load(tiny, edges=[])).state_dict()
    turned = load(tiny, tasks={"depth": {"loss": "l1"}, "segmentation": {"classes": 7}})
    for other in (bare, mtlkit.build_model(turned).state_dict()):
        assert all(torch.equal(whole[name], other[name]) for name in other)
    assert not torch.equal(
        next(iter(whole.values())), next(iter(mtlkit.build_model(load(tiny, seed=4)).parameters()))
    )


def test_building_moves_no_global_generator(recipe: mtlkit.Recipe) -> None:
    before = torch.get_rng_state()
    mtlkit.build_objective(recipe)
    assert torch.equal(before, torch.get_rng_state())


def test_a_missing_label_gives_zero_on_the_graph(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    del batch.labels["depth"]
    losses = mtlkit.build_objective(recipe)(batch)
    assert set(losses.terms) == {"segmentation/direct", "depth_to_segmentation/xtc"}
    assert losses.tasks["depth"].requires_grad
    # depth → segmentation has its target's label, and is charged to depth
    assert losses.present == {"segmentation", "depth"}


def test_a_batch_without_labels_has_no_task_present(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    batch.labels.clear()
    losses = mtlkit.build_objective(recipe)(batch)
    assert losses.present == frozenset()
    assert all(float(loss.detach()) == 0 for loss in losses.tasks.values())


def test_void_pixels_change_no_loss_except_through_denominators(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    objective = mtlkit.build_objective(recipe)
    before = objective(batch)
    for label in batch.labels.values():
        mask = label.valid if label.value.ndim == 4 else label.valid[:, 0]
        label.value[~mask] = 3
    after = objective(batch)
    for name, loss in before.tasks.items():
        torch.testing.assert_close(after.tasks[name], loss, rtol=0, atol=0)


def test_the_probe_on_meta_finds_what_real_gradients_find(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    meta = mtlkit.build_objective(recipe, "meta")
    real = mtlkit.build_objective(recipe)
    reaches = probe(meta, meta(meta_batch(recipe))), probe(real, real(batch))
    assert reaches[0] == reaches[1]
    assert all(name.startswith("model.architecture.encoder") for name in reaches[0].shared)
    assert reaches[0].last_shared == "model.architecture.encoder.stages.2.0.weight"


def test_networks_are_saved_under_their_edge(recipe: mtlkit.Recipe) -> None:
    model = mtlkit.build_model(recipe)
    assert list(model.edges) == ["segmentation_to_depth_xtc", "depth_to_segmentation_xtc"]
    assert [name for edge in model.edge_list for name in walked(edge)] == list(model.edges)
    assert any(name.startswith("architecture.decoders.depth.") for name in model.state_dict())


def test_edges_can_be_left_out_of_a_forward_pass(
    recipe: mtlkit.Recipe, batch: mtlkit.Batch
) -> None:
    model = mtlkit.build_model(recipe)
    assert model(batch.image, edges=[]).transfers == {}
    assert set(model(batch.image).transfers) == {
        ("segmentation", "depth", "xtc"),
        ("depth", "segmentation", "xtc"),
    }
