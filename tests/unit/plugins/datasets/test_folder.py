import pickle

import numpy as np
import pytest
import torch
from fixtures.layouts_folder import BASELINE, FOCAL, SIZE, fields, put, write_folder
from PIL import Image

from mtlkit.geometry import boundaries, normals_from_depth
from mtlkit.transforms import VOID, ClassMap, DepthMap, DisparityMap, EdgeMap, NormalMap
from mtlkit_plugins.datasets.folder import Folder

EVERYTHING = frozenset(Folder(**fields("/nowhere")).offers)
AS_CLASS = np.full(256, VOID, np.uint8)
AS_CLASS[[7, 26, 27]] = (0, 1, 1)


def data_in(root, **changes):
    return Folder(**fields(root, **changes))


def first_of(root, wants=None, **changes):
    data = data_in(root, **changes)
    return data.build_split("train", frozenset(wants or data.offers))[0]


def label_of(root, name="x", **part):
    """Return the label that a part of a recipe makes of train/x/a.* files."""
    sample = first_of(root, {name}, maps={name: part}, missing_labels="allow")
    return sample[name]


def test_a_sample_holds_what_was_written(tmp_path):
    written = write_folder(tmp_path)["train/a"]
    sample = first_of(tmp_path)
    assert sample.keys() == {"image"} | EVERYTHING
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), written["image"])
    assert np.array_equal(sample["segmentation"].numpy(), AS_CLASS[written["segmentation"]])
    metres = np.where(written["depth"] == 0, np.nan, written["depth"] / 1000).astype(np.float32)
    assert np.array_equal(sample["depth"][0].numpy(), metres, equal_nan=True)
    pixels = np.where(np.isinf(written["disparity"]), np.nan, written["disparity"])
    assert np.array_equal(sample["disparity"][0].numpy(), pixels, equal_nan=True)
    normals = sample["normals"].permute(1, 2, 0).numpy()
    assert np.abs(normals - written["normals"]).max() < 0.01
    assert np.array_equal(sample["boundary"][0].numpy(), written["boundary"] > 127)
    assert sample["depth_at_one"] == pytest.approx(FOCAL * BASELINE)
    assert sample["camera"].tolist() == [[10, 0, 7.5], [0, 10, 5.5], [0, 0, 1]]


def test_offers_are_of_the_kinds_and_units_of_the_recipe():
    offers = data_in("/nowhere").offers
    kinds = {name: spec.kind for name, spec in offers.items()}
    assert kinds["segmentation"] is ClassMap and offers["segmentation"].classes == ("road", "car")
    assert kinds["depth"] is DepthMap and offers["depth"].unit == "m"
    assert kinds["disparity"] is DisparityMap and offers["disparity"].unit == "px"
    assert kinds["normals"] is NormalMap and kinds["boundary"] is EdgeMap
    assert list(offers)[-2:] == ["camera", "depth_at_one"]


def test_any_identifier_is_a_label_and_several_may_be_of_one_kind(tmp_path):
    write_folder(tmp_path)
    more = {
        "kind": "classes",
        "files": "{split}/mask/{id}.png",
        "classes": {"car": 26},
        "void": [7, 27, 255],
    }
    sample = first_of(tmp_path, maps={"vehicles": more})
    assert torch.equal(sample["vehicles"] == 0, sample["vehicles"] != VOID)
    assert sample["segmentation"].max() == VOID


def test_a_list_of_classes_numbers_them_from_0(tmp_path):
    write_folder(tmp_path)
    numbers = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 3
    put(tmp_path / "train/x/a.png", np.where(numbers == 2, 255, numbers).astype(np.uint8))
    part = {"kind": "classes", "files": "{split}/x/{id}.png", "classes": ["no", "yes"]}
    label = label_of(tmp_path, **part, void=[255])
    assert np.array_equal(label.numpy(), np.where(numbers == 2, VOID, numbers))


@pytest.mark.parametrize(
    ("ending", "make"),
    [
        ("png", lambda n: Image.fromarray(n.astype(np.uint8))),
        ("png", lambda n: Image.fromarray(n.astype(np.uint16))),
        ("png", lambda n: Image.fromarray(n.astype(bool))),
        ("tif", lambda n: Image.fromarray(n.astype(np.int32))),
        ("tiff", lambda n: Image.fromarray(n.astype(np.float32))),
        ("bmp", lambda n: Image.fromarray(n.astype(np.uint8))),
        ("npy", lambda n: n.astype(">i4")),
        ("npy", lambda n: n.astype(np.uint64)),
        ("npy", lambda n: n.astype(np.float16)[..., None]),
        ("npy", lambda n: n.astype(bool)),
    ],
)
@pytest.mark.parametrize("kind", ["classes", "depth", "edges"])
def test_every_form_of_file_gives_the_same_numbers(tmp_path, ending, make, kind):
    write_folder(tmp_path)
    numbers = np.random.default_rng(0).integers(0, 2, SIZE)
    made = make(numbers)
    path = tmp_path / f"train/x/a.{ending}"
    path.parent.mkdir()
    np.save(path, made) if ending == "npy" else made.save(path)
    stored = np.array(made).max()  # 1-bit pictures hold True
    part = {
        "classes": {"classes": {"no": 0, "yes": int(stored)}},
        "depth": {"scale": 1, "invalid": []},
        "edges": {},
    }[kind]
    label = label_of(tmp_path, kind=kind, files=f"{{split}}/x/{{id}}.{ending}", **part)
    assert np.array_equal(label.squeeze().numpy(), numbers)


