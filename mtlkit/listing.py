"""What there is: shipped recipes, loaded plugins, the schema of recipes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtlkit.errors import UsageError, suggest
from mtlkit.plugins import KINDS, Plugins
from mtlkit.recipe import recipe_model


def shipped() -> dict[str, Path]:
    """Return the shipped recipes by name."""
    folder = Path(str(files("mtlkit_recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """Return a recipe's path: a file, or a shipped recipe of that name.

    Args:
        name: as given.

    Raises:
        UsageError: there is neither.
    """
    path = Path(name)
    if path.exists():
        return path
    found = shipped().get(name)
    if found is None:
        raise UsageError(
            f"{name}: no such file, and no shipped recipe of that name; {suggest(name, shipped())}"
        )
    return found


def list_plugins(as_json: bool, plugins: Sequence[Path], blocked: Sequence[str]) -> None:
    """Print every plugin with what it offers; broken ones last.

    Args:
        as_json: for programs.
        plugins: files to load too.
        blocked: names to leave out.
    """
    rows = _plugin_rows(Plugins.load(list(plugins), blocked))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table("offers", "plugin", "hooks", "origin")
    for row in rows:
        offers = f"broken: {row.broken}" if row.broken else "\n".join(row.offers)
        hooks = "\n".join(hook.removeprefix("mtlkit_") for hook in row.hooks)
        table.add_row(offers, row.plugin, hooks, row.origin)
    Console().print(table)


@dataclass(frozen=True)
class _Row:
    plugin: str
    offers: list[str]
    hooks: list[str]
    origin: str
    broken: str | None


def _plugin_rows(plugins: Plugins) -> list[_Row]:
    offers: dict[str, list[str]] = {plugin.name: [] for plugin in plugins.loaded}
    for kind in KINDS:
        for name, offered in plugins.types(kind).items():
            offers[plugins.owner(offered)].append(f"{kind} {name}")
    good = [_Row(p.name, offers[p.name], list(p.hooks), p.origin, None) for p in plugins.loaded]
    return good + [_Row(b.name, [], [], b.origin, b.reason) for b in plugins.broken]


def schema(plugins: Sequence[Path], blocked: Sequence[str]) -> None:
    """Print the JSON schema of recipes.

    Args:
        plugins: files to load too.
        blocked: names to leave out.
    """
    model = recipe_model(Plugins.load(list(plugins), blocked))
    print(json.dumps(model.model_json_schema(by_alias=True), indent=2))


def list_recipes() -> None:
    """Print the shipped recipes, each with its first comment after the command."""
    table = Table("recipe", "what it is")
    for name, path in shipped().items():
        comments = [line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#"]
        table.add_row(name, " ".join(comments[1:]))
    Console().print(table)


def copy_recipe(name: str, to: Path) -> None:
    """Copy a shipped recipe, and print where it is.

    Args:
        name: of the recipe.
        to: file or folder.

    Raises:
        UsageError: no such recipe, or the file exists.
    """
    if name not in shipped():
        raise UsageError(f"no shipped recipe is called {name!r}; {suggest(name, shipped())}")
    target = to / f"{name}.yaml" if to.is_dir() else to
    if target.exists():
        raise UsageError(f"{target}: exists. Give another name, or move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shipped()[name], target)
    print(target)
