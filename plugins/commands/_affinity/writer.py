"""A recipe's text without the edges that do not help; all else stays as it was written."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from mtlkit.contracts import Edge
from mtlkit.errors import MissingError, UsageError
from mtlkit.graph import ALL, expand
from mtlkit.structures import EdgeKey

from .chart import Chart
from .choice import Choice
from .subject import Subject

KEY = "edges"
_WIDE = 10_000  # columns: an entry stays on its line


def check_target(path: Path, subject: Subject, settings: Sequence[str]) -> None:
    """Refuse a recipe that could not be written, before anything is measured.

    Args:
        path: of the new recipe.
        subject: what will be probed.
        settings: of the command line.

    Raises:
        UsageError: the file exists, or what it would say is not what is probed.
        MissingError: its folder is not there.
    """
    if path.exists():
        raise UsageError(f"--write {path}: exists. Give another name, or move it away")
    if not path.parent.is_dir():
        raise MissingError(f"--write {path}: no such folder. Make it, or choose another")
    if any(re.match(rf"{KEY}\s*[.=]", setting) for setting in settings):
        raise UsageError(
            f"--write {path}: the new recipe has the text of {subject.path}, which --set does not "
            "change. Write the edges into that recipe"
        )
    tree = _tree(subject.text)
    if tree.fa.flow_style():
        raise UsageError(f"--write {path}: {subject.path} is written in braces. Write a key a line")
    if tree.get("plugins") and path.parent.resolve() != subject.path.parent.resolve():
        raise UsageError(
            f"--write {path}: the recipe's plugin files are looked for beside it. Choose a file in "
            f"{subject.path.parent}"
        )


def text_of(subject: Subject, choice: Choice) -> str:
    """Return the recipe's text, in which edges that are not kept are comments.

    Args:
        subject: what was probed.
        choice: which edges are kept.
    """
    text = subject.text if subject.text.endswith("\n") else f"{subject.text}\n"
    lines, tree = text.splitlines(keepends=True), _tree(text)
    found = tree.get(KEY)
    if isinstance(found, CommentedSeq) and found and not found.fa.flow_style():
        first, end = _section(tree, KEY, lines)
        section = list(_entries(lines[:end], first, found, choice))
    elif KEY in tree:
        first, end = _section(tree, KEY, lines)
        section = [*_as_comment(lines[first:end], 0), *_anew(found, choice)]
    else:
        first = end = _section(tree, "tasks", lines)[1]
        section = _anew(None, choice)
    return "".join([*lines[:first], *section, *lines[end:]])


def write_new(path: Path, text: str) -> None:
    """Write a file that must not be there yet.

    Args:
        path: of the file.
        text: what it holds.

    Raises:
        UsageError: it is there.
        MissingError: it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"--write {path}: exists. Give another name, or move it away") from None
    except OSError as error:
        raise MissingError(
            f"--write {path}: cannot be written ({error.strerror}). Choose another place"
        ) from None


def _tree(text: str) -> CommentedMap:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an anchor may be used again, as in `read_document`
        tree = YAML(typ="rt").load(text)
    assert isinstance(tree, CommentedMap)  # it was read as a recipe before
    return tree


def _section(tree: CommentedMap, key: str, lines: Sequence[str]) -> tuple[int, int]:
    """Return the first line of a top-level section, and the line after its last."""
    first = tree.lc.key(key)[0]
    others = [tree.lc.key(other)[0] for other in tree]
    end = min((n for n in others if n > first), default=len(lines))
    return first, _without_tail(lines, first, end, 0)


def _without_tail(lines: Sequence[str], first: int, end: int, column: int) -> int:
    """Return the end without blank lines and comments that stand before what follows."""
    while end > first + 1:
        line = lines[end - 1]
        indent = len(line) - len(line.lstrip())
        if line.strip() and not (line.lstrip().startswith("#") and indent <= column):
            break
        end -= 1
    return end


def _entries(
    lines: Sequence[str], first: int, found: CommentedSeq, choice: Choice
) -> Iterator[str]:
    """Yield the lines of a section with an entry below the other."""
    starts = [_start(lines, found.lc.item(i)[0]) for i in range(len(found))]
    head = lines[first]
    if not choice.kept:
        head = re.sub(rf"^(\W?{KEY}\W?\s*:)", r"\1 []", head)
    yield from (head, *lines[first + 1 : starts[0]])
    owned = _owned(choice.chart)
    for i, start in enumerate(starts):
        following = starts[i + 1] if i + 1 < len(starts) else len(lines)
        column = lines[start].index("-")
        end = _without_tail(lines, start, following, column)
        yield from _entry(lines[start:end], column, (found[i], owned[i]), choice)
        yield from lines[end:following]


def _entry(
    lines: Sequence[str], column: int, entry: tuple[CommentedMap, list[Edge]], choice: Choice
) -> Iterator[str]:
    """Yield an entry as it is, or as a comment with the edges of it that are kept."""
    written, edges = entry
    kept = [edge for edge in edges if edge.key in choice.kept]
    if len(kept) == len(edges):
        yield from lines
        return
    indent = " " * column
    for edge in edges:
        if edge.key not in choice.kept:
            yield f"{indent}# affinity: {' → '.join(edge.hops)} {choice.reason(edge)}\n"
    yield from _as_comment(lines, column)
    for edge in kept:
        yield f"{indent}- {_one_line({**written, 'from': edge.source, 'to': edge.target})}\n"


def _anew(found: CommentedSeq | None, choice: Choice) -> list[str]:
    """Return a section with one line for each edge that is kept."""
    edges = [edge for edge in choice.chart.edges if edge.key in choice.kept]
    if not edges:
        return [f"{KEY}: []\n"]
    owners = {
        edge.key: dict(entry)
        for entry, owned in zip(found or (), _owned(choice.chart), strict=False)
        for edge in owned
    }
    return [f"{KEY}:\n", *(f"  - {_one_line(_as_data(edge, owners))}\n" for edge in edges)]


def _as_data(edge: Edge, owners: dict[EdgeKey, dict[str, object]]) -> dict[str, object]:
    """Return an edge as it was written, or with its type and weight."""
    usual = {"from": "", "to": "", "type": edge.type_name(), "weight": edge.weight}
    data = owners.get(edge.key, usual)
    return data if edge.is_path else {**data, "from": edge.source, "to": edge.target}


def _owned(chart: Chart) -> list[list[Edge]]:
    """Return the edges that each entry of the recipe gives; more exact entries come first."""
    entries = chart.recipe.edges
    given = [{edge.key for edge in expand([entry], chart.recipe.tasks)} for entry in entries]
    exactness = [(entry.source != ALL) + (entry.target != ALL) for entry in entries]
    owners = {
        edge.key: max(
            (i for i, keys in enumerate(given) if edge.key in keys), key=exactness.__getitem__
        )
        for edge in chart.edges
    }
    return [[edge for edge in chart.edges if owners[edge.key] == i] for i in range(len(entries))]


def _start(lines: Sequence[str], line: int) -> int:
    """Return the line of an entry's dash, which may stand above its keys."""
    while not lines[line].lstrip().startswith("-"):
        line -= 1
    return line


def _as_comment(lines: Sequence[str], column: int) -> Iterator[str]:
    for line in lines:
        yield f"{line[:column]}# {line[column:]}" if line.strip() else line


def _one_line(data: dict[str, object]) -> str:
    entry = CommentedMap(data)
    entry.fa.set_flow_style()
    stream, yaml = io.StringIO(), YAML(typ="rt")
    yaml.width = _WIDE
    yaml.dump(entry, stream)
    return stream.getvalue().strip()
