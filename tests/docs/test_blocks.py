"""What the pages show is what happens."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_blocks import (
    PAGES,
    ROOT,
    SMALL,
    Block,
    anchors,
    blocks,
    command,
    links,
    small,
    write_files,
)
from fixtures.commands import forget_plugins
from ruamel.yaml import YAML

from mtlkit import Recipe, cli, load_recipe
from mtlkit.check import check_recipe
from mtlkit.document import parse_value

BLOCKS = blocks()
LISTS_OF_KEYS = {"every_key.yaml"}  # are no recipe; test_own_data.py has them
WHOLE = """
data: {type: streets, size: [64, 128], train: 4, val: 2}
loader: {batch_size: 2}
encoder: {type: resnet, depth: 18}
architecture: {type: shared_encoder, width: 8}
tasks: {segmentation: {classes: 7}, depth: {}, normals: {}}
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-3}
train: {epochs: 2}
"""


@pytest.fixture
def beside_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the recipes where the pages have them."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    marks = {
        "python": r"run|file: \w+\.py",
        "yaml": r"(file: \w+\.yaml)?",  # without a mark it is a part of a recipe
        "toml": r"file: \w+\.toml",
        "console": "",
        "text": ".*",
    }
    for block in BLOCKS:
        assert block.language in marks, f"{block}: a block in {block.language!r} is not tested"
        assert re.fullmatch(marks[block.language], block.mark), f"{block}: mark {block.mark!r}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "run"], ids=str)
def test_python_runs(block: Block, beside_recipes: Path) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "console"], ids=str)
def test_commands_exist_with_their_options(block: Block) -> None:
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            _check_command(words[0].removeprefix(".venv/bin/"), words[1:], block)


def _check_command(program: str, words: list[str], block: Block) -> None:
    if program == "mtlkit":
        _check_mtlkit(words, block)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"\[(\w+)\]", " ".join(words))
        assert words[0] in ("install", "wheel") and set(extras) <= set(
            project["optional-dependencies"]
        )
    elif program in ("python", ".ci/run"):
        assert all((ROOT / word).exists() for word in [program, *words] if "/" in word)
    else:
        assert program == "pre-commit", f"{block}: {program!r} is not tested"


def _check_mtlkit(words: list[str], block: Block) -> None:
    found: Any = typer.main.get_command(cli.app)
    added = {entry.name: entry for entry in entry_points(group="mtlkit.commands")}
    name, rest = "mtlkit", words
    while hasattr(found, "get_command") and rest:
        name, rest = rest[0], rest[1:]
        own = typer.main.get_command(added[name].load()) if name in added else None
        found = own or found.get_command(None, name)
        assert found is not None, f"{block}: no command {name!r}"
    values = found.make_context(name, list(rest)).params
    recipe = values.get("recipe")
    shown = {b.file for b in BLOCKS if b.page == block.page}
    shipped = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    if recipe is not None and not re.match(r"[A-Z_]+(/|$)", recipe):  # stands for one of yours
        assert recipe in shown | shipped or (ROOT / recipe).is_file(), f"{block}: {recipe}"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "yaml" and not b.mark], ids=str
)
def test_parts_of_recipes_are_right_within_one(block: Block, tmp_path: Path) -> None:
    whole, part = (YAML(typ="safe").load(text) for text in (WHOLE, block.text))
    path = tmp_path / "recipe.yaml"
    YAML(typ="safe").dump({**whole, **part}, path)
    assert load_recipe(path).name == "recipe"


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.language == "yaml" and b.file and b.file not in LISTS_OF_KEYS],
    ids=str,
)
def test_recipes_of_the_pages_can_work(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    write_files(tmp_path, block.page)
    assert block.file is not None
    path = tmp_path / block.file
    path.write_text(block.text, encoding="utf-8")  # a page may show it again, with more in it
    try:
        check_recipe(load_recipe(path, lenient=["data"]))
    finally:
        forget_plugins(modules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_pictures_are_there(page: Path) -> None:
    for link in links(page):
        assert link.path.exists(), f"{page.name}: {link.path}"
        if link.anchor:
            assert link.anchor in anchors(link.path), f"{page.name}: {link.path}#{link.anchor}"


def test_links_are_found_in_prose_alone_and_headings_as_github_names_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# `a_b`: A, and *B* – c\n![Two\nlines](x/y.png) [`a[0]`](p.md#q) [here](#twice-1)\n"
        "`d[0](no.md)` [out](https://example.org/#z)\n## Twice\n## [Twice](r.md)\n"
        "```python\n# No heading\na[0](no.md)\n```\n"
    )
    found = [(link.path.relative_to(tmp_path).as_posix(), link.anchor) for link in links(page)]
    assert found == [("x/y.png", ""), ("p.md", "q"), ("page.md", "twice-1"), ("r.md", "")]
    assert anchors(page) == {"a_b-a-and-b--c", "twice", "twice-1"}


def test_the_task_of_the_readme_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, ROOT / "README.md")
    assert len((tmp_path / "obstacle.py").read_text().splitlines()) <= 60
    assert command("run", "obstacle.yaml", *small()) == 0
    (run,) = (tmp_path / "runs" / "obstacle").iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validation = [line["metrics"] for line in lines if line["split"] == "val"][-1]
    assert 0 <= validation["obstacle/f1"] <= 1
    train = [line["metrics"] for line in lines if line["split"] == "train"][-1]
    edges = [name for name in train if name.endswith("/xtc")]
    assert len(edges) == 6
    assert len([name for name in edges if "obstacle" in name]) == 4
    assert (run / "predictions.png").is_file()


def test_the_tracker_of_the_hooks_page_writes_its_table(tiny: Path, tmp_path: Path) -> None:
    write_files(tmp_path, ROOT / "docs" / "reference" / "hooks.md")
    words = ("--plugin", str(tmp_path / "table.py"), "--out", str(tmp_path / "runs"))
    assert command("run", str(tiny), *words, *small()) == 0
    (table,) = tmp_path.glob("runs/*/*/loss.csv")
    assert len(table.read_text().splitlines()) == 2


def test_rendered_streets_stand_in_for_cityscapes(
    beside_recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = ("--train", "2", "--val", "2", "--size", "32x64", "--workers", "1")
    assert (
        command("data", "render", "streets", "--layout", "cityscapes", "--out", "D", *counts) == 0
    )
    monkeypatch.setenv("CITYSCAPES_ROOT", "D")
    settings = [s for s in SMALL if s not in ("data.train=4", "data.val=2")]
    settings += ["encoder.depth=18", "loader.workers=0", "edges.0.widths=[4,8]"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert command("run", "recipes/xtascnet_cityscapes.yaml", *words) == 0
    assert list(Path("runs/xtascnet-cityscapes").glob("*/best.pt"))


def test_the_readme_shows_what_explain_prints() -> None:
    (block,) = [b for b in BLOCKS if b.mark == "explain" and b.page == ROOT / "README.md"]
    call = [sys.executable, "-m", "mtlkit", "explain", "recipes/xtascnet_cityscapes.yaml"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    printed = subprocess.run(
        call, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout
    shown = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    assert block.text == shown, "run python docs/generate_reference.py"


def test_every_key_on_the_parity_page_is_accepted() -> None:
    text = (ROOT / "docs" / "parity.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    pattern = re.compile(r"`([a-z0-9_.]+): ([^`]+)`")
    reference = ROOT / "recipes" / "xtascnet_cityscapes.yaml"
    defaults = [pair for row in rows for pair in pattern.findall(row[4])]
    options = [pair for row in rows for pair in pattern.findall(row[5])]
    assert len(defaults) > 15 and len(options) > 20
    for key, value in defaults:
        _check_value(load_recipe(reference, lenient=("data",)), key, value)
    for key, value in options:
        _check_value(load_recipe(reference, {key: value}, lenient=("data",)), key, value)


def _check_value(recipe: Recipe, key: str, text: str) -> None:
    node: Any = recipe.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    wanted = parse_value(text, "parity.md")
    if isinstance(wanted, dict):
        assert wanted.items() <= node.items(), f"{key}: {text}"
    elif not isinstance(wanted, list) or not isinstance(wanted[0], dict):
        assert node == wanted, f"{key}: {text}"
