"""Classes of fields as Markdown: their docstring, and a table of their keys."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mtlkit.contracts import Dataset


def docstring(model: type) -> str:
    """Return a class's docstring up to its sources and arguments, which are for readers of code."""
    text = inspect.cleandoc(model.__doc__ or "")
    return re.split(r"\n\n(?=Source:|Args:)", text)[0]


def table(model: type[BaseModel], hidden: Collection[str] = ()) -> str:
    """Return a row per key; nothing where there is none.

    Args:
        model: a section or plugin class.
        hidden: names of fields to leave out.
    """
    schema = model.model_json_schema(by_alias=True)
    rows = []
    for name, field in model.model_fields.items():
        if name == "type" or (name in hidden and not is_own(model, name)):
            continue
        key = field.alias or name
        values = values_of(schema["properties"][key], schema.get("$defs", {}))
        rows.append(f"| `{key}` | {values} | {default(field)} | {field.description or ''} |")
    if not rows:
        return ""
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows, ""])


def is_own(model: type[BaseModel], name: str) -> bool:
    """Return whether a class has a default of its own for a key of all its kind."""
    return issubclass(model, Dataset) and default(model.model_fields[name]) != default(
        Dataset.model_fields[name]
    )


def default(field: Any) -> str:
    """Return a default as YAML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`type: {value.type}`" if hasattr(value, "type") else "the keys' own"
    if value == "":
        return ""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def values_of(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return what a key may hold, in words.

    Args:
        schema: JSON schema of the key.
        known: schemas that it may refer to.
    """
    for choice in ("anyOf", "oneOf"):
        if choice in schema and "discriminator" not in schema:
            words = [values_of(part, known) for part in schema[choice]]
            return " or ".join(dict.fromkeys(words))
    if schema.get("type") == "object" and "additionalProperties" in schema:
        inner = values_of(schema["additionalProperties"], known)
        return "map, see below" if inner == "see below" else f"map of names to {inner}"
    if "$ref" in schema or "discriminator" in schema or schema.get("type") == "object":
        return "see below"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        parts = schema.get("prefixItems")
        if parts:
            return f"list of {len(parts)}: {values_of(parts[0], known)}"
        inner = values_of(schema.get("items", {}), known)
        return f"list of {inner}" if inner != "see below" else "list, see below"
    kind = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
    return " ".join([kind.get(schema.get("type", ""), "null"), *limits(schema)])


def limits(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the bounds of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if schema.get(key, 1e9) < 1e9]
    if found:
        yield " and ".join(found)
