"""Files and recipes that cannot be meant, each told with its place and a cure."""

import io

import numpy as np
import pytest
from fixtures import damage
from fixtures.layouts_folder import PATTERNS, SIZE, fields, put, write_folder
from PIL import Image

import mtlkit
from mtlkit.errors import MtlkitError
from mtlkit_plugins.datasets.folder import Folder

UNREADABLE = ("empty", "cut_short", "only_its_start", "garbage", "a_web_page")
TEXT = """\
plugins: [tiny_encoder.py]
data:
  type: folder
  root: /nowhere
  size: [32, 64]
  images: "rgb/{id}.jpg"
  val: {share: 0.2}
  camera: {focal: [70, 70], centre: [31, 15], baseline: 0.2}
  maps:
    segmentation: {kind: classes, files: "mask/{id}.png", classes: [road, car]}
    depth: {kind: depth, files: "depth/{id}.png", scale: 0.001}
    shift: {kind: disparity, files: "shift/{id}.npy", scale: 1, as: metres}
    normals: {kind: normals, from: depth}
    boundary: {kind: edges, from: segmentation}
loader: {batch_size: 2}
encoder: {type: tiny}
architecture: {type: shared_encoder, width: 8}
tasks: {segmentation: {classes: 2}, depth: {}}
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-3}
train: {epochs: 1, device: cpu, precision: fp32, pictures: 0}
"""


def told(root, wants=None, **changes):
    data = Folder(**fields(root, **changes))
    with pytest.raises(MtlkitError) as caught:
        list(data.build_split("train", frozenset(wants or data.offers)))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("label", PATTERNS)
@pytest.mark.parametrize("how", UNREADABLE)
def test_a_damaged_file_is_named(tmp_path, label, how):
    write_folder(tmp_path)
    path = tmp_path / PATTERNS[label].format(split="train", id="b")
    damage.EVERY[how](path)
    text = told(tmp_path)
    assert text.startswith(f"{path}: cannot be read (")
    assert text.endswith("Unpack or copy this file again")


def turned(orientation):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (SIZE[1], SIZE[0])).save(stream, "PNG", exif=exif)
    return stream.getvalue()


def colours(mode):
    stream = io.BytesIO()
    Image.new(mode, (SIZE[1], SIZE[0])).save(stream, "TIFF" if mode == "CMYK" else "PNG")
    return stream.getvalue()


FULL = np.full(SIZE, 7)
BAD_FILES = {
    "a photo that is turned": ("image", turned(6), ("EXIF orientation 6", "-auto-orient")),
    "a photo with transparency": ("image", colours("RGBA"), ("transparency", "convert('RGB')")),
    "a photo of 16 bits": ("image", FULL.astype(np.uint16), ("I;16", "Save it as 8-bit RGB")),
    "a coloured mask": ("segmentation", colours("RGB"), ("colours", "Save it as grey PNG")),
    "a mask of another photo": (
        "segmentation",
        np.full((16, 12), 7, np.uint8),
        ("16×12", "12×16", "Give the file that belongs"),
    ),
    "an unknown class": (
        "segmentation",
        np.full(SIZE, 9, np.uint8),
        ("holds 9", "data.maps.segmentation knows 7, 26, 27, 255", "void: [255, 9]", "{car: 9}"),
    ),
    "a coloured depth map": ("depth", colours("P"), ("palette", "Save it as grey PNG")),
    "a disparity below 0": (
        "disparity",
        np.full(SIZE, -1.5, np.float32),
        ("holds -1.5", "a disparity below 0", "invalid: [0, -1.5]"),
    ),
    "a disparity of NaN alone": (
        "disparity",
        np.full(SIZE, np.nan, np.float32),
        ("no number that is finite", "Write or copy"),
    ),
    "a disparity of 3 channels": (
        "disparity",
        np.zeros((*SIZE, 3), np.float32),
        ("shape (12, 16, 3)", "(height, width). Save it"),
    ),
    "a disparity of words": ("disparity", np.full(SIZE, "a"), ("holds <U1", "Write it again")),
    "a disparity of complex numbers": ("disparity", FULL * 1j, ("complex128", "Write it again")),
    "a disparity with one axis": ("disparity", np.zeros(5), ("must hold an array", "again")),
    "grey normals": ("normals", FULL.astype(np.uint8), ("(12, 16)", "(height, width, 3)")),
    "normals the wrong way": (
        "normals",
        np.full((*SIZE, 3), (128, 128, 0), np.uint8),
        ("point away", "data.maps.normals.axes", "[x, -y, -z]"),
    ),
    "normals that are none": (
        "normals",
        np.full((*SIZE, 3), (255, 255, 255), np.uint8),
        ("length 1, their median is 1.73", "Save unit normals"),
    ),
    "coloured edges": ("boundary", colours("RGB"), ("colours", "Save it as grey PNG")),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_meant_is_named_with_a_cure(tmp_path, case):
    label, content, says = BAD_FILES[case]
    write_folder(tmp_path)
    path = tmp_path / PATTERNS[label].format(split="train", id="a")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        put(path, content)
    text = told(tmp_path)
    assert text.startswith(f"{path}: ")
    for fragment in says:
        assert fragment in text


def test_negative_depth_is_refused(tmp_path):
    write_folder(tmp_path)
    part = {"kind": "depth", "files": PATTERNS["depth"], "scale": 0.001, "offset": -1}
    text = told(tmp_path, {"depth"}, maps={"depth": part})
    assert "a depth below 0. Correct the file, or data.maps.depth: offset" in text


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ({"centre": [160, 5]}, "data.camera.centre: (160, 5) lies outside of"),
        ({"focal": [1.2, 1.2]}, "data.camera.focal: 1.2 is too short"),
        ({"size": [12, 12]}, "data.camera.size: 12×12 (height×width) has another shape"),
    ],
)
def test_a_camera_that_cannot_be_meant_is_told(tmp_path, camera, says):
    write_folder(tmp_path)
    whole = {"focal": [10, 10], "centre": [7, 5], "baseline": 0.2} | camera
    assert says in told(tmp_path, {"camera"}, camera=whole)


