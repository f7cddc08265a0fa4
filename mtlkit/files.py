"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mtlkit.errors import MissingError


@contextlib.contextmanager
def beside(path: Path, what: str, cure: str = "Free some space") -> Iterator[Path]:
    """Give a path to write to, then rename it: no reader sees a half, and the old one is kept.

    Args:
        path: where the file will be.
        what: it holds, for the message.
        cure: what to do where it cannot be written.

    Raises:
        MissingError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise MissingError(f"{path}: cannot write {what} ({reason}). {cure}") from None
    finally:  # also when a second Ctrl-C comes while it is written
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
