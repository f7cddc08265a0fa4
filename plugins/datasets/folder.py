"""`folder`: a user's own images and labels, found by patterns; docs/own_data.md is the guide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec

from ._derived import CAMERA, DEPTH_AT_ONE, scalar
from ._files import SPLITS, FileDataset, FileSplit, check_root, check_split, without_missing
from ._folder_camera import Camera
from ._folder_distances import DisparityFiles
from ._folder_kinds import DerivedPart, LabelPart
from ._folder_labels import FilePart
from ._folder_maps import FolderMaps
from ._folder_patterns import (
    Fault,
    ImagePattern,
    filled,
    nothing_matches,
    placeholders,
    raise_faults,
    samples_of,
)
from ._folder_splits import Validation
from ._listing import some
from ._maps import Files, Maps

if TYPE_CHECKING:
    from mtlkit.contracts import Dataset

_TAKEN = ("image", "camera", "depth_at_one")


class Folder(FileDataset):
    """Your own images and labels: a folder, a pattern for each kind of file, and no code.

    {id} in a pattern is the name of a sample. Other names in braces, such as {scene}, stand for
    what varies too; each stands for text within one part of the path, and each of `images` must be
    in every label's pattern. {split} is train or val, and labels may do without.
    """

    type: Literal["folder"] = "folder"
    images: ImagePattern = Field(
        description='where images are, from root on, such as "{split}/rgb/{id}.jpg"'
    )
    val: Validation | None = Field(
        None, description="which samples validate; needed where `images` has no {split}"
    )
    maps: dict[str, LabelPart] = Field(
        min_length=1, description="what is learned: names of labels, each with kind and files"
    )
    camera: Camera | None = Field(None, description="one for all images; null: not known")
    image_resize: Literal["nearest", "antialias"] = Field(
        "antialias",
        description="how the image is resized; labels are always resized to the nearest",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Folder:
        has_split = "split" in placeholders(self.images)
        found: list[Fault] = []
        if has_split and self.val is not None:
            text = "is not needed: `images` has {split}. Remove one of the two"
            found.append(Fault(("val",), text))
        if not has_split and self.val is None:
            text = "is missing, and `images` has no {split}. Write val: {share: 0.2}, or "
            found.append(Fault(("val",), text + "{list: val.txt}, or {matching: scene7_*}"))
        for name, part in self.maps.items():
            below = [*self._faults_of(name), *part.faults_beside(self.maps, self.camera)]
            found += [Fault(("maps", name, *fault.keys), fault.text) for fault in below]
        raise_faults("Folder", found)
        return self

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """The labels of `maps`, the camera, and what makes metres of the only disparity."""
        offers = {name: part.spec for name, part in self.maps.items()}
        if self.camera is not None:
            offers["camera"] = CAMERA
        if self._depth_at_one is not None:
            offers["depth_at_one"] = DEPTH_AT_ONE
        return offers

    @property
    def image_dtype(self) -> torch.dtype:
        """Type of the images: float32 in [0,1] of .npy files, else uint8."""
        return torch.float32 if Path(self.images).suffix.lower() == ".npy" else torch.uint8

    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files of the images that the pattern finds; only those of wanted labels.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
            MissingError: nothing is found, files are missing, or the splits share one.
        """
        check_split(split)
        root = self.folder
        check_root(root, "your images")
        patterns = {name: part.files for name, part in self._read_for(wants).items()}
        of_labels = [part.files for part in self.maps.values() if isinstance(part, FilePart)]
        found = {
            part: [
                {label: root / filled(p, v) for label, p in patterns.items()}
                | {"image": root / filled(self.images, v)}
                for v in values
            ]
            for part, values in samples_of(root, self.images, of_labels, self.val).items()
        }
        if not any(found.values()) or (self.val is None and not found[split]):
            raise nothing_matches(root, "data.images", self.images.replace("{split}", split))
        if not found[split]:
            raise MissingError(
                f"data.val: leaves nothing of {sum(map(len, found.values()))} images to {split}. "
                "Change it"
            )
        _check_images(found)
        self._check_labels(found, split)
        if self.missing_labels == "allow":
            return without_missing(root, found[split], "Add files")
        return found[split]

    def build_split(self, split: str, wants: frozenset[str]) -> FileSplit:
        """Return samples that are read when asked for; only wanted files must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            MissingError: a folder or files are not there; the message says which.
        """
        return FolderSplit(self, self.find(split, wants), wants)

    def read(self, maps: Maps, wants: frozenset[str]) -> dict[str, Tensor]:
        """Return the labels and extras of one image.

        Args:
            maps: reads its files.
            wants: names of `offers`.

        Raises:
            MissingError: a file cannot be read, or is not what it should be.
        """
        assert isinstance(maps, FolderMaps)
        found: dict[str, Tensor] = {
            name: part.read(maps, name, self.camera)
            for name, part in self._read_for(wants).items()
            if name in maps
        }
        for name, part in self.maps.items():
            if isinstance(part, DerivedPart) and name in wants and part.source in found:
                source = self.maps[part.source]
                found[name] = part.derive(found[part.source], source, self.camera, maps)
        if self.camera is not None and "camera" in wants:
            found["camera"] = self.camera.matrix(maps)
        if self._depth_at_one is not None:
            found["depth_at_one"] = scalar(self._depth_at_one)
        return {name: value for name, value in found.items() if name in wants}

    @property
    def _depth_at_one(self) -> float | None:
        """Metres at which the only label that is disparity or inverse depth would be 1."""
        parts = [part for part in self.maps.values() if isinstance(part, DisparityFiles)]
        return parts[0].depth_at_one(self.camera) if len(parts) == 1 else None

    def _read_for(self, wants: frozenset[str]) -> dict[str, FilePart]:
        """Return the labels whose files wanted ones are read or derived from."""
        wanted = [part for name, part in self.maps.items() if name in wants]
        sources = {p.source for p in wanted if isinstance(p, DerivedPart)}
        return {
            name: part
            for name, part in self.maps.items()
            if isinstance(part, FilePart) and name in wants | sources
        }

    def _faults_of(self, name: str) -> list[Fault]:
        """Return what is wrong with a label's name and pattern."""
        part, found = self.maps[name], []
        if not name.isidentifier() or name in _TAKEN:
            text = f"a label's name is an identifier, and not {', '.join(_TAKEN)}. Rename it"
            found.append(Fault((), text))
        if isinstance(part, FilePart):
            needs, has = set(placeholders(self.images)), set(placeholders(part.files))
            wrong = sorted((needs - {"split"}) ^ (has - {"split"}) | (has - needs))
            if wrong:
                text = f"{{{wrong[0]}}} is in one of `images` and `files` alone. Use it in both"
                found.append(Fault(("files",), text))
        return found

    def _check_labels(self, found: Mapping[str, Sequence[Files]], split: str) -> None:
        """Refuse label files that are not there; a pattern that finds nothing in any case."""
        sentences = []
        for label in found[split][0]:
            if label == "image":
                continue
            if not any(f[label].is_file() for files in found.values() for f in files):
                pattern = self._read_for(frozenset({label}))[label].files
                pattern = pattern.replace("{split}", split)
                raise nothing_matches(self.folder, f"data.maps.{label}.files", pattern)
            if self.missing_labels == "allow":
                continue
            absent = [f[label] for f in found[split] if not f[label].is_file()]
            if absent:
                shown = some([str(path.relative_to(self.folder)) for path in absent])
                sentences.append(
                    f"data.maps.{label}.files: of {len(found[split])} files, {len(absent)} are "
                    f"missing: {shown}. Add them to {self.folder}, or write missing_labels: allow"
                )
        if sentences:
            raise MissingError("\n".join(sentences))


class FolderSplit(FileSplit):
    """Samples of files that users made."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        maps = FolderMaps(self.files(index), self._dataset.size)
        image = maps.image(self._dataset.image_resize)
        return {"image": image} | self._dataset.read(maps, self._wants)


def _check_images(found: Mapping[str, Sequence[Files]]) -> None:
    """Refuse images that are no files, and files of both splits."""
    for files in (*found["train"], *found["val"]):
        if not files["image"].is_file():
            raise MissingError(
                f"{files['image']}: is a folder, or a link to nothing. Copy it again, or remove it"
            )
    train, val = ({path for files in found[s] for path in files.values()} for s in SPLITS)
    both = sorted(map(str, train & val))
    if both:
        raise MissingError(
            f"data: train and val share {some(both)}. Use {{split}} in every pattern, or give the "
            "samples of val other names"
        )


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Folder]
