"""`mtlkit run` in two processes: what they learn, who writes, and how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fixtures.commands import run
from fixtures.started_ranks import by_hand, by_torchrun
from fixtures.tiny import TINY
from fixtures.two_ranks import biases_before_norms

import mtlkit
from mtlkit import checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECIPE = TINY.replace("tiny_encoder.py", "frail_encoder.py").replace("type: tiny", "type: frail")
SETTINGS = {  # five batches: the last step of an epoch has one, which only one rank can have
    "data.train": 10,
    "data.val": 5,
    "train.epochs": 3,
    "train.threads": 1,
    "train.checkpoint_every": 2,
    "train.pictures": 0,
}
WORDS = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with the recipe, beside the one that commands are called in."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "called").mkdir()
    shutil.copy(FIXTURES / "frail_encoder.py", folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "called"


@pytest.fixture(scope="module")
def undisturbed(place) -> tuple[Path, str]:
    """Return the folder and the stdout of a run of two ranks."""
    done = by_torchrun(place, "run", "../recipe.yaml", *WORDS, "--out", "whole")
    assert done.returncode == 0, done.stderr[-3000:]
    return next((place / "whole/tiny").iterdir()), done.stdout


def lines_of(folder: Path) -> list[dict[str, float]]:
    """Return the losses of every line of a run."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    kept = [r for r in records if r["split"] == "train"]
    return [{n: x for n, x in r["metrics"].items() if n.startswith("loss/")} for r in kept]


def test_two_ranks_log_and_learn_what_one_does_that_accumulates(place, undisturbed):
    folder, printed = undisturbed
    recipe = mtlkit.load_recipe(
        place.parent / "recipe.yaml", SETTINGS | {"train.accumulate": 2}, blocked=["progress"]
    )
    alone = mtlkit.Run(recipe, out=place / "alone")
    start = {name: p.detach().clone() for name, p in alone.model.named_parameters()}
    alone.fit()
    found, expected = lines_of(folder), lines_of(alone.folder)
    assert len(found) == len(expected) == 9
    for here, there in zip(found, expected, strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    two, one = (checkpoint.load(f / "last.pt") for f in (folder, alone.folder))
    assert two["position"] == one["position"] | {"ranks": 2}
    for name in start.keys() - biases_before_norms(alone.model):  # whose gradients are rounding
        here, there = two["model"][name], one["model"][name]
        assert (here - there).norm() <= 1e-4 * (there - start[name]).norm(), name
    assert printed.count("segmentation/miou ↑") == 1


@pytest.mark.parametrize(
    "plan",
    ["1 pass 6 kill, 0 pass 3 kill", "0 save 3 kill"],
    ids=["in-passes-of-both", "while-saving"],
)
def test_a_run_that_loses_ranks_is_restarted_and_ends_as_if_it_had_not(place, undisturbed, plan):
    out = f"broken-{plan[2:6]}"
    done = by_torchrun(place, "run", "../recipe.yaml", *WORDS, "--out", out, FRAIL=plan)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count(f"goes on with {out}/tiny/") == len(plan.split(","))
    (broken,) = (place / out / "tiny").iterdir()
    assert not list(broken.glob("*.part"))
    assert lines_of(broken) == lines_of(undisturbed[0])
    found, expected = (checkpoint.load(folder / "last.pt") for folder in (broken, undisturbed[0]))
    assert found["position"] == expected["position"]
    for part in ("model", "balancer", "optimizer"):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)


def test_a_signal_to_one_rank_stops_both_after_the_same_step(place, undisturbed):
    words = ("run", "../recipe.yaml", *WORDS, "--out", "stopped")
    first, second = by_hand(place, *words, FRAIL="1 pass 4 stop")
    assert (first[0], second[0]) == (130, 130)
    assert "stopped after step 5; the state is saved" in first[2]
    assert second[1:] == ("", "")
    (folder,) = (place / "stopped/tiny").iterdir()
    assert checkpoint.load(folder / "last.pt")["position"]["step"] == 5
    again = ("run", "../recipe.yaml", *WORDS, "--resume", str(folder))
    assert [code for code, *_ in by_hand(place, *again)] == [0, 0]
    found, expected = (checkpoint.load(f / "last.pt") for f in (folder, undisturbed[0]))
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value), name


def test_what_one_rank_fails_with_is_said_once_and_the_other_ends(place):
    words = ("run", "../recipe.yaml", *WORDS, "--out", "failed")
    first, second = by_hand(place, *words, FRAIL="1 pass 2 fail")
    assert (first[0], second[0]) == (4, 4)
    assert second[2] == "rank 1: the disk is away. Mount it\n"
    assert "disk" not in first[2] and "Traceback" not in first[2] and "is gone" not in first[2]


def test_a_rank_that_is_killed_is_missed_by_the_other(place):
    words = ("run", "../recipe.yaml", *WORDS, "--out", "killed")
    first, second = by_hand(place, *words, FRAIL="1 pass 2 kill")
    assert (first[0], second[0]) == (4, -9)
    assert "rank 0: another rank is gone (" in first[2] and "Traceback" not in first[2]


def test_a_mistake_in_the_recipe_is_told_by_the_first_rank(place):
    first, second = by_hand(place, "run", "../recipe.yaml", "--set", "train.epoch=1")
    assert (first[0], second[0]) == (2, 2)
    assert "mean 'epochs'?" in first[2]
    assert second[1:] == ("", "")


def test_two_ranks_print_of_a_checkpoint_what_one_does(place, undisturbed, capfd, monkeypatch):
    monkeypatch.chdir(place)
    words = ("eval", str(undisturbed[0] / "last.pt"), "--split", "val")
    (code, printed, _), second = by_hand(place, *words)
    assert code == 0 and second[:2] == (0, "")
    table = printed.splitlines()
    assert run(capfd, *words)[1].splitlines() == table
    for name in ("loss/total", "segmentation/miou ↑", "depth/abs_err ↓"):
        assert any(name in line for line in table), name
