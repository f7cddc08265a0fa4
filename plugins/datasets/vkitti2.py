"""`vkitti2`: Virtual KITTI 2, read from its official folders.

root/{Scene01,…}/{variation}/frames/rgb/Camera_{0,1}/rgb_{frame}.jpg, and beside rgb
depth/…/depth_{frame}.png and classSegmentation/…/classgt_{frame}.png
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec

from ._centimetres import MaxDepth, depth_map
from ._derived import offered, with_derived
from ._files import FileDataset, check_root, check_split, needed
from ._listing import contents, some, visible
from ._maps import Files, Maps
from ._vkitti2_labels import CLASSES, class_map

if TYPE_CHECKING:
    from mtlkit.contracts import Dataset
    from mtlkit.recipe import Recipe

Scene = Literal["Scene01", "Scene02", "Scene06", "Scene18", "Scene20"]
Variation = Literal[
    "15-deg-left",
    "15-deg-right",
    "30-deg-left",
    "30-deg-right",
    "clone",
    "fog",
    "morning",
    "overcast",
    "rain",
    "sunset",
]
AtLeastOne = Field(min_length=1)

_SCENES: tuple[Scene, ...] = get_args(Scene)
_VARIATIONS: tuple[Variation, ...] = get_args(Variation)
_PATTERNS = {  # below frames/
    "classes": "classSegmentation/{camera}/classgt_{frame}.png",
    "depth": "depth/{camera}/depth_{frame}.png",
}
_MADE_OF = {"classes": ("segmentation", "boundary"), "depth": ("depth", "normals")}
_TOGETHER = "into one folder, so that frames/ holds rgb, depth and classSegmentation"
_FULL = (375, 1242)  # height and width of the images that the two lines below are for
_FOCAL = (725.0087, 725.0087)  # intrinsic.txt of the data set, alike for all cameras
_CENTRE = (620.5, 187.0)


class VirtualKitti2(FileDataset):
    """Virtual KITTI 2: five rendered streets, each in ten variations and seen by two cameras.

    Whole scenes are held out to validate on; the others that are there are trained on. Normals are
    derived from depth, the boundary from the classes.

    Source: Cabon et al. 2020 (version 2.0.3); DenseMTL, arXiv 2206.08927, has variation 15-deg-left
    alone and draws frames at random, for train and val apart, so that most frames are in both.
    """

    type: Literal["vkitti2"] = "vkitti2"
    variations: Annotated[tuple[Variation, ...], AtLeastOne] = Field(
        ("clone",), description="weathers, times of day and turns of the camera"
    )
    cameras: Annotated[tuple[Literal[0, 1], ...], AtLeastOne] = Field(
        (0,), description="0: the left one, 1: the right one"
    )
    val_scenes: Annotated[tuple[Scene, ...], AtLeastOne] = Field(
        ("Scene18",), description="scenes to validate on; all others are trained on"
    )
    max_depth_m: MaxDepth = Field(
        None, description="what is further is invalid, metres; null: only the sky is; KITTI has 80"
    )

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary and the camera."""
        return offered(CLASSES)

    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files by scene, variation, camera and frame; only those wanted must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
            MissingError: no scene remains for a split, or files are not there.
        """
        check_split(split)
        images = _images(self.folder, self._places(split))
        patterns = {name: _PATTERNS[name] for name in needed(wants, _MADE_OF)}
        samples = [_beside(image, patterns) for image in images]
        archives = "vkitti_2.0.3_depth.tar and vkitti_2.0.3_classSegmentation.tar"
        return self.complete(samples, f"Unpack {archives} again, {_TOGETHER}")

    def read(self, maps: Maps, wants: frozenset[str]) -> dict[str, Tensor]:
        """Return the labels and extras of one image.

        Args:
            maps: reads its files.
            wants: names of `offers`.

        Raises:
            MissingError: a file cannot be read, or is not what it should be.
        """
        sample: dict[str, Tensor] = {}
        if "classes" in maps:
            colours = maps.numbers("classes", "8-bit RGB")
            sample["segmentation"] = class_map(colours, maps.files["classes"])
        depth = None
        if "depth" in maps:
            depth = depth_map(maps.numbers("depth", "16-bit grey"), self.max_depth_m)
            sample["depth"] = depth
        camera = maps.intrinsics(_FOCAL, _CENTRE, _FULL)
        return with_derived(sample, wants, depth, camera, maps)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence where no scene is left to train on.

        Args:
            recipe: the whole recipe.
        """
        if set(self.val_scenes) == set(_SCENES):
            yield "val_scenes: leaves no scene to train on. Name four scenes at most"

    def _places(self, split: str) -> list[Path]:
        """Return the folders of the split's images, relative to the root."""
        root = self.folder
        check_root(root, "Scene01 and the other scenes")
        there = [scene for scene in _SCENES if (root / scene).is_dir()]
        if not there:
            raise MissingError(
                f"{root}: holds none of {', '.join(_SCENES)}; it {contents(root)}. Unpack all "
                f"archives vkitti_2.0.3_*.tar {_TOGETHER}, and give the folder that holds Scene01"
            )
        absent = [scene for scene in _SCENES if scene in self.val_scenes and scene not in there]
        if absent:
            raise MissingError(
                f"{root}: lacks {', '.join(absent)} of data.val_scenes; it {contents(root)}. "
                "Unpack vkitti_2.0.3_rgb.tar there, or name scenes that are there"
            )
        train = [scene for scene in there if scene not in self.val_scenes]
        if not train:
            raise MissingError(
                f"{root}: holds no scene to train on: {', '.join(there)} is all there is, "
                "and data.val_scenes holds it out. Unpack another scene, or name fewer"
            )
        scenes = {"train": train, "val": [scene for scene in there if scene in self.val_scenes]}
        return [
            Path(scene) / variation / "frames" / "rgb" / f"Camera_{camera}"
            for scene in scenes[split]
            for variation in _VARIATIONS
            if variation in self.variations
            for camera in sorted(set(self.cameras))
        ]


def _images(root: Path, places: Sequence[Path]) -> list[Path]:
    found = [visible(root / place, "rgb_*.jpg") for place in places]
    empty = [str(place) for place, images in zip(places, found, strict=True) if not images]
    if empty:
        raise MissingError(
            f"{root}: no rgb_*.jpg in {some(empty)}. Unpack vkitti_2.0.3_rgb.tar there, or leave "
            "these out of data.variations and data.cameras"
        )
    return [image for images in found for image in images]


def _beside(image: Path, patterns: Mapping[str, str]) -> Files:
    camera, frames = image.parent.name, image.parents[2]
    frame = image.stem.removeprefix("rgb_")
    return {"image": image} | {
        name: frames / pattern.format(camera=camera, frame=frame)
        for name, pattern in patterns.items()
    }


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [VirtualKitti2]
