"""`mtlkit doctor`: each ailment is named, and no other one beside it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlkit.actions import results
from mtlkit_plugins.commands.doctor import app

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECIPE = """\
name: patient
seed: 3
plugins: [tiny_encoder.py, ailing.py]
data: {type: streets, size: [32, 64], train: 6, val: 2}
loader: {batch_size: 2, cache: disk}
encoder: {type: tiny, widths: [6, 8]}
architecture: {type: shared_encoder, width: 6}
tasks:
  segmentation: {classes: 7}
  depth: {}
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-3}
train: {epochs: 2, device: cpu, precision: fp32}
"""
OPPOSED = (
    "tasks={near: {type: shifted, label: depth, by: -9}, far: {type: shifted, label: depth, by: 9}}"
)
GRADIENT_LEVEL = "weighting={type: upgrad}"
SKIPPING = "train.on_nonfinite=skip_task"


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy recipe in the working folder, and plugins to spoil it with."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny_encoder.py", "ailing.py"):
        shutil.copy(FIXTURES / name, tmp_path)
    path = tmp_path / "patient.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def call(patient: Path, *settings: str, words: tuple[str, ...] = (), steps: int = 6) -> str:
    """Return what the command prints on stdout for a recipe with some settings."""
    options = [word for setting in settings for word in ("--set", setting)]
    # the recipe keeps decoded samples, the command would render them in each step
    options += ["--set", "loader.cache=disk", "--steps", str(steps), *words]
    result = CliRunner().invoke(app, [str(patient), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def findings(patient: Path, *settings: str, steps: int = 6) -> list[dict[str, Any]]:
    """Return what is wrong with a recipe with some settings."""
    return json.loads(call(patient, *settings, words=("--json",), steps=steps))["findings"]


def only(found: list[dict[str, Any]], kind: str, is_fault: bool = True) -> dict[str, Any]:
    """Return the one finding, which must be of a kind."""
    assert [(x["kind"], x["is_fault"]) for x in found] == [(kind, is_fault)]
    return found[0]


def test_a_healthy_recipe_is_called_so_with_its_numbers(patient) -> None:
    lines = call(patient, steps=20).splitlines()
    assert lines[0] == "20 steps of patient: nothing is wrong"
    (row,) = [
        line.split() for line in lines if line.startswith("segmentation ") and "of 20" in line
    ]
    first, last, weight, norm = map(float, row[1:5])
    assert first > last > 0 and norm > 0 and weight == 1
    assert row[5:] == ["20", "of", "20", "100.0%"]
    (pair,) = [line for line in lines if line.startswith("segmentation and depth")]
    assert -1 <= float(pair.split()[3]) <= 1 and pair.endswith("of 11")


def test_a_task_that_outweighs_another(patient) -> None:
    found = only(findings(patient, "tasks.depth.weight=100000"), "imbalance")
    assert found["title"] == "task depth outweighs segmentation"
    assert "mean loss" in found["seen"] and "gradient norm" in found["seen"]
    assert "tasks.depth.weight: " in found["change"] and "uncertainty" in found["change"]


def test_what_a_weighting_makes_up_for_is_a_remark(patient) -> None:
    found = findings(patient, "tasks.depth.weight=100000", "weighting={type: db_mtl}")
    found = only(found, "imbalance", is_fault=False)
    assert "db_mtl make up for it" in found["why"] and "db_mtl" not in found["change"]


def test_two_tasks_in_conflict(patient) -> None:
    found = only(findings(patient, OPPOSED, ill("one_decoder")), "conflict")
    assert found["title"] == "tasks near and far are in conflict"
    assert "share -1.00, below 0 in 4 of 4" in found["seen"]
    assert "pcgrad" in found["change"]


def test_a_weighting_made_for_conflicts_makes_them_a_remark(patient) -> None:
    found = findings(patient, OPPOSED, ill("one_decoder"), GRADIENT_LEVEL)
    assert "upgrad" in only(found, "conflict", is_fault=False)["change"]


def test_a_module_that_never_runs(patient) -> None:
    found = only(findings(patient, ill("idle")), "unreached", is_fault=False)
    assert found["title"] == "no loss reaches architecture.spare (4 tensors)"
    assert "never run" in found["seen"]


def test_a_module_whose_output_is_detached(patient) -> None:
    found = only(findings(patient, ill("detached")), "unreached")
    assert found["title"] == "no loss reaches architecture.encoder.stem (2 tensors)"
    assert "detach" in found["change"]


def test_a_module_whose_gradient_is_always_0(patient) -> None:
    found = only(findings(patient, ill("clamped")), "stuck")
    assert found["title"] == "the gradient of architecture.encoder.stem (2 tensors) is 0"


@pytest.mark.parametrize(("at", "step"), [(1, 1), (3, 2), (5, 3)])
def test_the_loss_that_is_nan_and_its_step(patient, at, step) -> None:
    tasks = f"tasks={{segmentation: {{classes: 7}}, depth: {{type: late_nan, at: {at}}}}}"
    found = only(findings(patient, tasks), "nonfinite")
    assert found["title"] == f"the loss depth/direct is not finite at step {step}"


@pytest.mark.parametrize("settings", [(SKIPPING,), (GRADIENT_LEVEL,), (GRADIENT_LEVEL, SKIPPING)])
def test_a_nan_is_found_at_every_level_of_weighting(patient, settings) -> None:
    tasks = "tasks={segmentation: {classes: 7}, depth: {type: late_nan, at: 3}}"
    found = only(findings(patient, tasks, *settings), "nonfinite")
    assert found["title"] == "the loss depth/direct is not finite at step 2"


@pytest.mark.parametrize(
    ("after", "step", "settings"),
    [
        (0, 1, ()),
        (2, 2, ("train.clip=1.0",)),
        (2, 2, (GRADIENT_LEVEL,)),
        (2, 2, (GRADIENT_LEVEL, SKIPPING)),
    ],
)
def test_the_task_whose_gradient_is_nan(patient, after, step, settings) -> None:
    tasks = f"tasks={{segmentation: {{classes: 7}}, depth: {{type: steep, after: {after}}}}}"
    found = only(findings(patient, tasks, *settings), "nonfinite")
    words = found["title"].split()
    assert words[:4] == ["the", "gradient", "of", "task"] and words[4] == "depth"
    assert words[6] == "architecture.decoders.depth.head.weight" and words[-1] == str(step)
    assert re.search(r"the loss of depth, [\d.]+, is finite", found["seen"])


def test_the_module_that_makes_an_infinity(patient) -> None:
    found = only(findings(patient, ill("overflowing")), "nonfinite")
    name = "architecture.encoder.stages.1.1"
    assert found["title"] == f"module {name} returns what is not finite at step 1"


def test_the_image_that_holds_a_nan(patient) -> None:
    found = findings(patient, "data.type=torn", "data.torn=[4]")
    found = only(found, "nonfinite")
    assert found["title"] == "the image of training sample 4 is not finite"
    assert re.search(r"\d of its 6144 numbers", found["seen"])


def test_weights_that_a_step_makes_infinite(patient) -> None:
    found = findings(patient, "optimizer={type: sgd, lr: 1.0e+39}")
    assert only(found, "nonfinite")["title"].startswith("step 1 makes architecture.encoder")


def test_a_decoder_behind_a_dead_rectifier(patient) -> None:
    found = only(findings(patient, "tasks.depth.type=numb"), "dead")
    assert found["title"] == "the decoder of depth is dead"
    assert "0 everywhere: architecture.decoders.depth.trunk.2 in all 6 steps" in found["seen"]
    assert "architecture.decoders.depth" in found["seen"].split("no gradient")[1]


def test_a_decoder_that_sees_no_pixel(patient) -> None:
    found = only(findings(patient, "tasks.depth.type=flat"), "dead")
    assert "the same prediction for all pixels and images: depth" in found["seen"]


def test_one_class_everywhere_is_a_remark(patient) -> None:
    found = findings(patient, "tasks.segmentation.type=stubborn")
    assert "class 3 (" in only(found, "one_class", is_fault=False)["title"]


def test_a_task_without_a_label(patient) -> None:
    hidden = "{mode: random_share, share: {segmentation: 1.0, depth: 0.0}}"
    found = only(findings(patient, f"data.labels_per_image={hidden}"), "labels")
    assert found["title"] == "task depth has no label"
    assert "labels_per_image" in found["change"]


def test_a_task_with_few_labels(patient) -> None:
    hidden = "{mode: random_share, share: {segmentation: 1.0, depth: 0.17}}"
    settings = f"data.labels_per_image={hidden}", "loader.batch_size=1"
    found = only(findings(patient, *settings), "few_labels", is_fault=False)
    assert found["title"] == "task depth has few labels" and "in 1 of 6 steps" in found["seen"]


def test_a_loss_that_does_not_move(patient) -> None:
    found = only(findings(patient, "tasks.depth.type=blind"), "still")
    assert found["title"] == "the loss of depth does not move" and "1.000" in found["seen"]


def test_a_learning_rate_that_is_too_high(patient) -> None:
    found = only(findings(patient, "optimizer.lr=1000"), "growth")
    assert "blow" in found["title"] and "optimizer.lr: 100 (now 1000)" in found["change"]


def test_a_task_of_weight_0(patient) -> None:
    found = only(findings(patient, "tasks.depth.weight=0"), "weight", is_fault=False)
    assert found["title"] == "task depth has the weight 0"


def test_faults_come_before_remarks_and_all_at_once(patient) -> None:
    found = findings(patient, ill("idle"), "tasks.depth.weight=100000")
    kinds = [(x["kind"], x["is_fault"]) for x in found]
    assert kinds == [("imbalance", True), ("unreached", False)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_go_on_over_the_ends_of_epochs(patient, accumulate) -> None:
    settings = f"train.accumulate={accumulate}", "train.epochs=1", "schedule={type: poly}"
    out = json.loads(call(patient, *settings, words=("--json",), steps=7))
    assert out["steps"] == 7 and out["tasks"]["depth"]["labelled_steps"] == 7
    assert out["findings"] == []


def test_nothing_is_written(patient, monkeypatch) -> None:
    before = sorted(patient.parent.iterdir())
    monkeypatch.setenv("MTLKIT_CACHE", str(patient.parent / "cache"))
    words = [str(patient), "--set", "train.epochs=1", "--steps", "2"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [p for p in sorted(patient.parent.iterdir()) if p.name != "__pycache__"] == before


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal_and_say_the_same(patient, width, monkeypatch) -> None:
    monkeypatch.setattr(results, "width", width)
    out = call(patient, "tasks.depth.weight=100000", ill("idle"))
    assert max(map(len, out.splitlines())) <= width and "\x1b" not in out
    words = " ".join(out.split())
    assert "1. fault: task depth outweighs segmentation" in words
    assert "2. remark: no loss reaches architecture.spare (4 tensors)" in words


def ill(how: str) -> str:
    """Return the setting of an architecture that is ill in a way."""
    return f"architecture={{type: ailing, ill: {how}, width: 6}}"
