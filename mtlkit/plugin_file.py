"""A plugin in a single file: its import, and the line at which a plugin's code failed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Container
from pathlib import Path
from types import ModuleType

from mtlkit.errors import PluginError

LONGEST = 200  # letters of another library's sentence; some of torch's are paragraphs
ON_META = re.compile("meta tensor|meta device|device meta|register_meta")
NO_VALUES = (
    "The check runs on tensors without values: make new tensors like those that are given, and use "
    "no .item(), `if` on a value or indexing by a mask"
)


def import_file(file: Path) -> ModuleType:
    """Import a plugin file by its stem, so that spawned loader workers can import it too.

    Args:
        file: its path.

    Raises:
        PluginError: it is missing, broken, or has the name of another module.
    """
    if not file.is_file():
        raise PluginError(f"{file}: no such plugin file. Give the path of a Python file")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise PluginError(f"{file}: a plugin file is a Python file with a name such as my_task.py")
    folder, path = str(file.resolve().parent), str(file.resolve())
    known = sys.modules.get(file.stem)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    if known is not None and hasattr(known, "__mtlkit_plugin_file__"):
        del sys.modules[file.stem]  # another recipe's plugin of the same name
    elif known is not None or importlib.util.find_spec(file.stem) is not None:
        found = getattr(known, "__file__", None) or "an installed module"
        if found != path and not _is_same(importlib.util.find_spec(file.stem), path):
            raise PluginError(
                f"{file}: {file.stem!r} is the name of another module. Rename the file"
            )
    if folder not in sys.path:
        sys.path.insert(0, folder)  # spawned workers inherit sys.path
    importlib.invalidate_caches()
    return _execute(file)


def _is_same(spec: object, path: str) -> bool:
    return getattr(spec, "origin", None) == path


def _execute(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file.resolve())
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[file.stem]
        raise PluginError(
            f"{file}:{error.lineno or 1}: {error.msg}. Mend the plugin file"
        ) from None
    except (Exception, SystemExit) as error:
        del sys.modules[file.stem]
        _, line = innermost(error, (str(file.resolve()),))
        raise PluginError(f"{file}:{line}: {reason_of(error)}. Mend the plugin file") from None
    module.__mtlkit_plugin_file__ = True  # type: ignore[attr-defined]
    return module


def reason_of(error: BaseException) -> str:
    """Return what an author is told of an error: its class and first line, and of what it comes.

    Args:
        error: as a plugin's code raised it.
    """
    text = f"{type(error).__name__}: {first_line(error)}"
    return f"{text}. {NO_VALUES}" if ON_META.search(str(error)) else text


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 letters, without its full stop.

    Args:
        error: any.
    """
    line = str(error).split("\n")[0]
    return (line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…").rstrip(".!")


def innermost(error: BaseException, files: Container[str | None]) -> tuple[str | None, int]:
    """Return the file and line of the last frame that lies in one of the files; else None and 0.

    Args:
        error: as it was caught.
        files: paths as modules have them.
    """
    place: tuple[str | None, int] = (None, 0)
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        place = (file, trace.tb_lineno) if file in files else place
        trace = trace.tb_next
    return place