def test_palette_indices_are_class_numbers(tmp_path):
    write_folder(tmp_path)
    picture = Image.new("P", (SIZE[1], SIZE[0]), 1)
    picture.putpalette([200, 0, 0] * 256)
    (tmp_path / "train/x").mkdir()
    picture.save(tmp_path / "train/x/a.png")
    label = label_of(tmp_path, kind="classes", files="{split}/x/{id}.png", classes=["no", "yes"])
    assert (label == 1).all()


def test_numbers_below_0_may_be_void(tmp_path):
    write_folder(tmp_path)
    put(tmp_path / "train/x/a.npy", np.full(SIZE, -1.0))
    part = {"classes": ["a", "b"], "void": [-1]}
    assert (label_of(tmp_path, kind="classes", files="{split}/x/{id}.npy", **part) == VOID).all()


def test_distances_are_number_times_scale_plus_offset(tmp_path):
    written = write_folder(tmp_path)["train/a"]["depth"].astype(np.float64)
    part = {"files": "{split}/depth/{id}.png", "scale": 0.5, "offset": 3, "invalid": [0, 501]}
    for kind in ("depth", "disparity"):
        label = label_of(tmp_path, kind=kind, **part)
        expected = np.where(np.isin(written, [0, 501]), np.nan, written * 0.5 + 3)
        assert np.array_equal(label[0].numpy(), expected.astype(np.float32), equal_nan=True)


def test_a_float_that_binary_cannot_hold_is_found_invalid(tmp_path):
    write_folder(tmp_path)
    put(tmp_path / "train/x/a.npy", np.full(SIZE, -9999.9, np.float32))
    part = {"files": "{split}/x/{id}.npy", "scale": 1, "invalid": [-9999.9]}
    assert label_of(tmp_path, kind="depth", **part).isnan().all()


def test_disparity_becomes_metres_and_their_inverse(tmp_path):
    written = write_folder(tmp_path)["train/a"]["disparity"].astype(np.float64)
    camera = {"focal": [10, 10], "centre": [7.5, 5.5], "baseline": 0.2, "doffs": 3.5}
    files = "{split}/disparity/{id}.npy"
    expected = np.where(np.isfinite(written), 10 * 0.2 / (written + 3.5), np.nan)
    for word, values in (("metres", expected), ("inverse_depth", 1 / expected)):
        part = {"kind": "disparity", "files": files, "scale": 1, "as": word}
        sample = first_of(tmp_path, {"disparity"}, camera=camera, maps={"disparity": part})
        assert np.allclose(sample["disparity"][0].numpy(), values, rtol=1e-6, equal_nan=True)


def test_depth_at_one_is_offered_where_one_number_says_it():
    def at_one(camera=None, **labels):
        maps = {
            name: {"kind": "disparity", "files": "{split}/{id}.npy", "scale": 1, "as": word}
            for name, word in labels.items()
        }
        rig = {"focal": [10, 10], "centre": [7.5, 5.5]} | (camera or {})
        given = fields("/nowhere", camera=rig) | {"maps": maps}
        return Folder(**given).offers.get("depth_at_one")

    rig = {"baseline": 0.2}
    assert at_one(rig, a="disparity") is not None
    assert at_one(rig, a="inverse_depth") is not None
    assert at_one(rig | {"doffs": 3}, a="inverse_depth") is not None
    assert at_one(rig | {"doffs": 3}, a="disparity") is None
    assert at_one(rig, a="metres") is None
    assert at_one(rig, a="disparity", b="inverse_depth") is None
    assert at_one(None, a="disparity") is None


@pytest.mark.parametrize("source", ["depth", "disparity", "metres", "inverse"])
def test_normals_follow_from_depth_and_camera(tmp_path, source):
    write_folder(tmp_path)
    part = {"kind": "disparity", "files": "{split}/disparity/{id}.npy", "scale": 1}
    maps = {
        "metres": part | {"as": "metres"},
        "inverse": part | {"as": "inverse_depth"},
        "normals": {"kind": "normals", "from": source},
    }
    sample = first_of(tmp_path, maps=maps)
    depth = sample["depth"] if source == "depth" else sample["metres"]
    expected = normals_from_depth(depth, sample["camera"])
    assert torch.allclose(sample["normals"], expected, atol=1e-4, equal_nan=True)
    assert first_of(tmp_path, {"normals"}, maps=maps).keys() == {"image", "normals"}