def fault(old, new, line, says):
    return old, new, f"recipe.yaml:{line}: data{says[0]}: ", says[1]


WRONG = [
    fault("{id}.jpg", "*.jpg", 6, (".images", "has no {id}, which stands for")),
    fault("{id}.jpg", "{id}.jgp", 6, (".images", "ends with '.jgp'. Files of these kinds")),
    fault("{id}.jpg", "{id}", 6, (".images", "ends with ''. Files of these kinds")),
    fault("rgb/{id}", "*/{id}", 6, (".images", "holds *, ? or \\. Write / between")),
    fault("rgb/{id}", "/rgb/{id}", 6, (".images", "leaves the folder. Write it from `root`")),
    fault("rgb/{id}", "../{id}", 6, (".images", "leaves the folder. Write it from `root`")),
    fault("rgb/{id}", "{}/{id}", 6, (".images", "a brace is open, or holds no name")),
    fault("rgb/{id}", "{split}/{id}", 7, (".val", "is not needed: `images` has {split}")),
    fault("rgb/{id}", "{a}/{id}", 10, (".maps.segmentation.files", "{a} is in one of")),
    fault("mask/{id}", "{b}/{id}", 10, (".maps.segmentation.files", "{b} is in one of")),
    fault("  val: {share: 0.2}\n", "", 2, (".val", "is missing, and `images` has no {split}")),
    fault("share: 0.2", "share: 20", 7, (".val.share", "must be less than 1, got 20")),
    fault("share: 0.2", "shar: 0.2", 7, (".val.shar", "unknown key 'shar'; did you mean 'share'?")),
    fault("share: 0.2", "share: 0.2, list: a", 7, (".val", "Give exactly one")),
    fault("share: 0.2", "share: 0.2, train_list: a", 7, (".val", "train_list goes with")),
    fault("kind: classes, ", "", 10, (".maps.segmentation", "needs a kind; known: classes")),
    fault("kind: classes", "kind: class", 10, (".maps.segmentation", "did you mean 'classes'?")),
    fault("classes: [", "clases: [", 10, (".maps.segmentation", "unknown key 'clases'; did you")),
    fault(", classes: [road, car]", "", 10, (".maps.segmentation.classes", "is missing. Add")),
    fault("[road, car]", "[car, car]", 10, (".maps.segmentation.classes", "'car' is there tw")),
    fault("[road, car]", "[true, car]", 10, (".maps.segmentation.classes", "true is no text")),
    fault("[road, car]", "{false: 1}", 10, (".maps.segmentation.classes", "in quotes, 'false'")),
    fault("[road, car]", "{a: 1, b: 1}", 10, (".maps.segmentation.classes", "1 has two mean")),
    fault("[road, car]", "{a: x}", 10, (".maps.segmentation.classes.a.0", "whole number")),
    fault("mask/{id}.png", "mask/{id}.jpg", 10, (".maps.segmentation.files", "changes numbers")),
    fault(", scale: 0.001", "", 11, (".maps.depth.scale", "is missing. Add it")),
    fault("scale: 0.001", "scale: 0", 11, (".maps.depth.scale", "must be more than 0")),
    fault("as: metres", "as: meters", 12, (".maps.shift.as", "did you mean 'metres'?")),
    fault(", baseline: 0.2", "", 12, (".maps.shift.as", "metres needs data.camera with focal")),
    fault("baseline: 0.2", "baseline: 193", 8, (".camera.baseline", "Of millimetres, write 0.193")),
    fault(
        "centre", "center", 8, (".camera.center", "unknown key 'center'; did you mean 'centre'?")
    ),
    fault("from: depth", "from: dept", 13, (".maps.normals.from", "did you mean 'depth'?")),
    fault("from: depth", "from: shift, files: a", 13, (".maps.normals", "has `files` and `from`")),
    fault("from: seg", "from: set", 14, (".maps.boundary.from", "did you mean 'segmentation'?")),
    fault(
        "kind: normals, from: depth",
        'kind: normals, files: "{id}.png", axes: [x, y, y]',
        13,
        (".maps.normals.axes", "takes x, y and z, each once"),
    ),
    fault("kind: edges", "kind: depth", 14, (".maps.boundary", "depth follow from no label")),
    fault("    boundary", "    camera", 14, (".maps.camera", "a label's name is an identifier")),
    fault("    boundary", "    my edges", 14, (".maps.my edges", "a label's name is an ident")),
]


@pytest.mark.parametrize(("old", "new", "where", "says"), WRONG, ids=[w[1] for w in WRONG])
def test_a_mistake_in_the_recipe_is_told_at_its_key(tiny, old, new, where, says):
    assert old in TEXT
    path = tiny.parent / "recipe.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(MtlkitError) as caught:
        mtlkit.load_recipe(path)
    found = [line for line in str(caught.value).split("\n") if where.split(": ", 1)[1] in line]
    assert any(says in line for line in found), str(caught.value)
    assert where in str(caught.value).replace(f"{path.parent}/", "")


def test_the_recipe_itself_is_right(tiny):
    (tiny.parent / "recipe.yaml").write_text(TEXT, encoding="utf-8")
    recipe = mtlkit.load_recipe(tiny.parent / "recipe.yaml")
    assert recipe.offers["depth"].unit == recipe.offers["shift"].unit == "m"
