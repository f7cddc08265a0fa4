import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.layouts_nyuv2 import make_values, put, write_npy, write_nyuv2, write_png
from torch import Tensor

from mtlkit.geometry import boundaries
from mtlkit.transforms import VOID, ClassMap
from mtlkit_plugins.datasets._nyuv2_labels import CLASSES, CLASSES_40, forty_to_class
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.writing import all_jobs
from mtlkit_plugins.datasets.nyuv2 import NYUv2
from mtlkit_plugins.datasets.rooms import Rooms

SIZE = (12, 16)
ALL = frozenset(NYUv2(root="", size=SIZE).offers)
LAYOUTS = pytest.mark.parametrize("layout", ["mat", "npy", "png"])
KINECT = torch.tensor([[518.8579, 0, 324.58245], [0, 519.46961, 252.73617], [0, 0, 1]])


def split_of(root: Path, split: str = "train", wants=ALL, **fields):
    return NYUv2(root=str(root), **({"size": SIZE} | fields)).build_split(split, wants)


def moved(values: np.ndarray) -> Tensor:
    """Return channels first."""
    return torch.from_numpy(values).permute(2, 0, 1)


def same(found: Tensor, expected: np.ndarray | Tensor) -> bool:
    plain = found.as_subclass(Tensor)
    return torch.equal(plain.nan_to_num(9e9), torch.as_tensor(expected).nan_to_num(9e9))


def with_holes(depth: np.ndarray) -> np.ndarray:
    return np.where(depth > 0, depth, np.nan).astype(np.float32)[None]


def test_the_thirteen_classes_are_merged_from_40_by_the_published_ids():
    merged = {
        1: 11,
        8: 11,
        2: 4,
        20: 4,
        4: 0,
        5: 3,
        6: 8,
        7: 9,
        14: 9,
        9: 12,
        13: 12,
        16: 12,
        11: 7,
        22: 2,
        23: 1,
        25: 10,
        3: 5,
        10: 5,
        12: 5,
        15: 5,
        17: 5,
        24: 5,
        32: 5,
        39: 5,
    }
    expected = [VOID, *(merged.get(number, 6) for number in range(1, 41))]
    assert forty_to_class(13).tolist() == expected
    assert forty_to_class(40).tolist() == [VOID, *range(40)]
    assert len(set(CLASSES_40)) == 40 and len(set(CLASSES)) == 13


@pytest.mark.parametrize("classes", [13, 40])
@pytest.mark.parametrize("layout", ["mat", "png"])
def test_images_and_classes_are_those_put_in(tmp_path, layout, classes):
    values = write_nyuv2(tmp_path, layout)
    for split, expected in values.items():
        found = split_of(tmp_path, split, classes=classes)
        assert len(found) == 2
        for sample, x in zip(found, expected, strict=True):
            assert same(sample["image"], moved(x.image))
            assert same(sample["segmentation"], forty_to_class(classes)[x.forty])


@pytest.mark.parametrize("layout", ["npy", "png"])
def test_depth_of_0_is_invalid(tmp_path, layout):
    values = write_nyuv2(tmp_path, layout)
    for sample, x in zip(split_of(tmp_path), values["train"], strict=True):
        assert same(sample["depth"], with_holes(x.raw))
        assert sample["depth"].dtype == torch.float32


def test_arrays_have_float_images_and_13_classes(tmp_path):
    values = write_nyuv2(tmp_path, "npy")
    for sample, x in zip(split_of(tmp_path, "val"), values["val"], strict=True):
        assert same(sample["image"], moved(x.image.astype(np.float32) / 255))
        ids = np.where(x.thirteen < 0, VOID, x.thirteen).astype(np.uint8)
        assert same(sample["segmentation"], ids)
        assert same(sample["boundary"], boundaries(ClassMap(torch.from_numpy(ids))))


@LAYOUTS
@pytest.mark.parametrize("resize", ["nearest", "antialias"])
def test_images_have_the_type_that_is_announced(tmp_path, layout, resize):
    write_nyuv2(tmp_path, layout)
    data = NYUv2(root=str(tmp_path), size=(6, 8), image_resize=resize)
    image = data.build_split("train", frozenset())[0]["image"]
    assert image.dtype == data.image_dtype
    assert image.shape == (3, 6, 8)
    assert data.image_dtype == (torch.float32 if layout == "npy" else torch.uint8)


