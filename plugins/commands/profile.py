"""`mtlkit profile`: where the time of a training step goes, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlkit.cli import (
    BlockOption,
    DeviceOption,
    OutOption,
    PluginOption,
    RecipeArgument,
    SetOption,
)

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def profile(
    recipe: RecipeArgument,
    steps: Annotated[int, typer.Option(min=1, help="training steps to look at")] = 10,
    warmup: Annotated[int, typer.Option(min=1, help="training steps before them")] = 5,
    out: OutOption = Path("runs"),
    settings: SetOption = [],
    device: DeviceOption = None,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Take a few training steps and say in words where their time goes.

    The timeline goes to a new folder, OUT/NAME-profile/TIME, as trace.json, which ui.perfetto.dev
    opens. The model trains uncompiled, for only so its parts can be told apart.
    """
    from mtlkit.actions import Source

    from ._profile.visit import Wish, visit

    source = Source(recipe, [*settings, "train.compile=false"], device, plugin, no_plugin)
    visit(source.load(), Wish(steps, warmup), out)