def test_edges_follow_from_classes(tmp_path):
    write_folder(tmp_path)
    sample = first_of(tmp_path, maps={"boundary": {"kind": "edges", "from": "segmentation"}})
    assert torch.equal(sample["boundary"], boundaries(sample["segmentation"]))


def test_normals_of_floats_are_read_and_what_is_no_unit_vector_is_invalid(tmp_path):
    written = write_folder(tmp_path)["train/a"]["normals"].astype(np.float32)
    written[0, :3] = ((0, 0, 0), (np.nan, 0, -1), (0, 0, -0.5))
    put(tmp_path / "train/x/a.npy", written)
    label = label_of(tmp_path, kind="normals", files="{split}/x/{id}.npy")
    assert label[:, 0, :3].isnan().all()
    assert np.allclose(label.permute(1, 2, 0).numpy()[1:], written[1:], atol=1e-6)


def test_axes_are_those_of_the_files_that_are_the_cameras(tmp_path):
    write_folder(tmp_path)
    x, y, z = 0.6, 0.0, -0.8
    put(tmp_path / "train/x/a.npy", np.full((*SIZE, 3), (-z, x, -y)))
    label = label_of(tmp_path, kind="normals", files="{split}/x/{id}.npy", axes=["y", "-z", "-x"])
    assert label[:, 0, 0].tolist() == pytest.approx([x, y, z])


def test_edges_that_are_no_number_are_not_known(tmp_path):
    write_folder(tmp_path)
    values = np.zeros(SIZE, np.float32)
    values[0, :3] = (np.nan, 0.5, 0.51)
    put(tmp_path / "train/x/a.npy", values)
    label = label_of(tmp_path, kind="edges", files="{split}/x/{id}.npy", threshold=0.5)
    assert label[0, 0, :4].tolist() == [VOID, 0, 1, 0]


def test_labels_may_be_larger_or_smaller_than_their_image(tmp_path):
    write_folder(tmp_path, size=(24, 32))
    for label, size in (("mask", (48, 64)), ("depth", (12, 16)), ("edges", (48, 64))):
        values = np.full(size, 7, np.uint16 if label == "depth" else np.uint8)
        if label == "edges":
            values[:] = 0
            values[5, 9] = 200
        put(tmp_path / f"train/{label}/a.png", values)
    sample = first_of(tmp_path, {"segmentation", "depth", "boundary"})
    assert all(value.shape[-2:] == SIZE for value in sample.values())
    assert (sample["segmentation"] == 0).all() and (sample["depth"] == np.float32(0.007)).all()
    assert sample["boundary"].sum() == 1 and sample["boundary"][0, 1, 2] == 1


def test_the_camera_is_fitted_to_the_size_from_that_of_its_calibration(tmp_path):
    write_folder(tmp_path, size=(24, 32))
    camera = {"focal": [40, 42], "centre": [31.5, 23.5], "size": [48, 64]}
    matrix = first_of(tmp_path, {"camera"}, camera=camera)["camera"]
    assert matrix.flatten().tolist() == pytest.approx([10, 0, 7.5, 0, 10.5, 5.5, 0, 0, 1])


def test_a_grey_photo_has_three_equal_channels(tmp_path):
    write_folder(tmp_path)
    grey = np.arange(192).reshape(SIZE).astype(np.uint8)
    put(tmp_path / "train/rgb/a.png", grey)
    image = first_of(tmp_path, {"depth"})["image"]
    assert all(np.array_equal(plane.numpy(), grey) for plane in image)


def test_photos_are_smoothed_when_they_shrink_unless_told_otherwise(tmp_path):
    write_folder(tmp_path, size=(96, 128))
    smooth = first_of(tmp_path, {"depth"})["image"].float()
    sharp = first_of(tmp_path, {"depth"}, image_resize="nearest")["image"].float()
    assert smooth.std() < sharp.std() / 2


def test_samples_survive_pickling(tmp_path):
    write_folder(tmp_path)
    split = data_in(tmp_path).build_split("val", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[1]["image"], split[1]["image"])


def test_settings_survive_the_way_to_a_file(tmp_path):
    data = data_in(tmp_path, val={"share": 0.5}, images="{id}.png", maps=ONE_FOLDER)
    assert Folder.model_validate(data.model_dump(mode="json", by_alias=True)) == data


ONE_FOLDER = {
    name: part | {"files": part["files"].removeprefix("{split}/")}
    for name, part in fields("/nowhere")["maps"].items()
}
