"""What all readers of files have in common, tried with each."""

from pathlib import Path

import pytest
from fixtures.layouts_cityscapes import write_cityscapes
from fixtures.layouts_folder import fields, write_folder
from fixtures.layouts_nyuv2 import write_nyuv2
from fixtures.layouts_synthia import write_synthia
from fixtures.layouts_vkitti2 import write_vkitti2
from PIL import Image

from mtlkit.errors import MissingError
from mtlkit_plugins.datasets._contents import unreadable
from mtlkit_plugins.datasets._listing import contents, read_names, visible
from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.folder import Folder
from mtlkit_plugins.datasets.nyuv2 import NYUv2
from mtlkit_plugins.datasets.synthia import Synthia
from mtlkit_plugins.datasets.vkitti2 import VirtualKitti2

READERS = {  # what writes the files, what reads them, and which folders hold images
    "cityscapes": (write_cityscapes, Cityscapes, "leftImg8bit/*/*"),
    "folder": (write_folder, Folder, "*/rgb"),
    "npy": (lambda root: write_nyuv2(root, "npy"), NYUv2, "*/image"),
    "png": (lambda root: write_nyuv2(root, "png"), NYUv2, "images"),
    "synthia": (write_synthia, Synthia, "RGB"),
    "vkitti2": (write_vkitti2, VirtualKitti2, "*/*/*/rgb/*"),
}
EVERY = pytest.mark.parametrize("name", READERS)
SPLITS = pytest.mark.parametrize("split", ["train", "val"])


def reader(root: Path, name: str, **changes):
    write, kind, _ = READERS[name]
    write(root)
    given = fields(root) if kind is Folder else {"root": str(root), "size": (12, 24)}
    return kind(**given, **changes)


@EVERY
@SPLITS
def test_a_label_that_no_sample_has_is_refused_even_where_labels_may_be_missing(
    tmp_path, name, split
):
    data, wants = reader(tmp_path, name, missing_labels="allow"), frozenset({"depth"})
    label = "disparity" if name == "cityscapes" else "depth"
    for files in data.find(split, wants):
        assert len(data.find(split, wants)) == 2
        files[label].unlink()
    with pytest.raises(MissingError, match=f"{tmp_path}: none of 2 images has a file of {label};"):
        data.find(split, wants)
    assert data.find(split, frozenset({"segmentation"}))[0].keys() >= {"image"}


def test_a_camera_is_an_extra_that_all_samples_may_lack(tmp_path):
    data = reader(tmp_path, "cityscapes", missing_labels="allow")
    for path in tmp_path.glob("camera/**/*.json"):
        path.unlink()
    assert len(data.find("train", frozenset({"segmentation", "camera"}))) == 2


@EVERY
@SPLITS
def test_hidden_files_are_not_seen(tmp_path, name, split):
    data = reader(tmp_path, name)
    before = data.find(split, frozenset(data.offers))
    for folder in sorted(tmp_path.glob(READERS[name][2])):
        for path in list(folder.iterdir()):
            path.with_name(f"._{path.name}").write_bytes(b"written by a Mac")
        (folder.with_name(".hidden")).mkdir(exist_ok=True)
        (folder.parent / ".hidden" / path.name).write_bytes(b"a draft")
    assert data.find(split, frozenset(data.offers)) == before


def test_a_pattern_may_ask_for_what_is_hidden(tmp_path):
    for name in (".a/b.png", ".a/.b.png", "a/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert visible(tmp_path, ".a/*.png") == [tmp_path / ".a/b.png"]
    assert visible(tmp_path, "*/*.png") == [tmp_path / "a/b.png"]
    assert contents(tmp_path) == "holds a" and contents(tmp_path / "a") == "holds b.png"


def test_a_list_may_come_from_any_editor(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeff0002 \r\n\r\n\t0001\r\n".encode())
    assert read_names(path) == {"0002": 1, "0001": 3}


def test_a_picture_that_is_too_large_is_told_to_be_made_smaller():
    text = str(unreadable(Path("a.tif"), Image.DecompressionBombError("exceeds the limit")))
    assert "a.tif: cannot be read (exceeds the limit). Make it smaller, or cut it into" in text