def test_double_images_and_big_endian_arrays_are_read(tmp_path):
    x = write_nyuv2(tmp_path, "npy")["train"][0]
    np.save(tmp_path / "train/image/0.npy", (x.image / 255).astype(np.float64))
    np.save(tmp_path / "train/depth/0.npy", x.raw.astype(">f4"))
    sample = split_of(tmp_path)[0]
    assert sample["image"].dtype == torch.float32
    assert same(sample["depth"], with_holes(x.raw))


def test_the_folder_seg_stands_in_for_label(tmp_path):
    write_nyuv2(tmp_path, "npy")
    before = split_of(tmp_path)[0]["segmentation"]
    (tmp_path / "train/label").rename(tmp_path / "train/seg")
    assert torch.equal(split_of(tmp_path)[0]["segmentation"], before)


def test_arrays_come_in_the_order_of_numbers(tmp_path):
    values = {"train": [make_values(seed, (3, 4)) for seed in range(12)]}
    write_npy(tmp_path, values)
    split = split_of(tmp_path, size=(3, 4), wants=frozenset())
    names = [split.files(index)["image"].name for index in range(len(split))]
    assert names == [f"{index}.npy" for index in range(12)]


def test_pictures_may_be_jpeg(tmp_path):
    write_nyuv2(tmp_path, "png")
    (tmp_path / "images/0001.png").unlink()
    put(tmp_path / "images/0001.jpg", np.full((*SIZE, 3), 77, np.uint8))
    assert (split_of(tmp_path)[0]["image"] == 77).all()


@pytest.mark.parametrize("ending", ["npy", "png"])
def test_normals_of_files_are_unit_and_the_zero_vector_is_invalid(tmp_path, ending):
    values = {"train": [make_values(0, SIZE)]}
    write_png(tmp_path, values, normals=ending)
    found = split_of(tmp_path, wants=frozenset({"normals"}))[0]["normals"]
    x = moved(values["train"][0].normals)
    assert found[:, 0, 3].isnan().all() and found.isnan().sum() == 3
    assert torch.allclose(found.norm(dim=0).nan_to_num(1), torch.ones(SIZE))
    assert torch.allclose(found.nan_to_num(), x, atol=1e-6 if ending == "npy" else 0.01)


def test_short_normals_are_made_unit(tmp_path):
    x = write_nyuv2(tmp_path, "npy")["train"][0]
    np.save(tmp_path / "train/normal/0.npy", x.normals / 2)
    found = split_of(tmp_path)[0]["normals"]
    assert torch.allclose(found.nan_to_num(), moved(x.normals), atol=1e-6)


@pytest.mark.parametrize(
    "axes", [("x", "-y", "-z"), ("-x", "-y", "z"), ("z", "x", "y"), ("-y", "z", "-x")]
)
def test_normal_axes_name_the_files_axis_of_each_of_the_cameras(tmp_path, axes):
    x = write_nyuv2(tmp_path, "npy")["train"][0]
    stored = np.zeros_like(x.normals)
    for camera, axis in enumerate(axes):
        sign = -1 if axis.startswith("-") else 1
        stored[..., "xyz".index(axis[-1])] = sign * x.normals[..., camera]
    np.save(tmp_path / "train/normal/0.npy", stored)
    found = split_of(tmp_path, normal_axes=axes)[0]["normals"]
    assert torch.allclose(found.nan_to_num(), moved(x.normals), atol=1e-6)


@pytest.mark.parametrize("ending", ["npy", "png"])
def test_edges_of_files_are_kept_at_a_smaller_size(tmp_path, ending):
    values = {"train": [make_values(0, SIZE)]}
    write_png(tmp_path, values, edges=ending)
    edges = values["train"][0].edges
    wants = frozenset({"boundary"})
    assert same(split_of(tmp_path, wants=wants)[0]["boundary"], edges[None].astype(np.uint8))
    small = split_of(tmp_path, wants=wants, size=(3, 4))[0]["boundary"]
    assert same(small, edges.reshape(3, 4, 4, 4).any((1, 3))[None].astype(np.uint8))


