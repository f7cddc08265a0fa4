"""Short hashes of code and files, which key caches: what is kept must not outlive what made it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path


def of_source(module: str) -> str:
    """Return a hash of a module's source and of the private helpers (`_*.py`, `_*/`) beside it.

    Args:
        module: name of an imported module.
    """
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return ""
    helpers = [p for p in Path(file).parent.glob("_*") if not p.name.startswith("__")]
    sources = [source for p in helpers for source in ([p] if p.is_file() else p.rglob("*.py"))]
    total = hashlib.sha256()
    for source in (Path(file), *sorted(sources)):
        total.update(source.read_bytes())
    return total.hexdigest()[:16]


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
