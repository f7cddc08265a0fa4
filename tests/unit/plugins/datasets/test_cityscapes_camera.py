"""What a camera's file adds: metres, normals, the matrix and the metres at one."""

import json
import shutil

import numpy as np
import pytest
import torch
from fixtures.layouts_cityscapes import CAMERA, SIZE, path_of, put, write_cityscapes, write_sample

from mtlkit.geometry import normals_from_depth
from mtlkit.transforms import DepthMap, DisparityMap
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.street import street
from mtlkit_plugins.datasets._scenes.writing import all_jobs
from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.streets import Streets

FOCAL_BASELINE = 2262.52 * 0.209313  # pixels times metres
FULL = (1024, 2048)


def sample_of(root, wants, **fields):
    data = Cityscapes(root=str(root), **({"size": SIZE} | fields))
    return data.build_split("train", frozenset(wants))[0]


def plain(value):
    return value.as_subclass(torch.Tensor)


@pytest.mark.parametrize(("valid", "least"), [("positive", 2), ("official", 1)])
def test_inverse_depth_is_disparity_over_focal_length_and_baseline(tmp_path, valid, least):
    numbers = write_sample(tmp_path)["disparity"].astype(np.float64)
    fields = {"depth": "inverse_depth", "disparity_valid": valid}
    depth = sample_of(tmp_path, {"depth"}, **fields)["depth"]
    expected = np.where(numbers >= least, (numbers - 1) / 256 / FOCAL_BASELINE, np.nan)
    assert isinstance(depth, DisparityMap)
    assert np.allclose(depth[0].numpy(), expected, rtol=1e-6, equal_nan=True)
    assert Cityscapes(root="/nowhere", size=SIZE, **fields).offers["depth"].unit == "1/m"


@pytest.mark.parametrize("valid", ["positive", "official"])
def test_metres_are_focal_length_times_baseline_over_disparity(tmp_path, valid):
    numbers = write_sample(tmp_path)["disparity"].astype(np.float64)
    fields = {"depth": "metres", "disparity_valid": valid}
    depth = sample_of(tmp_path, {"depth"}, **fields)["depth"]
    with np.errstate(divide="ignore"):
        expected = np.where(numbers > 1, FOCAL_BASELINE * 256 / (numbers - 1), np.nan)
    assert isinstance(depth, DepthMap)
    assert np.allclose(depth[0].numpy(), expected, rtol=1e-6, equal_nan=True)
    offers = Cityscapes(root="/nowhere", size=SIZE, **fields).offers
    assert offers["depth"].unit == "m" and "depth_at_one" not in offers


@pytest.mark.parametrize("depth", ["disparity", "inverse_depth"])
def test_depth_at_one_turns_the_label_into_metres(tmp_path, depth):
    write_sample(tmp_path)
    sample = sample_of(tmp_path, {"depth", "depth_at_one"}, depth=depth)
    metres = sample_of(tmp_path, {"depth"}, depth="metres")["depth"]
    assert sample["depth_at_one"].shape == () and sample["depth_at_one"].dtype == torch.float32
    assert torch.allclose(
        plain(sample["depth_at_one"] / sample["depth"]), plain(metres), rtol=1e-6, equal_nan=True
    )


@pytest.mark.parametrize("size", [FULL, (512, 1024), (32, 64), (30, 100)])
def test_the_camera_sees_a_point_at_the_same_part_of_the_image_at_every_size(tmp_path, size):
    write_sample(tmp_path)
    camera = sample_of(tmp_path, {"camera"}, size=size)["camera"]
    inner = CAMERA["intrinsic"]
    u, v, one = plain(camera) @ torch.tensor([1.5, -0.7, 12.0]) / 12.0
    assert camera.canvas_size == size and one == 1
    across = (inner["fx"] * 1.5 / 12 + inner["u0"] + 0.5) / 2048
    down = (inner["fy"] * -0.7 / 12 + inner["v0"] + 0.5) / 1024
    assert (float(u) + 0.5) / size[1] == pytest.approx(across, abs=1e-6)
    assert (float(v) + 0.5) / size[0] == pytest.approx(down, abs=1e-6)


