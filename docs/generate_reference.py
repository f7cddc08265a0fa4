"""Write what the documentation takes from the code; a test compares both.

Run it after a change of a recipe key, or of what `mtlkit explain` shows:

    python docs/generate_reference.py
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from mtlkit.augmentation import Augmentation
from mtlkit.contracts import AuxiliaryLoss, Dataset, Edge, Task
from mtlkit.optimization import (
    AdamSection,
    AdamWSection,
    ConstantSection,
    CosineSection,
    Group,
    PolySection,
    SGDSection,
    StepSection,
)
from mtlkit.plugins import SHIPPED, Plugins
from mtlkit.recipe import Recipe, load_recipe
from mtlkit.report.explain import explain
from mtlkit.sections import KeepBest, LabelsPerImage, Loader, Train

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kind_pages import kind_pages
from tables import docstring, table
from weighting_page import weighting_page

ROOT = Path(__file__).resolve().parent.parent
WEIGHTING = ROOT / "docs" / "weighting.md"
REFERENCE = ROOT / "docs" / "reference" / "recipe.md"
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
EXPLAINED = "recipes/xtascnet_cityscapes.yaml"
WIDTH = 100  # columns of the explain block

OPENING = """\
# Recipe reference

Made by `docs/generate_reference.py` from the classes themselves; a test compares the two, so edit
the classes. A recipe is YAML 1.2; a key that is not listed here is refused with its line.
`--set a.b=c` overrides any key, `edges.0.weight` that of the first edge. `${NAME}` in a value is
replaced by the environment variable of that name. `mtlkit schema` prints all of this as JSON
schema, with the plugins that are loaded.
"""

KINDS = {
    "data": (
        "dataset",
        Dataset,
        "Where samples come from; `type` chooses. A list of several is read as one set, in which "
        "an image may lack any label. Every data set has these keys beside its own:",
    ),
    "encoder": ("encoder", None, "Image to feature maps; `type` chooses."),
    "architecture": ("architecture", None, "Feature maps to predictions; `type` chooses."),
    "tasks": ("task", Task, "A map; the key names the task, and `type` is the key if left out."),
    "edges": ("edge", Edge, "A list; `from: all` or `to: all` stands for every ordered pair."),
    "auxiliary_losses": ("auxiliary loss", AuxiliaryLoss, "A list; mtlkit itself ships none."),
    "weighting": ("weighting", None, "How task losses become one update; `type` chooses."),
}
HIDDEN = {"tasks": {"name"}}  # set by the recipe, never written


def recipe_reference() -> str:
    """Return docs/reference/recipe.md."""
    parts = [OPENING, "## Top level\n", table(Recipe)]
    loaded = Plugins.load()
    for section, (kind, base, words) in KINDS.items():
        parts.append(f"## `{section}`\n\n{words}\n")
        if base is not None:
            parts.append(table(base, HIDDEN.get(section, ())))
        common = set(base.model_fields) if base is not None else set()
        for name, offered in loaded.types(kind).items():
            if offered.__module__.startswith(SHIPPED):
                parts += [f"### `type: {name}`\n\n{docstring(offered)}\n", table(offered, common)]
                parts += nested(offered, common)
        if section == "data":
            parts += data_parts()
    parts.append("## `optimizer`\n\nOne for everything that learns; `type` chooses.\n")
    parts += typed(AdamSection, AdamWSection, SGDSection)
    parts += [f"### `optimizer.groups`\n\n{docstring(Group)}\n", table(Group)]
    parts.append("## `schedule`\n\nThe course of the learning rate; left out, it is constant.\n")
    parts += typed(ConstantSection, StepSection, CosineSection, PolySection)
    parts += [f"## `train`\n\n{docstring(Train)}\n", table(Train)]
    parts += [f"### `train.keep_best`\n\n{docstring(KeepBest)}\n", table(KeepBest)]
    return "\n".join(part for part in parts if part)


def nested(model: type[BaseModel], common: Collection[str]) -> Iterator[str]:
    """Yield heading, docstring and table of sections within the keys of a class.

    Args:
        model: a plugin class.
        common: names of fields that are told elsewhere.
    """
    for name, field in model.model_fields.items():
        for part in dict.fromkeys(parts_of(field.annotation)):
            if name in common or part is Augmentation:
                continue
            kind = part.model_fields.get("kind")
            words = "" if kind is None else f", `kind: {kind.default}`"
            derived = " from another label" if "source" in part.model_fields else ""
            yield f"#### `{name}`{words}{derived}\n\n{docstring(part)}\n"
            yield table(part, {"kind"})


def parts_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        further = annotation.__subclasses__()
        if not further:
            yield annotation
        for part in further:  # a base stands for whatever `kind` chooses
            yield from parts_of(part)
    for part in getattr(annotation, "__args__", ()):
        yield from parts_of(part)


def data_parts() -> Iterator[str]:
    """Yield what stands below the data sets, and the loader."""
    for key, model in (("labels_per_image", LabelsPerImage), ("augment", Augmentation)):
        yield f"### `data.{key}`\n\n{docstring(model)}\n"
        yield table(model)
    yield f"## `loader`\n\n{docstring(Loader)}\n"
    yield table(Loader)


def typed(*models: type[BaseModel]) -> Iterator[str]:
    """Yield heading, docstring and table of classes that `type` chooses from."""
    for model in models:
        yield f"### `type: {model.model_fields['type'].default}`\n\n{docstring(model)}\n"
        yield table(model)


def explained(path: Path) -> str:
    """Return what `mtlkit explain` prints of a recipe, without blanks at line ends.

    Args:
        path: of its file.
    """
    stream = io.StringIO()
    recipe = load_recipe(path, lenient=("data",))
    Console(file=stream, width=WIDTH, color_system=None).print(explain(recipe))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def with_explain_block(text: str, path: Path = ROOT / EXPLAINED) -> str:
    """Return a page with the block after `<!-- explain -->` made anew.

    Args:
        text: Markdown.
        path: of the recipe that is explained.
    """
    pattern = re.compile(r"(<!-- explain -->\n```text\n).*?(```)", re.DOTALL)
    return pattern.sub(lambda match: match[1] + explained(path) + match[2], text)


def tutorial(text: str) -> str:
    """Return docs/tutorial.md with what `mtlkit explain` prints of its last recipe.

    Args:
        text: of the page, which shows its files.
    """
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in shown:
            Path(folder, name).write_text(content, encoding="utf-8")
        (recipe,) = Path(folder).glob("*.yaml")
        return with_explain_block(text, recipe)


def main() -> None:
    """Write every file that is made from the code."""
    os.chdir(ROOT)
    REFERENCE.write_text(recipe_reference(), encoding="utf-8")
    WEIGHTING.write_text(weighting_page(), encoding="utf-8")
    for name, text in kind_pages().items():
        REFERENCE.with_name(name).write_text(text, encoding="utf-8")
    README.write_text(with_explain_block(README.read_text(encoding="utf-8")), encoding="utf-8")
    TUTORIAL.write_text(tutorial(TUTORIAL.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
