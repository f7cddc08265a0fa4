"""Short hashes of code and files, which key caches: what is kept must not outlive what made it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path


def of_sources(modules: Iterable[str]) -> str:
    """Return a hash of modules' sources and of the private helpers (`_*.py`, `_*/`) beside them.

    Args:
        modules: names; those that are not imported, or have no file, are left out.
    """
    total = hashlib.sha256()
    for module in dict.fromkeys(modules):
        file = getattr(sys.modules.get(module), "__file__", None)
        for source in () if file is None else _with_helpers(Path(file)):
            total.update(source.read_bytes())
    return total.hexdigest()[:16]


def _with_helpers(file: Path) -> list[Path]:
    helpers = [p for p in file.parent.glob("_*") if not p.name.startswith("__")]
    sources = [source for p in helpers for source in ([p] if p.is_file() else p.rglob("*.py"))]
    return [file, *sorted(sources)]


def of_files(root: Path, files: Iterable[Path]) -> str:
    """Return a hash of where files are, how large they are and when they were last changed.

    Args:
        root: their folder.
        files: below it.
    """
    total = hashlib.sha256(str(root.resolve()).encode())
    for file in files:
        state = file.stat()
        total.update(f"{file.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return total.hexdigest()[:16]
