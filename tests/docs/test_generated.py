"""What the pages take from the code is what the code says."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import ROOT
from fixtures.commands import forget_plugins

from mtlkit.contracts import Plugin
from mtlkit.plugins import KINDS, SHIPPED, Plugins

REFERENCE = ROOT / "docs" / "reference"
STALE = "run python docs/generate_reference.py"


@pytest.fixture(scope="module")
def generator() -> Iterator[Any]:
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("gen", ROOT / "docs" / "generate_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def page_of(kind: str) -> Path:
    return REFERENCE / f"{kind.replace(' ', '_')}.md"


def test_the_recipe_reference_is_made_from_the_code(generator: Any) -> None:
    assert (REFERENCE / "recipe.md").read_text() == generator.recipe_reference(), STALE


def test_the_weighting_page_is_made_from_the_plugins(generator: Any) -> None:
    assert (ROOT / "docs" / "weighting.md").read_text() == generator.weighting_page(), STALE


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_kind_is_made_from_its_contract(kind: str, generator: Any) -> None:
    assert page_of(kind).read_text() == generator.kind_pages()[page_of(kind).name], STALE


def test_the_tutorial_shows_what_explain_prints(generator: Any) -> None:
    before, path = set(sys.modules), list(sys.path)
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert text == generator.tutorial(text), STALE
    sys.path[:] = path
    forget_plugins(before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_kind_has_every_method_field_and_type(kind: str) -> None:
    text, base = page_of(kind).read_text(), KINDS[kind][1]
    public = [n for cls in (base, Plugin) for n in vars(cls) if not n.startswith(("_", "model_"))]
    methods = [name for name in public if is_method(inspect.getattr_static(base, name))]
    fields = [field.alias or name for name, field in base.model_fields.items()]
    assert methods
    for name in methods:
        assert f"### `{name}" in text, name
    for name in fields:
        assert f"| `{name}` |" in text or (kind, name) == ("task", "name"), name
    shipped = [c for c in Plugins.load().types(kind).values() if c.__module__.startswith(SHIPPED)]
    for cls in [] if kind == "weighting" else shipped:
        assert f"### `{cls.type_name()}`" in text


def is_method(member: object) -> bool:
    return isinstance(member, property | classmethod) or inspect.isfunction(member)
