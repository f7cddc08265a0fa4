"""A package of somebody else: installed, it is listed, and it tests itself in three lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from mtlkit.testing import TASK

PACKAGE = Path(__file__).parents[1] / "fixtures" / "third_party"


def call(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Return what a python says, without the settings of the one that runs this."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    command = [str(python), "-W", "error", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the package, and the python of a new environment that it is installed in."""
    root = tmp_path_factory.mktemp("third_party")
    folder = shutil.copytree(PACKAGE, root / "package")
    venv.create(root / "venv", with_pip=False)
    python = root / "venv" / "bin" / "python"
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    # what is installed here is seen there, mtlkit too, so that nothing is downloaded
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n", encoding="utf-8")
    words = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    done = call(python, root, "-W", "default", "-m", "pip", "install", *words, str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
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
