"""The members of a class as Markdown: class attributes, and methods with their docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator

SECTION = re.compile(r"\n\n(?=(?:Args|Raises|Returns|Source):)")
ENTRY = re.compile(r"^(?:    )?(\w+): ", re.MULTILINE)


def methods(*classes: type) -> dict[str, object]:
    """Return the public methods and properties of classes by name, those of the first first.

    Args:
        classes: a contract and its bases, or what it builds.
    """
    found: dict[str, object] = {}
    for cls in classes:
        for name, member in vars(cls).items():
            if not name.startswith("_") and is_method(member):
                found.setdefault(name, member)
    return found


def is_method(member: object) -> bool:
    """Return whether an entry of a class is a method or a property."""
    return isinstance(member, property | classmethod) or inspect.isfunction(member)


def is_required(member: object) -> bool:
    """Return whether a class has to define it."""
    return getattr(member, "__isabstractmethod__", False)


def described(name: str, member: object, level: str) -> Iterator[str]:
    """Yield heading, text and arguments of a method.

    Args:
        name: of the method.
        member: the entry of its class.
        level: of the heading, such as "###".
    """
    function = member.fget if isinstance(member, property) else member
    function = getattr(function, "__func__", function)
    assert callable(function)
    is_property = isinstance(member, property)
    heading = f"{level} `{signature(name, function, is_property)}`"
    yield f"{heading}, property\n" if is_property else f"{heading}\n"
    yield from prose(inspect.getdoc(function) or "")


def signature(name: str, function: object, is_property: bool) -> str:
    """Return a signature without `self`; that of a property has no parentheses."""
    assert callable(function)
    found = inspect.signature(function)
    returns = f" -> {found.return_annotation}"
    parts = [
        f"{p.name}: {p.annotation}" + ("" if p.default is p.empty else f" = {p.default!r}")
        for p in list(found.parameters.values())[1:]
    ]
    return f"{name}{returns}" if is_property else f"{name}({', '.join(parts)}){returns}"


def prose(doc: str) -> Iterator[str]:
    """Yield the parts of a docstring in Google's style: text, then a list for each section.

    Args:
        doc: as `inspect.getdoc` returns it.
    """
    text, *sections = SECTION.split(doc)
    yield text.strip() + "\n"
    for section in sections:
        title, _, rest = section.partition(":")
        if title in ("Source", "Returns"):
            yield f"{title}: {' '.join(rest.split())}\n"
            continue
        words = ENTRY.split(textwrap.dedent(rest.strip("\n")))[1:]
        what = "Raises " if title == "Raises" else ""
        pairs = zip(words[::2], words[1::2], strict=True)
        yield "\n".join(f"- {what}`{key}`: {' '.join(told.split())}" for key, told in pairs) + "\n"


def class_attributes(cls: type) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the class attributes that a plugin may set.

    Args:
        cls: a contract; the meaning is the string below the attribute.
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for node, below in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("ClassVar"):
            is_told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            meaning = str(below.value.value) if is_told else ""  # type: ignore[attr-defined]
            value = ast.unparse(node.value) if node.value is not None else ""
            found.append((ast.unparse(node.target), value, " ".join(meaning.split())))
    return found
