"""Scenes rendered to files: what is checked before, and the processes that write them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets._scenes.writing import Job


class Scenes(StrEnum):
    """Kinds of scenes."""

    streets = "streets"
    rooms = "rooms"


class Layout(StrEnum):
    """Folder layouts."""

    cityscapes = "cityscapes"
    nyuv2_npy = "nyuv2_npy"


_LAYOUTS = {Scenes.streets: Layout.cityscapes, Scenes.rooms: Layout.nyuv2_npy}
MOST_SCENES, _MOST_PIXELS = 1_000_000, 8192  # as in the data sets' fields


def check_layout(scenes: Scenes, layout: Layout | None) -> None:
    """Check that scenes can be written in a layout.

    Args:
        scenes: their kind.
        layout: of folders; None: the usual one.

    Raises:
        UsageError: they cannot.
    """
    from mtlkit.errors import UsageError

    if layout not in (None, _LAYOUTS[scenes]):
        raise UsageError(
            f"--layout: {scenes} cannot be written as {layout}. "
            f"Use --layout {_LAYOUTS[scenes]}, or leave it out."
        )


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width.

    Args:
        text: such as 128x256.

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


def check_out(scenes: Scenes, out: Path, jobs: list[Job], overwrite: bool) -> None:
    """Check that what will be in the folder is this render alone.

    Args:
        scenes: their kind.
        out: the folder.
        jobs: what will be written.
        overwrite: whether files may be replaced.

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


def write_all(jobs: list[Job], workers: int | None) -> None:
    """Render with a progress bar on stderr.

    Args:
        jobs: what to write.
        workers: processes; None: one a core.
    """
    import os

    from ._progress import tracked

    count = min(workers or os.cpu_count() or 1, len(jobs))
    for _ in tracked(_written(jobs, count), "rendering", len(jobs)):
        pass


def _written(jobs: list[Job], workers: int) -> Iterator[None]:
    """Yield once for each scene when it is written, in this process or in others."""
    if workers == 1:
        for job in jobs:
            job.write()
            yield
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from mtlkit.signals import ignore_interrupts, signals_wait

    # Spawned, not forked: the progress bar's thread must not be copied half-way.
    with ProcessPoolExecutor(workers, get_context("spawn"), ignore_interrupts) as pool:
        try:
            with signals_wait():  # the first job starts the processes
                futures = [pool.submit(job.write) for job in jobs]
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:  # an interrupt too: the scenes that wait are not rendered
            pool.shutdown(wait=False, cancel_futures=True)
            raise
