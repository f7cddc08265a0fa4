"""A recipe file as plain data, with the line of every key; overrides and `${ENV}` applied."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mtlkit.errors import Fault, RecipeError, UsageError

Key = str | int
Location = tuple[Key, ...]

MAX_BYTES = 1_000_000  # /dev/zero has no end
MAX_NODES = 100_000  # aliases can make a small file grow without end
MAX_DEPTH = 50
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass
class Document:
    """Plain data of a recipe and where each part stands."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, location: Location, message: str) -> Fault:
        """Return a fault at the nearest known line.

        Args:
            location: keys from the top.
            message: what is wrong and what to do.
        """
        known = location
        while known and known not in self.lines:
            known = known[:-1]
        where = self.lines.get(known, str(self.path))
        return Fault(where, ".".join(map(str, location)), message)


def read_document(
    path: Path, overrides: Mapping[str, Any] | None = None, lenient: Sequence[str] = ()
) -> Document:
    """Read a recipe file.

    Args:
        path: the YAML file.
        overrides: dotted key to value; a text value is read as YAML, as `--set` gives it.
        lenient: top-level keys under which an unset `${ENV}` is left as it is.

    Raises:
        UsageError: the file cannot be read.
        RecipeError: it is not YAML, or an override does not fit.
    """
    return parse_document(_read(path), path, overrides, lenient)


def parse_document(
    text: str,
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    lenient: Sequence[str] = (),
) -> Document:
    """Return the document of a recipe's text.

    Args:
        text: YAML.
        path: names it in messages; plugin files are looked for in its folder.
        overrides: dotted key to value; a text value is read as YAML, as `--set` gives it.
        lenient: top-level keys under which an unset `${ENV}` is left as it is.

    Raises:
        RecipeError: it is not YAML, or an override does not fit.
    """
    document = Document(path)
    tree = _parse(text, path)
    if not isinstance(tree, dict):
        raise RecipeError([Fault(str(path), "", "a recipe is a mapping of sections. See recipes/")])
    document.data = _plain(tree, (), document, [0])
    for key, value in (overrides or {}).items():
        _override(document, key, value)
    document.data = _substitute(document.data, (), document, lenient)
    return document


def parse_value(text: str, where: str) -> Any:
    """Return a YAML value as plain data.

    Args:
        text: what stands after the `=` of `--set`.
        where: for messages.

    Raises:
        RecipeError: it is not YAML.
    """
    try:
        return _plain(_parse(text, Path(where)), (), Document(Path(where)), [0])
    except RecipeError as error:
        raise RecipeError([replace(f, where=where, key="") for f in error.faults]) from None


def plugin_files(document: Document) -> list[Path]:
    """Return the plugin files that a recipe names.

    Args:
        document: the recipe.

    Raises:
        RecipeError: one lies outside the recipe's own folder.
    """
    folder = document.path.resolve().parent
    named = document.data.get("plugins") or []
    files = []
    for i, name in enumerate(named if isinstance(named, list) else []):
        if not (folder / str(name)).resolve().is_relative_to(folder):
            message = f"{name!r} lies outside the recipe's folder. Move it there, or use --plugin"
            raise RecipeError([document.fault(("plugins", i), message)])
        files.append(document.path.parent / str(name))
    return files


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UsageError(f"{path}: has more than {MAX_BYTES:,} bytes. Give a recipe in YAML")
        return text.decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such recipe. `mtlkit recipes` lists the shipped ones"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file in UTF-8. Give a recipe in YAML") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give a recipe file") from None


def _parse(text: str, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor may be used again
            return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = (error.problem or "not valid YAML").split("\n")[0].strip()
        message = f"not valid YAML: {problem}. Mend this line, or quote the value"
        raise RecipeError([Fault(f"{path}:{line}", "", message)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        message = str(error).split("\n")[0].split(";")[0]
        message = f"not valid YAML: {message}. Mend it, or begin with a copy of a shipped recipe"
        raise RecipeError([Fault(str(path), "", message)]) from None


def _plain(node: Any, location: Location, document: Document, seen: list[int]) -> Any:
    """Turn ruamel's node into plain data and note the lines of its keys."""
    seen[0] += 1
    if seen[0] > MAX_NODES or len(location) > MAX_DEPTH:
        message = "too large, or refers to itself. Write it out without aliases"
        raise RecipeError([document.fault(location[:1], message)])
    if isinstance(node, CommentedMap):
        _note(node, location, document)
        return {str(k): _plain(v, (*location, str(k)), document, seen) for k, v in node.items()}
    if isinstance(node, CommentedSeq):
        _note(node, location, document)
        return [_plain(v, (*location, i), document, seen) for i, v in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if isinstance(node, TaggedScalar):
        message = f"YAML's tags, such as {node.tag.value}, have no meaning here. Remove it"
        raise RecipeError([document.fault(location, message)])
    return str(node) if isinstance(node, date) else node


def _note(node: CommentedMap | CommentedSeq, location: Location, document: Document) -> None:
    places = node.lc.data or {}
    for key, place in places.items():
        name = key if isinstance(key, int) and isinstance(node, CommentedSeq) else str(key)
        document.lines[(*location, name)] = f"{document.path}:{place[0] + 1}"


def _override(document: Document, dotted: str, value: Any) -> None:
    where = f"--set {dotted}"
    # a later override may change what an earlier one set, and the caller's own must stay
    value = parse_value(value, where) if isinstance(value, str) else copy.deepcopy(value)
    node: Any = document.data
    *parents, last = dotted.split(".")
    if not all((*parents, last)):
        raise RecipeError([Fault(where, "", "a key is words joined by dots. Write train.epochs=1")])
    location: Location = ()
    for part in [*parents, last]:
        key: Key = int(part) if isinstance(node, list) and part.isdigit() else part
        location = (*location, key)
        if isinstance(node, list) and not (isinstance(key, int) and key < len(node)):
            message = f"no entry {part}. The list has {len(node)} entries, the first is 0"
            raise RecipeError([Fault(where, "", message)])
        if not isinstance(node, dict | list):
            message = f"{location[-2]!r} holds a value and no keys. Set it as a whole"
            raise RecipeError([Fault(where, "", message)])
        holder: Any = node
        if len(location) == len(parents) + 1:
            holder[key] = value
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = holder[key]
    document.lines = {k: v for k, v in document.lines.items() if k[: len(location)] != location}
    document.lines[location] = "--set"


def _substitute(value: Any, location: Location, document: Document, lenient: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {k: _substitute(v, (*location, k), document, lenient) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, (*location, i), document, lenient) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    if location and location[0] not in lenient:
        for name in _VARIABLE.findall(value):
            if not os.environ.get(name):
                message = f"the environment variable {name} is not set, or empty. Set it: "
                message += f"export {name}=…"
                document.faults.append(document.fault(location, message))
    return _VARIABLE.sub(lambda match: os.environ.get(match[1]) or match[0], value)
