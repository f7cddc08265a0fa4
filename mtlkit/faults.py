"""pydantic's errors as sentences at the line where the mistake stands."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from torch import nn

from mtlkit.document import Document, Key, Location
from mtlkit.errors import Fault, nearest, suggest
from mtlkit.graph import ALL
from mtlkit.plugins import KINDS, Plugins
from mtlkit.sections import ONE, SEVERAL

SECTIONS = {
    "data": "dataset",
    "encoder": "encoder",
    "architecture": "architecture",
    "tasks": "task",
    "edges": "edge",
    "auxiliary_losses": "auxiliary loss",
    "weighting": "weighting",
}
_WORDS = {  # by pydantic's type of error; a number or name in braces is from its context
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys, such as {{type: …}}",
    "frozen_instance": "is set by the plugin's own code, and a plugin is frozen: compute it in a "
    "property, or hold it in the module that is built",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "model_attributes_type": "must be a mapping of keys, such as {{type: …}}",
    "model_type": "must be a mapping of keys",
    "string_too_long": "must have {max_length} letters or less",
    "string_type": "must be a text",
    "too_long": "takes at most {max_length} entries",
    "too_short": "needs an entry at least",
    "tuple_type": "must be a list, such as [1, 2]",
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
    found = error.errors(include_url=False)
    places = [_without_tags(details["loc"], document.data) for details in found]
    for details, location in zip(found, places, strict=True):
        inner = [p for p in places if len(p) > len(location) and p[: len(location)] == location]
        if details["type"] == "too_short" and inner:
            continue  # pydantic counts only the entries that are right
        yield document.fault(location, _sentence(details, location, document, model, plugins))


def name_faults(document: Document, tasks: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield a fault per task whose name cannot be one.

    Args:
        document: gives the lines.
        tasks: the recipe's `tasks`, unchecked.
    """
    for name, task in tasks.items():
        if not name.isidentifier() or name in (ALL, "total"):  # loss/total is the sum
            message = (
                f"a task's name is an identifier such as depth_left, not `{ALL}` and not `total`. "
                "Rename it"
            )
            yield document.fault(("tasks", name), message)
        elif hasattr(nn.ModuleDict, name) or name == "training":
            message = (
                f"{name!r} is a word of torch's own for modules. Rename the task, and add a type"
            )
            yield document.fault(("tasks", name), message)
        if isinstance(task, dict) and task.get("name", name) != name:
            yield document.fault(("tasks", name, "name"), "the key names the task. Remove `name`")


def by_line(fault: Fault) -> tuple[str, int]:
    """Return a key to sort faults by: file, then line.

    Args:
        fault: any.
    """
    file, _, line = fault.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (fault.where, 0)


def _holds(data: Any, key: Key) -> bool:
    if isinstance(data, list):
        return isinstance(key, int) and key < len(data)
    return isinstance(data, dict) and key in data


def _without_tags(loc: Location, data: Any) -> Location:
    """Return the keys as the file has them: pydantic adds the chosen type of each union."""
    kept: list[Key] = []
    for key in loc:
        if key in (ONE, SEVERAL):
            continue
        if _holds(data, key):
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
        return _unknown_type(details, location, model, plugins)
    if kind == "union_tag_not_found":
        return f"needs a type; {suggest('', _types_at(location, model, plugins))}"
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        words = f"must be {_description(location, document.data, model, plugins)}"
    else:
        words = _WORDS.get(kind, details["msg"].replace("{", "{{").replace("}", "}}"))
        whole = {
            k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in context.items()
        }
        words = words.format(**whole)
    near = nearest(str(details["input"]), re.findall("'([^']+)'", context.get("expected", "")))
    return f"{words}, got {_shown(details['input'])}" + (f"; {near.rstrip()}" if near else "")


def _is_type(kind: str, location: Location) -> bool:
    return kind == "union_tag_invalid" or bool(location and location[-1] == "type")


def _unknown_type(
    details: ErrorDetails, location: Location, model: type[BaseModel], plugins: Plugins
) -> str:
    tag = str(details.get("ctx", {}).get("tag", details["input"]))
    what = SECTIONS.get(str(location[0]), str(location[0])) if location else ""
    known = _types_at(location, model, plugins)
    lost = "".join(
        f". The plugin {b.name} ({b.origin}) failed to load: {b.reason}" for b in plugins.broken
    )
    if plugins.blocked:
        lost += f". Left out with --no-plugin: {', '.join(plugins.blocked)}"
    return f"no {what} type is called {tag!r}; {suggest(tag, known)}{lost}"


def _types_at(location: Location, model: type[BaseModel], plugins: Plugins) -> list[str]:
    kind = SECTIONS.get(str(location[0])) if location else None
    if kind in KINDS:
        return list(plugins.types(kind))
    sections = _flatten(model.model_fields[str(location[0])].annotation) if location else ()
    return [m.model_fields["type"].default for m in sections if "type" in m.model_fields]


def _description(location: Location, data: Any, model: type[BaseModel], plugins: Plugins) -> str:
    """Return what the field at a location says of itself."""
    owner = _model_at(location[:-1], data, model, plugins)
    field = owner.model_fields.get(str(location[-1])) if owner is not None else None
    return (field and field.description) or "of another form"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _known_keys(
    location: Location, data: Any, model: type[BaseModel], plugins: Plugins
) -> list[str]:
    """Return the keys that would have been right where an unknown one stands."""
    owner = _model_at(location, data, model, plugins)
    if owner is None:
        return []
    hidden = {"name"} if location and location[0] == "tasks" else set()
    return [f.alias or name for name, f in owner.model_fields.items() if name not in hidden]


def _model_at(location: Location, data: Any, model: type[BaseModel], plugins: Plugins) -> Any:
    """Return the model class whose keys stand at a location, None where there is none."""
    current: Any = model
    several = isinstance(data, dict) and isinstance(data.get("data"), list)
    for depth, key in enumerate(location):
        data = data.get(key) if isinstance(data, dict) else data[int(key)]
        kind = SECTIONS.get(str(location[0]))
        is_many = location[0] in ("tasks", "edges", "auxiliary_losses")
        part = 1 if is_many or (location[0] == "data" and several) else 0
        if kind is not None and depth < part:
            continue
        if kind is not None and depth == part:
            tag = (data or {}).get("type", key)
            current = plugins.types(kind).get(str(tag)) or _only(plugins, kind)
        elif kind is None or depth > 0:
            current = _field_model(current, key, data)
        if current is None:
            return None
    return current


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
