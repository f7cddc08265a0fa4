"""The three doors of plugins, what is refused at them, and when hooks are called."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import mtlkit
from mtlkit.collate import Collate
from mtlkit.errors import PluginError, RecipeError, UsageError
from mtlkit.hookspecs import hookimpl
from mtlkit.plugins import KINDS, SHIPPED, Plugins
from mtlkit.samples import Part, Samples

TASK = """
from typing import Literal

import mtlkit
from mtlkit_plugins.tasks.depth import Depth


class {name}(Depth):
    type: Literal["{type}"] = "{type}"


@mtlkit.hookimpl
def mtlkit_tasks():
    return [{name}]
"""


@pytest.fixture(autouse=True)
def _modules(monkeypatch):
    """Forget, after each test, the modules that it imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith(("mtlkit", "torch", "numpy")):
            del sys.modules[name]


def file_of(folder: Path, stem: str, /, text: str = "", **names: str) -> Path:
    path = folder / f"{stem}.py"
    text = textwrap.dedent(text) if text else TASK.format(**names)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one plugin module."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def installed(stem: str, /, text: str = "", **names: str) -> None:
        file_of(site, stem, text, **names)
        info = site / f"{stem}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {stem}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[mtlkit]\n{stem}_entry = {stem}\n")

    return installed


def test_every_shipped_plugin_is_loaded_and_comes_from_this_release():
    plugins = Plugins.load()
    assert plugins.broken == [] and plugins.files == []
    assert {p.origin for p in plugins.loaded} == {f"mtlkit {mtlkit.__version__}"}
    assert all(p.name.startswith(f"{SHIPPED}.") and p.hooks for p in plugins.loaded)
    for kind, (_, base) in KINDS.items():
        for name, offered in plugins.types(kind).items():
            assert issubclass(offered, base) and offered.type_name() == name
            assert plugins.owner(offered) == offered.__module__
    assert {"segmentation", "depth"} <= set(plugins.types("task"))


def test_an_installed_package_is_found_by_its_entry_point(install):
    install("far_tasks", name="Height", type="height")
    plugins = Plugins.load()
    (found,) = [p for p in plugins.loaded if p.name == "far_tasks"]
    assert (found.origin, found.hooks) == ("far_tasks 1.2", ("mtlkit_tasks",))
    assert plugins.owner(plugins.types("task")["height"]) == "far_tasks"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("import mtlkit\n@mtlkit.hookimpl\ndef mtlkit_task(): return []", "'mtlkit_tasks'"),
        ("def mtlkit_tasks(): return []", "mark mtlkit_tasks with @mtlkit.hookimpl"),
        ("x = 1", "offers nothing"),
        ("import mtlkit\n@mtlkit.hookimpl\ndef mtlkit_tasks():\n    import nowhere", "nowhere"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
    ids=["import", "syntax", "misspelt", "unmarked", "empty", "hook", "exit"],
)
def test_a_broken_package_is_reported_and_loses_only_itself(install, text, reason):
    install("bad_tasks", text)
    install("far_tasks", name="Height", type="height")
    plugins = Plugins.load()
    (broken,) = plugins.broken
    assert broken.origin == "bad_tasks 1.2" and reason in broken.reason
    assert {"depth", "height"} <= set(plugins.types("task"))


def test_a_recipe_that_needs_a_broken_package_is_told_why(install, tiny):
    install("bad_tasks", "import nowhere_at_all")
    mtlkit.load_recipe(tiny)
    with pytest.raises(RecipeError, match=r"bad_tasks 1\.2\) failed to load: ModuleNotFound"):
        mtlkit.load_recipe(tiny, {"tasks.depth.type": "height"})


def test_a_file_is_loaded_once_under_its_own_name(tmp_path):
    file = file_of(tmp_path, "my_height", name="Height", type="height")
    plugins = Plugins.load([file, tmp_path / "." / "my_height.py"])
    assert plugins.files == [file.resolve()]
    offered = plugins.types("task")["height"]
    assert offered.__module__ == plugins.owner(offered) == "my_height"
    assert sys.modules["my_height"].Height is offered
    assert Plugins.load([file]).types("task")["height"] is offered
    assert "height" not in Plugins.load().types("task")


