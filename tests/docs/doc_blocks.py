"""Fenced blocks of the Markdown pages, each with the comment above it, and the pages' links."""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtlkit import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = (
    "data.size=[32,64]",
    "data.train=4",
    "data.val=2",
    "loader.batch_size=2",
    "architecture.width=8",
    "train.epochs=1",
    "train.device=cpu",
    "train.pictures=1",
    "train.log_every=1",
)
_BLOCK = re.compile(r"^(?:<!-- ([^>]+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)")  # or a picture
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    Args:
        page: its file.
        line: of its opening fence.
        mark: the comment above it: "run", "explain", "prints" or "file: NAME".
        language: after the opening fence.
        text: between the fences.
    """

    page: Path
    line: int
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else None


def blocks() -> list[Block]:
    """Return every block of every page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, *(part or "" for part in match.groups())))
    return found


@dataclass(frozen=True)
class Link:
    """Where a page leads its reader, or a picture that it shows.

    Args:
        path: the file.
        anchor: the heading in it, as in the address; empty: none.
    """

    path: Path
    anchor: str


def links(page: Path) -> list[Link]:
    """Return the links and pictures of a page that are files here, those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _prose(page))
    found = [match.groups(default="") for match in _LINK.finditer(prose)]
    return [
        Link(page.parent / target if target else page, anchor)
        for target, anchor in found
        if not target.startswith("https://")
    ]


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are called in addresses, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_prose(page)):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)  # of a link its words
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = (f"{name}-{i}" for i in itertools.count(1))
        found.add(name if name not in found else next(one for one in again if one not in found))
    return found


def _prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def write_files(folder: Path, page: Path) -> None:
    """Write the files that a page shows into a folder."""
    for block in blocks():
        if block.page == page and block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")


def command(*words: str) -> int:
    """Run the command line in this process and return its exit code."""
    before = sys.argv
    sys.argv = ["mtlkit", *words]
    try:
        with pytest.raises(SystemExit) as leaving:
            cli.main()
    finally:
        sys.argv = before
    return int(leaving.value.code or 0)


def small(extra: tuple[str, ...] = ()) -> list[str]:
    """Return the options that make a run of a page's recipe short."""
    return [word for setting in (*SMALL, *extra) for word in ("--set", setting)]
