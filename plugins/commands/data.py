"""`mtlkit data`: write the rendered scenes to disk, in the layouts of real data sets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..datasets._scenes.writing import Job

app = typer.Typer(
    rich_markup_mode=None,
    help="Render scenes with exact labels into the folders of real data sets.",
)


class Scenes(StrEnum):
    """Kinds of scenes."""

    streets = "streets"
    rooms = "rooms"


class Layout(StrEnum):
    """Folder layouts."""

    cityscapes = "cityscapes"
    nyuv2_npy = "nyuv2_npy"


_LAYOUTS = {Scenes.streets: Layout.cityscapes, Scenes.rooms: Layout.nyuv2_npy}
_MOST_SCENES, _MOST_PIXELS = 1_000_000, 8192  # as in the data sets' fields


@app.callback()
def _data() -> None:
    """Keep `render` a subcommand while it is the only one."""


@app.command()
def render(
    scenes: Annotated[Scenes, typer.Argument(help="what to render")],
    out: Annotated[Path, typer.Option(help="folder to write to, new or empty")],
    layout: Annotated[
        Layout | None, typer.Option(help="folder layout; streets: cityscapes, rooms: nyuv2_npy")
    ] = None,
    train: Annotated[int, typer.Option(min=1, max=_MOST_SCENES, help="scenes to train on")] = 400,
    val: Annotated[int, typer.Option(min=1, max=_MOST_SCENES, help="scenes to validate on")] = 100,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in pixels")] = "128x256",
    seed: Annotated[int, typer.Option(min=0, help="which scenes")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes; one per core if not given")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="write into a folder that holds files")
    ] = False,
) -> None:
    """Write the scenes that the data set of this name, size and seed renders.

    Reading them with `cityscapes` gives what `streets` gives, but for disparity in 16 bits.
    """
    from ..datasets._scenes.writing import all_jobs

    _check_layout(scenes, layout)
    counts = {"train": train, "val": val}
    jobs = all_jobs(scenes.value, counts, seed, _parse_size(size), out)
    _check_out(scenes, out, jobs, overwrite)
    _write_all(jobs, workers)
    typer.echo(out)


def _check_layout(scenes: Scenes, layout: Layout | None) -> None:
    from mtlkit.errors import UsageError

    if layout not in (None, _LAYOUTS[scenes]):
        raise UsageError(
            f"--layout: {scenes} cannot be written as {layout}. "
            f"Use --layout {_LAYOUTS[scenes]}, or leave it out."
        )


def _parse_size(text: str) -> tuple[int, int]:
    """Return height and width.

    Raises:
        UsageError: it is no size.
    """
    from mtlkit.errors import UsageError

    height, _, width = text.partition("x")
    if height.isdecimal() and width.isdecimal():
        size = (int(height), int(width))
        if min(size) >= 1 and max(size) <= _MOST_PIXELS:
            return size
    raise UsageError(
        f"--size: {text!r} is no size. Give HEIGHTxWIDTH in pixels, each from 1 to {_MOST_PIXELS}, "
        "such as 128x256."
    )


def _check_out(scenes: Scenes, out: Path, jobs: list[Job], overwrite: bool) -> None:
    """Check that what will be in the folder is this render alone.

    Raises:
        UsageError: it would not be, or the folder is a file.
    """
    from mtlkit.errors import UsageError

    from ..datasets._scenes.writing import written_files

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {str(out)!r} is a file. Give a folder.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(
            f"--out: {str(out)!r} is not empty. Give a new folder, or --overwrite to replace "
            "a former render."
        )
    planned = {path for job in jobs for path in job.paths.values()}
    strangers = sorted(set(written_files(scenes.value, out)) - planned)
    if strangers:
        raise UsageError(
            f"--out: {str(out)!r} holds {len(strangers)} files that this render would not "
            f"replace, such as {strangers[0].relative_to(out)}. Delete the folder or give another."
        )


def _write_all(jobs: list[Job], workers: int | None) -> None:
    """Render with a progress bar on stderr."""
    import os

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    count = min(workers or os.cpu_count() or 1, len(jobs))
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("rendering", total=len(jobs))
        for _ in _written(jobs, count):
            progress.advance(bar)


def _written(jobs: list[Job], workers: int) -> Iterator[None]:
    """Yield once for each scene when it is written, in this process or in others."""
    if workers == 1:
        for job in jobs:
            job.write()
            yield
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    # Spawned, not forked: the progress bar's thread must not be copied half-way.
    with ProcessPoolExecutor(workers, get_context("spawn"), _ignore_interrupts) as pool:
        futures = [pool.submit(job.write) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:  # an interrupt too: the scenes that wait are not rendered
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