def test_edges_may_come_from_the_classes(tmp_path):
    write_nyuv2(tmp_path, "png")
    sample = split_of(tmp_path, edges="classes")[0]
    assert same(sample["boundary"], boundaries(ClassMap(sample["segmentation"])))
    assert split_of(tmp_path, wants=frozenset({"boundary"}), edges="classes")[0].keys() == {
        "image",
        "boundary",
    }


@LAYOUTS
def test_the_camera_is_the_kinects_at_the_size_asked_for(tmp_path, layout):
    write_nyuv2(tmp_path, layout)
    full = split_of(tmp_path, size=(480, 640), wants=frozenset({"camera"}))[0]["camera"]
    assert torch.allclose(full.as_subclass(Tensor), KINECT, atol=1e-3)
    small = split_of(tmp_path, size=(288, 384), wants=frozenset({"camera"}))[0]["camera"]
    assert small[0, 0] == pytest.approx(518.8579 * 0.6, rel=1e-6)
    assert small[0, 2] == pytest.approx((324.58245 + 0.5) * 0.6 - 0.5, rel=1e-6)


@LAYOUTS
@pytest.mark.parametrize("name", sorted(ALL))
def test_only_files_of_wanted_labels_must_exist(tmp_path, layout, name):
    write_nyuv2(tmp_path, layout)
    whole = split_of(tmp_path)[1]
    split = split_of(tmp_path, wants=frozenset({name}))
    used = {path for index in range(2) for path in split.files(index).values()}
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        if path not in used and path.parent.name != "gt_sets":
            path.unlink()
    sample = split_of(tmp_path, layout=layout, wants=frozenset({name}))[1]
    assert sample.keys() == {"image", name}
    assert same(sample[name], whole[name].as_subclass(Tensor))


@pytest.mark.parametrize("layout", ["npy", "png"])
def test_missing_labels_are_left_out_where_allowed(tmp_path, layout):
    write_nyuv2(tmp_path, layout)
    files = split_of(tmp_path).files(0)
    for label in files.keys() & {"normals", "boundary"}:
        files[label].unlink()
    sample = split_of(tmp_path, missing_labels="allow")[0]
    left = {"image", "segmentation", "depth", "camera"}
    assert sample.keys() == (left | {"boundary"} if layout == "npy" else left)


@LAYOUTS
def test_a_split_survives_pickling_and_holds_no_open_file(tmp_path, layout):
    write_nyuv2(tmp_path, layout)
    split = split_of(tmp_path)
    split[0]
    again = pickle.loads(pickle.dumps(split))
    assert all(same(value, split[1][name]) for name, value in again[1].items())


@LAYOUTS
def test_splits_share_no_sample(tmp_path, layout):
    write_nyuv2(tmp_path, layout, count=3)
    images = [s["image"].sum().item() for n in ("train", "val") for s in split_of(tmp_path, n)]
    assert len(set(images)) == 6


@LAYOUTS
def test_a_changed_file_changes_the_fingerprint(tmp_path, layout):
    write_nyuv2(tmp_path, layout)
    data = NYUv2(root=str(tmp_path), size=SIZE)
    before = data.fingerprint("train", ALL)
    assert before == data.fingerprint("train", ALL)
    path = data.find("train", ALL)[-1]["image"]
    path.write_bytes(path.read_bytes() + b"\0")
    assert data.fingerprint("train", ALL) != before


def test_it_reads_what_rooms_gives(tmp_path):
    size = (24, 32)
    jobs = all_jobs("rooms", {"train": 2, "val": 2}, 5, size, tmp_path)
    for job in jobs:
        job.write()
    shared = frozenset({"segmentation", "depth"})
    rooms = Rooms(size=size, train=2, val=2, seed=5)
    for split in ("train", "val"):
        frames = [render(room(job.seed), *size) for job in jobs if job.split == split]
        read = split_of(tmp_path, split, shared | {"normals"}, size=size)
        rendered = rooms.build_split(split, shared)
        for sample, x, frame in zip(read, rendered, frames, strict=True):
            assert (sample["image"] - x["image"] / 255).abs().max() <= 1 / 255
            assert all(same(sample[name], x[name].as_subclass(Tensor)) for name in shared)
            normals = moved(frame.normals)
            assert torch.equal(sample["normals"].isnan().all(0), (normals == 0).all(0))
            assert (sample["normals"].nan_to_num() - normals).abs().max() < 1e-6
