"""`mtlkit eval` prints how consistent tasks are, and draws where they are not."""

from __future__ import annotations

import pytest
from fixtures.commands import run
from PIL import Image

import mtlkit

MAPS = "--consistency-maps"


@pytest.fixture
def saved(tiny, monkeypatch):
    """Return a function that saves the untrained weights of a recipe and returns their file."""
    monkeypatch.chdir(tiny.parent)

    def save(**overrides):
        recipe = mtlkit.load_recipe(tiny, overrides, blocked=["progress"])
        engine = mtlkit.Run(recipe)
        engine.folder = tiny.parent
        engine.save("last.pt")
        return tiny.parent / "last.pt"

    return save


def rows(out):
    return [line.split() for line in out.splitlines()]


def test_energy_and_its_correlation_with_the_error_are_printed(saved, capfd):
    code, out, _ = run(capfd, "eval", saved())
    assert code == 0
    table = rows(out)[[line[:1] for line in rows(out)].index(["consistency"]) :]
    assert [line[0] for line in table[1:4]] == ["segmentation", "depth", "all"]
    assert all(line[-1] == "3" for line in table[1:4])  # images
    assert float(table[2][1]) > 0 and table[2].count("disparity/256") == 2
    assert all(-1 <= float(number) <= 1 for number in table[2][3:5])


def test_each_target_is_drawn_into_a_new_folder(saved, capfd, tiny):
    code, out, _ = run(capfd, "eval", saved(), MAPS, "new/maps")
    assert code == 0
    assert out.splitlines()[-2:] == [
        f"pictures     new/maps/{n}.png" for n in ("segmentation", "depth")
    ]
    with Image.open(tiny.parent / "new" / "maps" / "depth.png") as picture:
        assert picture.format == "PNG" and picture.height > 2 * 128


def test_without_edges_there_is_no_table_and_nothing_to_draw(saved, capfd, tiny):
    code, out, _ = run(capfd, "eval", saved(edges="[]"))
    assert code == 0 and "consistency" not in out
    code, out, err = run(capfd, "eval", tiny.parent, MAPS, "maps")
    assert (code, out) == (2, "")
    assert "tiny has no edges, so there is no consistency to measure. Leave the option out" in err
    assert not (tiny.parent / "maps").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((MAPS, "full"), "--consistency-maps full: holds files, which are kept. Give a new"),
        ((MAPS, "full/kept"), "--consistency-maps full/kept: is a file. Give a folder"),
        ((MAPS, "maps", "--set", "train.pictures=0"), "train.pictures is 0. Add --set train.pict"),
        (
            (
                MAPS,
                "maps",
                "--set",
                "tasks={depth: {evaluate: false}, segmentation: {classes: 7, evaluate: false}}",
            ),
            "tiny has no edges to a task that is evaluated",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is_measured(
    saved, capfd, tiny, words, message
):
    (tiny.parent / "full").mkdir()
    (tiny.parent / "full" / "kept").write_text("mine")
    code, out, err = run(capfd, "eval", saved(), *words)
    assert (code, out) == (2, "") and message in err
    assert [file.read_text() for file in (tiny.parent / "full").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_made_is_told(saved, capfd, tiny):
    (tiny.parent / "file").write_text("mine")
    code, out, err = run(capfd, "eval", saved(), MAPS, "file/maps")
    assert (code, out) == (4, "") and "file/maps: cannot be made" in err
    assert "Give another folder" in err
