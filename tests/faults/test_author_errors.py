"""Every mistake of a plugin's author is told in a sentence: where, what is wrong, what to do.

What is wrong with a file as such, with its hooks or with the classes that it offers is in
`test_plugin_faults.py`; here are mistakes in what the classes do.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import Case, assert_told, lay_out, run, snapshot
from fixtures.authors import BY_GRADIENTS, Mistake, broken_promise
from fixtures.mistakes_of_parts import DATASETS, NETWORKS, TOTAL, WEIGHTINGS
from fixtures.mistakes_of_tasks import EDGES, TASKS

MISTAKES = [*TASKS, *EDGES, *WEIGHTINGS, *DATASETS, *NETWORKS]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.kind}: {m.name}")
def test_a_mistake_is_told_at_its_door_in_a_sentence(
    mistake: Mistake, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    files = {"idea.py": mistake.plugin}
    code = 0 if mistake.door == "contract" else mistake.code
    text = mistake.text_of_recipe
    case = Case(mistake.name, mistake.command, code, mistake.sentences, text, files)
    lay_out(case, tmp_path, monkeypatch)
    before = snapshot(tmp_path)
    if mistake.door == "contract":
        assert_told(0, broken_promise(tmp_path / "idea.py"), case)
    else:
        assert_told(*run(case.command, capfd), case)
    assert before.items() <= snapshot(tmp_path).items()


def test_without_a_mistake_every_door_is_open(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Of a weighting by gradients; the templates as written are tested by their command."""
    to_unit_length = (TOTAL, "return values.clamp(min=1e-30).rsqrt()")
    good = Mistake("none", "weighting", (*BY_GRADIENTS, to_unit_length), "run", ())
    files = {"idea.py": good.plugin}
    case = Case("none", good.command, 0, (), good.text_of_recipe, files)
    lay_out(case, tmp_path, monkeypatch)
    code, said = run(case.command, capfd)
    assert code == 0, said
    assert broken_promise(tmp_path / "idea.py") == "every promise is kept"


def test_at_least_one_mistake_of_each_kind_is_told_at_each_door() -> None:
    doors = {(mistake.kind, mistake.door) for mistake in MISTAKES}
    assert {kind for kind, door in doors if door == "contract"} == {
        "task",
        "edge",
        "weighting",
        "dataset",
        "encoder",
        "architecture",
    }
    assert len(MISTAKES) >= 25 and {door for _, door in doors} == {"check", "run", "contract"}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A good recipe and its plugin, and a folder of packages with one that offers the plugin."""
    good = Mistake("none", "task", (), "check", ())
    case = Case("none", "", 0, (), good.text_of_recipe, {"idea.py": good.plugin})
    lay_out(case, tmp_path, monkeypatch)
    site = tmp_path / "site-packages"
    info = site / "mtlkit_idea-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mtlkit-idea\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mtlkit]\nidea = idea\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("idea", None)  # imported from there, not as a file


def test_a_file_beside_its_installed_copy_is_told_what_to_do(published: Path, capfd) -> None:
    shutil.copy("idea.py", published)
    code, said = run("check recipe.yaml", capfd)
    assert code == 3
    assert "idea.py: the plugin 'idea' of mtlkit-idea 1.0, which is installed, has its name" in said
    assert "Leave the file out, or uninstall the package" in said
    assert run("check recipe.yaml --set plugins=[tiny_encoder.py]", capfd)[0] == 0


def test_a_file_that_is_installed_from_its_own_folder_is_loaded_once(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # as `pip install -e .` does
    code, said = run("check recipe.yaml", capfd)
    assert code == 0, said
