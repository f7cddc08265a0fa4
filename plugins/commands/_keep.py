"""`mtlkit data prepare` and `mtlkit data clear`: results on stdout, progress on stderr."""

from __future__ import annotations

from collections.abc import Sequence

from mtlkit.actions import talk
from mtlkit.cache import samples_folder
from mtlkit.errors import MissingError, UsageError
from mtlkit.keeping import (
    Filled,
    Filling,
    Store,
    bytes_on_disk,
    kept_files,
    kept_files_of,
    remove,
    stores_of,
)
from mtlkit.recipe import Recipe
from mtlkit.report.survey import bad_lines
from mtlkit.walk import walked

from ._check import show
from ._progress import stoppable, tracked

MIB = 2**20


def prepare_data(recipe: Recipe, workers: int | None) -> None:
    """Keep every sample of a recipe on disk, and print where.

    Args:
        recipe: the run.
        workers: processes; None: one a core.

    Raises:
        UsageError: the recipe keeps nothing on disk.
        MissingError: files are not there, the disk is full, or samples cannot be read, all of
            which are printed.
    """
    stores, reasons = stores_of(recipe)
    if not stores:
        raise UsageError("\n".join(reasons))
    for reason in reasons:
        talk.print(reason, soft_wrap=True, markup=False, highlight=False)
    filling = Filling(stores)
    with stoppable("stopped; what is kept stays, and the same command goes on"):
        found = list(tracked(walked(filling, workers), "keeping", len(filling)))
    for number, store in enumerate(stores):
        show(_line(store, [one for one in found if one.store == number]))
    bad = [f"{stores[one.store].title}, sample {one.index}: {one.bad}" for one in found if one.bad]
    for line in bad_lines(bad):
        show(line)
    if bad:
        raise MissingError(
            f"{len(bad)} of {len(found)} samples cannot be read; they are named above, and the "
            "others are kept. Mend or remove their files, or set loader.on_bad_sample to skip"
        )


def _line(store: Store, found: Sequence[Filled]) -> str:
    kept, new = sum(one.bad is None for one in found), sum(one.is_new for one in found)
    size = bytes_on_disk(store.plan.path) / MIB
    return f"{store.title}: {kept} samples, {new} of them new; {size:.1f} MiB in {store.plan.path}"


def clear_data(recipe: Recipe | None) -> None:
    """Delete kept samples, and print how many files and how much they were.

    Args:
        recipe: whose; None: all.

    Raises:
        MissingError: files of the recipe's data are not there, or cannot be deleted.
    """
    paths = kept_files() if recipe is None else kept_files_of(recipe)
    if not paths:
        of = "" if recipe is None else f" of {recipe.name}"
        show(f"nothing{of} is kept in {samples_folder()}")
        return
    freed = remove(paths) / MIB
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    show(f"deleted {files}, {freed:.1f} MiB, in {samples_folder()}")
