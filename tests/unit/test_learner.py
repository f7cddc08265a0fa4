"""What learns: tasks that are left out, half precision, resume, and a batch that is seen again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.tiny import load
from torch import nn

import mtlkit
from mtlkit.errors import DivergedError
from mtlkit.hookspecs import hookimpl
from mtlkit.plugins import Plugins
from mtlkit.recompute import statistics_kept

LEVELS = ["equal", "pcgrad", "gradnorm", "mgda"]
RESUMED = {name: {} for name in Plugins.load().types("weighting")} | {
    "dwa": {"train.epochs": 4},  # it weighs from the third on
    "nash_mtl": {"weighting.every": 3, "train.clip": 0.1},  # weights kept between solutions
    "imtl": {"train.precision": "fp16"},  # the scale of losses
}


def weighting(name):
    return {"weighting": {"type": name}}


def spoilt(run, task, steps):
    """Make a task's loss NaN at some steps."""
    forward = run.objective.forward

    def spoil(batch, edges=None):
        losses = forward(batch, edges)
        if run.objective.training and run.position.step + 1 in steps:
            bad = losses.tasks[task] * torch.tensor(float("nan"))
            losses = replace(losses, tasks=losses.tasks | {task: bad})
        return losses

    run.objective.forward = spoil
    return run


@pytest.mark.parametrize("name", LEVELS)
def test_a_task_that_is_not_finite_stops_the_run_by_its_name(tiny, tmp_path, name):
    recipe = load(tiny, **weighting(name), **{"train.log_every": 1})
    run = spoilt(mtlkit.Run(recipe, out=tmp_path / "runs"), "depth", {2})
    with pytest.raises(DivergedError, match=r"loss/depth.* is not finite at step 2"):
        run.fit()


@pytest.mark.parametrize("name", LEVELS)
def test_or_it_is_left_out_of_the_step_counted_and_shown(tiny, tmp_path, name, capsys):
    settings = {**weighting(name), "train.on_nonfinite": "skip_task", "train.log_every": 1}
    recipe = mtlkit.load_recipe(tiny, settings)
    run = spoilt(mtlkit.Run(recipe, out=tmp_path / "runs"), "depth", {2, 5})
    assert run.fit().status == "done"
    assert all(p.isfinite().all() for p in run.model.parameters())
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    counts = [x["metrics"]["weighting/left_out/depth"] for x in lines if x["split"] == "epoch"]
    assert counts == [1, 1]
    trained = {x["step"]: x["metrics"] for x in lines if x["split"] == "train"}
    assert "loss/depth" not in trained[2] and "loss/depth" in trained[3]
    assert "loss/segmentation" in trained[2] and "loss/total" in trained[2]
    assert capsys.readouterr().err.count("left out of steps, not finite: depth 1×") == 2


def test_a_step_whose_gradients_are_not_finite_moves_nothing(tiny, tmp_path):
    recipe = load(tiny, **weighting("equal"), **{"train.on_nonfinite": "skip_task"})
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    forward = run.objective.forward

    def spoil(batch, edges=None):
        losses = forward(batch, edges)
        root = (losses.output.features[-1] * 0).sum().sqrt()  # its derivative at 0 is infinite
        tasks = {name: loss + root for name, loss in losses.tasks.items()}
        return replace(losses, tasks=tasks)

    run.objective.forward = spoil
    before = copy.deepcopy(dict(run.model.named_parameters()))
    run.step(next(iter(run.loader("train")[0])))
    assert run.learner.left_out == {"all tasks": 1}
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


@pytest.mark.parametrize("name", ["gradnorm", "db_mtl", "famo", "imtl", "dwa"])
def test_a_void_step_moves_no_weighting_by_its_gradients(tiny, name):
    """An infinite gradient of a head, at gradient level; at loss level, after the step."""
    settings = {**weighting(name), "train.on_nonfinite": "skip_task"}
    run = mtlkit.Run(load(tiny, **settings))
    forward = run.objective.forward
    heads = [decoder.head.weight for decoder in run.model.architecture.decoders.values()]

    def spoil(batch, edges=None):
        losses = forward(batch, edges)
        tasks = losses.tasks.items()
        roots = [(head * 0).sum().sqrt() for head in heads]  # the derivative at 0 is infinite
        spoilt = {n: x + root for (n, x), root in zip(tasks, roots, strict=True)}
        return replace(losses, tasks=spoilt)

    run.objective.forward = spoil
    before = copy.deepcopy(run.learner.balancer.state_dict())
    run.step(next(iter(run.loader("train")[0])))
    counted = {"age", "before", "seen", "sums", "counts"}  # of losses, which were finite
    for key, value in run.learner.balancer.state_dict().items():
        if key.rpartition(".")[2] not in counted:
            assert torch.equal(value, before[key]), key


