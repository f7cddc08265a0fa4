"""Find, import and collect plugins: shipped ones, installed packages and single files.

Three doors, one path: every module of `mtlkit_plugins`, every entry point of the group `mtlkit`
(loaded one by one, so that a broken one is reported and loses only itself), and files named on the
command line or in a recipe.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Literal, get_origin

import pluggy
import torch

from mtlkit import hookspecs
from mtlkit.contracts import (
    Architecture,
    AuxiliaryLoss,
    Dataset,
    Edge,
    Encoder,
    Plugin,
    Task,
    Weighting,
)
from mtlkit.errors import MtlkitError, PluginError, UsageError, suggest
from mtlkit.plugin_file import import_file, innermost, reason_of

SHIPPED = "mtlkit_plugins"
KINDS: dict[str, tuple[str, type[Plugin]]] = {
    "encoder": ("mtlkit_encoders", Encoder),
    "architecture": ("mtlkit_architectures", Architecture),
    "dataset": ("mtlkit_datasets", Dataset),
    "task": ("mtlkit_tasks", Task),
    "edge": ("mtlkit_edges", Edge),
    "auxiliary loss": ("mtlkit_auxiliary_losses", AuxiliaryLoss),
    "weighting": ("mtlkit_weightings", Weighting),
}


@dataclass(frozen=True)
class Loaded:
    """A plugin that is in use: its module, where it came from and the hooks that it implements."""

    name: str
    module: ModuleType
    origin: str
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """An installed plugin that could not be loaded."""

    name: str
    origin: str
    reason: str


@dataclass
class Plugins:
    """The plugins of one run; make one with `Plugins.load`."""

    manager: pluggy.PluginManager
    loaded: list[Loaded] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    blocked: tuple[str, ...] = ()
    _types: dict[str, dict[str, type[Plugin]]] = field(default_factory=dict)
    _owners: dict[type[Plugin], str] = field(default_factory=dict)
    _installed: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, files: Sequence[Path] = (), blocked: Iterable[str] = ()) -> Plugins:
        """Return all plugins, less the blocked ones.

        Args:
            files: single-file plugins.
            blocked: names to leave out, whole ("mtlkit_plugins.trackers.progress") or last part.

        Raises:
            PluginError: a file is missing or broken, or two plugins offer one type name.
            UsageError: a blocked name is not that of a plugin.
        """
        manager = pluggy.PluginManager("mtlkit")
        manager.add_hookspecs(hookspecs)
        plugins = cls(manager, blocked=tuple(blocked))
        blocked, unused = plugins.blocked, set(plugins.blocked)
        origin = f"mtlkit {version('mtlkit')}"  # read from a file: once is enough
        for name in _shipped_modules():
            if not _is_blocked(name, unused, blocked):
                plugins._add(importlib.import_module(name), origin)
        for entry in entry_points(group="mtlkit"):
            if not _is_blocked(entry.name, unused, blocked):
                plugins._add_installed(entry)
        for file in files:
            if not _is_blocked(file.stem, unused, blocked):
                plugins._add_file(file)
        if unused:
            names = [plugin.name.rpartition(".")[2] for plugin in plugins.loaded]
            raise UsageError(
                f"--no-plugin {min(unused)}: no such plugin; {suggest(min(unused), names)}"
            )
        plugins._collect()
        return plugins

    def types(self, kind: str) -> dict[str, type[Plugin]]:
        """Return the classes of a kind by type name.

        Args:
            kind: a key of `KINDS`.
        """
        return self._types[kind]

    def owner(self, plugin_class: type[Plugin]) -> str:
        """Return the name of the plugin that offers a class.

        Args:
            plugin_class: a value of `types`.
        """
        return self._owners[plugin_class]

    @contextlib.contextmanager
    def blaming(self, what: str) -> Iterator[None]:
        """Tell what a plugin's code raises inside as a PluginError with the plugin's line.

        Args:
            what: fails, as the beginning of the message.
        """
        try:
            yield
        except MtlkitError:
            raise
        except Exception as error:  # whatever a plugin's code raises
            raise PluginError(f"{what}: {reason_of(error)}. {self._advice(error)}") from error

    @contextlib.contextmanager
    def blaming_authors(self, what: str) -> Iterator[None]:
        """Tell what passes through a plugin that is not mtlkit's own as a PluginError.

        Anything else is let through: it is a fault of mtlkit, and its trace is of use.

        Args:
            what: fails, as the beginning of the message.
        """
        try:
            yield
        except (MtlkitError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if innermost(error, self._files(self.others))[0] is None:
                raise
            raise PluginError(f"{what}: {reason_of(error)}. {self._advice(error)}") from error

    @property
    def others(self) -> list[Loaded]:
        """The plugins that are not mtlkit's own."""
        return [plugin for plugin in self.loaded if not plugin.name.startswith(SHIPPED)]

    def _advice(self, error: Exception) -> str:
        """Return which plugin to mend: one of an author rather than mtlkit's own."""
        for plugins in (self.others, [] if self.others else self.loaded):
            names = self._files(plugins)
            file, line = innermost(error, names)
            if file is not None:
                return f"Mend the plugin {names[file]}, line {line}"
        if not self.others:
            return "Mend the plugin"
        others = " or ".join(plugin.name for plugin in self.others)
        return f"Mend what {others} returns: mtlkit.testing says which promise is broken"

    def _files(self, plugins: Iterable[Loaded]) -> dict[str | None, str]:
        return {plugin.module.__file__: plugin.name for plugin in plugins}

    def _add_installed(self, entry: EntryPoint) -> None:
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            self._add(entry.load(), origin)
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises at import
            self.broken.append(Broken(entry.name, origin, reason_of(error)))
            return
        self._installed.add(self.loaded[-1].name)

    def _add_file(self, file: Path) -> None:
        for other in self.files:
            if other.stem == file.stem and other != file.resolve():
                raise PluginError(f"{file}: {other} has the same name. Rename one of them")
        for plugin in self.loaded:
            is_other = plugin.module.__file__ != str(file.resolve())
            if plugin.name == file.stem and plugin.name in self._installed and is_other:
                raise PluginError(
                    f"{file}: the plugin {plugin.name!r} of {plugin.origin}, which is installed, "
                    "has its name. Leave the file out, or uninstall the package"
                )
        if file.resolve() not in self.files:
            module = import_file(file)
            if module not in [plugin.module for plugin in self.loaded]:  # installed from here
                self._add(module, str(file))
            self.files.append(file.resolve())

    def _add(self, module: ModuleType, origin: str) -> None:
        name = module.__name__
        hooks = tuple(n for n in dir(module) if self.manager.parse_hookimpl_opts(module, n))
        known = {n for n in dir(hookspecs) if n.startswith("mtlkit_")}
        for hook in sorted(n for n in dir(module) if n.startswith("mtlkit_")):
            if hook not in known:
                raise PluginError(f"{origin}: no hook is called {hook!r}; {suggest(hook, known)}")
            if hook not in hooks:
                raise PluginError(
                    f"{origin}: mark {hook} with @mtlkit.hookimpl, or it is not called"
                )
        if not hooks:
            if origin.startswith("mtlkit "):
                return
            raise PluginError(
                f"{origin}: offers nothing. Define a hook such as mtlkit_tasks() and mark it with "
                "@mtlkit.hookimpl"
            )
        try:
            self.manager.register(module, name)
        except pluggy.PluginValidationError as error:
            reason = " ".join(str(error).split("\n")[1:])
            raise PluginError(f"{origin}: {reason}. Remove them") from None
        self.loaded.append(Loaded(name, module, origin, hooks))

    def _collect(self) -> None:
        self._types = {kind: {} for kind in KINDS}
        for plugin in list(self.loaded):
            try:
                offered = list(self._offered(plugin))
            except PluginError as error:
                if plugin.name not in self._installed:
                    raise
                self.loaded.remove(plugin)
                self.manager.unregister(plugin.module)
                self.broken.append(Broken(plugin.name, plugin.origin, str(error)))
                continue
            for kind, one in offered:
                self._claim(kind, one, plugin)
        self._types = {kind: dict(sorted(found.items())) for kind, found in self._types.items()}

    def _offered(self, plugin: Loaded) -> Iterator[tuple[str, type[Plugin]]]:
        """Yield each class of a plugin with its kind, after a look at it."""
        for kind, (hook, base) in KINDS.items():
            if hook not in plugin.hooks:
                continue
            with self.blaming(f"{plugin.origin}: {hook}() fails"):
                classes = getattr(plugin.module, hook)()
            if not isinstance(classes, list | tuple):
                raise PluginError(f"{plugin.origin}: {hook}() must return a list of classes")
            for one in classes:
                _check_class(one, kind, base, plugin.origin)
                yield kind, one

    def _claim(self, kind: str, offered: type[Plugin], plugin: Loaded) -> None:
        found, name = self._types[kind], offered.type_name()
        if name in found and found[name] is not offered:
            raise PluginError(
                f"two plugins offer the {kind} type {name!r}: {self.owner(found[name])} and "
                f"{plugin.name}. Rename one, or leave one out with --no-plugin"
            )
        found[name] = offered
        self._owners[offered] = plugin.name


def _check_class(offered: type[Plugin], kind: str, base: type[Plugin], origin: str) -> None:
    name = getattr(offered, "__name__", None) or repr(offered)
    if not (isinstance(offered, type) and issubclass(offered, base)):
        raise PluginError(
            f"{origin}: {name} is offered as {kind} but is no subclass of mtlkit.{base.__name__}. "
            "Derive it, or offer it by another hook"
        )
    declared = offered.model_fields.get("type")
    is_literal = declared is not None and get_origin(declared.annotation) is Literal
    if declared is None or not is_literal or not isinstance(declared.default, str):
        raise PluginError(f'{origin}: {name} needs a type name: type: Literal["…"] = "…"')
    missing = sorted(getattr(offered, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{origin}: {name} must define {', '.join(missing)}")


def _shipped_modules() -> list[str]:
    package = importlib.import_module(SHIPPED)
    walked = pkgutil.walk_packages(package.__path__, f"{SHIPPED}.")
    return [m.name for m in walked if not m.ispkg and "._" not in m.name]


def _is_blocked(name: str, unused: set[str], blocked: Iterable[str]) -> bool:
    hits = {name, name.rpartition(".")[2]} & set(blocked)
    unused -= hits
    return bool(hits)
