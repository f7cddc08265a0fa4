"""How the contract tests make every registered class: one table, and each option in turn."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

import mtlkit
from mtlkit.testing import Contract, options

ENDS = {"from": "a", "to": "b"}
ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("task", "segmentation"): {"classes": 5},
    ("task", "classification"): {"classes": 5},
    ("edge", "xtc"): {**ENDS, "widths": [2, 3]},
    ("edge", "alignment"): {**ENDS, "widths": [2, 3]},
    ("edge", "perceptual"): {**ENDS, "widths": [2, 3], "border": 0},
    ("encoder", "resnet"): {"depth": 18},
    ("architecture", "shared_encoder"): {"width": 4},
}
OPTIONS: dict[tuple[str, str], dict[str, list[Any]]] = {  # that no Literal or bool field tells
    ("task", "boundary"): {"positive_weight": ["balanced"]},
    ("task", "classification"): {"label_smoothing": [0.1]},
}
LIBRARIES = {("weighting", "torchjd"): "torchjd"}  # extras that a class cannot do without


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

    Options are the values of Literal and bool fields, so that a new one is covered as it comes, and
    those of OPTIONS.
    """
    found = []
    for name, offered in registered(kind).items():
        marks = marks_of(kind, name)
        found.append(pytest.param(name, {}, id=name, marks=marks))
        found += [
            pytest.param(name, {key: value}, id=f"{name}-{key}-{value}", marks=marks)
            for key, values in OPTIONS.get((kind, name), {}).items()
            for value in values
        ]
        found += [
            pytest.param(
                name, option, id="-".join(map(str, (name, *option, *option.values()))), marks=marks
            )
            for option in options(offered, ARGUMENTS.get((kind, name), {}))
        ]
    return found


def marks_of(kind: str, name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a class's tests: they are skipped where its library is not installed."""
    library = LIBRARIES.get((kind, name))
    if library is None or find_spec(library):
        return []
    return [pytest.mark.skip(reason=f"needs {library}: pip install 'mtlkit[{library}]'")]


def checked(contract: Contract) -> list[Any]:
    """Return a pytest parameter (type name, fields, check) for each variant and check of a kind."""
    return [
        pytest.param(*case.values, check, id=f"{case.id}-{check.name}", marks=case.marks)
        for case in variants(contract.kind)
        for check in contract.checks
        if check.is_of_options or not case.values[1]
    ]
