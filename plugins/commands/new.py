"""`mtlkit new`: write a plugin that works, with a recipe that trains and a test that passes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def new(
    kind: Annotated[
        str,
        typer.Argument(help="task, edge, weighting, dataset, architecture or encoder"),
    ],
    name: Annotated[
        str, typer.Argument(help="its type name and that of its files, such as my_task")
    ],
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path(),
) -> None:
    """Write a plugin that works, a recipe that trains with it, and its tests.

    What to change is marked EDIT. Nothing is overwritten.
    """
    from ._new.writer import Draft

    draft = Draft.of(kind, name, out)
    draft.write()
    print(f"wrote the {kind} {name}:")
    for path in draft.texts:
        print(f"  {path}")
    recipe, test = (shlex.quote(str(out / f"{name}{end}")) for end in (".yaml", "_test.py"))
    print("train it for an epoch, and test what it promises:")
    print(f"  mtlkit run {recipe} --set train.epochs=1")
    print(f"  python -m pytest {test}")
