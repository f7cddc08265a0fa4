"""docs/reference/KIND.md, made from contracts and plugins; `generate_reference.py` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Sequence

from members import class_attributes, described, is_required, methods, prose
from tables import docstring, table

from mtlkit import contracts, structures
from mtlkit.contracts import Plugin
from mtlkit.plugins import KINDS, SHIPPED, Plugins
from mtlkit.testing import CONTRACTS

SECTIONS = {
    "encoder": "encoder",
    "architecture": "architecture",
    "dataset": "data",
    "task": "tasks",
    "edge": "edges",
    "auxiliary loss": "auxiliary_losses",
    "weighting": "weighting",
}
BESIDE: dict[str, tuple[type, ...]] = {  # what a plugin of the kind builds, takes or returns
    "encoder": (structures.FeatureSpec,),
    "architecture": (structures.Output, structures.Supervised),
    "dataset": (structures.FieldSpec,),
    "task": (structures.Batch, structures.Label, structures.MetricSpec),
    "edge": (contracts.Transfer, contracts.End),
    "auxiliary loss": (contracts.AuxiliaryModule,),
    "weighting": (
        contracts.Balancer,
        contracts.GradientWeighting,
        contracts.GradientBalancer,
        contracts.GramianWeighting,
        contracts.DirectionBalancer,
        contracts.Gradients,
        contracts.Weights,
        contracts.Card,
    ),
}
HIDDEN = {"task": {"name"}}  # set by the recipe, never written
MADE = (
    "Made by `docs/generate_reference.py` from the contract and the plugins; a test compares the "
    "two, so edit those."
)


def kind_pages() -> dict[str, str]:
    """Return the page of each kind of plugin by file name."""
    return {f"{kind.replace(' ', '_')}.md": "\n".join(page(kind)) for kind in KINDS}


def page(kind: str) -> Iterator[str]:
    """Yield the parts of a page.

    Args:
        kind: of plugin.
    """
    hook, base = KINDS[kind]
    yield f"# {kind.capitalize()}\n\n{MADE}\n"
    yield from prose(inspect.getdoc(base) or "")
    begin = f" `mtlkit new {kind} NAME` writes one that works." if kind in CONTRACTS else ""
    yield (
        f"It derives from `mtlkit.{base.__name__}`, is offered by the hook "
        f"[`{hook}`](hooks.md#what-a-plugin-offers) and named by `type` in "
        f"[`{SECTIONS[kind]}`](recipe.md#{SECTIONS[kind]}) of a recipe. Its fields are keys, its "
        f"methods what it does.{begin}\n"
    )
    yield from fields(base, "##", HIDDEN.get(kind, set()))
    yield from members((base, Plugin), "##")
    for other in BESIDE[kind]:
        yield from beside(other)
    yield from promises(kind)
    yield from types(kind, base)


def beside(cls: type) -> Iterator[str]:
    """Yield what is said of a class that plugins build, take or return.

    Args:
        cls: its own members are told, not those of its bases.
    """
    parent = cls.__mro__[1]
    own = "" if parent.__module__.split(".")[0] != "mtlkit" else f" It is a `{parent.__name__}`."
    yield f"## `{cls.__name__}`\n"
    first, *rest = prose(inspect.getdoc(cls) or "")
    yield f"{first.rstrip()}{own}\n"
    yield from rest
    if issubclass(cls, Plugin):
        yield from fields(cls, "###", set(parent.model_fields))
    if cls.__module__.startswith("mtlkit.contracts"):
        yield from members((cls,), "###")


def fields(cls: type[Plugin], level: str, hidden: Collection[str]) -> Iterator[str]:
    """Yield the table of the fields of a class, if it has any.

    Args:
        cls: a contract.
        level: of the heading.
        hidden: names of fields to leave out.
    """
    if rows := table(cls, hidden):
        yield f"{level} Fields of every one\n\n{rows}"


def members(classes: Sequence[type], level: str) -> Iterator[str]:
    """Yield the class attributes of the first class, and the methods of all.

    Args:
        classes: the contract and its bases, or what it builds.
        level: of the headings above the methods.
    """
    if attributes := class_attributes(classes[0]):
        yield f"{level} Class attributes\n\n| attribute | default | meaning |\n|---|---|---|"
        rows = (f"| `{name}` | `{value}` | {told} |" for name, value, told in attributes)
        yield "\n".join(rows) + "\n"
    found = methods(*classes)
    required = {name: member for name, member in found.items() if is_required(member)}
    others = {name: member for name, member in found.items() if name not in required}
    for title, group in (("Methods to write", required), ("Methods with a default", others)):
        if group:
            yield f"{level} {title}\n"
        for name, member in group.items():
            yield from described(name, member, f"{level}#")


def promises(kind: str) -> Iterator[str]:
    """Yield what the contract checks look at.

    Args:
        kind: of plugin.
    """
    if kind in CONTRACTS:
        yield "## What is tested\n\nBy `mtlkit.testing`, as [testing.md](../testing.md) says:\n"
        yield "\n".join(f"- {check.promise}" for check in CONTRACTS[kind].checks) + "\n"


def types(kind: str, base: type[Plugin]) -> Iterator[str]:
    """Yield what ships with mtlkit.

    Args:
        kind: of plugin.
        base: its contract.
    """
    if kind == "weighting":
        yield "## Types\n\n[weighting.md](../weighting.md) has all methods.\n"
        return
    shipped = [
        cls for cls in Plugins.load().types(kind).values() if cls.__module__.startswith(SHIPPED)
    ]
    yield "## Types\n" if shipped else "## Types\n\nmtlkit itself ships none.\n"
    for cls in shipped:
        yield f"### `{cls.type_name()}`\n\n{summary(cls)}\n"
        if rows := table(cls, set(base.model_fields)):
            yield rows


def summary(cls: type[Plugin]) -> str:
    """Return the first paragraph of a class's docstring, its source and its file."""
    doc = inspect.getdoc(cls) or ""
    first = docstring(cls).split("\n\n")[0]
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    told = f" Source: {' '.join(source[1].split())}" if source else ""
    file = cls.__module__.replace(SHIPPED, "plugins", 1).replace(".", "/") + ".py"
    return f"{first}{told}\n\nIn `{file}`."
