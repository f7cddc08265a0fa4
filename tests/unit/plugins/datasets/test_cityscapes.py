import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels as official_labels
from fixtures.layouts_cityscapes import SIZE, path_of, put, write_cityscapes, write_sample
from PIL import Image

from mtlkit.augmentation import Augmentation
from mtlkit.errors import UsageError
from mtlkit.geometry import boundaries
from mtlkit.transforms import VOID
from mtlkit_plugins.datasets._cityscapes_labels import CATEGORIES, LABELS
from mtlkit_plugins.datasets.cityscapes import Cityscapes

EVERYTHING = frozenset({"segmentation", "depth"})


def sample_of(root: Path, **fields) -> dict[str, torch.Tensor]:
    data = Cityscapes(root=str(root), **({"size": SIZE} | fields))
    return data.build_split("train", EVERYTHING)[0]


def test_disparity_is_p_less_1_over_65536_and_p_up_to_1_is_invalid(tmp_path):
    numbers = write_sample(tmp_path)["disparity"].astype(np.float64)
    depth = sample_of(tmp_path)["depth"]
    expected = np.where(numbers > 1, (numbers - 1) / 65536, np.nan)
    assert np.array_equal(depth[0].numpy(), expected, equal_nan=True)
    assert depth[0, 0, :2].isnan().all()
    assert depth[0, 0, 2:4].tolist() == [1 / 65536, 32256 / 65536]
    assert depth.shape == (1, *SIZE)
    assert depth.dtype == torch.float32


def test_official_validity_keeps_p_1_with_value_0(tmp_path):
    write_sample(tmp_path)
    first = sample_of(tmp_path, disparity_valid="official")["depth"][0, 0, :4]
    assert first[0].isnan()
    assert first[1:].tolist() == [0, 1 / 65536, 32256 / 65536]


def test_numbers_beyond_15_bits_are_read_exactly(tmp_path):
    write_sample(tmp_path)
    put(path_of(tmp_path, "disparity"), np.full(SIZE, 65535, np.uint16))
    assert (sample_of(tmp_path)["depth"] == 65534 / 65536).all()


def test_the_label_table_is_the_official_one():
    assert len(LABELS) == 34
    for label in official_labels:
        if label.id < 0:
            continue
        ours = LABELS[label.id]
        assert (ours.name, ours.colour, ours.has_instances) == (
            label.name,
            label.color,
            label.hasInstances,
        )
        assert ours.train_id == (VOID if label.ignoreInEval else label.trainId)
        assert ours.category == (VOID if label.category == "void" else label.categoryId - 1)
        assert label.category in (*CATEGORIES, "void")


OFFICIAL = {label.id: label for label in official_labels if label.id >= 0}
# Source of the next two: DenseMTL's released code, label id to class.
DENSEMTL_7 = {7: 0, 8: 0, 11: 1, 13: 1, 17: 2, 19: 2, 20: 2, 21: 3, 23: 4, 24: 5, 26: 6, 33: 6}
TRAIN_16 = (7, 8, 11, 12, 13, 17, 19, 20, 21, 23, 24, 25, 26, 28, 32, 33)
EVALUATED = {id_: label for id_, label in OFFICIAL.items() if not label.ignoreInEval}
TABLES = {
    (7, "category"): {i: x.categoryId - 1 for i, x in OFFICIAL.items() if x.category != "void"},
    (7, "strict"): {i: x.categoryId - 1 for i, x in EVALUATED.items()},
    (7, "densemtl"): DENSEMTL_7,
    (16, "category"): {id_: place for place, id_ in enumerate(TRAIN_16)},
    (19, "category"): {i: x.trainId for i, x in EVALUATED.items()},
}


@pytest.mark.parametrize(("classes", "class_map"), TABLES)
def test_every_label_id_becomes_its_class(tmp_path, classes, class_map):
    label_ids = write_sample(tmp_path)["gtFine"]
    assert set(label_ids.flat) == set(OFFICIAL)
    ours = sample_of(tmp_path, classes=classes, class_map=class_map)["segmentation"]
    expected = np.full(34, VOID)
    for label_id, class_id in TABLES[classes, class_map].items():
        expected[label_id] = class_id
    assert np.array_equal(ours.numpy(), expected[label_ids])


@pytest.mark.parametrize("classes", [16, 19])
def test_names_of_classes_are_the_official_ones(classes):
    names = Cityscapes(root="/nowhere", size=SIZE, classes=classes).offers["segmentation"].classes
    table = TABLES[classes, "category"]
    assert names == tuple(OFFICIAL[label_id].name for label_id in table)


def test_a_class_map_for_other_than_seven_classes_is_a_problem():
    data = Cityscapes(root="/nowhere", size=SIZE, classes=19, class_map="strict")
    assert any("class_map: strict is about 7 classes" in text for text in data.problems(None))
    assert not list(Cityscapes(root="/nowhere", size=SIZE, class_map="strict").problems(None))


def test_the_boundary_is_where_classes_meet(tmp_path):
    write_sample(tmp_path)
    wants = frozenset({"segmentation", "boundary"})
    data = Cityscapes(root=str(tmp_path), size=SIZE, classes=19)
    sample = data.build_split("train", wants)[0]
    assert torch.equal(sample["boundary"], boundaries(sample["segmentation"]))
    assert set(sample["boundary"].unique().tolist()) == {0, 1, VOID}
    shutil.rmtree(tmp_path / "disparity")
    assert data.build_split("train", frozenset({"boundary"}))[0].keys() == {"image", "boundary"}


