"""Labels of a user's own files: classes, normals and edges; what all have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.sections import Section
from mtlkit.structures import FieldSpec
from mtlkit.transforms import VOID, ClassMap, EdgeMap, NormalMap

from ._axes import Axes, check_direction, in_camera_axes
from ._derived import BOUNDARY, NORMALS
from ._folder_camera import Camera
from ._folder_maps import FolderMaps
from ._folder_patterns import Fault, LabelPattern, raise_faults

Number = Annotated[int, Field(ge=-65535, le=65535)]
_UNKNOWN = -1


class Part(Section):
    """A label."""

    kind: str

    @property
    @abstractmethod
    def spec(self) -> FieldSpec:
        """What is offered."""

    def faults_beside(self, labels: Mapping[str, Part], camera: Camera | None) -> list[Fault]:
        """Return what is wrong with the label in its surroundings.

        Args:
            labels: all of the data set.
            camera: of the data set.
        """
        return []


class FilePart(Part):
    """A label that has a file for each image."""

    files: LabelPattern = Field(description="where its files are, such as mask/{id}.png")

    @abstractmethod
    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> Tensor:
        """Return the label of one sample.

        Args:
            maps: reads its files.
            name: of the label.
            camera: of the data set.

        Raises:
            MissingError: the file cannot be read, or is not what it should be.
        """


class ClassFiles(FilePart):
    """A class per pixel.

    `classes` is a list of names, by the number in the files: [road, car] are 0 and 1; or a map from
    names to the number, or numbers, that stand for each: {road: 7, car: [26, 27]}.
    """

    kind: Literal["classes"] = "classes"
    classes: dict[str, tuple[Number, ...]] = Field(
        min_length=1, max_length=VOID, description="names in order, or names and their numbers"
    )
    void: tuple[Number, ...] = Field((), description="numbers that stand for no class")

    @field_validator("classes", mode="before")
    @classmethod
    def _numbered(cls, given: Any) -> Any:
        if isinstance(given, list | tuple | dict):
            no_names = [str(name) for name in given if str(name) in ("True", "False", "None")]
            if no_names:  # keys of a mapping come as text
                word = {"None": "null"}.get(no_names[0], no_names[0].lower())
                raise ValueError(f"{word} is no text in YAML. Write it in quotes, '{word}'")
        if isinstance(given, list | tuple):
            twice = [name for name, count in Counter(map(str, given)).items() if count > 1]
            if twice:
                raise ValueError(f"{twice[0]!r} is there twice. Remove one")
            return {str(name): (number,) for number, name in enumerate(given)}
        if isinstance(given, dict):
            return {
                str(name): tuple(numbers) if isinstance(numbers, list | tuple) else (numbers,)
                for name, numbers in given.items()
            }
        return given

    @model_validator(mode="after")
    def _each_number_has_one_meaning(self) -> ClassFiles:
        numbers = Counter([*self.void, *(n for several in self.classes.values() for n in several)])
        twice = [str(number) for number, count in numbers.items() if count > 1]
        if twice:
            text = f"{', '.join(twice)} has two meanings among `classes` and `void`. Give it one"
            raise_faults("classes", [Fault(("classes",), text)])
        return self

    @property
    def spec(self) -> FieldSpec:
        """Classes with their names."""
        return FieldSpec(ClassMap, classes=tuple(self.classes))

    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> ClassMap:
        """Return the classes; see `FilePart`."""
        numbers = maps.single(name, "classes")[0]
        known = dict.fromkeys(self.void, VOID) | {
            number: i for i, several in enumerate(self.classes.values()) for number in several
        }
        lowest, highest = min(known), max(known)
        table = torch.full((highest - lowest + 2,), _UNKNOWN, dtype=torch.int16)
        for number, meaning in known.items():
            table[number - lowest] = meaning
        is_inside = (numbers >= lowest) & (numbers <= highest) & (numbers == numbers.round())
        found = table[torch.where(is_inside, numbers - lowest, len(table) - 1).long()]
        is_unknown = found == _UNKNOWN
        if is_unknown.any():
            raise self._unknown(maps.files[name], name, numbers[is_unknown])
        return ClassMap(found.to(torch.uint8))

    def _unknown(self, path: Path, name: str, numbers: Tensor) -> MissingError:
        """Return the error for numbers without a meaning; it offers both that they can have."""
        known = sorted([*self.void, *(n for several in self.classes.values() for n in several)])
        strange = [f"{n:g}" for n in sorted(set(numbers.tolist()))[:5]]
        void = ", ".join([*map(str, self.void), *strange])
        return MissingError(
            f"{path}: holds {', '.join(strange)}, and data.maps.{name} knows "
            f"{', '.join(map(str, known[:20]))}. Where they stand for no class, write "
            f"void: [{void}]; else give each to a class, such as classes: "
            f"{{{list(self.classes)[-1]}: {strange[-1]}}}"
        )


class NormalFiles(FilePart):
    """Unit normals: floats of .npy files, or bytes v of pictures, 2v/255 − 1; of 16 bits, /65535.

    `axes` says which of the files' axes, x, y and z in the order of their channels, are the
    camera's x (right), y (down) and z (forward). Normals point towards the camera, so its z is
    negative. Where files have y up and z towards the camera: [x, -y, -z].
    """

    kind: Literal["normals"] = "normals"
    axes: Axes = Field(
        ("x", "y", "z"), description="the files' axes that are the camera's x, y and z, with signs"
    )

    @property
    def spec(self) -> FieldSpec:
        """Normals."""
        return NORMALS

    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> NormalMap:
        """Return normals in the camera's axes; see `FilePart`."""
        normals = in_camera_axes(maps.vectors(name), self.axes)
        check_direction(normals, maps.files[name], f"data.maps.{name}.axes", self.axes)
        return NormalMap(normals.float())


class EdgeFiles(FilePart):
    """Edges: numbers above a threshold; a smaller size keeps every edge."""

    kind: Literal["edges"] = "edges"
    threshold: float = Field(0.0, description="numbers above it are edges")

    @property
    def spec(self) -> FieldSpec:
        """Edges."""
        return BOUNDARY

    def read(self, maps: FolderMaps, name: str, camera: Camera | None) -> EdgeMap:
        """Return edges; see `FilePart`."""
        return maps.edges(name, self.threshold)
