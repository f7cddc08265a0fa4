"""A folder of its own for every fault, and one small trained run for all of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import RECIPE, Case, assert_told, lay_out, run, snapshot

import mtlkit

ENCODER = Path(__file__).parent.parent / "fixtures" / "tiny_encoder.py"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder but for the encoder; forget imported plugin files afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CITYSCAPES_ROOT", "WORLD_SIZE", "UNSET"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ENCODER, tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if hasattr(sys.modules[name], "__mtlkit_plugin_file__"):
            del sys.modules[name]


@pytest.fixture
def refuse(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Case], None]:
    """Return a function that runs a case and sees that it is told well and changes nothing."""

    def check(case: Case) -> None:
        lay_out(case, tmp_path, monkeypatch)
        before = snapshot(tmp_path)
        code, said = run(case.command, capfd)
        assert_told(code, said, case)
        assert snapshot(tmp_path) == before

    return check


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """The folder of a run of one epoch, not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(ENCODER, folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTLKIT_CACHE", str(shared_cache))
        recipe = mtlkit.load_recipe(folder / "recipe.yaml", blocked=["progress"])
        done = mtlkit.Run(recipe, out=folder / "runs")
        done.fit()
    assert done.folder is not None
    return done.folder