def test_offers_name_classes_and_unit_without_any_file():
    offers = Cityscapes(root="/nowhere", size=SIZE, classes=19).offers
    assert offers["segmentation"].classes[:2] == ("road", "sidewalk")
    assert len(offers["segmentation"].classes) == 19
    assert offers["depth"].unit == "disparity/256"
    assert Cityscapes(root="/nowhere", size=SIZE).offers["segmentation"].classes == CATEGORIES


@pytest.mark.parametrize("size", [(4, 8), (8, 16), (16, 32), (32, 64), (96, 192)])
def test_the_nearest_pixel_is_the_one_that_pillow_takes(tmp_path, size):
    files = write_sample(tmp_path)
    sample = sample_of(tmp_path, size=size)
    turned = (size[1], size[0])
    image = Image.fromarray(files["leftImg8bit"]).resize(turned, Image.Resampling.NEAREST)
    numbers = Image.fromarray(files["disparity"].astype(np.int32))
    numbers = np.array(numbers.resize(turned, Image.Resampling.NEAREST))
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), np.array(image))
    expected = np.where(numbers > 1, (numbers - 1) / 65536, np.nan)
    assert np.array_equal(sample["depth"][0].numpy(), expected, equal_nan=True)


def test_an_antialiased_image_keeps_its_mean_and_leaves_labels_alone(tmp_path):
    image = write_sample(tmp_path)["leftImg8bit"]
    smooth = sample_of(tmp_path, size=(8, 16), image_resize="antialias")
    sharp = sample_of(tmp_path, size=(8, 16))
    assert smooth["image"].shape == sharp["image"].shape == (3, 8, 16)
    assert smooth["image"].float().mean() == pytest.approx(image.mean(), abs=2)
    assert smooth["image"].float().std() < sharp["image"].float().std() / 2
    assert torch.equal(smooth["segmentation"], sharp["segmentation"])


def test_samples_are_sorted_by_city_and_name(tmp_path):
    for city in ("zurich", "aachen", "ulm"):
        write_sample(tmp_path, city=city)
    images = []
    for level, city in enumerate(("aachen", "ulm", "zurich")):
        put(path_of(tmp_path, "leftImg8bit", city=city), np.full((*SIZE, 3), level, np.uint8))
        images.append(level)
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split("train", frozenset())
    assert [int(sample["image"][0, 0, 0]) for sample in split] == images


def test_a_split_holds_its_own_files_and_no_other(tmp_path):
    written = write_cityscapes(tmp_path)
    data = Cityscapes(root=str(tmp_path), size=SIZE)
    files = {}
    for split, expected in written.items():
        found = data.build_split(split, EVERYTHING)
        assert len(found) == len(expected) == 2
        for sample, values in zip(found, expected, strict=True):
            assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), values["leftImg8bit"])
        files[split] = {path for x in data.find(split, EVERYTHING) for path in x.values()}
    assert not files["train"] & files["val"]


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match=r"split 'test': no such split, .*known: train, val"):
        Cityscapes(root="/nowhere", size=SIZE).build_split("test", EVERYTHING)


@pytest.mark.parametrize(("kind", "label"), [("gtFine", "segmentation"), ("disparity", "depth")])
def test_a_sample_may_lack_labels_if_that_is_allowed(tmp_path, kind, label):
    write_cityscapes(tmp_path)
    path_of(tmp_path, kind, frame=1).unlink()
    data = Cityscapes(root=str(tmp_path), size=SIZE, missing_labels="allow")
    whole, partial = data.build_split("train", EVERYTHING)
    assert whole.keys() == {"image"} | EVERYTHING
    assert partial.keys() == {"image"} | EVERYTHING - {label}
    assert data.fingerprint("train", EVERYTHING)


def test_only_wanted_files_must_exist(tmp_path):
    write_sample(tmp_path)
    path_of(tmp_path, "disparity").unlink()
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split(
        "train", frozenset({"segmentation"})
    )
    assert split[0].keys() == {"image", "segmentation"}


def test_a_split_survives_pickling(tmp_path):
    write_sample(tmp_path)
    split = Cityscapes(root=str(tmp_path), size=SIZE).build_split("train", EVERYTHING)
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[0]["image"], split[0]["image"])


def test_a_flip_and_a_crop_move_validity_with_the_pixels(tmp_path):
    write_sample(tmp_path)
    numbers = np.tile(np.where(np.arange(64) < 20, 0, 5000).astype(np.uint16), (32, 1))
    put(path_of(tmp_path, "disparity"), numbers)
    labels = np.where(numbers == 0, 0, 7).astype(np.uint8)
    put(path_of(tmp_path, "gtFine"), labels)
    torch.manual_seed(0)
    for _ in range(8):
        varied = Augmentation(flip=0.5, scale_crop=(1.0, 1.2, 1.5))(sample_of(tmp_path))
        assert torch.equal(varied["depth"][0].isnan(), varied["segmentation"] == VOID)
