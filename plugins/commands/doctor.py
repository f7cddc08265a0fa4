"""`mtlkit doctor`: take a few steps of a recipe, and say in words what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from mtlkit.cli import BlockOption, DeviceOption, PluginOption, RecipeArgument, SetOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def doctor(
    recipe: RecipeArgument,
    steps: Annotated[int, typer.Option(min=1, help="training steps to take")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    settings: SetOption = [],
    device: DeviceOption = None,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Take a few training steps and say in words what is wrong with a recipe.

    Nothing is written. The exit code is 0 whatever is found, and that of `mtlkit run` where the
    recipe cannot run at all.
    """
    from mtlkit.actions import Source

    from ._doctor.visit import visit

    # nothing is kept on disk, unless it is asked for
    source = Source(recipe, ["loader.cache=none", *settings], device, plugin, no_plugin)
    visit(source.load(), steps, as_json)
