import os

import numpy as np
import pytest
from fixtures import damage as damages
from fixtures.layouts_folder import PATTERNS, SIZE, fields, put, write_folder

from mtlkit.errors import MissingError, UsageError
from mtlkit_plugins.datasets._folder_splits import Validation
from mtlkit_plugins.datasets.folder import Folder

MASK = {"kind": "classes", "files": "mask/{id}.png", "classes": ["no", "yes"]}


def put_pair(root, name, image="rgb/{}.jpg", mask="mask/{}.png"):
    put(root / image.format(name), np.zeros((*SIZE, 3), np.uint8))
    put(root / mask.format(name), np.zeros(SIZE, np.uint8))


def data_in(root, **changes):
    given = {"images": "rgb/{id}.jpg", "val": {"share": 0.5}, "maps": {"mask": MASK}}
    return Folder(root=str(root), size=SIZE, **(given | changes))


def names(root, split, **changes):
    return [f["image"].stem for f in data_in(root, **changes).find(split, frozenset({"mask"}))]


def told(root, split="train", error=MissingError, **changes):
    with pytest.raises(error) as caught:
        data_in(root, **changes).find(split, frozenset({"mask"}))
    return str(caught.value)


def ten(root):
    for i in range(10):
        put_pair(root, f"{i:02}")
    return [f"{i:02}" for i in range(10)]


def test_without_split_in_the_pattern_a_share_validates(tmp_path):
    everything = ten(tmp_path)
    train, val = names(tmp_path, "train"), names(tmp_path, "val")
    assert train and val and sorted(train + val) == everything
    assert train == sorted(train) and val == sorted(val)
    assert names(tmp_path, "val", val={"share": 0.5, "seed": 1}) != val


@pytest.mark.parametrize(
    ("share", "count", "expected"),
    [(0.2, 4000, 800), (0.2, 10, 2), (0.01, 5, 1), (0.99, 5, 4), (0.5, 2, 1), (0.3, 7, 2)],
)
def test_a_share_is_exactly_that_part_and_neither_none_nor_all(share, count, expected):
    for seed in range(5):
        parted = Validation(share=share, seed=seed).parted(None, [str(i) for i in range(count)])
        assert (len(parted["val"]), len(parted["train"])) == (expected, count - expected)


def test_more_files_move_names_between_the_splits_in_one_direction_alone():
    early, late = [str(i) for i in range(50)], [str(i) for i in range(80)]
    for seed in range(20):
        part = Validation(share=0.2, seed=seed)
        before, after = (set(part.parted(None, n)["val"]) & set(early) for n in (early, late))
        assert before <= after or after <= before
        assert len(before ^ after) < 8


def test_a_list_names_what_validates(tmp_path):
    ten(tmp_path)
    (tmp_path / "val.txt").write_bytes("\ufeff03\r\n\r\n 07 \r\n".encode())
    assert names(tmp_path, "val", val={"list": "val.txt"}) == ["03", "07"]
    assert len(names(tmp_path, "train", val={"list": "val.txt"})) == 8
    (tmp_path / "train.txt").write_text("01\n00\n")
    lists = {"list": "val.txt", "train_list": "train.txt"}
    assert names(tmp_path, "train", val=lists) == ["00", "01"]


def test_names_that_match_validate(tmp_path):
    ten(tmp_path)
    assert names(tmp_path, "val", val={"matching": "0[1-3]"}) == ["01", "02", "03"]


def test_other_placeholders_are_part_of_the_name(tmp_path):
    for scene in ("hall", "roof"):
        put_pair(tmp_path, f"{scene}/1", "{}_rgb.png", "masks/{}.png")
    parts = {
        "images": "{scene}/{id}_rgb.png",
        "maps": {"mask": MASK | {"files": "masks/{scene}/{id}.png"}},
    }
    data = data_in(tmp_path, val={"matching": "roof/*"}, **parts)
    (train,), (val,) = (data.find(split, frozenset({"mask"})) for split in ("train", "val"))
    assert train["image"] == tmp_path / "hall/1_rgb.png"
    assert val["mask"] == tmp_path / "masks/roof/1.png"


def test_a_placeholder_may_come_twice(tmp_path):
    for name in ("hall/hall_1", "hall/roof_2", "roof/roof_3"):
        put_pair(tmp_path, name)
    parts = {
        "images": "rgb/{scene}/{scene}_{id}.jpg",
        "maps": {"mask": MASK | {"files": "mask/{scene}/{scene}_{id}.png"}},
        "val": {"matching": "roof/*"},
    }
    assert names(tmp_path, "train", **parts) == ["hall_1"]
    assert names(tmp_path, "val", **parts) == ["roof_3"]