def test_a_resized_image_shows_a_point_where_its_camera_projects_it(tmp_path):
    write_sample(tmp_path, (64, 128))
    inner, scale = CAMERA["intrinsic"], 128 / 2048
    x = (inner["fx"] * -0.1 + inner["u0"] + 0.5) * scale - 0.5
    y = (inner["fy"] * 0.05 + inner["v0"] + 0.5) * scale - 0.5
    down, across = np.mgrid[:64, :128]
    blob = 255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 50)
    put(path_of(tmp_path, "leftImg8bit"), np.dstack([blob.round().astype(np.uint8)] * 3))
    sample = sample_of(tmp_path, {"camera"}, size=(32, 64), image_resize="antialias")
    light = sample["image"][0].double()
    centre = [
        (light.sum(axis) * torch.arange(n)).sum() / light.sum() for axis, n in ((0, 64), (1, 32))
    ]
    u, v, _ = plain(sample["camera"]).double() @ torch.tensor([-0.1, 0.05, 1.0]).double()
    assert float(centre[0]) == pytest.approx(float(u), abs=0.05)
    assert float(centre[1]) == pytest.approx(float(v), abs=0.05)


@pytest.mark.parametrize("depth", ["disparity", "inverse_depth", "metres"])
def test_normals_are_those_of_depth_in_metres_whatever_the_label_is(tmp_path, depth):
    write_sample(tmp_path)
    metres = sample_of(tmp_path, {"depth", "camera"}, depth="metres")
    expected = normals_from_depth(metres["depth"], metres["camera"])
    sample = sample_of(tmp_path, {"normals"}, depth=depth)
    assert sample.keys() == {"image", "normals"}
    assert torch.equal(sample["normals"].nan_to_num(), expected.nan_to_num())
    assert sample["normals"][:, SIZE[0] // 2 + 1 : -1, 1:-1].isfinite().all()


@pytest.mark.parametrize(
    ("wants", "depth", "folders"),
    [
        ("depth", "disparity", {"disparity"}),
        ("depth", "inverse_depth", {"disparity", "camera"}),
        ("depth", "metres", {"disparity", "camera"}),
        ("normals", "disparity", {"disparity", "camera"}),
        ("camera", "disparity", {"camera"}),
        ("depth_at_one", "disparity", {"camera"}),
    ],
)
def test_only_files_that_a_label_comes_from_must_exist(tmp_path, wants, depth, folders):
    write_sample(tmp_path)
    for kind in {"gtFine", "disparity", "camera"} - folders:
        shutil.rmtree(tmp_path / kind)
    assert sample_of(tmp_path, {wants}, depth=depth).keys() == {"image", wants}


def test_a_sample_without_a_camera_lacks_what_needs_it(tmp_path):
    write_cityscapes(tmp_path)
    path_of(tmp_path, "camera", frame=0).unlink()
    extras = {"camera", "depth_at_one"}
    assert sample_of(tmp_path, extras | {"depth"}).keys() == {"image", "depth"}
    labels = {"depth", "normals", "segmentation"}
    allowed = {"missing_labels": "allow", "depth": "metres"}
    assert sample_of(tmp_path, labels | {"camera"}, **allowed).keys() == {"image", "segmentation"}


def test_rendered_files_are_read_as_the_renderer_meant_them(tmp_path):
    (job,) = all_jobs("streets", {"train": 1}, 0, SIZE, tmp_path)
    job.write()
    frame = render(street(0), *SIZE)
    sample = sample_of(tmp_path, {"camera", "depth", "depth_at_one"})
    assert np.allclose(plain(sample["camera"]).numpy(), frame.intrinsics, rtol=1e-5)
    metres = sample_of(tmp_path, {"depth"}, depth="metres")["depth"][0].numpy()
    seen = (frame.depth > 1.9) & (frame.depth < 40)
    assert np.allclose(metres[seen], frame.depth[seen], rtol=2e-3)  # 1/256 px of disparity
    wants = frozenset({"depth_at_one"})
    rendered = Streets(size=SIZE, train=1, val=1).build_split("train", wants)[0]
    assert torch.allclose(rendered["depth_at_one"], sample["depth_at_one"], rtol=1e-6)


def test_the_camera_file_has_the_official_form(tmp_path):
    (job,) = all_jobs("streets", {"train": 1}, 0, SIZE, tmp_path)
    job.write()
    written = json.loads(job.paths["camera"].read_text(encoding="utf-8"))
    assert {k: set(v) for k, v in written.items()} == {k: set(v) for k, v in CAMERA.items()}