def test_another_recipes_file_of_the_same_name_takes_its_place(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        file = file_of(folder, "my_height", name="Height", type=f"height_{folder.name}")
        types = Plugins.load([file]).types("task")
        assert [name for name in types if "height" in name] == [f"height_{folder.name}"]


DATA = """
    from typing import Literal

    import torch
    from torchvision import tv_tensors

    import mtlkit
    from mtlkit.transforms import DepthMap


    class Split(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            image = tv_tensors.Image(torch.full((3, 8, 8), 255, dtype=torch.uint8))
            return {"image": image, "depth": DepthMap(torch.full((1, 8, 8), float(index + 1)))}


    class Plain(mtlkit.Dataset):
        type: Literal["plain"] = "plain"

        @property
        def offers(self):
            return {"depth": mtlkit.FieldSpec(DepthMap, unit="m")}

        def build_split(self, split, wants):
            return Split()


    @mtlkit.hookimpl
    def mtlkit_datasets():
        return [Plain]
    """


@pytest.mark.slow
def test_a_file_can_be_used_in_a_spawned_worker(tmp_path):
    file = file_of(tmp_path, "plain_data", DATA)
    data = Plugins.load([file]).types("dataset")["plain"](size=(8, 8))
    part = Part("plain", data.build_split("val", frozenset({"depth"})))
    collate = Collate(data.offers, data.size, ["plain"])
    samples = Samples([part], seed=0)
    loader = DataLoader(
        samples,
        batch_sampler=[[(1, 0, 0), (1, 1, 0)]],
        num_workers=1,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    (batch,) = loader
    assert batch.labels["depth"].value.flatten(1).mean(1).tolist() == [1, 2]
    assert batch.image.unique().tolist() == [1]


def test_two_plugins_with_one_type_name_are_refused_by_naming_both(tmp_path, install):
    file = file_of(tmp_path, "my_depth", name="Mine", type="depth")
    with pytest.raises(PluginError) as caught:
        Plugins.load([file])
    assert "mtlkit_plugins.tasks.depth and my_depth" in str(caught.value)
    assert "--no-plugin" in str(caught.value)
    offered = Plugins.load([file], blocked=["mtlkit_plugins.tasks.depth"]).types("task")["depth"]
    assert offered.__name__ == "Mine"


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "b").mkdir()
    files = [file_of(f, "twin", name="T", type="t") for f in (tmp_path, tmp_path / "b")]
    with pytest.raises(PluginError, match="has the same name"):
        Plugins.load(files)


def test_a_file_named_like_an_installed_module_is_refused(tmp_path):
    for name in ("json", "wave"):
        file = file_of(tmp_path, name, name="T", type="t")
        with pytest.raises(PluginError, match="the name of another module"):
            Plugins.load([file])


@pytest.mark.parametrize("name", ["mtlkit_plugins.tasks.depth", "depth"])
def test_a_plugin_is_left_out_by_its_whole_name_or_its_last_part(name):
    plugins = Plugins.load(blocked=[name])
    assert "depth" not in plugins.types("task") and "segmentation" in plugins.types("task")
    assert plugins.blocked == (name,)


def test_files_and_packages_can_be_left_out_too(tmp_path, install):
    install("bad_tasks", "import nowhere_at_all")
    file = file_of(tmp_path, "my_height", name="Height", type="height")
    plugins = Plugins.load([file], blocked=["bad_tasks_entry", "my_height"])
    assert plugins.broken == [] and plugins.files == []
    assert "height" not in plugins.types("task")


def test_leaving_out_what_is_not_there_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'depth'"):
        Plugins.load(blocked=["depht"])


METRICS = """
    import mtlkit
    from mtlkit.metrics import AbsoluteError
    from mtlkit.structures import LABEL_UNIT

    @mtlkit.hookimpl
    def mtlkit_metrics(name, task):
        if name != "depth":
            return {}
        assert task.name == name
        return {"mine": mtlkit.MetricSpec(AbsoluteError(), LABEL_UNIT, False)}
    """


def test_a_metric_of_a_plugin_is_measured_with_unit_and_direction(tiny, tmp_path):
    file = file_of(tmp_path, "my_metrics", METRICS)
    recipe = mtlkit.load_recipe(tiny, {"data.val": 1}, plugins=[file], blocked=["progress"])
    run = mtlkit.Run(recipe)
    metrics = run.evaluate()
    assert metrics["depth/mine"] == metrics["depth/abs_err"] and "segmentation/mine" not in metrics
    direction = run.directions["depth/mine"]
    assert (direction.unit, direction.higher_is_better) == ("disparity/256", False)


def test_an_object_is_tracked_through_one_run_and_no_longer(tiny, tmp_path):
    calls: list[Any] = []

    class Tracker:
        @hookimpl
        def mtlkit_run_start(self, run):
            calls.append(("start", run.position.step))

        @hookimpl
        def mtlkit_step_end(self, run, step):
            assert step.step == run.position.step and step.images == 2
            calls.append(("step", step.epoch, step.step))

        @hookimpl
        def mtlkit_epoch_end(self, run, epoch):
            assert torch.tensor(list(epoch.val.values())).isfinite().all()
            calls.append(("epoch", epoch.epoch, epoch.step))

        @hookimpl
        def mtlkit_run_end(self, run, outcome):
            calls.append((outcome.status, outcome.step))

    recipe = mtlkit.load_recipe(tiny, {"data.train": 4}, blocked=["progress"])
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    run.track(tracker := Tracker())
    run.fit()
    steps = [("step", 1, 1), ("step", 1, 2), ("epoch", 1, 2), ("step", 2, 3), ("step", 2, 4)]
    assert calls == [("start", 0), *steps, ("epoch", 2, 4), ("done", 4)]
    assert not recipe.loaded.manager.is_registered(tracker)
