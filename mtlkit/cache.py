"""Decoded samples that are kept: where, under which name, and made anew where they are damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors

from mtlkit.contracts import Dataset
from mtlkit.errors import PluginError
from mtlkit.memory import DiskMemory, Memory, RamMemory, pack, record_size, unpack

_NO_PART = {"augment", "name", "ratio", "labels", "rename", "labels_per_image"}
"""Settings of data sets that do not decide what a decoded sample holds."""


def samples_folder() -> Path:
    """Return where files of kept samples live."""
    return cache_folder() / "samples"


def cache_folder() -> Path:
    """Return where caches live: $MTLKIT_CACHE, or mtlkit in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("MTLKIT_CACHE") or Path(base) / "mtlkit")


class CachedSplit(TorchDataset[dict[str, Tensor]]):
    """A split whose samples are decoded once.

    Args:
        split: decodes; the only source of what is not kept.
        fields: blank sample tensors by name, which give kind, dtype and shape.
        memory: keeps records of `record_size(fields)` bytes.
        title: of the data set, for messages.
    """

    def __init__(
        self,
        split: TorchDataset[dict[str, Tensor]],
        fields: Mapping[str, Tensor],
        memory: Memory,
        title: str = "the data set",
    ) -> None:
        self.split, self.fields, self.memory, self.title = split, dict(fields), memory, title

    def __len__(self) -> int:
        return len(self.split)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sample, kept or made anew.

        Args:
            index: its number in the split.
        """
        kept = unpack(self.memory.read(index), self.fields)
        if kept is not None:
            return kept
        sample = self.split[index]
        self.keep(index, sample)
        return sample

    def keep(self, index: int, sample: Mapping[str, Tensor]) -> None:
        """Keep a sample.

        Args:
            index: its number in the split.
            sample: as the split decodes it.

        Raises:
            PluginError: it has not the form that the data set declares.
            CacheError: there is no room.
        """
        record = pack(sample, self.fields)
        if record is None:
            raise wrong_form(self.title, index, sample, self.fields)
        self.memory.write(index, record)

    def is_kept(self, index: int) -> bool:
        """Return whether a sample need not be made anew.

        Args:
            index: its number in the split.
        """
        return unpack(self.memory.read(index), self.fields) is not None


def wrong_form(
    title: str, index: int, sample: Mapping[str, Tensor], fields: Mapping[str, Tensor]
) -> PluginError:
    """Return the error for a sample that is not what its data set declares.

    Args:
        title: of the data set.
        index: number of the sample in the split.
        sample: tensors by name.
        fields: blank tensors by name.
    """
    return PluginError(
        f"{title}: sample {index} has {_forms(sample)}, and the data set says {_forms(fields)}. "
        "Mend `offers` or `image_dtype`"
    )


def _forms(sample: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {form(value)}" for name, value in sample.items())


def form(value: Tensor) -> str:
    """Return shape and type of a tensor in words.

    Args:
        value: any.
    """
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Plan:
    """Where the samples of a split are kept.

    Args:
        where: none, ram or disk.
        path: of the file on disk.
        fields: blank tensors of one sample, by name.
        count: samples of the split.
    """

    where: Literal["none", "ram", "disk"]
    path: Path
    fields: Mapping[str, Tensor]
    count: int

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return self.count * record_size(self.fields)


def cached(
    dataset: Dataset, split: str, wants: frozenset[str], cache: str
) -> TorchDataset[dict[str, Tensor]]:
    """Return a split of the data set, its samples kept as the recipe asks.

    Args:
        dataset: one of the recipe's.
        split: "train" or "val".
        wants: its own names of labels and extras.
        cache: auto, none, ram or disk.
    """
    source = dataset.build_split(split, wants)
    if not hasattr(source, "__len__"):
        raise PluginError(
            f"{dataset.title}: build_split({split!r}, …) returned {type(source).__name__}, which "
            "has no length. Return samples with __len__ and __getitem__"
        )
    plan = plan_of(dataset, split, wants, cache, len(source))
    if plan.where == "none":
        return source
    size = record_size(plan.fields)
    memory = RamMemory(plan.count, size) if plan.where == "ram" else DiskMemory(plan.path, size)
    return CachedSplit(source, plan.fields, memory, dataset.title)


def plan_of(dataset: Dataset, split: str, wants: frozenset[str], cache: str, count: int) -> Plan:
    """Return where samples are kept; auto is what the data set advises, if half the disk is enough.

    Args:
        dataset: one of the recipe's.
        split: "train" or "val".
        wants: its own names of labels and extras.
        cache: auto, none, ram or disk.
        count: samples of the split.
    """
    where: Any = dataset.cache_advice if cache == "auto" else cache
    fields = blank_sample(dataset, wants)
    if where == "none" or fields is None:
        return Plan("none", Path(), {}, count)
    if where == "ram":
        return Plan("ram", Path(), fields, count)
    name = f"{dataset.type_name()}-{split}-{_key(dataset, split, wants)}"
    plan = Plan("disk", samples_folder() / name, fields, count)
    is_new = cache == "auto" and not plan.path.exists()
    if is_new and plan.size > _free_bytes(plan.path.parent) / 2:
        return Plan("none", Path(), {}, count)
    return plan


def _free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder that may not be there yet."""
    there = next((part for part in (folder, *folder.parents) if part.is_dir()), Path("/"))
    return shutil.disk_usage(there).free


def blank_sample(dataset: Dataset, wants: frozenset[str]) -> dict[str, Tensor] | None:
    """Return blank tensors of one sample; None where something wanted has no fixed shape.

    Args:
        dataset: gives the size and what it offers.
        wants: its own names of labels and extras.
    """
    blanks = blanks_of(dataset, wants)
    fixed = {name: blank for name, blank in blanks.items() if blank is not None}
    return fixed if len(fixed) == len(blanks) else None


def blanks_of(dataset: Dataset, wants: frozenset[str]) -> dict[str, Tensor | None]:
    """Return a blank tensor of the image and of everything wanted; None: of no fixed shape.

    Args:
        dataset: gives the size and what it offers.
        wants: its own names of labels and extras.
    """
    pixels = torch.zeros(3, *dataset.size, dtype=dataset.image_dtype)
    others = {name: dataset.offers[name].blank(dataset.size) for name in sorted(wants)}
    return {"image": tv_tensors.Image(pixels), **others}


def _key(dataset: Dataset, split: str, wants: frozenset[str]) -> str:
    """Return a hash of everything that decides what a sample holds before augmentation."""
    from mtlkit import __version__

    settings = dataset.model_dump(mode="json", exclude=_NO_PART)
    made_by = [__version__, dataset.fingerprint(split, wants)]
    text = json.dumps([made_by, settings, split, sorted(wants)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
