"""Options, environment, data and devices that are not what they must be."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty import Case, assert_told, edited, lay_out, run, snapshot
from PIL import Image

STREETS = "{type: streets, size: [32, 64], train: 2, val: 2}"
CITY = edited((STREETS, '{type: cityscapes, root: "${CITYSCAPES_ROOT}", size: [32, 64]}'))
RESNET = "{type: resnet, depth: 18, weights: %s}"
ROOT = {"CITYSCAPES_ROOT": "root"}
NOWHERE = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def city(**replaced: bytes | None) -> dict[str, bytes]:
    """Return one scene a split in the folders of Cityscapes, some of its files replaced."""
    made = {
        "leftImg8bit": png(np.zeros((32, 64, 3), np.uint8)),
        "gtFine": png(np.full((32, 64), 7, np.uint8)),
        "disparity": png(np.full((32, 64), 900, np.uint16)),
    } | replaced
    ends = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds", "disparity": "disparity"}
    return {
        f"root/{top}/{split}/bonn/bonn_000000_000000_{ends[top]}.png": content
        for top, content in made.items()
        for split in ("train", "val")
        if content is not None
    }


def said(name: str, command: str, code: int, *says: str, **more: object) -> Case:
    return Case(name, command, code, says, **more)  # type: ignore[arg-type]


def setting(name: str, value: str, *says: str) -> Case:
    return Case(name, f"check recipe.yaml --set {shlex.quote(value)}", 2, says)


SETTINGS = [
    setting("--set without =", "train.epochs", "--set train.epochs: write KEY=VALUE"),
    setting("--set without a key", "=3", "write KEY=VALUE"),
    setting("--set a misspelt key", "train.epoch=1", "--set: train.epoch: ", "mean 'epochs'?"),
    setting("--set what is no YAML", "train.epochs=[", "--set train.epochs: not valid YAML"),
    setting("--set below a value", "train.epochs.x=1", "'epochs' holds a value and no keys"),
    setting("--set past the end", "edges.7.weight=0.1", "no entry 7. The list has 1 entries"),
    setting("--set a negative entry", "edges.-1.weight=1", "no entry -1"),
    setting("--set an empty part", "train..epochs=1", "words joined by dots"),
    setting("--set another type", "train.epochs=two", "--set: train.epochs: must be a whole"),
    setting("--set nothing", "tasks=", "--set: tasks: must be a mapping of keys", "got nothing"),
    setting("--set an alias of itself", "train.epochs=&a [*a]", "refers to itself"),
    setting("--set a variable that is not set", "seed=${UNSET}", "--set: seed: ", "UNSET"),
]
OPTIONS = [
    said("an unknown option", "run recipe.yaml --epochs 3", 2, "No such option: --epochs"),
    said("an unknown command", "trian recipe.yaml", 2, "No such command 'trian'"),
    said("no recipe", "run", 2, "Missing argument"),
    said("an unknown device", "run recipe.yaml --device tpu", 2, "train.device: ", "got 'tpu'"),
    said("an unknown split", "eval recipe.yaml --split test", 2, "--split test", "train, val"),
    said("a recipe is no checkpoint", "eval recipe.yaml", 4, "recipe.yaml: ", "Use another"),
    said("no checkpoint", "eval nope.pt", 4, "nope.pt: no such checkpoint. Give a run folder"),
    said("a folder without one", "eval empty", 4, "empty: no checkpoint", files={"empty/x": ""}),
    said("--out is a file", "run recipe.yaml --out x", 4, "with --out", files={"x": "kept"}),
    said("--resume nowhere", "run recipe.yaml --resume no", 4, "no/last.pt: no such checkpoint"),
    said("an unknown recipe", "recipes copy xtascnet_street", 2, "mean 'xtascnet_streets'?"),
    said("a copy onto a file", "recipes copy xtascnet_streets recipe.yaml", 2, "recipe.yaml"),
    said("two processes", "run recipe.yaml", 2, "RANK is not set", env={"WORLD_SIZE": "2"}),
    said("many processes", "run recipe.yaml", 2, "is 'many'", env={"WORLD_SIZE": "many"}),
    said(
        "fewer samples than a batch",
        "run recipe.yaml --set loader.batch_size=9 --set loader.drop_last=true",
        2,
        "loader.drop_last: leaves no batch of 2 samples. Write false",
    ),
    said(
        "a last batch that batch norm cannot train",
        "run recipe.yaml --set data.train=3 --set loader.batch_size=2 --set data.size=[32,32]",
        2,
        "loader.drop_last: the last batch has one sample",
        "Write true",
        recipe=edited(("{type: tiny}", RESNET % "null")),
    ),
]
DATA = [
    said("no root", "run recipe.yaml", 2, "recipe.yaml:3: data.root: ", "export CITY", recipe=CITY),
    said(
        "an empty root variable",
        "run recipe.yaml",
        2,
        "is not set, or empty",
        recipe=CITY,
        env={"CITYSCAPES_ROOT": ""},
    ),
    said("a missing root", "run recipe.yaml", 4, "is not a folder. Give", recipe=CITY, env=ROOT),
    said(
        "an empty root",
        "run recipe.yaml",
        4,
        "lacks leftImg8bit/train",
        "Unpack",
        recipe=CITY,
        env=ROOT,
        files={"root/x": ""},
    ),
    said(
        "no labels",
        "run recipe.yaml",
        4,
        "lacks gtFine/train",
        recipe=CITY,
        env=ROOT,
        files=city(gtFine=None),
    ),
    said(
        "one missing label",
        "run recipe.yaml",
        4,
        "1 of 3 files are missing: gtFine/train/bonn",
        recipe=CITY,
        env=ROOT,
        files={k: v for k, v in city().items() if "gtFine/train" not in k}
        | {"root/gtFine/train/x": b""},
    ),
    said(
        "no such weights",
        "run recipe.yaml",
        4,
        "no file 'no.pth'",
        recipe=edited(("{type: tiny}", RESNET % "no.pth")),
    ),
    said(
        "weights that are text",
        "run recipe.yaml",
        4,
        "'w.pth' cannot be read as a state dict",
        recipe=edited(("{type: tiny}", RESNET % "w.pth")),
        files={"w.pth": "hello"},
    ),
    said(
        "nothing to begin from",
        "run recipe.yaml",
        4,
        "no.pt: no such checkpoint",
        recipe=edited(("epochs: 1", "epochs: 1, init_from: no.pt")),
    ),
]


@pytest.mark.parametrize("case", [*SETTINGS, *OPTIONS, *DATA], ids=lambda case: case.name)
def test_a_wrong_command_is_told_in_words(case: Case, refuse: Callable[[Case], None]) -> None:
    refuse(case)


@pytest.mark.parametrize("command", ["check", "explain"])
def test_data_need_not_be_there_to_look_at_a_recipe(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(CITY, encoding="utf-8")
    code, _ = run(f"{command} recipe.yaml", capfd)
    assert code == 0


def test_weights_that_cannot_be_downloaded_are_told_at_once(
    tmp_path: Path, refuse: Callable[[Case], None]
) -> None:
    recipe = edited(("{type: tiny}", RESNET % "imagenet"))
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)  # torch makes it before it downloads
    says = ("resnet18", "cannot be downloaded. Put the file there, or set `weights: null`")
    env = NOWHERE | {"TORCH_HOME": str(tmp_path / "torch")}
    refuse(Case("offline", "run recipe.yaml", 4, says, recipe, env=env))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_told(refuse: Callable[[Case], None]) -> None:
    says = ("train.device: cuda: ", "sees 0 CUDA devices", "--device cpu")
    refuse(Case("cuda", "run recipe.yaml --device cuda", 4, says))


def test_a_damaged_picture_ends_the_run_and_harms_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = city(disparity=b"\x89PNG\r\n\x1a\n broken")
    case = said(
        "damaged",
        "run recipe.yaml",
        4,
        "disparity.png: cannot be read",
        "Unpack",
        recipe=CITY,
        files=files,
        env=ROOT,
    )
    lay_out(case, tmp_path, monkeypatch)
    before = snapshot(tmp_path)
    code, text = run(case.command, capfd)
    assert_told(code, text, case)
    assert before.items() <= snapshot(tmp_path).items()


@pytest.mark.parametrize(
    "case",
    [
        said(
            "an edge",
            "check recipe.yaml",
            2,
            "recipe.yaml:11: edges.0.to: ",
            recipe=edited(("to: depth", "to: x")),
        ),
        said(
            "a plugin",
            "check recipe.yaml --plugin bad.py",
            3,
            "bad.py:1: ",
            files={"bad.py": "def (\n"},
        ),
        said("data", "run recipe.yaml", 4, "is not a folder", recipe=CITY, env=ROOT),
    ],
    ids=lambda case: case.name,
)
def test_a_real_process_says_the_same(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    lay_out(case, tmp_path, monkeypatch)
    before = snapshot(tmp_path)
    command = [sys.executable, "-m", "mtlkit", *shlex.split(case.command)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert_told(done.returncode, done.stdout + done.stderr, case)
    assert not done.stdout  # results go there, talk to stderr
    assert snapshot(tmp_path) == before