def test_brackets_in_folder_names_and_hidden_files_do_no_harm(tmp_path):
    root = tmp_path / "my [data]*"
    put_pair(root, "1", "rgb [new]/{}.jpg")
    put_pair(root, "2", "rgb [new]/{}.jpg")
    (root / "rgb [new]/._1.jpg").write_bytes(b"written by a Mac")
    parts = {"images": "rgb [new]/{id}.jpg", "val": {"matching": "2"}}
    assert names(root, "train", **parts) == ["1"]


def test_only_files_of_wanted_labels_must_exist(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "train/depth").iterdir():
        path.unlink()
    data = Folder(**fields(tmp_path))
    assert data.find("train", frozenset({"segmentation"}))[0].keys() == {"image", "segmentation"}
    with pytest.raises(MissingError, match=r"depth\.files: of 2 files, 2 are missing"):
        data.find("train", frozenset({"depth"}))


def test_allowed_to_be_missing_a_label_is_left_out(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train/depth/a.png").unlink()
    (tmp_path / "train/mask/b.png").unlink()
    data = Folder(**fields(tmp_path, missing_labels="allow"))
    wants = frozenset({"depth", "segmentation", "camera"})
    a, b = data.build_split("train", wants)
    assert a.keys() == {"image", "segmentation", "camera"}
    assert b.keys() == {"image", "depth", "camera"}


def test_a_label_that_no_image_has_is_a_wrong_pattern_even_where_labels_may_be_missing(tmp_path):
    ten(tmp_path)
    maps = {"mask": MASK | {"files": "mask/{id}_m.png"}}
    text = told(tmp_path, maps=maps, missing_labels="allow")
    assert text.startswith("data.maps.mask.files: no file of ")
    assert f"called mask/{{id}}_m.png; {tmp_path}/mask holds 00.png, 01.png, 02.png and 7" in text


def test_the_fingerprint_follows_files_and_splits(tmp_path):
    ten(tmp_path)
    data, wants = data_in(tmp_path), frozenset({"mask"})
    before = data.fingerprint("train", wants)
    assert data.fingerprint("train", wants) == before
    assert data.fingerprint("val", wants) != before
    first = data.find("train", wants)[0]["mask"]
    os.utime(first, (1, 1))
    assert data.fingerprint("train", wants) != before


def test_an_unknown_split_is_refused(tmp_path):
    ten(tmp_path)
    text = told(tmp_path, "tain", UsageError)
    assert text == "split 'tain': no such split, did you mean 'train'? known: train, val"


def test_a_missing_root_is_named(tmp_path):
    assert told(tmp_path / "x").startswith(f"data.root: '{tmp_path / 'x'}' is not a folder. Give")


@pytest.mark.parametrize(
    ("pattern", "where"),
    [
        ("rgb/{id}.jpeg", "/rgb holds 00.jpg, 01.jpg, 02.jpg and 7 more. Correct the pattern"),
        ("photos/{id}.jpg", " holds mask, rgb. Correct"),
        ("rgb/{id}/photo.jpg", "/rgb holds 00.jpg, 01.jpg, 02.jpg and 7 more. Correct"),
        ("{folder}/{id}.bmp", "/mask holds 00.png, 01.png, 02.png and 7 more. Correct"),
    ],
)
def test_a_pattern_that_finds_nothing_is_told_with_what_is_there(tmp_path, pattern, where):
    ten(tmp_path)
    maps = {"mask": MASK}
    if "{folder}" in pattern:
        maps = {"mask": MASK | {"files": "{folder}/{id}.png"}}
    text = told(tmp_path, images=pattern, maps=maps)
    assert text.startswith(f"data.images: no file of {tmp_path} is called {pattern}; {tmp_path}")
    assert where in text


def test_photos_with_another_ending_in_capitals_are_told_and_not_left_out(tmp_path):
    ten(tmp_path)
    put_pair(tmp_path, "DSC1", "rgb/{}.png")
    (tmp_path / "rgb/DSC1.png").rename(tmp_path / "rgb/DSC1.JPG")
    text = told(tmp_path)
    assert "data.images: 1 files differ from rgb/{id}.jpg in capital letters alone" in text
    assert "rgb/DSC1.JPG. Rename them" in text
    assert "rgb holds 00.jpg" in told(tmp_path, images="rgb/{id}.bmp")


def test_photos_with_another_ending_are_told_and_not_left_out(tmp_path):
    everything = ten(tmp_path)
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._hidden.png", "00.png"):
        (tmp_path / "rgb" / name).write_bytes(b"no photo, or one that has its twin")
    assert names(tmp_path, "train") + names(tmp_path, "val") != []
    for ending in ("jpeg", "png"):
        put_pair(tmp_path, f"new_{ending}", f"rgb/{{}}.{ending}")
    text = told(tmp_path)
    assert "data.images: 2 photos have another ending than rgb/{id}.jpg and would be left" in text
    assert "rgb/new_jpeg.jpeg, rgb/new_png.png. Rename or convert them" in text
    assert len(everything) == 10


def test_labels_beside_their_photos_are_no_photos_that_are_left_out(tmp_path):
    for i in range(4):
        put_pair(tmp_path, f"{i}", "{}.jpg", "{}_mask.png")
        put(tmp_path / f"{i}_depth.tif", np.zeros(SIZE, np.uint8))
    maps = {
        "mask": MASK | {"files": "{id}_mask.png"},
        "depth": {"kind": "depth", "files": "{id}_depth.tif", "scale": 1},
    }
    for kept in (maps, {"mask": maps["mask"]}):
        train, val = (names(tmp_path, s, images="{id}.jpg", maps=kept) for s in ("train", "val"))
        assert sorted(train + val) == ["0", "1", "2", "3"]


def test_an_empty_folder_is_told(tmp_path):
    (tmp_path / "rgb").mkdir()
    assert f"{tmp_path}/rgb is empty. Correct" in told(tmp_path)


def test_a_split_without_images_is_told(tmp_path):
    ten(tmp_path)
    text = told(tmp_path, "val", val={"matching": "x*"})
    assert text == "data.val: leaves nothing of 10 images to val. Change it"
    write_folder(tmp_path / "b")
    for path in (tmp_path / "b/val/rgb").iterdir():
        path.unlink()
    with pytest.raises(MissingError, match=r"data\.images: no file of .* val/rgb/\{id\}\.png;"):
        Folder(**fields(tmp_path / "b")).find("val", frozenset())


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({"val": "00\n00.jpg\n"}, "val.txt:2: no image is called '00.jpg'; did you mean '00'?"),
        ({"val": "00\n\n00\n"}, "val.txt:3: '00' is there twice. Remove one"),
        ({"val": "00\n", "train": "01\n00\n"}, "val.txt and train.txt share 00. Name every"),
        ({"val": "00\n", "train": None}, "data.val.train_list: "),
        ({"val": "hall\n"}, "val.txt:1: no image is called 'hall'; one is '00'. Write what {id}"),
        ({"val": None}, "val.txt is no file. Give one with a name a line"),
        ({"val": "00\n".encode("utf-16")}, "val.txt: is not text in UTF-8. Save it as UTF-8"),
        ({"val": "00\n".encode("utf-16-le")}, "val.txt: is not text in UTF-8. Save it as UTF-8"),
        ({"val": "rgb\\00\n"}, "val.txt:1: 'rgb\\\\00' has a backslash. Write / for it"),
        ({"val": "\n"}, "data.val: leaves nothing of 10 images to val"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(tmp_path, lists, says):
    ten(tmp_path)
    for name, content in lists.items():
        if content is not None:
            content = content.encode() if isinstance(content, str) else content
            (tmp_path / f"{name}.txt").write_bytes(content)
    keys = {"val": "list", "train": "train_list"}
    assert says in told(tmp_path, "val", val={keys[name]: f"{name}.txt" for name in lists})


def test_a_label_file_of_both_splits_is_refused(tmp_path):
    for split in ("train", "val"):
        put_pair(tmp_path, f"{split}/1", "{}.jpg", "x/{}.png")
        put_pair(tmp_path, "1", "rest/{}.jpg")
    text = told(tmp_path, images="{split}/{id}.jpg", val=None)
    assert text == (
        f"data: train and val share {tmp_path}/mask/1.png. Use {{split}} in every pattern, or give "
        "the samples of val other names"
    )


@pytest.mark.parametrize("label", PATTERNS)
@pytest.mark.parametrize("damage", ["gone", "a_folder", "a_dangling_link"])
def test_a_file_that_is_none_is_named(tmp_path, label, damage):
    write_folder(tmp_path)
    path = tmp_path / PATTERNS[label].format(split="train", id="b")
    damages.EVERY[damage](path)
    data = Folder(**fields(tmp_path))
    if label == "image" and damage == "gone":
        assert len(data.find("train", frozenset(data.offers))) == 1
        return
    with pytest.raises(MissingError) as caught:
        data.find("train", frozenset(data.offers))
    assert str(path.relative_to(tmp_path)) in str(caught.value)
    assert any(cure in str(caught.value) for cure in (". Add them", ". Copy it again, or rem"))
