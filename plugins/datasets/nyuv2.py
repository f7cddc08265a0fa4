"""`nyuv2`: the real data set, read from its own .mat file or from copies of it.

mat: root/{nyu_depth_v2_labeled,splits,classMapping40}.mat
npy: root/{train,val}/{image,label,depth,normal}/{0,1,2,…}.npy, MTAN's copy
png: root/{images,segmentation,depth,normals,edge}/{name}.{jpg,png,npy} and
     root/gt_sets/{train,val}.txt, NYUD-MT
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.errors import UsageError
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec
from mtlkit.transforms import DepthMap

from ._axes import Axes
from ._derived import offered, with_derived
from ._files import FileDataset, FileSplit, check_root, check_split
from ._maps import Files, Maps
from ._nyuv2_labels import Classes, class_names
from ._nyuv2_layouts import FINDERS, Layout, fitting_layouts, only_layout
from ._nyuv2_maps import depth_map, kinect, read_labels
from ._nyuv2_mat import FrameMaps, Frames, find_frames

if TYPE_CHECKING:
    from mtlkit.contracts import Dataset
    from mtlkit.recipe import Recipe

_DERIVED: Mapping[Layout, frozenset[str]] = {  # labels without files, made from others
    "mat": frozenset({"normals", "boundary"}),
    "npy": frozenset({"boundary"}),
    "png": frozenset(),
}
_MADE_FROM = {"segmentation": "boundary", "depth": "normals"}
_DEPTHS = {"inpainted": "depths", "raw": "rawDepths"}  # arrays of the .mat file
_AS_THEY_ARE: Axes = ("x", "y", "z")


class NYUv2(FileDataset):
    """NYU Depth V2, labelled part: 795 images of rooms to train on, 654 to validate on.

    What a layout has no files for is derived: normals (mat) from depth and the Kinect's camera, the
    boundary (mat, npy) from the classes. The camera is that of whole images, whatever their size.

    `normal_axes` tells what the axes of normals in files are: entry i is the files' axis that is
    the camera's x (right), y (down) or z (forward), with its sign. Published copies do not say
    theirs; the default is right for what `mtlkit data render rooms` writes. Normals that point away
    from the camera are refused, but a wrong x or y cannot be told from one file: look at pictures,
    where floors must be near (0, −1, 0).

    Source: Silberman et al. 2012; 40 classes: Gupta et al. 2013; npy: Liu et al. 2019 (MTAN),
    released data, with the normals that Eigen & Fergus 2015 trained on; png: NYUD-MT of
    Maninis et al. 2019 and its variant in DenseMTL, arXiv 2206.08927, released code.
    """

    type: Literal["nyuv2"] = "nyuv2"
    layout: Literal["auto", "mat", "npy", "png"] = Field(
        "auto", description="of the files; auto: by which are there"
    )
    classes: Classes = Field(13, description="13 classes, or 40, which npy does not have")
    depth: Literal["inpainted", "raw"] = Field(
        "inpainted", description="of layout mat: with holes filled, or as measured"
    )
    normal_axes: Axes = Field(
        _AS_THEY_ARE, description="the files' axes that are the camera's x, y and z, with signs"
    )
    edges: Literal["files", "classes"] = Field(
        "files", description="of layout png: the boundary from edge files, or from the classes"
    )

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary and the camera."""
        return offered(class_names(self.classes))

    @property
    def image_dtype(self) -> torch.dtype:
        """Type of the images: float32 in [0,1] in layout npy, else uint8."""
        return torch.float32 if self._layout() == "npy" else torch.uint8

    def build_split(self, split: str, wants: frozenset[str]) -> FileSplit:
        """Return samples that are read when asked for; only wanted files must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split, or the layout does not have what is asked for.
            MissingError: a folder or files are not there; the message says which.
        """
        settled = self.model_copy(update={"layout": self._layout()})
        if settled.layout == "mat":
            return MatSplit(settled, settled.frames(split, wants), wants)
        return FileSplit(settled, settled.find(split, wants), wants)

    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files of every sample, in a fixed order; only wanted files must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split, or the layout does not have what is asked for.
            MissingError: a folder or files are not there; the message says which.
        """
        layout = self._layout()
        if layout == "mat":
            frames = self.frames(split, wants)
            return [frames.files] * len(frames.numbers)
        self._check(split, layout)
        samples = FINDERS[layout](self.folder, split, self._sources(wants))
        return self.complete(samples, "Copy the folder again")

    def frames(self, split: str, wants: frozenset[str]) -> Frames:
        """Return the samples of layout mat, which has all of them in one file.

        Args:
            split: "train" or "val".
            wants: names of `offers`; only what they are read or derived from must be there.

        Raises:
            UsageError: there is no such split, or the layout does not have what is asked for.
            MissingError: files are not there or not what they should be; the message says which.
        """
        self._check(split, "mat")
        fields = {"segmentation": "labels", "depth": _DEPTHS[self.depth]}
        sources = self._sources(wants)
        wanted = {label: field for label, field in fields.items() if label in sources}
        return find_frames(
            self.folder, split, wanted, self.classes if "segmentation" in sources else None
        )

    def read(self, maps: Maps, wants: frozenset[str]) -> dict[str, Tensor]:
        """Return the labels and extras of one image.

        Args:
            maps: reads its files.
            wants: names of `offers`.

        Raises:
            MissingError: a file cannot be read, or is not what it should be.
        """
        return self.completed(read_labels(maps, self.classes, self.normal_axes), maps, wants)

    def completed(
        self, labels: Mapping[str, Tensor], maps: Maps, wants: frozenset[str]
    ) -> dict[str, Tensor]:
        """Return what is wanted of the labels, with the camera and what is derived from them.

        Args:
            labels: that were read, by name.
            maps: that they were read by.
            wants: names of `offers`.

        Raises:
            MissingError: the camera is needed and not known.
        """
        derived = self._derived() & wants
        camera = kinect(maps) if "camera" in wants or "normals" in derived else None
        depth = labels.get("depth") if "normals" in derived else None
        assert depth is None or isinstance(depth, DepthMap)
        gives = frozenset(labels) | derived | {"camera"}  # a missing file is not made up for
        return with_derived(dict(labels), wants & gives, depth, camera, maps)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence where a setting has no say in the layout.

        Args:
            recipe: the whole recipe.
        """
        found = fitting_layouts(self.folder) if self.layout == "auto" else [self.layout]
        if len(found) == 1:
            yield from self._mismatches(found[0])

    def _mismatches(self, layout: Layout) -> Iterable[str]:
        if layout == "npy" and self.classes == 40:
            yield "classes: 40 is not in layout npy, which has 13. Write classes: 13"
        if layout != "mat" and self.depth == "raw":
            yield f"depth: raw is about layout mat, this is {layout}. Remove it"
        if layout == "mat" and self.normal_axes != _AS_THEY_ARE:
            yield "normal_axes is about files of normals, which layout mat has none of. Remove it"
        if layout != "png" and self.edges == "classes":
            yield f"edges: classes is about layout png; {layout} has no edge files. Remove it"

    def _check(self, split: str, layout: Layout) -> None:
        check_split(split)
        mismatches = [f"data.{sentence}" for sentence in self._mismatches(layout)]
        if mismatches:
            raise UsageError("\n".join(mismatches))
        check_root(self.folder, "the files of NYUv2")

    def _layout(self) -> Layout:
        if self.layout != "auto":
            return self.layout
        check_root(self.folder, "the files of NYUv2")
        return only_layout(self.folder)

    def _derived(self) -> frozenset[str]:
        """Return the labels that are made from others."""
        layout = self._layout()
        by_choice = {"boundary"} if layout == "png" and self.edges == "classes" else set()
        return _DERIVED[layout] | by_choice

    def _sources(self, wants: frozenset[str]) -> frozenset[str]:
        """Return the labels that are read, for themselves or to derive others from."""
        derived = self._derived() & wants
        sources = {name for name, made in _MADE_FROM.items() if made in derived}
        return (wants - derived - {"camera"}) | sources


class MatSplit(FileSplit):
    """Samples of one .mat file.

    Args:
        dataset: the size, and what is derived.
        frames: the samples' places in the file.
        wants: names of labels and extras.
    """

    def __init__(self, dataset: NYUv2, frames: Frames, wants: frozenset[str]) -> None:
        super().__init__(dataset, [frames.files] * len(frames.numbers), wants)
        self._nyuv2, self._frames = dataset, frames

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        maps = FrameMaps(self._frames, index, self._nyuv2.size)
        image = maps.image(self._nyuv2.image_resize)
        labels: dict[str, Tensor] = {}
        if "segmentation" in maps and self._frames.class_table is not None:
            ids = maps.array("segmentation")[0]
            labels["segmentation"] = maps.classes("segmentation", ids, self._frames.class_table)
        if "depth" in maps:
            labels["depth"] = depth_map(maps, maps.array("depth"))
        return {"image": image} | self._nyuv2.completed(labels, maps, self._wants)


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [NYUv2]
