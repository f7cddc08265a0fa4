"""A run: what it writes, how it goes on, how it stops."""

from __future__ import annotations

import gc
import json
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.tiny import load

import mtlkit
from mtlkit import checkpoint
from mtlkit.device import move
from mtlkit.errors import DivergedError, InterruptedRun, MissingError, UsageError
from mtlkit.hookspecs import hookimpl
from mtlkit.records import Position

QUIET = ["progress"]


def weights(run: mtlkit.Run) -> dict[str, torch.Tensor]:
    """Return everything that training moves."""
    optimizer = run.learner.mover.optimizer.state_dict()["state"]
    moments = {f"{i}.{k}": v for i, s in optimizer.items() for k, v in s.items()}
    return {**run.learner.model.state_dict(), **run.learner.balancer.state_dict(), **moments}


def assert_equal_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Fail where one tensor differs in one bit."""
    assert a.keys() == b.keys()
    differing = [name for name in a if not torch.equal(a[name], b[name])]
    assert differing == []


class StopAt:
    """Send this process a signal at the end of a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    @hookimpl
    def mtlkit_step_end(self, run: mtlkit.Run, step: Any) -> None:
        if step.step == self.step:
            os.kill(os.getpid(), self.number)


def test_a_run_folder_explains_itself(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(load(tiny), out=tmp_path / "runs")
    outcome = run.fit()
    assert run.folder is not None
    assert outcome.status == "done" and outcome.step == 6 and outcome.epoch == 2
    names = {path.name for path in run.folder.iterdir()}
    written = {"recipe.yaml", "environment.json", "metrics.jsonl", "last.pt", "best.pt"}
    assert names == written | {"tiny_encoder.py"}
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["split"] for line in lines].count("val") == 2
    again = mtlkit.load_recipe(run.folder / "recipe.yaml", blocked=QUIET)
    assert again.model_dump() == run.recipe.model_dump()


def test_two_runs_get_different_folders(tiny: Path, tmp_path: Path) -> None:
    folders = set()
    for _ in range(2):
        run = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs")
        run.fit()
        folders.add(run.folder)
    assert len(folders) == 2


