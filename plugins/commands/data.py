"""`mtlkit data`: look at the data of a recipe, keep it decoded, or render scenes to files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtlkit.cli import BlockOption, PluginOption, RecipeArgument, SetOption

from ._render import MOST_SCENES, Layout, Scenes

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    help="Look at the data of a recipe, keep it decoded, or render scenes with exact labels.",
)

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="processes; one per core if not given")
]


class Splits(StrEnum):
    """What to look at."""

    train = "train"
    val = "val"
    both = "both"


@app.command()
def check(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option(help="contact sheet, a PNG; <recipe name>-data.png if not given")
    ] = None,
    split: Annotated[Splits, typer.Option(help="what to look at")] = Splits.both,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="look at labels too that no task reads")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="most samples of a split; all if not given")
    ] = None,
    workers: WorkersOption = None,
    settings: SetOption = [],
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Read every sample: what labels hold, what is broken, a picture."""
    from mtlkit.actions import Source

    from ._check import Wish, check_data

    splits = ("train", "val") if split is Splits.both else (split.value,)
    wish = Wish(splits, all_labels, limit, workers)
    check_data(Source(recipe, settings, None, plugin, no_plugin).load(), wish, out)


@app.command()
def prepare(
    recipe: RecipeArgument,
    workers: WorkersOption = None,
    settings: SetOption = [],
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Keep all samples decoded on disk, where a run finds them."""
    from mtlkit.actions import Source

    from ._keep import prepare_data

    prepare_data(Source(recipe, settings, None, plugin, no_plugin).load(), workers)


@app.command()
def clear(
    recipe: Annotated[
        str | None, typer.Argument(help="whose kept samples to delete; all if not given")
    ] = None,
    settings: SetOption = [],
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Delete kept samples; the next run makes them anew."""
    from mtlkit.actions import Source

    from ._keep import clear_data

    given = None
    if recipe is not None:
        given = Source(recipe, settings, None, plugin, no_plugin).load()
    clear_data(given)


@app.command()
def render(
    scenes: Annotated[Scenes, typer.Argument(help="what to render")],
    out: Annotated[Path, typer.Option(help="folder to write to, new or empty")],
    layout: Annotated[
        Layout | None, typer.Option(help="folder layout; streets: cityscapes, rooms: nyuv2_npy")
    ] = None,
    train: Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="scenes to train on")] = 400,
    val: Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="scenes to validate on")] = 100,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in pixels")] = "128x256",
    seed: Annotated[int, typer.Option(min=0, help="which scenes")] = 0,
    workers: WorkersOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="write into a folder that holds files")
    ] = False,
) -> None:
    """Write the scenes of a data set of this name, size and seed.

    Reading them with `cityscapes` gives what `streets` gives, but for disparity in 16 bits.
    """
    from ..datasets._scenes.writing import all_jobs
    from ._render import check_layout, check_out, parse_size, write_all

    check_layout(scenes, layout)
    counts = {"train": train, "val": val}
    jobs = all_jobs(scenes.value, counts, seed, parse_size(size), out)
    check_out(scenes, out, jobs, overwrite)
    write_all(jobs, workers)
    typer.echo(out)
