"""Unreadable samples in whole runs: counted, named, kept over a resume, never without a word."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import mtlkit
from mtlkit.cli import main
from mtlkit.errors import InterruptedRun, MissingError
from mtlkit_plugins.datasets._scenes.split import RenderedSplit

SKIP = {"loader.on_bad_sample": "skip", "loader.cache": "none", "train.checkpoint_every": 1}
BAD = (1, 4)


@pytest.fixture
def _bad_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RenderedSplit.__getitem__

    def damaged(self: RenderedSplit, index: int) -> dict[str, torch.Tensor]:
        if index in BAD:
            raise MissingError(f"{index}.png: cannot be read")
        return whole(self, index)

    monkeypatch.setattr(RenderedSplit, "__getitem__", damaged)


def skipped(folder: Path) -> list[Any]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [x["metrics"].get("data/skipped_samples") for x in lines if x["split"] == "val"]


@pytest.mark.usefixtures("_bad_samples")
def test_a_resumed_run_counts_what_was_skipped_as_an_undisturbed_one(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = mtlkit.load_recipe(tiny, SKIP)
    whole = mtlkit.Run(recipe, out=tmp_path / "whole")
    whole.fit()
    assert whole.folder is not None
    said = capfd.readouterr().err
    assert [said.count(f"skipped: {i}.png: cannot be read") for i in BAD] == [1, 1]
    assert skipped(whole.folder) == [3, 3]  # two of training, one of validation
    for stop in (1, 2, 4):
        first = mtlkit.Run(recipe, out=tmp_path / f"stopped-{stop}")
        first.track(_Stop(stop))
        with pytest.raises(InterruptedRun):
            first.fit()
        assert first.folder is not None
        mtlkit.Run(recipe, resume=first.folder).fit()
        assert skipped(first.folder) == [3, 3], stop


class _Stop:
    """Asks a run to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    @mtlkit.hookimpl
    def mtlkit_step_end(self, step: Any) -> None:
        if step.step == self.step:
            os.kill(os.getpid(), 2)


@pytest.mark.usefixtures("_bad_samples")
def test_eval_names_what_it_skipped(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mtlkit.Run(mtlkit.load_recipe(tiny, {**SKIP, "train.epochs": 1}), out=tmp_path)
    run.fit()
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", ["mtlkit", "eval", str(run.folder)])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0
    assert "skipped 1×: 1.png: cannot be read" in capfd.readouterr().err


def test_a_validation_of_which_nothing_can_be_read_ends_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: RenderedSplit, index: int) -> dict[str, torch.Tensor]:
        raise MissingError(f"{index}.png: cannot be read")

    run = mtlkit.Run(mtlkit.load_recipe(tiny, SKIP), out=tmp_path)
    monkeypatch.setattr(RenderedSplit, "__getitem__", gone)
    with pytest.raises(MissingError, match=r"3 samples in a row cannot be read.*0\.png"):
        run.evaluate("val")


def test_a_cache_that_cannot_be_written_ends_a_run_that_skips(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "samples").write_text("no folder")
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "cache"))
    settings = {**SKIP, "loader.cache": "disk"}
    with pytest.raises(MissingError, match="MTLKIT_CACHE"):
        mtlkit.Run(mtlkit.load_recipe(tiny, settings), out=tmp_path).fit()


def test_a_metric_for_the_best_epoch_that_never_comes_is_told_once(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rooms = {"type": "rooms", "size": [32, 64], "train": 4, "val": 2}
    best = {"metric": "depth/rmse_m", "mode": "min"}  # rooms have metres already
    settings = {"data": rooms, "tasks.segmentation.classes": 13, "train.keep_best": best}
    run = mtlkit.Run(mtlkit.load_recipe(tiny, settings), out=tmp_path)
    run.fit()
    line = "keep_best: validation gives no depth/rmse_m, so no best.pt is kept"
    assert capfd.readouterr().err.splitlines().count(line) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_evaluating_often_opens_nothing_for_good(tiny: Path, tmp_path: Path, cache: str) -> None:
    run = mtlkit.Run(mtlkit.load_recipe(tiny, {"loader.cache": cache}), out=tmp_path)
    run.evaluate("train")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(4):
        run.evaluate("train")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_run_may_go_on_with_another_cache(tiny: Path, tmp_path: Path) -> None:
    run = mtlkit.Run(mtlkit.load_recipe(tiny, {"train.epochs": 1}), out=tmp_path)
    run.fit()
    other = mtlkit.load_recipe(tiny, {"train.epochs": 2, "loader.cache": "none"})
    assert mtlkit.Run(other, resume=run.folder).fit().status == "done"
