"""Kept samples: made before a run needs them, and removed when nobody does."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset as TorchDataset

from mtlkit.cache import CachedSplit, Plan, blank_sample, cached, plan_of, samples_folder
from mtlkit.contracts import Dataset
from mtlkit.errors import MissingError, MtlkitError
from mtlkit.recipe import Recipe
from mtlkit.samples import Failed, wanted_of

_NAME = re.compile(r".+-(train|val)-[0-9a-f]{16}")  # as `cache.plan_of` makes them
_BLOCK = 512  # bytes, what st_blocks counts


@dataclass(frozen=True)
class Store:
    """One data set's split whose samples are kept on disk.

    Args:
        title: of the data set and the split.
        split: reads and keeps.
        plan: where they are kept.
    """

    title: str
    split: CachedSplit
    plan: Plan


@dataclass(frozen=True)
class Filled:
    """What became of a sample.

    Args:
        store: its number.
        index: of the sample in the split.
        is_new: it was made, and not kept before.
        bad: why it cannot be read; None: it is kept.
    """

    store: int
    index: int
    is_new: bool
    bad: str | None = None


class Filling(TorchDataset[Filled | Failed]):
    """Makes and keeps what is not kept yet, sample by sample.

    Args:
        stores: to fill.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        self.ends = list(itertools.accumulate(len(store.split) for store in stores))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, number: int) -> Filled | Failed:
        """Return what became of a sample; what is wrong with more than it ends everything.

        Args:
            number: of the sample, over all stores.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        store = bisect.bisect_right(self.ends, number)
        split = self.stores[store].split
        index = number - self.ends[store] + len(split)
        try:
            if split.is_kept(index):
                return Filled(store, index, is_new=False)
            try:
                sample = split.split[index]
            except MissingError as error:
                return Filled(store, index, is_new=False, bad=str(error))
            split.keep(index, sample)
        except MtlkitError as error:  # a full disk; a worker's traceback would wrap its text
            return Failed(type(error), str(error))
        return Filled(store, index, is_new=True)


def stores_of(recipe: Recipe) -> tuple[list[Store], list[str]]:
    """Return what a run keeps on disk, and a sentence for each data set that it does not keep.

    Args:
        recipe: the run.

    Raises:
        MissingError: files are not there.
    """
    stores, reasons, faults = [], dict[str, None](), list[str]()
    for dataset, split in itertools.product(recipe.sets, ("train", "val")):
        wants = frozenset(wanted_of(recipe, dataset).values())
        try:
            count = len(dataset.build_split(split, wants))  # type: ignore[arg-type]
            plan = plan_of(dataset, split, wants, recipe.loader.cache, count)
            if plan.where != "disk":
                reasons[_why_not(recipe, dataset, plan, wants)] = None
                continue
            kept = cached(dataset, split, wants, recipe.loader.cache)
        except MissingError as error:
            faults.append(str(error))
            continue
        assert isinstance(kept, CachedSplit)  # as the plan says
        stores.append(Store(f"{dataset.title} {split}", kept, plan))
    if faults:
        raise MissingError("\n".join(dict.fromkeys(faults)))
    return stores, list(reasons)


def _why_not(recipe: Recipe, dataset: Dataset, plan: Plan, wants: frozenset[str]) -> str:
    cache = recipe.loader.cache
    set_disk = "To keep them on disk, set loader.cache to disk"
    if plan.where == "ram":
        told = "loader.cache is ram" if cache == "ram" else "the data set advises ram"
        return f"{dataset.title}: samples are kept in memory, run by run ({told}). {set_disk}"
    if blank_sample(dataset, wants) is None:
        return f"{dataset.title}: has samples without a fixed shape, which cannot be kept"
    if cache == "none":
        return f"{dataset.title}: samples are not kept (loader.cache is none). {set_disk}"
    if dataset.cache_advice == "none":
        return f"{dataset.title}: the data set advises against keeping samples. {set_disk}"
    return (
        f"{dataset.title}: samples would fill more than half of what is free in "
        f"{samples_folder()}. Set MTLKIT_CACHE to a folder on a larger disk, or loader.cache to "
        "disk to keep them there all the same"
    )


def kept_files() -> list[Path]:
    """Return every file of kept samples, sorted."""
    folder = samples_folder()
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _NAME.fullmatch(path.name) and path.is_file())


def kept_files_of(recipe: Recipe) -> list[Path]:
    """Return the files in which a run keeps samples on disk, those that exist.

    Args:
        recipe: the run; its `loader.cache` has no say.

    Raises:
        MissingError: files of a data set are not there, and with them the name of what is kept.
    """
    paths = []
    for dataset, split in itertools.product(recipe.sets, ("train", "val")):
        plan = plan_of(dataset, split, frozenset(wanted_of(recipe, dataset).values()), "disk", 0)
        if plan.where == "disk" and plan.path.is_file():
            paths.append(plan.path)
    return list(dict.fromkeys(paths))


def remove(paths: Iterable[Path]) -> int:
    """Remove files, and return how many bytes of disk that freed.

    Args:
        paths: of kept samples.

    Raises:
        MissingError: one cannot be removed.
    """
    freed = 0
    for path in paths:
        try:
            size = bytes_on_disk(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise MissingError(
                f"{path}: cannot be removed ({error.strerror}). Mend the rights of its folder"
            ) from None
        freed += size
    return freed


def bytes_on_disk(path: Path) -> int:
    """Return what a file takes of the disk, 0 if there is none; kept samples may have holes.

    Args:
        path: of the file.
    """
    if not path.exists():
        return 0
    state = path.stat()
    blocks: int | None = getattr(state, "st_blocks", None)  # Windows has none
    return state.st_size if blocks is None else blocks * _BLOCK
