"""Every class of a plugin, with each option in turn, and every check of its contract."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mtlkit.contracts import Dataset, Edge, Plugin, Task
from mtlkit.errors import PluginError, UsageError, suggest
from mtlkit.plugins import KINDS, Plugins
from mtlkit.testing.architectures import ARCHITECTURE
from mtlkit.testing.contract import Check, Contract
from mtlkit.testing.datasets import DATASET
from mtlkit.testing.edges import EDGE
from mtlkit.testing.encoders import ENCODER
from mtlkit.testing.inputs import named
from mtlkit.testing.stand_ins import pair_of, tasks_called
from mtlkit.testing.task_parts import TASK
from mtlkit.testing.weightings import WEIGHTING

CONTRACTS: Mapping[str, Contract] = {
    contract.kind: contract for contract in (TASK, EDGE, WEIGHTING, DATASET, ARCHITECTURE, ENCODER)
}
"""By kind of plugin; auxiliary losses have none yet."""

ENGINES_OWN = ("type", "at", "evaluate")
"""Fields that the engine alone reads, so that no check can tell their options apart."""

SMALL = (16, 32)
"""Size of a data set's samples, unless its arguments say another one."""

Arguments = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """One check of one plugin.

    Args:
        id: kind, type, option and check, joined by "-".
        check: what is run.
        plugin: on what.
        partners: what it works with, one tuple for each run.
    """

    id: str
    check: Check
    plugin: Plugin
    partners: tuple[tuple[Any, ...], ...] = ((),)

    def run(self) -> None:
        """Run the check.

        Raises:
            AssertionError: the promise is not kept.
        """
        __tracebackhide__ = True
        for partners in self.partners:
            self.check(self.plugin, *partners)


def contract_tests(
    plugin: str | Path,
    arguments: Arguments | None = None,
    excused: Mapping[str, str] | None = None,
) -> Any:
    """Return a function for pytest to collect: one test per class, option and check of a plugin.

    Assign it to a name that begins with `test`. Options are the values of Literal and bool fields.

    Args:
        plugin: name of an installed plugin's module, or the path of a plugin file (ends in .py).
        arguments: by type name, fields that have no default.
        excused: reasons by test id; these tests are skipped, and pytest shows the reason.

    Raises:
        PluginError: the plugin is missing or broken, or offers nothing that has a contract.
        UsageError: an argument is missing, or an excuse is of no test.
    """
    import pytest

    found, reasons = list(cases(plugin, arguments or {})), dict(excused or {})
    ids = [case.id for case in found]
    unknown = sorted(reasons.keys() - set(ids))
    if unknown:
        raise UsageError(f"excused: no test has the id {unknown[0]!r}; {suggest(unknown[0], ids)}")
    marks = {key: pytest.mark.skip(reason=reason) for key, reason in reasons.items()}
    parameters = [pytest.param(case, id=case.id, marks=marks.get(case.id, ())) for case in found]

    @pytest.mark.parametrize("case", parameters)
    def test_contract(case: Case) -> None:
        __tracebackhide__ = True
        case.run()

    return test_contract


def cases(plugin: str | Path, arguments: Arguments) -> Iterator[Case]:
    """Yield every check of every class that a plugin offers.

    Args:
        plugin: name of an installed plugin's module, or the path of a plugin file.
        arguments: by type name, fields that have no default.

    Raises:
        PluginError: the plugin is missing or broken, or offers nothing that has a contract.
        UsageError: an argument is missing or wrong.
    """
    offered = list(_offered(plugin))
    names = [one.type_name() for _, one in offered]
    for name in arguments:
        if name not in names:
            raise UsageError(f"arguments: {plugin} offers no type {name!r}; {suggest(name, names)}")
    for kind, one in offered:
        given = arguments.get(one.type_name(), {})
        for option in ({}, *options(one, given)):
            words = [f"{key}-{value}" for key, value in option.items()]
            instance = make(one, {**given, **option})
            yield from _cases_of(instance, "-".join([kind, one.type_name(), *words]), bool(option))


def options(plugin_class: type[Plugin], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each value of each Literal and bool field that is not the one in force.

    Args:
        plugin_class: its fields are looked at.
        given: arguments, by the recipe's keys.
    """
    for name, field in plugin_class.model_fields.items():
        literal = typing.get_origin(field.annotation) is Literal
        values = typing.get_args(field.annotation) if literal else ()
        values = (True, False) if field.annotation is bool else values
        key = field.alias or name
        in_force = given.get(key, field.default)
        if name not in ENGINES_OWN:
            yield from ({key: value} for value in values if value != in_force)


def make(plugin_class: type[Plugin], fields: Mapping[str, Any]) -> Plugin:
    """Return a plugin with its arguments, and with what a recipe would add to them.

    Args:
        plugin_class: of any kind.
        fields: by the recipe's keys.

    Raises:
        UsageError: a field is missing or wrong.
        PluginError: the class sets a field of itself.
    """
    added: dict[str, Any] = {}
    if issubclass(plugin_class, Edge):
        added = {"from": "near", "to": "far"}
    elif issubclass(plugin_class, Dataset):
        added = {"size": SMALL}
    try:
        plugin = plugin_class.model_validate({**added, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        key, name = ".".join(map(str, first["loc"])), plugin_class.type_name()
        if first["type"] == "frozen_instance":  # not about what was given
            raise PluginError(
                f"{name}: its own code sets {key!r}, and a plugin is frozen. Compute it in a "
                "property, or hold it in the module that is built"
            ) from None
        raise UsageError(
            f"{name}: {key or 'its fields'}: {first['msg']}. Give it in "
            f"contract_tests(…, arguments={{{name!r}: {{{key!r}: …}}}})"
        ) from None
    return named(plugin) if isinstance(plugin, Task) else plugin


def _cases_of(plugin: Plugin, title: str, is_option: bool) -> Iterator[Case]:
    partners: Sequence[tuple[Any, ...]] = ((),)
    kind = title.split("-")[0]
    if isinstance(plugin, Edge):
        partners = pair_of(plugin.source, plugin.target)
    elif kind == ARCHITECTURE.kind:
        partners = [(tasks_called(("near", "far")),)]
    for check in CONTRACTS[kind].checks:
        if check.is_of_options or not is_option:
            yield Case(f"{title}-{check.name}", check, plugin, tuple(partners))


def _offered(plugin: str | Path) -> Iterator[tuple[str, type[Plugin]]]:
    """Yield the classes of a plugin that have a contract, with their kinds."""
    is_file = isinstance(plugin, Path) or plugin.endswith(".py")
    plugins = Plugins.load([Path(plugin)] if is_file else [])
    name = Path(plugin).stem if is_file else str(plugin)
    if name not in {loaded.name for loaded in plugins.loaded}:
        for broken in plugins.broken:  # by the name of its module, or of its entry point
            if broken.name in (name, name.rpartition(".")[2]):
                raise PluginError(f"{name}: {broken.reason}")
        raise PluginError(
            f"{name}: no such plugin is installed. Name its module in pyproject.toml, under "
            '[project.entry-points.mtlkit], and run "pip install -e .", or give the path of a file'
        )
    found = [
        (kind, one)
        for kind in KINDS
        for one in plugins.types(kind).values()
        if plugins.owner(one) == name and kind in CONTRACTS
    ]
    if not found:
        raise PluginError(f"{name}: offers no {', '.join(CONTRACTS)}, so there is nothing to check")
    yield from found
