"""`mtlkit new`: what it writes works before the first edit, and an error leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.commands import forget_plugins, run
from typer.testing import CliRunner

import mtlkit
from mtlkit.errors import MissingError, MtlkitError, UsageError
from mtlkit.testing import CONTRACTS, cases
from mtlkit_plugins.commands._new.writer import TEMPLATES, Draft, template
from mtlkit_plugins.commands.new import app

ROOT = Path(__file__).parents[2]
RUFF = [sys.executable, "-m", "ruff"]
LONG = "an_idea_that_is_thirty_letters"  # no name may be longer
BUDGET = 60  # lines of a plugin file
LONGER = {"architecture": 90, "dataset": 90, "edge": 65, "encoder": 65, "weighting": 65}
SMALL = {
    "data.size": "[32, 64]",
    "data.train": "4",
    "data.val": "2",
    "loader.batch_size": "2",
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.epochs": "1",
    "train.pictures": "0",
}
OWN_ENCODER = ("task", "encoder")  # are trained on the encoder that the recipe names
EVERY = pytest.mark.parametrize("kind", TEMPLATES)


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    forget_plugins(modules)


def new(*words: object) -> str:
    """Return what the command prints; an error of mtlkit is raised."""
    result = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(result.exception, MtlkitError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_kind_with_a_contract_has_a_template():
    assert set(TEMPLATES) == set(CONTRACTS)


def test_it_says_what_it_wrote_and_what_to_do_next(tmp_path):
    lines = new("task", "log_depth", "--out", "some folder").splitlines()
    assert lines[0] == "wrote the task log_depth:"
    written = sorted(path.name for path in (tmp_path / "some folder").iterdir())
    assert written == ["log_depth.py", "log_depth.yaml", "log_depth_test.py"]
    assert [line.strip() for line in lines[1:4]] == [
        f"some folder/log_depth{end}" for end in (".py", ".yaml", "_test.py")
    ]
    assert "  mtlkit run 'some folder/log_depth.yaml' --set train.epochs=1" in lines
    assert "  python -m pytest 'some folder/log_depth_test.py'" in lines


def test_it_prints_what_the_page_shows():
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert f"```text\n{new('task', 'log_depth')}```" in page


@EVERY
def test_its_promises_are_kept_before_the_first_edit(kind):
    new(kind, "fresh_idea")
    names = set()
    for case in cases(Path("fresh_idea.py"), {}):
        case.run()
        names.add(case.check.name)
    assert names == {check.name for check in CONTRACTS[kind].checks}


@EVERY
def test_its_recipe_trains(kind, capfd):
    new(kind, "fresh_idea")
    chosen = dict(SMALL)
    if kind != "architecture":
        chosen["architecture.width"] = "8"
    if kind not in OWN_ENCODER:
        shutil.copy(ROOT / "tests" / "fixtures" / "tiny_encoder.py", ".")
        chosen |= {"plugins": "[fresh_idea.py, tiny_encoder.py]", "encoder": "{type: tiny}"}
    settings = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    code, out, err = run(capfd, "run", "fresh_idea.yaml", *settings)
    assert code == 0, err
    assert "loss/total" in out
    (log,) = Path("runs").glob("*/*/metrics.jsonl")
    assert '"step": 2' in log.read_text(encoding="utf-8")


@EVERY
def test_its_files_are_clean_short_and_free_of_the_template(kind, tmp_path):
    new(kind, LONG)
    files = [tmp_path / f"{LONG}{end}" for end in (".py", "_test.py")]
    config = ["--config", str(ROOT / "pyproject.toml"), *map(str, files)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*RUFF, *command, "--no-cache", *config], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
    plugin = files[0].read_text(encoding="utf-8")
    assert plugin.count("\n") <= LONGER.get(kind, BUDGET)
    assert "EDIT" in plugin
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "own_plugin" not in text and "OwnPlugin" not in text
        assert LONG in text


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("tsk", "idea", "no such kind; did you mean 'task'?"),
        ("task", "Idea", "'Idea' is no name for a plugin. Write another, such as my_plugin"),
        ("task", "my-idea", "is no name for a plugin"),
        ("task", "../idea", "is no name for a plugin"),
        ("task", "2nd", "is no name for a plugin"),
        ("task", "lambda", "is no name for a plugin"),
        ("task", "x" * 31, "at most 30 small letters, digits and _"),
        ("task", "depth", "'depth' is the name of another task"),
        ("edge", "xtc", "'xtc' is the name of another edge"),
        ("encoder", "json", "'json' is the name of an installed module"),
        ("weighting", "null", "means something else to YAML or pytest"),
        ("weighting", "test_idea", "means something else to YAML or pytest"),
        ("task", "total", "cannot be the name of a task"),
        ("task", "values", "cannot be the name of a task"),
        ("task", "label", "makes the class Label, a name that the file needs"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_and_nothing_is_written(kind, name, words, tmp_path):
    with pytest.raises(UsageError) as refused:
        new(kind, name)
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", [".py", ".yaml", "_test.py"])
def test_no_file_is_overwritten_and_no_other_is_written(end, tmp_path):
    kept = tmp_path / f"idea{end}"
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"idea{end}: exists, and nothing is overwritten"):
        new("task", "idea")
    assert list(tmp_path.iterdir()) == [kept] and kept.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="--out file: is no folder"):
        new("task", "idea", "--out", "file")


def test_files_that_were_written_before_one_failed_are_taken_back(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    texts = {tmp_path / "idea.py": "x = 1\n", tmp_path / "file" / "idea.yaml": "x: 1\n"}
    with pytest.raises(MissingError, match=r"idea\.yaml: cannot be written .* with --out"):
        Draft("task", "idea", texts).write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_template_is_offered_to_no_recipe():
    plugins = mtlkit.Plugins.load()
    assert all("own_plugin" not in plugins.types(kind) for kind in CONTRACTS)
    assert "own_plugin" in template("task.py")


@pytest.mark.slow
def test_its_test_file_is_a_test_for_each_promise():
    """One promise is broken, so that its test fails and the others pass, as all do before."""
    new("weighting", "fresh_idea")
    path = Path("fresh_idea.py")
    path.write_text(path.read_text().replace('f"Σ_t L_t^{self.power:g}"', '"the powers"'))
    words = ["-q", "-rf", "-W", "error", "-p", "no:cacheprovider", "fresh_idea_test.py"]
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    name = "weighting-fresh_idea-explain_can_write_the_total"
    assert f"FAILED fresh_idea_test.py::test_contract[{name}]" in done.stdout
    assert "it is 'the powers'. Write the total in terms of L_t" in done.stdout
    assert f"1 failed, {len(CONTRACTS['weighting'].checks) - 1} passed" in done.stdout
