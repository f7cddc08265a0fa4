"""The guide to one's own data does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import ROOT, write_files
from fixtures.layouts_folder import put
from ruamel.yaml import YAML

import mtlkit
from mtlkit_plugins.datasets.folder import Folder

PAGE = ROOT / "docs" / "own_data.md"
SMALL = {
    "data.size": [32, 64],
    "loader.batch_size": 2,
    "loader.workers": 0,
    "encoder.depth": 18,
    "architecture.width": 8,
    "train.epochs": 1,
    "train.device": "cpu",
    "data.val": {"matching": "000[45]"},
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of the page beside the folders that it shows."""
    random = np.random.default_rng(0)
    for i in range(6):
        folder, name = tmp_path / "MY_DATA", f"{i:04}"
        put(folder / f"photos/{name}.jpg", random.integers(0, 256, (48, 96, 3)).astype(np.uint8))
        put(folder / f"masks/{name}.png", random.choice([0, 1, 255], (48, 96)).astype(np.uint8))
        put(folder / f"depth/{name}.png", random.integers(0, 9000, (48, 96)).astype(np.uint16))
    monkeypatch.setenv("MY_DATA", str(tmp_path / "MY_DATA"))
    write_files(tmp_path, PAGE)
    return tmp_path / "own.yaml"


def test_the_recipe_to_start_from_trains_two_steps(own: Path) -> None:
    recipe = mtlkit.load_recipe(own, SMALL, blocked=["progress"])
    run = mtlkit.Run(recipe, out=own.parent / "runs")
    run.fit()
    assert run.folder is not None
    text = (run.folder / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    metrics = [line["metrics"] for line in lines if line["split"] == "val"][-1]
    assert 0 <= metrics["segmentation/miou"] <= 1
    assert 0 < metrics["depth/abs_err"] < 9


def test_every_key_of_the_page_is_one_and_no_other_key_is(own: Path) -> None:
    shown = YAML(typ="safe").load((own.parent / "every_key.yaml").read_text(encoding="utf-8"))
    data = Folder(root="x", size=(4, 8), images="photos/{id}.jpg", val={"share": 0.2}, **shown)
    for name, part in data.maps.items():
        keys = {field.alias or key for key, field in type(part).model_fields.items()}
        same = keys - {"offset", "unit", "invalid"} if name == "shift" else keys
        assert set(shown["maps"][name]) == same
    assert data.camera is not None
    assert set(shown["camera"]) == set(type(data.camera).model_fields)


def test_the_defaults_are_those_that_the_page_names() -> None:
    maps = {
        "a": {"kind": "classes", "files": "{id}.png", "classes": ["x"]},
        "b": {"kind": "disparity", "files": "{id}.png", "scale": 1},
        "c": {"kind": "normals", "files": "{id}.png"},
        "d": {"kind": "edges", "files": "{id}.png"},
        "e": {"kind": "depth", "files": "{id}.png", "scale": 1},
    }
    data = Folder(root="x", size=(4, 8), images="{id}.jpg", val={"share": 0.2}, maps=maps)
    found = {name: part.model_dump(by_alias=True) for name, part in data.maps.items()}
    assert found["a"]["void"] == ()
    assert found["b"]["as"] == "disparity"
    assert found["c"]["axes"] == ("x", "y", "z")
    assert found["d"]["threshold"] == 0
    assert (found["e"]["offset"], found["e"]["unit"], found["e"]["invalid"]) == (0, "m", (0,))


def test_the_page_sends_its_reader_to_the_contact_sheet_before_a_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = ["mtlkit check own.yaml", "mtlkit data check own.yaml", "mtlkit run own.yaml"]
    places = [text.index(command) for command in commands]
    assert places == sorted(places)
    assert "`check` reads the recipe alone" in text and "(data.md#what-data-check-tells)" in text
