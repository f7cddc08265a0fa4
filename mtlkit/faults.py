"""pydantic's errors as sentences at the line where the mistake stands."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mtlkit.document import Document, Key, Location
from mtlkit.errors import Fault, suggest
from mtlkit.plugins import KINDS, Plugins

SECTIONS = {
    "data": "dataset",
    "encoder": "encoder",
    "architecture": "architecture",
    "tasks": "task",
    "edges": "edge",
    "auxiliary_losses": "auxiliary loss",
    "weighting": "weighting",
}


def schema_faults(
    error: ValidationError, document: Document, model: type[BaseModel], plugins: Plugins
) -> Iterator[Fault]:
    """Yield one fault per mistake.

    Args:
        error: from validating the document's data.
        document: gives the lines.
        model: the recipe class, for the names of known keys.
        plugins: for the names of known types, and the broken ones.
    """
    for details in error.errors(include_url=False):
        location = _without_tags(details["loc"], document.data)
        yield document.fault(location, _sentence(details, location, document, model, plugins))


def _without_tags(loc: Location, data: Any) -> Location:
    """Return the keys as the file has them: pydantic adds the chosen type of each union."""
    kept: list[Key] = []
    for key in loc:
        if (isinstance(data, dict) and key in data) or (
            isinstance(data, list) and isinstance(key, int) and key < len(data)
        ):
            data = data[key]
        elif isinstance(data, dict) and key == data.get("type"):
            continue
        elif data is None or (kept and kept[0] == "tasks" and key == kept[-1]):
            continue  # `depth:` with nothing below: the type is the key
        else:
            data = {}
        kept.append(key)
    return tuple(kept)


def _sentence(
    details: ErrorDetails,
    location: Location,
    document: Document,
    model: type[BaseModel],
    plugins: Plugins,
) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1], document.data, model, plugins)
        return f"unknown key {str(location[-1])!r}; {suggest(str(location[-1]), known)}"
    if kind == "missing":
        return "is missing. Add it"
    if kind in ("union_tag_invalid", "literal_error") and _is_type(kind, location):
        return _unknown_type(details, location, context, plugins)
    if kind == "union_tag_not_found":
        return f"needs a type; {suggest('', _types_at(location, plugins))}"
    message = details["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}, got {_shown(details['input'])}"


def _is_type(kind: str, location: Location) -> bool:
    return kind == "union_tag_invalid" or bool(location and location[-1] == "type")


def _unknown_type(
    details: ErrorDetails, location: Location, context: dict[str, Any], plugins: Plugins
) -> str:
    tag = str(context.get("tag", details["input"]))
    what = SECTIONS.get(str(location[0]), str(location[0])) if location else ""
    known = _types_at(location, plugins) or [
        name.strip(" '") for name in str(context.get("expected_tags", "")).split(",")
    ]
    lost = "".join(
        f". The plugin {b.name} ({b.origin}) failed to load: {b.reason}" for b in plugins.broken
    )
    return f"no {what} type is called {tag!r}; {suggest(tag, known)}{lost}"


def _types_at(location: Location, plugins: Plugins) -> list[str]:
    kind = SECTIONS.get(str(location[0])) if location else None
    return list(plugins.types(kind)) if kind in KINDS else []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _known_keys(
    location: Location, data: Any, model: type[BaseModel], plugins: Plugins
) -> list[str]:
    """Return the keys that would have been right where an unknown one stands."""
    current: Any = model
    for depth, key in enumerate(location):
        data = data.get(key) if isinstance(data, dict) else data[int(key)]
        kind = SECTIONS.get(str(location[0]))
        at_part = depth == (1 if isinstance(key, int) or location[0] == "tasks" else 0)
        if kind is not None and at_part:
            tag = (data or {}).get("type", key)
            current = plugins.types(kind).get(str(tag)) or _only(plugins, kind)
        elif kind is None or depth > 0:
            current = _field_model(current, key, data)
        if current is None:
            return []
    hidden = {"name"} if location and location[0] == "tasks" else set()
    return [f.alias or name for name, f in current.model_fields.items() if name not in hidden]


def _only(plugins: Plugins, kind: str) -> type[BaseModel] | None:
    classes = list(plugins.types(kind).values())
    return classes[0] if len(classes) == 1 else None


def _field_model(current: Any, key: Key, data: Any) -> Any:
    """Return the model class of a field, by its `type` tag where there are several."""
    if isinstance(key, int):
        return current
    field = current.model_fields.get(key)
    if field is None:
        return None
    models = [
        m for m in _flatten(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)
    ]
    tagged = [
        m
        for m in models
        if isinstance(data, dict)
        and "type" in m.model_fields
        and m.model_fields["type"].default == data.get("type")
    ]
    return next(iter(tagged or models), None)


def _flatten(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is None:
        yield annotation
    elif origin in (typing.Union, types.UnionType, tuple, list):
        for part in typing.get_args(annotation):
            yield from _flatten(part)
    else:
        yield from _flatten(typing.get_args(annotation)[0])
