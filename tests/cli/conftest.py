"""A working folder and a cache of its own for every command about data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.commands import forget_plugins, lay_out


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the recipe of `counted`, in the working folder; $DECODED is `decoded`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DECODED", str(tmp_path / "decoded"))
    monkeypatch.setenv("COLUMNS", "120")
    path, modules = list(sys.path), set(sys.modules)
    yield lay_out(tmp_path)
    sys.path[:] = path
    forget_plugins(modules)
