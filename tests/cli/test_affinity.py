"""`mtlkit affinity`: what it prints, what it keeps, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mtlkit
from mtlkit.actions import results
from mtlkit.errors import InterruptedRun, MissingError, UsageError
from mtlkit_plugins.commands.affinity import app

FIXTURES = Path(__file__).parents[1] / "fixtures"
FEW = ("--warm-up", "1", "--probes", "2", "--between", "1", "--val-batches", "1")
NO_EDGES = "edges=[]"
WEATHER = "{type: classification, classes: 3}"


@pytest.fixture
def recipe(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny recipe, in the working folder."""
    monkeypatch.chdir(tiny.parent)
    return tiny


def call(recipe: Path, *words: str, few: tuple[str, ...] = FEW) -> str:
    """Return what the command prints on stdout."""
    words = (str(recipe), *few, "--no-plugin", "progress", *words)
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def numbers(folder: Path) -> dict[str, Any]:
    """Return the JSON of the one folder that was made."""
    (file,) = folder.glob("runs/*-affinity/*/affinity.json")
    return json.loads(file.read_text(encoding="utf-8"))


def test_tables_numbers_and_picture_of_the_recipes_own_edges(recipe) -> None:
    lines = call(recipe).splitlines()
    assert lines[0] == "tiny: 2 edges, 2 probes after 1 training steps, 2 validation images"
    (first,) = [x.split() for x in lines if x.startswith("segmentation ") and "→" not in x]
    assert first[1] == "–" and first[2][0] in "+-" and first[3][0] == "±"
    (cosines,) = [x.split() for x in lines if x.startswith("segmentation → depth")]
    assert all(-1 <= float(x) <= 1 for x in (cosines[3], cosines[5]))
    found = numbers(recipe.parent)
    effect = found["edges"][0]["effect"]
    assert found["probes"] == 2 and found["edges"][0]["hops"] == ["segmentation", "depth"]
    assert float(first[2]) == pytest.approx(1000 * effect["mean"], abs=6e-4)
    probes = [sum(p["effects"].values()) / 2 for p in found["edges"][0]["probes"]]
    assert effect["mean"] == pytest.approx(sum(probes) / 2)
    assert effect["error"] == pytest.approx(abs(probes[0] - probes[1]) / 2)
    (folder,) = recipe.parent.glob("runs/tiny-affinity/*")
    assert (folder / "affinity.png").read_bytes()[:4] == b"\x89PNG"
    kept = mtlkit.load_recipe(folder / "recipe.yaml")
    assert len(kept.all_edges) == 2 and kept.train.epochs == 2


def test_a_recipe_without_edges_tries_every_pair_of_a_type(recipe) -> None:
    text = recipe.read_text(encoding="utf-8")
    start, end = text.index("edges:\n"), text.index("weighting:")
    recipe.write_text(text[:start] + text[end:], encoding="utf-8")
    out = call(recipe, "--type", "alignment", "--write", "new.yaml")
    found = numbers(recipe.parent)
    assert [(x["hops"], x["type"], x["weight"]) for x in found["edges"]] == [
        (["segmentation", "depth"], "alignment", 0.01),
        (["depth", "segmentation"], "alignment", 0.01),
    ]
    helping = {tuple(x["hops"]) for x in found["edges"] if x["helps"]}
    written = mtlkit.load_recipe("new.yaml", blocked=["progress"])
    assert {edge.hops for edge in written.all_edges} == helping
    words = {tuple(x.split()[1:4:2]): x.split()[0] for x in out.splitlines() if x[:4] in WORDS}
    assert {ends for ends, word in words.items() if word == "kept"} == helping
    assert len(words) == 2 and "recipe       new.yaml" in out


WORDS = ("kept", "drop")


def test_a_run_folder_needs_no_warm_up_and_is_probed_where_it_ended(recipe) -> None:
    run = mtlkit.Run(mtlkit.load_recipe(recipe, blocked=["progress"]), out="done")
    run.fit()
    out = call(run.folder, few=("--probes", "2", "--between", "0", "--val-batches", "1"))
    assert "2 probes after 0 training steps" in out
    found = numbers(recipe.parent)
    assert found["warm_up_steps"] == 0
    trained = call(run.folder / "last.pt", "--out", "again", few=("--probes", "2"))
    assert "2 probes after 0 training steps" in trained


def test_the_edges_of_a_checkpoint_are_its_own(recipe) -> None:
    bare = mtlkit.load_recipe(recipe, {"edges": [], "train.epochs": 1}, blocked=["progress"])
    run = mtlkit.Run(bare, out="bare")
    run.fit()
    with pytest.raises(UsageError, match="was trained without edges"):
        call(run.folder)
    with pytest.raises(UsageError, match="--type xtc: is for recipes"):
        call(run.folder, "--type", "xtc")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--type", "xtc"), r"--type xtc: .* has edges of its own"),
        (("--set", NO_EDGES, "--type", "xtcc"), r"--type xtcc: .*did you mean 'xtc'"),
        (
            ("--set", NO_EDGES, "--set", "tasks={depth: {}}", "--set", "train.keep_best=null"),
            r"'depth' is the only one\. Add a task",
        ),
        (
            (
                "--set",
                NO_EDGES,
                "--set",
                "tasks={depth: {}, weather: {type: classification, classes: 3}}",
            ),
            r"xtc can join no two of depth, weather",
        ),
        (("--write", "tiny.yaml"), r"--write tiny\.yaml: exists"),
        (("--set", "edges.0.weight=0.1", "--write", "new.yaml"), r"--set does not change"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(recipe, words, message) -> None:
    with pytest.raises(UsageError, match=message):
        call(recipe, *words)
    assert not Path("runs").exists()


def test_a_type_that_cannot_join_all_tasks_is_told_with_the_reason(recipe) -> None:
    shutil.copy(FIXTURES / "two_sided.py", recipe.parent)
    words = ("--plugin", "two_sided.py", "--set", NO_EDGES, "--type", "greedy")
    with pytest.raises(UsageError, match=r"--type greedy: cannot join all tasks of .*missing"):
        call(recipe, *words)


def test_ctrl_c_leaves_nothing_behind(recipe) -> None:
    shutil.copy(FIXTURES / "two_sided.py", recipe.parent)
    words = ("--plugin", "two_sided.py", "--set", NO_EDGES, "--type", "interrupting")
    with pytest.raises(InterruptedRun, match="nothing was written"):
        call(recipe, *words)
    assert not list(Path("runs").rglob("*"))


def test_a_folder_that_cannot_be_made_is_told_before_the_training(recipe) -> None:
    Path("taken").touch()
    with pytest.raises(MissingError, match="--out"):
        call(recipe, "--out", "taken")


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal(recipe, width, monkeypatch) -> None:
    monkeypatch.setattr(results, "width", width)
    out = call(recipe, "--out", "r")
    assert max(map(len, out.splitlines())) <= width and "\x1b" not in out
    assert "+ helps, - harms, ± standard error over the probes" in " ".join(out.split())
