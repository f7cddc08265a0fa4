"""The shape of the code: who imports whom, what the core may not name, how long things are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtlkit
from mtlkit import hookspecs, solvers
from mtlkit.plugins import KINDS, Plugins

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "mtlkit").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

LAYERS = [  # a module imports only from its own layer or the ones before it
    {"errors"},
    {"structures", "records", "fingerprint", "files"},
    {"recompute", "host_memory", "signals"},
    {
        "nn",
        "device",
        "draws",
        "circumstances",
        "generators",
        "ranks",
        "stopwatch",
        "transforms",
        "camera",
        "geometry",
        "augmentation",
        "memory",
    },
    {"metrics", "solvers"},
    {"sections"},
    {"contracts"},
    {"hookspecs"},
    {"plugin_file", "plugins"},
    {"document", "faults", "graph", "sets", "optimization"},
    {"recipe"},
    {
        "ahead",
        "model",
        "objective",
        "cache",
        "partial",
        "gradients",
        "checkpoint",
        "monitor",
        "best",
        "folder",
        "edge_norm",
        "sampling",
        "phases",
        "denominators",
        "initial",
        "tracking",
    },
    {"order", "shelf", "samples", "collate", "data", "loaders", "walk", "keeping"},
    {"compiled", "evaluation", "consistency", "check", "mover", "parallel", "learner", "survey"},
    {"flops", "speed"},
    {"testing"},
    {"engine"},
    {"report"},
    {"launch", "listing", "actions"},
    {"cli"},
    {"__main__", "__init__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def unit(path: Path) -> str:
    """Return the module, or the package below mtlkit, that a file belongs to."""
    part = path.relative_to(ROOT / "mtlkit").parts[0]
    return part.removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yield modules that a file imports when it runs, not those for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def test_every_core_module_has_its_layer() -> None:
    assert {unit(path) for path in CORE} == set(RANK)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    if unit(path) == "__init__":
        return
    names = (n.split(".")[1:2] for n in imported(path) if n.startswith("mtlkit."))
    later = {n[0] for n in names if n and RANK.get(n[0], -1) > RANK[unit(path)]}
    assert later == set()


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_only_mtlkit_libraries_and_private_helpers(path: Path) -> None:
    for name in imported(path):
        assert not name.startswith(("plugins", "tests")), name
        if name.startswith((".", "mtlkit_plugins")):
            parts = name.lstrip(".").split(".")
            inside = any(part.startswith("_") for part in path.relative_to(ROOT).parts)
            assert inside or any(part.startswith("_") for part in parts), name


def test_the_core_names_no_plugin() -> None:
    plugins = Plugins.load()
    words = {name for kind in KINDS for name in plugins.types(kind)}
    words -= {"equal"}  # an English word
    words -= set(solvers.__all__)  # maths that several methods may use, named after the first
    pattern = re.compile(rf"""["']({"|".join(map(re.escape, sorted(words)))})["']""")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in CORE
        for match in pattern.finditer(without_docstrings(path))
    ]
    assert found == []


def without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not is_docstring(child)] or [ast.Pass()]
    return ast.unparse(tree)


@pytest.mark.parametrize("path", CORE + PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [n for n in node.body if not is_docstring(n)]
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name} has {lines} lines"


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_only_one_file_knows_hardware_by_name() -> None:
    users = [p.name for p in CORE + PLUGINS if "cuda" in without_docstrings(p).lower()]
    assert users == ["cli.py", "device.py"]  # in cli.py it is a word of the help


def test_the_public_names_are_sorted_and_exist() -> None:
    assert sorted(set(mtlkit.__all__)) == mtlkit.__all__
    assert set(mtlkit.__all__) == set(mtlkit._HOMES)
    assert all(getattr(mtlkit, name) is not None for name in mtlkit.__all__)


def test_every_hook_has_a_prefix_a_docstring_and_a_use_in_tests() -> None:
    hooks = [name for name in dir(hookspecs) if name.startswith("mtlkit_")]
    assert len(hooks) == 12
    tests = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py"))
    shipped = "".join(p.read_text(encoding="utf-8") for p in PLUGINS)
    for name in hooks:
        assert getattr(hookspecs, name).__doc__
        assert f"def {name}(" in tests + shipped, f"{name} is used nowhere"