def test_training_twice_gives_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    runs = [mtlkit.Run(load(tiny), out=tmp_path / "runs") for _ in range(2)]
    for run in runs:
        run.fit()
    assert_equal_bits(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize(
    ("precision", "workers", "number"), [("fp32", 0, signal.SIGTERM), ("bf16", 2, signal.SIGINT)]
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    tiny: Path, tmp_path: Path, precision: str, workers: int, number: int
) -> None:
    settings = {"train__precision": precision, "loader__workers": workers}
    whole = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    whole.fit()
    run = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    run.track(StopAt(2, number))
    with pytest.raises(InterruptedRun, match="after step 2"):
        run.fit()
    resumed = mtlkit.Run(load(tiny, **settings), resume=run.folder)
    assert resumed.position == Position(epoch=1, batch=2, step=2)
    resumed.fit()
    assert_equal_bits(weights(whole), weights(resumed))
    assert whole.folder is not None and run.folder is not None
    lines = [without_speed(r.folder) for r in (whole, run)]
    assert lines[0] == lines[1]


def without_speed(folder: Path) -> list[Any]:
    """Return the lines of metrics.jsonl, less what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["metrics"] = {k: v for k, v in line["metrics"].items() if not k.startswith("speed/")}
    return lines


def test_four_epochs_equal_two_and_two_more(tiny: Path, tmp_path: Path) -> None:
    whole = mtlkit.Run(load(tiny, train__epochs=4), out=tmp_path / "runs")
    whole.fit()
    half = mtlkit.Run(load(tiny, train__epochs=2), out=tmp_path / "runs")
    half.fit()
    rest = mtlkit.Run(load(tiny, train__epochs=4), resume=half.folder)
    rest.fit()
    assert_equal_bits(weights(whole), weights(rest))


def test_a_second_signal_stops_at_once_and_keeps_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(load(tiny), out=tmp_path / "runs")

    class Twice:
        @hookimpl
        def mtlkit_step_end(self, run: mtlkit.Run, step: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    run.track(Twice())
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.folder is not None
    assert checkpoint.load(run.folder / "last.pt")["position"]["step"] == 0


def test_handlers_are_restored_after_a_run(tiny: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs").fit()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_accumulated_batches_equal_one_large_batch(tiny: Path, tmp_path: Path) -> None:
    """With frozen batch norm, uneven void pixels and a label that one batch lacks."""
    run = mtlkit.Run(load(tiny))
    learner = run.learner
    loader, order = run.loader("train")
    order.begin_at(1, 0)
    first, second, third = (move(batch, torch.device("cpu")) for batch in loader)
    first.labels["depth"].valid[:, :, :20] = False
    del second.labels["segmentation"]
    parts = [first, second, third]
    learner.objective.double().eval()
    for part in parts:
        part.image = part.image.double()
    whole = joined(parts)
    grads = []
    for batches in ([whole], learner.ready(parts)):
        learner.mover.optimizer.zero_grad(set_to_none=True)
        learner.backward.begin(len(batches))
        for batch in batches:
            learner.backward.add(learner.objective(batch))
        learner.backward.finish()
        grads.append({n: p.grad.clone() for n, p in learner.model.named_parameters()})
    for name in grads[0]:
        torch.testing.assert_close(grads[1][name], grads[0][name], rtol=1e-5, atol=1e-9)


def joined(parts: list[mtlkit.Batch]) -> mtlkit.Batch:
    """Return the batches as one; a missing label is valid nowhere."""
    image = torch.cat([part.image for part in parts])
    labels = {}
    for name in ("segmentation", "depth"):
        like = next(part.labels[name] for part in parts if name in part.labels)
        blank = mtlkit.Label(torch.zeros_like(like.value), torch.zeros_like(like.valid))
        found = [part.labels.get(name, blank) for part in parts]
        labels[name] = mtlkit.Label(
            torch.cat([x.value for x in found]), torch.cat([x.valid for x in found])
        )
    return mtlkit.Batch(image, labels)


def test_a_loss_that_is_no_number_is_named_and_the_last_good_checkpoint_kept(
    tiny: Path, tmp_path: Path
) -> None:
    run = mtlkit.Run(load(tiny, optimizer__lr=1e30), out=tmp_path / "runs")
    with pytest.raises(DivergedError, match=r"loss/.* is not finite at step \d"):
        run.fit()
    assert run.folder is not None
    state = checkpoint.load(run.folder / "last.pt")
    assert all(v.isfinite().all() for v in state["model"].values() if v.is_floating_point())


def test_another_recipe_cannot_be_resumed(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs")
    run.fit()
    with pytest.raises(UsageError, match=r"optimizer\.lr: 0\.001 there, 0\.5 here"):
        mtlkit.Run(load(tiny, optimizer__lr=0.5), resume=run.folder)
    mtlkit.Run(load(tiny, train__epochs=9, loader__workers=1, name="other"), resume=run.folder)


def test_a_fine_tuned_run_says_what_it_did_not_load(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs")
    run.fit()
    settings = {"train__init_from": str(run.folder), "edges": [], "weighting": "{type: equal}"}
    tuned = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    missing, unused = tuned.learner.not_loaded or ([], [])
    assert missing == [] and unused and all(name.startswith("edges.") for name in unused)


def test_a_missing_cuda_device_is_one_sentence(tiny: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device whose absence is tested")
    with pytest.raises(MissingError, match="--device cpu"):
        mtlkit.Run(load(tiny, train__device="cuda"))


def test_overfitting_four_scenes_lowers_every_loss(tiny: Path, tmp_path: Path) -> None:
    settings = {
        "data__train": 4,
        "data__augment": "{flip: 0, scale_crop: [1.0]}",
        "train__epochs": 40,
        "train__keep_best": None,
        "train__pictures": 0,
        "optimizer__lr": 1e-2,
        "edges__0__weight": 0.3,
        "edges__1__weight": 0.3,
    }
    run = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    seen: list[dict[str, float]] = []

    class Watch:
        @hookimpl
        def mtlkit_epoch_end(self, run: mtlkit.Run, epoch: Any) -> None:
            seen.append(epoch.train)

    run.track(Watch())
    run.fit()
    first, last = seen[0], seen[-1]
    terms = [n for n in first if n.startswith("loss/") and n != "loss/total"]
    assert len(terms) == 6
    assert [name for name in terms if last[name] > 0.9 * first[name]] == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
def test_a_run_on_cuda_measures_what_one_on_the_cpu_does(tiny: Path, tmp_path: Path) -> None:
    # with a small eps Adam takes whole steps for gradients of mere rounding
    runs = [
        mtlkit.Run(load(tiny, train__device=x, optimizer__eps=1e-3), out=tmp_path)
        for x in ("cpu", "cuda")
    ]
    here, there = (run.fit() for run in runs)
    assert there.status == "done" and next(runs[1].model.parameters()).is_cuda
    assert there.last.keys() == here.last.keys() and len(here.last) > 10
    assert there.last == pytest.approx(here.last, rel=1e-3, abs=1e-3)


def test_a_key_that_was_added_since_does_not_make_another_recipe(
    tiny: Path, tmp_path: Path
) -> None:
    run = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs")
    run.fit()
    assert run.folder is not None
    state = checkpoint.load(run.folder / "last.pt")
    lines = state["recipe"].splitlines()
    older = [line for line in lines if "checkpoint_minutes" not in line]
    assert len(older) == len(lines) - 1
    checkpoint.save(run.folder / "last.pt", {**state, "recipe": "\n".join(older)})
    resumed = mtlkit.Run(load(tiny, train__epochs=2), resume=run.folder)
    assert resumed.fit().epoch == 2
    again = mtlkit.load_recipe(run.folder / "recipe.yaml", blocked=QUIET)
    assert again.train.epochs == 2


def test_a_run_is_freed_as_soon_as_nobody_needs_it(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(load(tiny), out=tmp_path / "runs")
    run.fit()
    parts = [weakref.ref(part) for part in (run, run.learner, run.model, run.loader("train")[0])]
    gc.collect()
    gc.disable()  # or cycles would be freed by chance
    try:
        del run
        assert [part() for part in parts] == [None] * 4
    finally:
        gc.enable()
