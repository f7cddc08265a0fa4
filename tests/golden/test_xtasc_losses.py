"""Parity with XTasC-Net's released code; xtasc_losses.json says where its values come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtlkit.contracts import End, Transfer
from mtlkit.objective import task_losses
from mtlkit.structures import Label
from mtlkit_plugins.edges.transfer import Alignment, CrossTaskConsistency
from mtlkit_plugins.tasks.depth import Depth
from mtlkit_plugins.tasks.segmentation import Segmentation
from mtlkit_plugins.weightings.uncertainty import Uncertainty

GOLDEN = json.loads(Path(__file__).with_name("xtasc_losses.json").read_text())
N, C, H, W = GOLDEN["tensors"]["N,C,H,W"]
TASKS = {
    "segmentation": Segmentation(name="segmentation", classes=C),
    "depth": Depth(name="depth"),
}
EDGES = {"xtc": CrossTaskConsistency, "alignment": Alignment}
LOG_VARIANCE = {"depth": 0.2, "segmentation": -0.4}  # the file's note on "uncertainty"


def wave(name: str, channels: int) -> Tensor:
    """Return a tensor by the file's formula."""
    t = GOLDEN["tensors"][name]
    i = torch.arange(N * channels * H * W, dtype=torch.float64)
    values = t["offset"] + t["scale"] * torch.sin(t["a"] * i + t["b"])
    return values.float().view(N, channels, H, W)


@dataclass
class Case:
    """Labels and leaves of one case of the file."""

    labels: dict[str, Label]
    leaves: dict[str, Tensor]


def make_case(masked: bool) -> Case:
    pixels = torch.arange(N * H * W).view(N, H, W)
    classes, seen = (pixels * 5 // 3) % C, torch.ones(N, 1, H, W, dtype=torch.bool)
    distances, measured = wave("depth_label", 1).clamp(min=0), seen.clone()
    if masked:
        seen = (pixels % 11 != 0)[:, None]
        measured = (pixels % 5 != 0)[:, None]
        measured[1] &= pixels[1] % 3 != 0
        distances = torch.where(measured, distances, 0.0)
        classes = torch.where(seen[:, 0], classes, 0)
    names = {"seg_logits": C, "transferred_seg_logits": C, "depth": 1, "transferred_depth": 1}
    leaves = {name: wave(name, channels).requires_grad_() for name, channels in names.items()}
    labels = {"segmentation": Label(classes, seen), "depth": Label(distances, measured)}
    return Case(labels, leaves)


def mixed(case: Case, kind: str, weight: float) -> dict[str, Tensor]:
    predictions = {"segmentation": case.leaves["seg_logits"], "depth": case.leaves["depth"]}
    transferred = {
        "segmentation": case.leaves["transferred_seg_logits"],
        "depth": case.leaves["transferred_depth"],
    }
    ends = {
        name: End(task, predictions[name], case.labels[name], is_labelled=True)
        for name, task in TASKS.items()
    }
    make = EDGES[kind]
    pairs = [("segmentation", "depth"), ("depth", "segmentation")]
    edges = [make(source=a, target=b, weight=weight) for a, b in pairs]
    transfers = {
        e.key: e.loss(
            Transfer(ends[e.source], ends[e.target], nn.Identity(), transferred[e.target])
        )
        for e in edges
    }
    direct = {name: task.loss(predictions[name], case.labels[name]) for name, task in TASKS.items()}
    return task_losses(TASKS, edges, direct, transfers, {})


@pytest.mark.parametrize("key", GOLDEN["losses"])
def test_losses_and_gradients_are_those_of_the_released_code(key):
    mask, weight, kind, weighting = key.split("/")
    expected = GOLDEN["losses"][key]
    case = make_case(masked=mask == "masked")
    losses = mixed(case, kind, float(weight.removeprefix("lambda=")))
    if weighting == "uncert":
        balancer = Uncertainty(form="xtasc").build_balancer(TASKS)
        for name, s in LOG_VARIANCE.items():
            balancer.log_variance[name].data.fill_(s)
        losses = {name: balancer.total({name: loss}) for name, loss in losses.items()}
    torch.stack(list(losses.values())).sum().backward()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[f"loss_{name}_task"], rel=1e-5)
    for name, norm in expected["grad_norm"].items():
        assert case.leaves[name].grad.norm().item() == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("mask", GOLDEN["metrics"])
def test_metrics_are_those_of_the_released_code(mask):
    expected = GOLDEN["metrics"][mask]
    case = make_case(masked=mask == "masked")
    ours = {
        "miou_image": ("segmentation", "seg_logits", "miou_image"),
        "pix_acc_image": ("segmentation", "seg_logits", "pixel_accuracy_image"),
        "abs_err": ("depth", "depth", "abs_err"),
        "rel_err": ("depth", "depth", "rel_err"),
    }
    assert ours.keys() == expected.keys()
    for name, (task, leaf, key) in ours.items():
        metric = TASKS[task].metrics()[key].metric
        metric.update(case.leaves[leaf].detach(), case.labels[task])
        assert float(metric.compute()) == pytest.approx(expected[name], rel=1e-5), name
