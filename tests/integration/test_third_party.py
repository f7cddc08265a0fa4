"""A package of somebody else: installed, it is listed, and it tests itself in three lines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fixtures.environments import call, environment, pip

from mtlkit.testing import TASK

PACKAGE = Path(__file__).parents[1] / "fixtures" / "third_party"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the package, and the python of a new environment that it is installed in."""
    root = tmp_path_factory.mktemp("third_party")
    folder = shutil.copytree(PACKAGE, root / "package")
    python = environment(root / "venv")
    pip(python, root, "install", str(folder))
    return folder, python


@pytest.mark.slow
def test_it_is_listed_with_its_origin(installed):
    folder, python = installed
    done = call(python, folder, "-m", "mtlkit", "plugins", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = [r for r in json.loads(done.stdout) if r["plugin"] == "mtlkit_nearness.task"]
    assert row["offers"] == ["task nearness"] and row["origin"] == "mtlkit-nearness 1.2.3"
    assert row["broken"] is None


@pytest.mark.slow
def test_it_tests_itself(installed):
    folder, python = installed
    done = call(python, folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    of_options = [check for check in TASK.checks if check.is_of_options]
    assert f"{len(TASK.checks) + len(of_options)} passed" in done.stdout  # `error` has two values


def test_its_tests_are_those_that_the_page_shows():
    text = (PACKAGE / "tests" / "test_contract.py").read_text(encoding="utf-8")
    page = (PACKAGE.parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    assert f"```python\n{text}```" in page
    assert len([line for line in text.splitlines() if line]) <= 3
