"""A file of a published set that is broken in any of eight ways is named, with what to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fixtures import damage, layouts_cityscapes, layouts_synthia, layouts_vkitti2

from mtlkit.errors import MissingError
from mtlkit_plugins.datasets._files import FileDataset
from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.synthia import Synthia
from mtlkit_plugins.datasets.vkitti2 import VirtualKitti2

EVERYTHING = frozenset({"segmentation", "depth"})


@dataclass(frozen=True)
class Layout:
    """How a data set's files are written, found and read."""

    kind: type[FileDataset]
    write: Callable[[Path], Any]
    path_of: Callable[[Path, str], Path]
    image: str
    labels: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)


LAYOUTS = {
    "cityscapes": Layout(
        Cityscapes,
        layouts_cityscapes.write_sample,
        layouts_cityscapes.path_of,
        "leftImg8bit",
        ("gtFine", "disparity", "camera"),
        {"depth": "metres"},
    ),
    "synthia": Layout(
        Synthia,
        layouts_synthia.write_synthia,
        layouts_synthia.path_of,
        "image",
        ("labels", "depth"),
    ),
    "vkitti2": Layout(
        VirtualKitti2,
        layouts_vkitti2.write_vkitti2,
        layouts_vkitti2.path_of,
        "image",
        ("classes", "depth"),
    ),
}


def told(layout: Layout, root: Path, wants: frozenset[str] = EVERYTHING, **fields: str) -> str:
    """Return why samples are refused, when they are found or read."""
    data = layout.kind(root=str(root), size=(16, 32), **layout.fields, **fields)
    with pytest.raises(MissingError) as caught:
        list(data.build_split("train", wants))
    return str(caught.value)


@pytest.mark.parametrize("how", damage.EVERY)
@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, x in LAYOUTS.items() for k in x.labels])
def test_a_damaged_label_file_is_named_with_what_to_do(tmp_path, name, kind, how):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    path = layout.path_of(tmp_path, kind)
    damage.EVERY[how](path)
    text = told(layout, tmp_path)
    assert path.name in text and "Unpack" in text


@pytest.mark.parametrize("how", sorted(set(damage.EVERY) - {"gone"}))  # then it is not looked for
@pytest.mark.parametrize("wants", [frozenset(), EVERYTHING], ids=["image alone", "with labels"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_damaged_image_is_named_with_what_to_do(tmp_path, name, wants, how):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    path = layout.path_of(tmp_path, layout.image)
    damage.EVERY[how](path)
    for allowed in ("fail", "allow"):
        text = told(layout, tmp_path, wants, missing_labels=allowed)
        assert path.name in text and "Unpack" in text
