"""What `mtlkit new` writes: a plugin, a recipe and a test, all of them or none."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from mtlkit.errors import MissingError, UsageError, suggest
from mtlkit.graph import ALL
from mtlkit.plugins import Plugins

TEMPLATES = ("task", "edge", "weighting", "dataset", "architecture", "encoder")
NAME, CLASS = "own_plugin", "OwnPlugin"  # what templates are called, as a word and as a class
NAMES = r"[a-z][a-z0-9_]{0,29}"  # longer ones make lines too long for the templates
NO_STRINGS = ("true", "false", "null")  # words that YAML reads as something else


@dataclass(frozen=True)
class Draft:
    """What is to be written, not written yet.

    Args:
        kind: of plugin.
        name: its type name.
        texts: by path: the plugin, its recipe and its test.
    """

    kind: str
    name: str
    texts: Mapping[Path, str]

    @classmethod
    def of(cls, kind: str, name: str, folder: Path) -> Draft:
        """Return the draft of a plugin.

        Args:
            kind: one of `TEMPLATES`.
            name: its type name, which is also that of its file.
            folder: where it will be.

        Raises:
            UsageError: kind or name cannot be used, or a file is there already.
        """
        if kind not in TEMPLATES:
            raise UsageError(f"mtlkit new {kind}: no such kind; {suggest(kind, TEMPLATES)}")
        parts = {f"{name}.py": f"{kind}.py", f"{name}.yaml": f"{kind}.yaml"}
        parts[f"{name}_test.py"] = f"{NAME}_test.py"
        if not re.fullmatch(NAMES, name) or keyword.iskeyword(name):
            raise _no_name(name, "is no name for a plugin")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder}: is no folder. Give one, or the name of a new one")
        texts = {folder / path: template(part) for path, part in parts.items()}
        _refuse_files(texts)
        _refuse_name(kind, name, texts[folder / f"{name}.py"])
        return cls(kind, name, {path: renamed(text, name) for path, text in texts.items()})

    def write(self) -> None:
        """Write the files, all or none.

        Raises:
            UsageError: one is there already.
            MissingError: one cannot be written.
        """
        made: list[Path] = []
        try:
            for path, text in self.texts.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("x", encoding="utf-8") as file:
                    made.append(path)
                    file.write(text)
        except BaseException as error:
            for done in made:
                done.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise MissingError(
                f"{path}: cannot be written ({error.strerror}). Choose another place with --out"
            ) from None


def template(name: str) -> str:
    """Return the text of a template.

    Args:
        name: of its file.
    """
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def renamed(text: str, name: str) -> str:
    """Return a template under another name.

    Args:
        text: of the template.
        name: a type name.
    """
    return text.replace(NAME, name).replace(CLASS, class_name(name))


def class_name(name: str) -> str:
    """Return the name of a class, such as LogDepth.

    Args:
        name: a type name, such as log_depth.
    """
    return "".join(part.capitalize() for part in name.split("_"))


def _refuse_files(texts: Mapping[Path, str]) -> None:
    """Raise an error that names every file that is in the way."""
    there = [str(path) for path in texts if path.exists()]
    if there:
        verb = "exists" if len(there) == 1 else "exist"
        raise UsageError(
            f"{', '.join(there)}: {verb}, and nothing is overwritten. "
            "Give another name, or another folder with --out"
        )


def _refuse_name(kind: str, name: str, text: str) -> None:
    """Raise an error for a name that is taken, by a type, a module or a word of the file."""
    known = Plugins.load().types(kind)
    if name in known:
        raise _no_name(name, f"is the name of another {kind}")
    if find_spec(name) is not None or find_spec(f"{name}_test") is not None:
        raise _no_name(name, "is the name of an installed module")
    if name in NO_STRINGS or name.endswith("_test") or name.startswith("test_"):
        raise _no_name(name, "means something else to YAML or pytest")
    if kind == "task" and (name in (ALL, "total") or hasattr(nn.ModuleDict, name)):
        raise _no_name(name, "cannot be the name of a task")
    if re.search(rf"\b{class_name(name)}\b", text):
        raise _no_name(name, f"makes the class {class_name(name)}, a name that the file needs")


def _no_name(name: str, why: str) -> UsageError:
    advice = "Write another, such as my_plugin: at most 30 small letters, digits and _"
    return UsageError(f"{name!r} {why}. {advice}")
