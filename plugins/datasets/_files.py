"""Files as samples: what readers of real data sets share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mtlkit.augmentation import Augmentation
from mtlkit.contracts import Dataset
from mtlkit.errors import MissingError, UsageError, suggest
from mtlkit.fingerprint import of_files

from ._listing import contents, some
from ._maps import Files, Maps

SPLITS = ("train", "val")


class FileDataset(Dataset):
    """What readers of files share."""

    root: str = Field(description="folder of the data set")
    missing_labels: Literal["fail", "allow"] = Field(
        "fail", description="allow: an image may lack the file of any label"
    )
    image_resize: Literal["nearest", "antialias"] = Field(
        "nearest", description="how the image is resized; labels are always resized to the nearest"
    )
    augment: Augmentation = Field(
        default_factory=Augmentation, description="what varies a training sample"
    )
    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "disk"

    @abstractmethod
    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files of every sample of a split, in a fixed order, after a check of all.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            MissingError: a folder or files are not there; the message says which.
        """

    @abstractmethod
    def read(self, maps: Maps, wants: frozenset[str]) -> dict[str, Tensor]:
        """Return the labels and extras of one sample.

        Args:
            maps: reads the files of the sample.
            wants: names of `offers`; leave out what the sample has no file for.

        Raises:
            MissingError: a file cannot be read, or is not what it should be.
        """

    @property
    def folder(self) -> Path:
        """The root, with ~ expanded."""
        return Path(self.root).expanduser()

    def build_split(self, split: str, wants: frozenset[str]) -> FileSplit:
        """Return samples that are read when asked for; only wanted files must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            MissingError: a folder or files are not there; the message says which.
        """
        return FileSplit(self, self.find(split, wants), wants)

    def fingerprint(self, split: str, wants: frozenset[str]) -> str:
        """Return the reader's source, and place, size and time of every file.

        Args:
            split: "train" or "val".
            wants: names of `offers`.
        """
        files = [file for sample in self.find(split, wants) for file in sample.values()]
        return f"{super().fingerprint(split, wants)} {of_files(self.folder, files)}"

    def complete(self, samples: Sequence[Files], cure: str) -> list[Files]:
        """Return samples of which all files are there; label files only as `missing_labels` says.

        Args:
            samples: files of each.
            cure: what to do about missing files, without the full stop.

        Raises:
            MissingError: an image is missing, a label that may not be, or one in every sample.
        """
        if self.missing_labels == "fail":
            check_files(self.folder, samples, f"{cure}, or write missing_labels: allow")
            return list(samples)
        check_files(self.folder, [{"image": sample["image"]} for sample in samples], cure)
        return without_missing(self.folder, samples, cure)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the augmentation."""
        return self.augment


class FileSplit(TorchDataset[dict[str, Tensor]]):
    """Samples of files.

    Args:
        dataset: reads them.
        samples: the files of each.
        wants: names of labels and extras.
    """

    def __init__(
        self, dataset: FileDataset, samples: Sequence[Files], wants: frozenset[str]
    ) -> None:
        self._dataset, self._samples, self._wants = dataset, list(samples), wants

    def __len__(self) -> int:
        return len(self._samples)

    def files(self, index: int) -> Files:
        """Return the files of a sample.

        Args:
            index: its number in the split.
        """
        return self._samples[index]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        maps = Maps(self._samples[index], self._dataset.size)
        image = maps.image(self._dataset.image_resize)
        return {"image": image} | self._dataset.read(maps, self._wants)


def check_split(split: str) -> None:
    """Refuse a split that there is not.

    Args:
        split: its name.

    Raises:
        UsageError: it is neither train nor val.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: no such split, {suggest(split, SPLITS)}")


def check_root(root: Path, what: str) -> None:
    """Refuse a root that is no folder.

    Args:
        root: the folder.
        what: it should hold, in words.

    Raises:
        MissingError: it is no folder.
    """
    if not root.is_dir():
        raise MissingError(
            f"data.root: {str(root)!r} is not a folder. Give the folder that holds {what}, or try "
            "`streets` or `rooms`, which need no files"
        )


def check_folders(root: Path, folders: Collection[str], what: str, cure: str) -> None:
    """Refuse a root that lacks folders; the message says what it holds instead.

    Args:
        root: the folder.
        folders: below it.
        what: it should hold, in words.
        cure: what to do.

    Raises:
        MissingError: root, or a folder, is none.
    """
    check_root(root, what)
    absent = [folder for folder in folders if not (root / folder).is_dir()]
    if absent:
        raise MissingError(f"{root}: lacks {', '.join(absent)}; it {contents(root)}. {cure}")


def needed(wants: frozenset[str], made_of: Mapping[str, Collection[str]]) -> list[str]:
    """Return which files wanted labels are read or derived from, sorted.

    Args:
        wants: names of labels and extras.
        made_of: by what a file holds, the labels that are made of it.
    """
    return sorted(file for file, labels in made_of.items() if not wants.isdisjoint(labels))


def check_files(root: Path, samples: Sequence[Files], cure: str) -> None:
    """Refuse samples whose files are not all there.

    Args:
        root: their folder.
        samples: files of each.
        cure: what to do.

    Raises:
        MissingError: a file is not there, is a folder, or a link to nothing.
    """
    files = [path for sample in samples for path in sample.values()]
    absent = [path for path in files if not path.is_file()]
    if absent:
        shown = some([str(path.relative_to(root)) for path in absent])
        raise MissingError(
            f"{root}: {len(absent)} of {len(files)} files are missing: {shown}. {cure}"
        )


def without_missing(root: Path, samples: Sequence[Files], cure: str) -> list[Files]:
    """Return the samples without the label files that do not exist; images are kept.

    Args:
        root: their folder.
        samples: files of each.
        cure: what to do where no sample has a label, without the full stop.

    Raises:
        MissingError: no sample has a file of some label, which then cannot be learned.
    """
    found: list[Files] = [
        {name: path for name, path in sample.items() if name == "image" or path.is_file()}
        for sample in samples
    ]
    for name in {name: None for sample in samples for name in sample}:
        if not any(name in sample for sample in found):
            first = next(sample[name] for sample in samples if name in sample)
            raise MissingError(
                f"{root}: none of {len(samples)} images has a file of {name}; looked for "
                f"{first.relative_to(root)} and the like. {cure}, or remove the tasks that need it"
            )
    return found
