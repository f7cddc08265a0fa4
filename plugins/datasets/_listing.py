"""What folders hold, and what text files list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtlkit.errors import MissingError

_MOST_SHOWN = 3


def visible(folder: Path, pattern: str) -> list[Path]:
    """Return what a pattern finds below a folder, sorted, without what is hidden.

    Hidden are names that begin with a dot where the pattern does not: macOS puts ._x.png beside
    x.png.

    Args:
        folder: where to look.
        pattern: of pathlib, without **.
    """
    asked = Path(pattern).parts

    def is_seen(path: Path) -> bool:
        names = path.parts[-len(asked) :]
        return not any(
            name.startswith(".") and not part.startswith(".")
            for name, part in zip(names, asked, strict=True)
        )

    return sorted(filter(is_seen, folder.glob(pattern)))


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are.

    Args:
        names: any.
    """
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def contents(folder: Path) -> str:
    """Return what a folder holds as the end of a sentence, "holds a, b, c and 2 more".

    Args:
        folder: that is there.
    """
    names = [path.name for path in visible(folder, "*")]
    return f"holds {some(names)}" if names else "is empty"


def read_names(path: Path) -> dict[str, int]:
    """Return the names that a text file lists, one a line, each with the number of its line.

    Args:
        path: the file; blank lines and blanks around a name count for nothing.

    Raises:
        MissingError: it cannot be read, is not UTF-8, or has a name twice or with a backslash.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _not_utf_8(path) from None
    except OSError as error:
        raise MissingError(
            f"{path}: cannot be read ({error.strerror}). Write the samples' names into it, one a "
            "line"
        ) from None
    found: dict[str, int] = {}
    for number, name in enumerate(map(str.strip, lines), 1):
        if "\0" in name:  # UTF-16 without a mark at its start
            raise _not_utf_8(path)
        if "\\" in name:
            raise MissingError(f"{path}:{number}: {name!r} has a backslash. Write / for it")
        if name in found:
            raise MissingError(f"{path}:{number}: {name!r} is there twice. Remove one")
        if name:
            found[name] = number
    return found


def _not_utf_8(path: Path) -> MissingError:
    return MissingError(f"{path}: is not text in UTF-8. Save it as UTF-8, one name a line")
