"""The run folder: it explains itself, and no other run's folder is ever written to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from mtlkit.document import parse_document
from mtlkit.errors import CheckpointError, MissingError, RecipeError, UsageError
from mtlkit.files import beside
from mtlkit.recipe import Recipe

MAY_DIFFER = ("name", "train.epochs", "train.device", "loader.workers", "loader.cache")
"""What a resumed run may change; anything else makes it another recipe."""
NO_NAME = "none"
"""What torchrun calls a run that it was given no name for."""


def prepared(folder: Path | None, out: Path, recipe: Recipe, device: str, threads: int) -> Path:
    """Return the folder of a run, with its recipe; a new one is made and described.

    Args:
        folder: of a resumed run; None: a new one.
        out: where runs live.
        recipe: the run.
        device: where it computes and how precisely.
        threads: CPU threads.

    Raises:
        MissingError: it cannot be made.
    """
    if folder is None:
        folder = named_folder(out, recipe.name)
        if folder is None or (folder / "last.pt").is_file():  # another run's of this job
            folder = new_folder(out, recipe.name)
        else:
            with _told(folder):
                folder.mkdir(parents=True, exist_ok=True)
        describe(folder, recipe, device, threads)
    write_recipe(folder, recipe)  # a resumed run may have more epochs
    return folder


def named_folder(out: Path, name: str) -> Path | None:
    """Return the folder of a run that torchrun names, so that its restarts find it; else None.

    Args:
        out: where runs live.
        name: the recipe's.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID", NO_NAME)
    return None if run == NO_NAME else out / name / run


def begun_folder(out: Path, name: str) -> Path | None:
    """Return the folder of a run that torchrun names and that has begun before; else None.

    Args:
        out: where runs live.
        name: the recipe's.

    Raises:
        UsageError: torchrun restarts a run that it was given no name for.
    """
    folder = named_folder(out, name)
    if folder is None and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        raise UsageError(
            "torchrun restarts a run without a name, so its folder cannot be found. Give torchrun "
            "--standalone, or --rdzv-backend c10d and --rdzv-id; or give mtlkit --resume"
        )
    return folder if folder is not None and (folder / "last.pt").is_file() else None


def new_folder(out: Path, name: str) -> Path:
    """Make and return a new folder out/name/time.

    Args:
        out: where runs live.
        name: the recipe's.

    Raises:
        MissingError: it cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = out / name / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            with _told(folder):
                folder.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            if not folder.is_dir():
                raise MissingError(f"{out}: is no folder. Choose another with --out") from None
            continue
        return folder
    raise MissingError(f"{out / name}: a thousand runs began in one second. Wait a second")


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell why a folder cannot be made, unless something is there already."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise MissingError(
            f"{folder}: cannot be made ({error.strerror}). Choose another place with --out"
        ) from None


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe as YAML that runs again beside copies of its plugin files.

    Args:
        recipe: with every default and override filled in.
    """
    stream = io.StringIO()
    YAML().dump(resolved(recipe), stream)
    return stream.getvalue()


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain data, plugin files by name only.

    Args:
        recipe: any.
    """
    data = recipe.model_dump(mode="json", by_alias=True)
    return {**data, "plugins": [file.name for file in recipe.loaded.files]}


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write recipe.yaml, as a whole or not at all.

    Args:
        folder: of the run.
        recipe: the run.
    """
    with beside(folder / "recipe.yaml", "the recipe") as part:
        part.write_text(recipe_text(recipe), encoding="utf-8")


def describe(folder: Path, recipe: Recipe, device: str, threads: int) -> None:
    """Write copies of plugin files and environment.json.

    Args:
        folder: of the run.
        recipe: the run.
        device: where it computes and how precisely.
        threads: CPU threads.
    """
    for file in recipe.loaded.files:
        if file.parent != folder.resolve():
            shutil.copy(file, folder / file.name)
    packages = ("mtlkit", "torch", "torchvision", "numpy", "torchmetrics")
    environment = {
        "command": shlex.join(sys.argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": device,
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in packages},
    }
    text = json.dumps(environment, indent=2) + "\n"
    (folder / "environment.json").write_text(text, encoding="utf-8")


def refuse_another_recipe(recipe: Recipe, saved: str, folder: Path) -> None:
    """Compare a recipe with that of a checkpoint.

    Args:
        recipe: what is to go on.
        saved: the checkpoint's recipe, as YAML.
        folder: for messages.

    Raises:
        UsageError: something differs that may not.
        CheckpointError: the saved recipe is damaged.
    """
    try:
        before = _flat(_with_defaults(parse_document(saved, folder / "last.pt").data, recipe), "")
    except RecipeError as error:
        raise CheckpointError(f"{error}. The recipe in it is damaged: start a new run") from None
    now = _flat(parse_document(recipe_text(recipe), folder / "recipe.yaml").data, "")
    differing = sorted(
        key
        for key in before.keys() | now.keys()
        if before.get(key) != now.get(key)
        and key not in MAY_DIFFER
        and not key.startswith("plugins")  # trackers may differ; other types are named elsewhere
    )
    if differing:
        shown = "; ".join(
            f"{k}: {_shown(before, k)} there, {_shown(now, k)} here" for k in differing[:5]
        )
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise UsageError(
            f"--resume {folder}: that run had another recipe ({shown}{more}). Resume it with "
            f"{folder / 'recipe.yaml'}, or start a new run"
        )


def _with_defaults(saved: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return a saved recipe as today's classes read it, so that keys added since have a value."""
    try:
        return type(recipe).model_validate(saved).model_dump(mode="json", by_alias=True)
    except ValidationError:  # it used a type or key that is not there any more: the texts tell
        return saved


def _shown(flat: dict[str, Any], key: str) -> str:
    return str(flat[key])[:60] if key in flat else "nothing"


def _flat(value: Any, prefix: str) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        pairs = value.items()
    elif isinstance(value, list) and value:
        pairs = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in pairs:
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
