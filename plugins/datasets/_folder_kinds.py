"""Which class a label of a user's own data is: by its kind, and by `files` or `from`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor

from mtlkit.errors import suggest
from mtlkit.geometry import boundaries
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap

from ._derived import BOUNDARY, NORMALS, normals_of
from ._folder_camera import Camera
from ._folder_distances import DepthFiles, DisparityFiles
from ._folder_labels import ClassFiles, EdgeFiles, NormalFiles, Part
from ._folder_patterns import Fault
from ._maps import Maps


class DerivedPart(Part):
    """A label that follows from another, for want of files."""

    source: str = Field(alias="from", description="name of the label that it follows from")

    @abstractmethod
    def derive(self, label: Tensor, part: Part, camera: Camera | None, maps: Maps) -> Tensor:
        """Return the label of one sample.

        Args:
            label: of the source.
            part: the source.
            camera: of the data set.
            maps: the files of the sample.
        """


class DerivedNormals(DerivedPart):
    """Normals of the surface that a depth or disparity label describes."""

    kind: Literal["normals"] = "normals"

    @property
    def spec(self) -> FieldSpec:
        """Normals."""
        return NORMALS

    def faults_beside(self, labels: Mapping[str, Part], camera: Camera | None) -> list[Fault]:
        """Return what depth or camera lack.

        Args:
            labels: all of the data set.
            camera: of the data set.
        """
        source = labels.get(self.source)
        if not isinstance(source, DepthFiles | DisparityFiles):
            return [_no_source(self.source, labels, (DepthFiles, DisparityFiles))]
        if camera is None:
            return [Fault(("from",), "needs data.camera with focal and centre. Add it")]
        if isinstance(source, DisparityFiles) and camera.baseline is None:
            return [Fault(("from",), "disparity needs data.camera.baseline. Add it")]
        return []

    def derive(self, label: Tensor, part: Part, camera: Camera | None, maps: Maps) -> Tensor:
        """Return normals of the label that they follow from; see `DerivedPart`."""
        assert isinstance(part, DepthFiles | DisparityFiles) and camera is not None
        return normals_of(part.depth(label, camera), camera.matrix(maps), maps, self.source)


class DerivedEdges(DerivedPart):
    """Boundaries between classes; no benchmark's definition of an edge."""

    kind: Literal["edges"] = "edges"

    @property
    def spec(self) -> FieldSpec:
        """Edges."""
        return BOUNDARY

    def faults_beside(self, labels: Mapping[str, Part], camera: Camera | None) -> list[Fault]:
        """Return that the classes are not there, if so.

        Args:
            labels: all of the data set.
            camera: not used.
        """
        if isinstance(labels.get(self.source), ClassFiles):
            return []
        return [_no_source(self.source, labels, (ClassFiles,))]

    def derive(self, label: Tensor, part: Part, camera: Camera | None, maps: Maps) -> Tensor:
        """Return the boundaries of the label that they follow from; see `DerivedPart`."""
        assert isinstance(label, ClassMap)
        return boundaries(label)


_FROM_FILES: dict[str, type[Part]] = {
    "classes": ClassFiles,
    "depth": DepthFiles,
    "disparity": DisparityFiles,
    "edges": EdgeFiles,
    "normals": NormalFiles,
}
_DERIVED: dict[str, type[Part]] = {"edges": DerivedEdges, "normals": DerivedNormals}


def _by_kind(value: Any) -> Any:
    """Return the part that keys describe; its own faults are pydantic's to tell."""
    if isinstance(value, Part):
        return value
    if not isinstance(value, dict):
        raise ValueError("must be a mapping, such as {kind: classes, files: …, classes: […]}")
    kind = str(value.get("kind", ""))
    if not kind:
        raise ValueError(f"needs a kind; {suggest('', _FROM_FILES)}")
    if kind not in _FROM_FILES:
        raise ValueError(f"no kind is called {kind!r}; {suggest(kind, _FROM_FILES)}")
    if "from" in value and "files" in value:
        raise ValueError("has `files` and `from`. Keep the one that the label comes from")
    if "from" in value and kind not in _DERIVED:
        raise ValueError(f"{kind} follow from no label. Write files instead of from")
    part = (_DERIVED if "from" in value else _FROM_FILES)[kind]
    known = [field.alias or name for name, field in part.model_fields.items()]
    unknown = [str(key) for key in value if str(key) not in known]
    if unknown:
        said = "; ".join(f"unknown key {key!r}; {suggest(key, known)}" for key in unknown)
        raise ValueError(said)
    return part.model_validate(value)


LabelPart = Annotated[
    SerializeAsAny[Part],
    BeforeValidator(
        _by_kind,
        json_schema_input_type=ClassFiles
        | DepthFiles
        | DisparityFiles
        | NormalFiles
        | EdgeFiles
        | DerivedNormals
        | DerivedEdges,
    ),
]
"""A label of any kind."""


def _no_source(name: str, labels: Mapping[str, Part], kinds: tuple[type[Part], ...]) -> Fault:
    known = [label for label, part in labels.items() if isinstance(part, kinds)]
    words = " or ".join(kind.model_fields["kind"].default for kind in kinds)
    return Fault(("from",), f"no label of kind {words} is called {name!r}; {suggest(name, known)}")
