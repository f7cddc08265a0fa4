from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.layouts_nyuv2 import make_values, write_mat, write_nyuv2
from torch import Tensor
from torchvision.transforms.v2 import functional

from mtlkit.camera import Intrinsics
from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.transforms import ClassMap, DepthMap
from mtlkit_plugins.datasets._nyuv2_labels import forty_to_class
from mtlkit_plugins.datasets.nyuv2 import NYUv2

SIZE = (12, 16)
ALL = frozenset(NYUv2(root="", size=SIZE).offers)
KINECT = torch.tensor([[518.8579, 0, 324.58245], [0, 519.46961, 252.73617], [0, 0, 1]])


def split_of(root: Path, split: str = "train", wants=ALL, **fields):
    return NYUv2(root=str(root), **({"size": SIZE} | fields)).build_split(split, wants)


def same(found: Tensor, expected: np.ndarray | Tensor) -> bool:
    plain = found.as_subclass(Tensor)
    return torch.equal(plain.nan_to_num(9e9), torch.as_tensor(expected).nan_to_num(9e9))


def with_holes(depth: np.ndarray) -> np.ndarray:
    return np.where(depth > 0, depth, np.nan).astype(np.float32)[None]


@pytest.mark.parametrize(("depth", "field"), [("inpainted", "depth"), ("raw", "raw")])
def test_depth_of_mat_is_as_asked_for(tmp_path, depth, field):
    values = write_nyuv2(tmp_path, "mat")
    for sample, x in zip(split_of(tmp_path, depth=depth), values["train"], strict=True):
        assert same(sample["depth"], with_holes(getattr(x, field)))


def test_files_beside_mat_may_be_of_matlab_7_3(tmp_path):
    values = write_nyuv2(tmp_path, "mat")
    write_mat(tmp_path, values, old=False)
    for sample, x in zip(split_of(tmp_path, "val", classes=40), values["val"], strict=True):
        assert same(sample["segmentation"], forty_to_class(40)[x.forty])


def test_normals_and_boundary_of_mat_are_derived_with_the_kinect(tmp_path):
    write_nyuv2(tmp_path, "mat")
    for sample in split_of(tmp_path, depth="raw"):
        assert same(
            sample["normals"], normals_from_depth(DepthMap(sample["depth"]), sample["camera"])
        )
        assert same(sample["boundary"], boundaries(ClassMap(sample["segmentation"])))


def test_a_plane_in_mat_has_one_normal(tmp_path):
    size = (48, 64)
    x = make_values(0, size)
    full = functional.resize(Intrinsics(KINECT, canvas_size=(480, 640)), list(size))
    down, across = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    rays = (
        full.as_subclass(Tensor).double().inverse()
        @ torch.stack([across, down, torch.ones_like(down)]).flatten(1).double()
    )
    normal = torch.tensor([0.2, -0.6, -0.7]).double()
    normal /= normal.norm()
    x.depth = (-2 / (normal @ rays)).view(size).float().numpy()  # normal · X = −2
    write_mat(tmp_path, {"train": [x], "val": [x]})
    found = split_of(tmp_path, size=size)[0]["normals"][:, 1:-1, 1:-1]
    assert (found - normal[:, None, None]).abs().max() < 1e-4


def test_workers_read_the_mat_file_each_for_itself(tmp_path):
    write_nyuv2(tmp_path, "mat", count=4)
    split = split_of(tmp_path)
    expected = [split[index] for index in range(len(split))]
    loader = torch.utils.data.DataLoader(split, batch_size=None, num_workers=2)
    for sample, x in zip(loader, expected, strict=True):
        assert all(same(value, x[name]) for name, value in sample.items())
