import json

import numpy as np
import pytest
import torch
import torchvision
from typer.testing import CliRunner

from mtlkit.errors import UsageError
from mtlkit_plugins.commands.data import app
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.street import street
from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.rooms import Rooms
from mtlkit_plugins.datasets.streets import Streets

EVERYTHING = frozenset({"segmentation", "depth"})
COUNTS = ("--train", "3", "--val", "2", "--size", "64x128", "--seed", "5")


def run(*arguments):
    return CliRunner().invoke(app, ["render", *map(str, arguments)])


def fault(*arguments) -> str:
    """Return the message with which a command is refused."""
    error = run(*arguments).exception
    assert isinstance(error, UsageError)
    return str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rendered streets in Cityscapes' layout."""
    out = tmp_path_factory.mktemp("cityscapes")
    done = run("streets", "--out", out, *COUNTS, "--workers", 1)
    assert done.exit_code == 0
    assert done.stdout == f"{out}\n"
    return out


@pytest.mark.parametrize("classes", [7, 19])
@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_reads_what_streets_gives(folder, classes, split):
    size = (64, 128)
    files = Cityscapes(root=str(folder), size=size, classes=classes)
    scenes = Streets(size=size, train=3, val=2, seed=5, classes=classes)
    read, rendered = (data.build_split(split, EVERYTHING) for data in (files, scenes))
    assert len(read) == len(rendered)
    for a, b in zip(read, rendered, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["segmentation"], b["segmentation"])
        assert torch.equal(a["depth"].isnan(), b["depth"].isnan())
        assert (a["depth"] - b["depth"]).nan_to_num().abs().max() <= 1 / 65536


def test_torchvision_reads_the_rendered_folder(folder):
    kinds = ["semantic", "instance", "color"]
    official = torchvision.datasets.Cityscapes(
        str(folder), split="train", mode="fine", target_type=kinds
    )
    assert len(official) == 3
    image, (labels, instances, colours) = official[0]
    labels, instances, colours = (np.array(picture) for picture in (labels, instances, colours))
    assert image.size == (128, 64)
    assert instances.max() > 255  # more than 8 bits
    palette = np.array([entry.color for entry in official.classes if entry.id >= 0])
    assert np.array_equal(colours[..., :3], palette[labels])
    counted = instances >= 1000
    assert np.array_equal(np.where(counted, instances // 1000, instances), labels)
    may_count = [entry.id for entry in official.classes if entry.has_instances]
    assert np.array_equal(counted, np.isin(labels, may_count))
    cars = np.unique(instances[labels == 26]) - 26000
    assert cars.tolist() == list(range(len(cars)))


def test_camera_files_turn_disparity_into_the_depth_that_was_rendered(folder):
    name = "streets_000000_000000"
    camera = json.loads((folder / f"camera/train/streets/{name}_camera.json").read_text())
    scene = Streets(size=(64, 128), seed=5).build_split("train", EVERYTHING)
    frame = render(street(5 * 2_000_000), 64, 128)
    baseline, focal = camera["extrinsic"]["baseline"], camera["intrinsic"]["fx"]
    depth = baseline * focal / (scene[0]["depth"][0].numpy() * 256)
    hit = frame.depth > 2
    assert np.allclose(depth[hit], frame.depth[hit], rtol=1e-5)
    assert camera["intrinsic"]["v0"] == 511.5
    assert camera["extrinsic"]["z"] == pytest.approx(1.3, abs=0.2)


def test_rooms_in_npy_files_are_what_rooms_gives(tmp_path):
    assert run("rooms", "--out", tmp_path, *COUNTS, "--workers", 1).exit_code == 0
    scenes = Rooms(size=(64, 128), train=3, val=2, seed=5).build_split("val", EVERYTHING)
    for index, sample in enumerate(scenes):
        image, label, depth, normal = (
            np.load(tmp_path / "val" / kind / f"{index}.npy")
            for kind in ("image", "label", "depth", "normal")
        )
        assert {a.dtype for a in (image, label, depth, normal)} == {np.dtype(np.float32)}
        assert np.array_equal(np.rint(image * 255), sample["image"].permute(1, 2, 0))
        assert np.array_equal(np.where(label < 0, 255, label), sample["segmentation"])
        expected = sample["depth"].permute(1, 2, 0).nan_to_num(0.0)
        assert np.array_equal(depth, expected)
        lengths = np.linalg.norm(normal, axis=-1)
        assert np.allclose(lengths, depth[..., 0] > 0, atol=1e-5)
    assert not (tmp_path / "val" / "image" / "2.npy").exists()


def test_many_processes_write_the_same_bytes_as_one(folder, tmp_path):
    assert run("streets", "--out", tmp_path, *COUNTS, "--workers", 2).exit_code == 0
    ours, theirs = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder, tmp_path)
    )
    assert len(ours) == 5 * 6
    assert ours == theirs


def test_a_folder_that_is_not_empty_is_left_alone_unless_told(tmp_path):
    small = ("--train", 1, "--val", 1, "--size", "8x16", "--workers", 1)
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty" in fault("streets", "--out", tmp_path, *small)
    assert run("streets", "--out", tmp_path, *small, "--overwrite").exit_code == 0
    assert run("streets", "--out", tmp_path, *small, "--overwrite").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_smaller_render_is_not_mixed_into_a_larger_one(tmp_path):
    small = ("--val", 1, "--size", "8x16", "--workers", 1)
    run("rooms", "--out", tmp_path, "--train", 2, *small)
    text = fault("rooms", "--out", tmp_path, "--train", 1, *small, "--overwrite")
    assert "4 files that this render would not replace, such as train/depth/1.npy" in text


def test_streets_are_not_mixed_into_real_cities(tmp_path):
    city = tmp_path / "leftImg8bit" / "train" / "aachen"
    city.mkdir(parents=True)
    (city / "aachen_000000_000019_leftImg8bit.png").write_text("real")
    text = fault("streets", "--out", tmp_path, *COUNTS, "--overwrite")
    assert "1 files that this render would not replace, such as leftImg8bit/train/aachen" in text


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in fault("streets", "--out", tmp_path / "file")


@pytest.mark.parametrize(
    "size", ["128", "128x", "axb", "0x64", "64x8193", "-8x8", "8 x 8", "8x8x8"]
)
def test_a_wrong_size_is_quoted_with_what_is_right(tmp_path, size):
    text = fault("streets", "--out", tmp_path / "new", f"--size={size}")
    assert f"--size: {size!r} is no size" in text
    assert "128x256" in text


def test_a_layout_of_other_scenes_is_refused(tmp_path):
    text = fault("rooms", "--out", tmp_path / "new", "--layout", "cityscapes")
    assert "--layout: rooms cannot be written as cityscapes. Use --layout nyuv2_npy" in text


def test_no_hidden_file_stays_behind(folder):
    assert not list(folder.rglob(".*"))