def test_fp16_that_never_takes_a_step_ends_the_run_and_says_why(tiny, tmp_path):
    settings = {**weighting("pcgrad"), "train.precision": "fp16", "train.epochs": 9}
    run = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    forward = run.objective.forward

    def spoil(batch, edges=None):
        losses = forward(batch, edges)
        root = (losses.output.features[-1].float() * 0).sum().sqrt()
        return replace(losses, tasks={n: x + root for n, x in losses.tasks.items()})

    run.objective.forward = spoil
    with pytest.raises(DivergedError, match=r"fp16 are not finite.*precision: bf16 or fp32"):
        run.fit()


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_a_run_that_is_resumed_within_an_epoch_ends_bitwise_the_same(tiny, tmp_path, name):
    """With every weighting: stopped after the third step, in the middle of the second epoch."""
    small = {"data.train": 4, "data.val": 2, "train.pictures": 0}
    settings = weighting(name) | small | RESUMED[name]
    straight = mtlkit.Run(load(tiny, **settings), out=tmp_path / "straight")
    straight.fit()

    class Stop:
        @hookimpl
        def mtlkit_step_end(self, run, step):
            if step.step == 3:
                run.save("last.pt")
                raise KeyboardInterrupt

    stopped = mtlkit.Run(load(tiny, **settings), out=tmp_path / "stopped")
    stopped.track(Stop())
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    resumed = mtlkit.Run(load(tiny, **settings), resume=stopped.folder)
    assert resumed.position.step == 3 and resumed.position.batch == 1
    resumed.fit()
    expected, found = straight.learner.state(), resumed.learner.state()
    for part in ("model", "balancer"):
        assert expected[part].keys() == found[part].keys()
        for key, value in expected[part].items():
            assert torch.equal(found[part][key], value), key
    lines = [(run.folder / "metrics.jsonl").read_text() for run in (straight, resumed)]
    first, second = ([without_speed(x) for x in text.splitlines()] for text in lines)
    assert second == first


def without_speed(line):
    record = json.loads(line)
    record["metrics"] = {k: v for k, v in record["metrics"].items() if not k.startswith("speed/")}
    return record


def first_step(tiny, name, precision):
    """Return how far all matrices and kernels move in a run's first step, (P,)."""
    optimizer = {"type": "sgd", "lr": 1e-2}
    settings = {**weighting(name), "train.precision": precision, "optimizer": optimizer}
    run = mtlkit.Run(load(tiny, **settings))
    named = {n: p for n, p in run.model.named_parameters() if p.ndim > 1}
    before = {n: p.detach().clone() for n, p in named.items()}
    run.step(next(iter(run.loader("train")[0])))
    return torch.cat([(p.detach() - before[n]).flatten() for n, p in named.items()])


@pytest.mark.parametrize("name", ["uncertainty", "pcgrad", "gradnorm", "imtl", "db_mtl"])
def test_half_precision_takes_nearly_the_step_of_full_precision(tiny, name):
    exact = first_step(tiny, name, "fp32")
    # eight channels and batch norms over 16 values: bf16's three digits leave as much as that
    for precision, least in (("bf16", 0.9), ("fp16", 0.99)):
        rounded = first_step(tiny, name, precision)
        similarity = torch.nn.functional.cosine_similarity(exact, rounded, dim=0)
        assert similarity > least, precision
        assert float(rounded.norm() / exact.norm()) == pytest.approx(1, abs=0.05), precision


def test_fp16_lowers_its_scale_where_gradients_overflow_and_goes_on(tiny, tmp_path):
    settings = {**weighting("pcgrad"), "train.precision": "fp16"}
    run = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    run.learner.mover.scaler.load_state_dict(
        run.learner.mover.scaler.state_dict() | {"scale": 1e30}
    )
    run.fit()
    assert run.learner.mover.scaler.get_scale() < 1e30
    assert all(p.isfinite().all() for p in run.model.parameters())
    again = mtlkit.Run(load(tiny, **settings | {"train.epochs": 3}), resume=run.folder)
    assert again.learner.mover.scaler.get_scale() == run.learner.mover.scaler.get_scale()


class Curious(mtlkit.Balancer):
    """Looks at the step's losses once more."""

    def total(self, losses):
        self.before = {name: loss.item() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def after_step(self, again):
        self.after = {name: float(loss) for name, loss in again().items()}
        self.is_detached = all(not loss.requires_grad for loss in again().values())


def test_a_balancer_sees_the_losses_after_the_step_and_no_statistics_move(tiny):
    run = mtlkit.Run(load(tiny, **weighting("equal"), **{"optimizer.lr": 1e-9}))
    run.learner.balancer = run.learner.backward.balancer = Curious()
    batch = next(iter(run.loader("train")[0]))
    run.step(batch)
    balancer = run.learner.balancer
    assert balancer.after == pytest.approx(balancer.before, rel=1e-4)  # hardly moved
    assert balancer.is_detached
    norms = [m for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked) == 1 for norm in norms)


def test_kept_statistics_are_still_those_of_the_batch():
    norm, x = nn.BatchNorm2d(3).train(), torch.randn(4, 3, 5, 5) * 7 + 2
    expected = nn.functional.batch_norm(x, None, None, training=True)
    with statistics_kept(norm):
        torch.testing.assert_close(norm(x), expected)
    assert int(norm.num_batches_tracked) == 0 and norm.track_running_stats
    norm(x)
    assert int(norm.num_batches_tracked) == 1


def test_gradient_level_takes_several_batches_a_step(tiny, tmp_path):
    settings = {**weighting("mgda"), "train.accumulate": 2}
    run = mtlkit.Run(load(tiny, **settings), out=Path(tmp_path / "runs"))
    assert run.fit().step == 4  # two epochs of three batches


def test_a_place_that_the_step_does_not_allow_is_told_at_its_line(tiny):
    settings = {"weighting": {"type": "mgda", "at": "features"}, "train.accumulate": 2}
    with pytest.raises(mtlkit.errors.RecipeError, match=r"weighting: at: features: .*accumulate"):
        mtlkit.check.check_recipe(load(tiny, **settings))
