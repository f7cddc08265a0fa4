"""How the contract tests make every registered class: one table, and each option in turn."""

from __future__ import annotations

import typing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError

import mtlkit
from mtlkit.plugin_file import import_file

FIXTURES = Path(__file__).parents[1] / "fixtures"
ENDS = {"from": "a", "to": "b"}
ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("task", "segmentation"): {"classes": 5},
    ("edge", "xtc"): {**ENDS, "widths": [2, 3]},
    ("edge", "alignment"): {**ENDS, "widths": [2, 3]},
    ("encoder", "resnet"): {"depth": 18},
    ("architecture", "shared_encoder"): {"width": 4},
}
LIBRARIES = {("weighting", "torchjd"): "torchjd"}  # extras that a class cannot do without
SIZE = (33, 47)  # divides by nothing


@cache
def registered(kind: str) -> dict[str, type[Any]]:
    """Return every class of a kind by type name."""
    return dict(mtlkit.Plugins.load().types(kind))


def make(kind: str, name: str, /, **fields: Any) -> Any:
    """Return a plugin with its arguments of the table and the given fields."""
    try:
        return registered(kind)[name].model_validate({**ARGUMENTS.get((kind, name), {}), **fields})
    except ValidationError as error:
        wanted = ", ".join(str(details["loc"][0]) for details in error.errors())
        message = f"{kind} {name!r} needs arguments ({wanted}): add them to ARGUMENTS in {__file__}"
        return pytest.fail(message)


def variants(kind: str) -> list[Any]:
    """Return a pytest parameter (type name, fields) for each class as it is, and for each option.

    Options are the values of Literal and bool fields, so that a new one is covered as it comes.
    """
    found = []
    for name, offered in registered(kind).items():
        marks = marks_of(kind, name)
        found.append(pytest.param(name, {}, id=name, marks=marks))
        for key, field in offered.model_fields.items():
            values = typing.get_args(field.annotation) if _is_literal(field.annotation) else ()
            values = (True, False) if field.annotation is bool else values
            given = ARGUMENTS.get((kind, name), {}).get(key, field.default)
            label = field.alias or key
            found += [
                pytest.param(name, {label: value}, id=f"{name}-{label}-{value}", marks=marks)
                for value in values
                if value != given and key != "type"
            ]
    return found


def marks_of(kind: str, name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a class's tests: they are skipped where its library is not installed."""
    library = LIBRARIES.get((kind, name))
    if library is None or find_spec(library):
        return []
    return [pytest.mark.skip(reason=f"needs {library}: pip install 'mtlkit[{library}]'")]


def methods() -> list[Any]:
    """Return the variants of weightings but for `at`: where gradients are taken, engines decide."""
    return [case for case in variants("weighting") if "at" not in case.values[1]]


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal


def prediction_of(task: mtlkit.Task, seed: int = 0, images: int = 2, size: Any = SIZE) -> Any:
    """Return a positive prediction, (N,C,H,W), or (N,C)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, task.channels) if task.vector else (images, task.channels, *size)
    return torch.rand(shape, generator=generator) * 2 + 0.1


def label_of(task: mtlkit.Task, seed: int = 1, images: int = 2, size: Any = SIZE) -> mtlkit.Label:
    """Return a label with a different share of valid pixels in every image."""
    generator = torch.Generator().manual_seed(seed)
    value = task.as_label(prediction_of(task, seed, images, size))
    if task.vector:
        return mtlkit.Label(value, torch.arange(images) % 2 == 0)
    share = torch.linspace(0.2, 0.9, images).view(-1, 1, 1, 1)
    return mtlkit.Label(value, torch.rand(images, 1, *size, generator=generator) < share)


def tiny_encoder() -> mtlkit.Encoder:
    """Return the encoder of `tests/fixtures`: three small stages."""
    encoder: mtlkit.Encoder = import_file(FIXTURES / "tiny_encoder.py").TinyEncoder()
    return encoder
