"""`mtlkit affinity`: try a step on each edge, and say which edges help the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlkit.cli import BlockOption, DeviceOption, OutOption, PluginOption, SetOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def affinity(
    recipe: Annotated[
        str,
        typer.Argument(help="a recipe, or a run folder or checkpoint, which needs no warm-up"),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", help="type of the edges to try where the recipe has none; xtc if not given"
        ),
    ] = None,
    warm_up: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="training steps before the first probe; if not given, an epoch and at least 100 "
            "for a recipe, none for a checkpoint",
        ),
    ] = None,
    probes: Annotated[int, typer.Option(min=2, help="points of the training to probe at")] = 10,
    between: Annotated[int, typer.Option(min=0, help="training steps between probes")] = 5,
    val_batches: Annotated[
        int, typer.Option(min=1, help="validation batches that losses are measured on")
    ] = 4,
    write: Annotated[
        Path | None,
        typer.Option(help="new recipe: the same text, the edges that do not help commented out"),
    ] = None,
    out: OutOption = Path("runs"),
    settings: SetOption = [],
    device: DeviceOption = None,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Try one step on each edge and say what it does to the tasks' validation losses.

    The edges are those of the recipe; where it has none, those of one type between all tasks.
    Numbers and a picture of the graph go to a new folder, OUT/NAME-affinity/TIME.
    """
    from mtlkit.actions import Source

    from ._affinity.subject import Wish
    from ._affinity.visit import visit

    # a step changes losses by less than a thousandth, which half precision cannot show
    source = Source(recipe, ["train.precision=fp32", *settings], device, plugin, no_plugin)
    visit(source, Wish(kind, warm_up, probes, between, val_batches, write), out)
