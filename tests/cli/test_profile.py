"""`mtlkit profile`: each part of a step has its time, and the timeline names it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from fixtures.tiny import TINY
from typer.testing import CliRunner

import mtlkit
from mtlkit.errors import MtlkitError
from mtlkit.flops import step_flops
from mtlkit_plugins.commands._profile.study import Study, Wish
from mtlkit_plugins.commands.profile import app

FIXTURES = Path(__file__).parents[1] / "fixtures"
PARTS = [
    "encoder",
    "decoder of segmentation",
    "decoder of depth",
    "TTNet segmentation → depth",
    "TTNet depth → segmentation",
]
PHASES = ["data", "forward", "backward", "weighting", "optimizer"]
HEADLINE = re.compile(r"([\d.]+) ms a step")
ROW = re.compile(r"(.+?)\s+([\d.]+|–)\s+([\d.]+|–)\s+(<?\d+ %)\s+([\d.]+|–)\s+(<?\d+ %|–)")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny recipe in the working folder, before a wide terminal."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(FIXTURES / "tiny_encoder.py", tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def call(recipe: Path, *settings: str, steps: int = 2, words: tuple[str, ...] = ()) -> str:
    """Return what the command prints on stdout for a recipe with some settings."""
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--steps", str(steps), "--warmup", "1", *words]
    result = CliRunner().invoke(app, [str(recipe), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the table by part, "–" as 0."""
    found = (ROW.fullmatch(line.strip()) for line in text.splitlines())
    return {m[1]: [cell.replace("–", "0") for cell in m.groups()[1:]] for m in found if m}


def milliseconds(row: list[str]) -> float:
    """Return the time of a row, forward and backward."""
    return float(row[0]) + float(row[1])


def trace(folder: Path) -> list[dict[str, object]]:
    """Return the events of the only timeline below a folder."""
    (path,) = folder.glob("runs/tiny-profile/*/trace.json")
    return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("weighting={type: pcgrad}", "train.accumulate=2"),
        ("weighting={type: famo}", "train.memory=checkpoint"),
    ],
    ids=["one-pass", "pass-per-task", "recomputed"],
)
def test_every_part_of_a_step_has_its_time_and_together_they_are_the_step(recipe, settings):
    text = call(recipe, *settings, steps=4)
    found = rows(text)
    whole, rest = found.pop("step"), found.pop("between the phases")
    assert {*PARTS, "losses", "data", "optimizer", "weighting"} <= set(found)
    for part in PARTS:
        forward, backward = found[part][:2]
        assert float(forward) > 0 and float(backward) > 0
    (step,) = map(float, HEADLINE.findall(text))
    named = sum(milliseconds(row) for row in found.values())
    assert 0.5 * step < named < 1.01 * step  # a moment that counted twice would be too much
    assert named + milliseconds(rest) == pytest.approx(step, rel=0.01)
    assert milliseconds(whole) == pytest.approx(step, rel=0.01) and whole[2] == "100 %"


@pytest.mark.parametrize("weighting", ["{type: uncertainty}", "{type: pcgrad}"])
def test_the_flops_of_the_parts_are_those_of_a_step(recipe, weighting):
    run = mtlkit.Run(mtlkit.load_recipe(recipe, {"weighting": weighting}, blocked=["progress"]))
    study = Study(run, Wish(steps=2, warmup=1))
    for _ in study.steps():
        pass
    chart = study.chart()
    products = 2e-3  # of the solver: the Gram matrix
    needed = step_flops(run.recipe, run.reach, 0) * chart.images
    assert chart.flops == pytest.approx(needed, rel=products)


def test_the_timeline_holds_every_phase_of_every_step_and_the_parts_inside(recipe, tmp_path):
    call(recipe, steps=3)
    named = [e for e in trace(tmp_path) if e.get("cat") == "user_annotation"]
    spans = {(e["name"], e["ts"], e["ts"] + e["dur"]) for e in named}
    times = {name: sorted(span[1:] for span in spans if span[0] == name) for name, *_ in spans}
    parts = [part.replace("→", "->") for part in PARTS]  # the format knows no arrow
    assert {*PHASES, *parts} <= set(times)
    assert len(times["optimizer"]) == 6  # forgetting gradients, then moving, in each of 3 steps
    for part in parts:
        inside = [
            any(a <= start and end <= b for a, b in times["forward"]) for start, end in times[part]
        ]
        assert len(inside) >= 3 and all(inside)


def test_a_part_before_which_nothing_learns_has_no_backward_pass(recipe):
    phases = "train.phases=[{epochs: 9, only: architecture.decoders}]"
    found = rows(call(recipe, "train.epochs=null", phases))
    assert float(found["encoder"][0]) > 0 and float(found["encoder"][1]) == 0
    assert float(found["decoder of depth"][1]) > 0
    assert float(found["TTNet depth → segmentation"][1]) > 0


def test_what_is_largest_is_said_in_words_and_where_the_timeline_is(recipe, tmp_path):
    text = call(recipe, "edges.0.widths=[64, 64]")
    found = rows(text)
    largest = max(set(found) - {"step"}, key=lambda part: milliseconds(found[part]))
    assert largest == "TTNet segmentation → depth"
    assert f"{found[largest][2]} of the step is {largest}: " in " ".join(text.split())
    assert "train.edges_per_step: 1 draws 1 of 2 for each step" in " ".join(text.split())
    (written,) = re.findall(r"timeline +(\S+)", text)
    assert (tmp_path / written).is_file()


def test_an_edge_that_no_step_draws_has_no_row(recipe):
    found = rows(call(recipe, "edges.0.weight=0", "train.edges_per_step=1"))
    assert "TTNet depth → segmentation" in found
    assert "TTNet segmentation → depth" not in found


@pytest.mark.parametrize(
    ("settings", "words", "message"),
    [
        (["train.precision=tf32"], (), "tf32"),
        (["edges.0.to=normals"], (), "no task is called 'normals'"),
        ([], ("--out", "tiny.yaml"), "tiny.yaml/tiny-profile"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_no_folder(
    recipe, tmp_path, settings, words, message
):
    with pytest.raises(MtlkitError, match=message):
        call(recipe, *settings, words=words)
    assert not (tmp_path / "runs").exists()
