"""What once went wrong in a review, each as a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import mtlkit
from mtlkit import checkpoint
from mtlkit.cache import _key, cached
from mtlkit.cli import main
from mtlkit.errors import DivergedError, MissingError
from mtlkit.evaluation import collection_of
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import AbsoluteError
from mtlkit_plugins.datasets.cityscapes import Cityscapes
from mtlkit_plugins.datasets.streets import Streets
from mtlkit_plugins.encoders.resnet import ResNetEncoder
from mtlkit_plugins.tasks.depth import Depth


def load(path: Path, **overrides: Any) -> mtlkit.Recipe:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return mtlkit.load_recipe(path, settings, blocked=["progress"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_saves_and_tells_how_to_go_on(
    tiny: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "runs"
    words = [sys.executable, "-m", "mtlkit", "run", str(tiny), "--out", str(out)]
    words += ["--set", "loader.workers=2", "--set", "train.epochs=500"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        while not list(out.glob("*/*/metrics.jsonl")) and run.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(run.pid, number)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "Traceback" not in said and "--resume" in said
    (folder,) = out.glob("*/*")
    assert checkpoint.load(folder / "last.pt")["position"]["step"] > 0
    assert list(folder.glob("*.part")) == []


class NanGradient(Depth):
    """A loss that is finite and whose gradient is not."""

    def loss(self, prediction: torch.Tensor, label: mtlkit.Label) -> torch.Tensor:
        return super().loss(prediction, label) + (prediction.sum() * 0).sqrt()


def test_weights_that_are_no_numbers_are_never_saved(tiny: Path, tmp_path: Path) -> None:
    recipe = load(tiny, train__checkpoint_every=1, edges=[], weighting="{type: equal}")
    tasks = {**recipe.tasks, "depth": NanGradient(name="depth")}
    run = mtlkit.Run(recipe, out=tmp_path / "runs")
    run.learner.model.tasks = tasks
    with pytest.raises(DivergedError, match="not finite after step 1"):
        run.fit()
    assert run.folder is not None
    state = checkpoint.load(run.folder / "last.pt")
    assert state["position"]["step"] == 0
    assert all(x.isfinite().all() for x in state["model"].values() if x.is_floating_point())


def test_evaluating_the_training_split_in_a_tracker_does_not_end_the_epoch(
    tiny: Path, tmp_path: Path
) -> None:
    run = mtlkit.Run(load(tiny, loader__workers=1, train__epochs=1), out=tmp_path / "runs")

    class Watch:
        @hookimpl
        def mtlkit_step_end(self, run: mtlkit.Run, step: Any) -> None:
            if step.step == 1:
                run.evaluate("train")

    run.track(Watch())
    assert run.fit().step == 3


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_damaged_file_is_told_in_one_line_by_workers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], workers: str
) -> None:
    root = tmp_path / "D"
    render(root, monkeypatch, seed=0)
    for image in (root / "leftImg8bit" / "train").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:100])
    recipe = Path(__file__).parents[2] / "recipes" / "xtascnet_cityscapes.yaml"
    words = ["run", str(recipe), "--device", "cpu", "--set", f"loader.workers={workers}"]
    words += ["--set", "encoder.depth=18", "--set", "data.size=[32,64]", "--out", str(tmp_path)]
    monkeypatch.setenv("CITYSCAPES_ROOT", str(root))
    capfd.readouterr()
    assert code(words, monkeypatch) == 4
    said = capfd.readouterr().err
    assert "Traceback" not in said and said.count(".png") == 1


def render(root: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    words = ["data", "render", "streets", "--out", str(root), "--train", "2", "--val", "1"]
    assert code([*words, "--size", "32x64", "--seed", str(seed)], monkeypatch) == 0


def code(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["mtlkit", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code


def test_the_disk_cache_never_serves_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = frozenset({"segmentation"})
    images = []
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        render(Path("cs"), monkeypatch, seed)
        data = Cityscapes(root="cs", size=(32, 64))
        images.append(cached(data, "train", wants, "disk")[0]["image"])
    assert not torch.equal(images[0], images[1])
    before = _key(data, "train", wants)
    (file,) = sorted(Path("cs/leftImg8bit/train").rglob("*.png"))[:1]
    os.utime(file, (1, 1))
    assert _key(data, "train", wants) != before


def test_the_cache_follows_the_source_of_a_data_set(tmp_path: Path) -> None:
    keys = []
    for line in ("x = 1", "x = 2"):
        (tmp_path / "my_streets.py").write_text(
            "import mtlkit\nfrom typing import Literal\n"
            "from mtlkit_plugins.datasets.streets import Streets\n"
            f"{line}\nclass Mine(Streets):\n    type: Literal['mine'] = 'mine'\n"
            "@mtlkit.hookimpl\ndef mtlkit_datasets():\n    return [Mine]\n"
        )
        sys.modules.pop("my_streets", None)
        plugins = mtlkit.Plugins.load([tmp_path / "my_streets.py"])
        keys.append(_key(plugins.types("dataset")["mine"](), "train", frozenset()))
    assert keys[0] != keys[1]
    assert _key(Streets(), "train", frozenset()) == _key(Streets(), "train", frozenset())


def test_the_cache_follows_the_source_of_the_bases_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import mtlkit\nfrom typing import Literal\nfrom base_reader import Base\n"
        "class Mine(Base):\n    type: Literal['mine'] = 'mine'\n"
        "@mtlkit.hookimpl\ndef mtlkit_datasets():\n    return [Mine]\n"
    )
    keys = []
    for line in ("x = 1", "x = 2"):
        (tmp_path / "base_reader.py").write_text(
            "from mtlkit_plugins.datasets.streets import Streets\n"
            f"{line}\nclass Base(Streets):\n    pass\n"
        )
        for name in ("mine", "base_reader"):
            sys.modules.pop(name, None)
        plugins = mtlkit.Plugins.load([tmp_path / "mine.py"])
        keys.append(_key(plugins.types("dataset")["mine"](), "train", frozenset()))
    assert keys[0] != keys[1]


def test_pretrained_weights_are_not_needed_to_resume_or_evaluate(
    tiny: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    reference = ResNetEncoder(depth=18).build_encoder()[0]
    from torchvision.models import get_model

    torch.save(get_model("resnet18", weights=None).state_dict(), weights)
    assert sum(p.numel() for p in reference.parameters()) == 11_176_512
    settings = {
        "encoder": {"type": "resnet", "depth": 18, "weights": str(weights)},
        "plugins": [],
        "train__epochs": 1,
    }
    run = mtlkit.Run(load(tiny, **settings), out=tmp_path / "runs")
    run.fit()
    weights.unlink()
    again = mtlkit.Run(load(tiny, **settings), resume=run.folder)
    assert again.evaluate() == run.evaluate()
    with pytest.raises(MissingError):
        mtlkit.Run(load(tiny, **settings))


class Doubled(AbsoluteError):
    """Inherits the family and counts otherwise."""

    def update(self, prediction: torch.Tensor, label: mtlkit.Label) -> None:
        super().update(prediction * 2, label)


def test_a_metric_with_an_update_of_its_own_is_updated() -> None:
    specs = {
        name: mtlkit.MetricSpec(metric, "", higher_is_better=False)
        for name, metric in (("one", AbsoluteError()), ("two", Doubled()))
    }
    label = mtlkit.Label(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.bool))
    collection = collection_of(specs)
    collection.update(torch.full((1, 1, 2, 2), 3.0), label)
    found = {name: float(metric.compute()) for name, metric in collection.items()}
    assert found == {"one": 2.0, "two": 5.0}


def test_what_has_no_label_is_not_logged(recipe: mtlkit.Recipe) -> None:
    objective = mtlkit.build_objective(recipe)
    valid = torch.ones(2, 1, 32, 64, dtype=torch.bool)
    label = mtlkit.Label(torch.zeros(2, 32, 64, dtype=torch.int64), valid)
    losses = objective(mtlkit.Batch(torch.rand(2, 3, 32, 64), {"segmentation": label}))
    assert set(losses.terms) == {"segmentation/direct", "depth_to_segmentation/xtc"}


class Unhappy:
    """A tracker whose farewell fails."""

    type: Literal["unhappy"] = "unhappy"

    @hookimpl
    def mtlkit_run_end(self, run: mtlkit.Run, outcome: Any) -> None:
        raise OSError("the upload failed")


def test_a_tracker_that_fails_at_the_end_is_blamed_and_forgotten(
    tiny: Path, tmp_path: Path
) -> None:
    run = mtlkit.Run(load(tiny, train__epochs=1), out=tmp_path / "runs")
    run.track(Unhappy())
    with pytest.raises(mtlkit.MtlkitError, match="a tracker fails: OSError: the upload failed"):
        run.fit()
    assert run.trackers.added == []


@pytest.mark.slow
def test_a_process_with_idle_workers_leaves_at_its_end(tiny: Path, tmp_path: Path) -> None:
    """Loader workers outlive an epoch; multiprocessing waits for them when the process ends."""
    script = (
        "import mtlkit, sys\n"
        "recipe = mtlkit.load_recipe(sys.argv[1], {'loader.workers': 2}, blocked=['progress'])\n"
        "run = mtlkit.Run(recipe, out=sys.argv[2])\n"
        "run.evaluate()\n"
        "next(iter(run.loader('train')[0]))\n"
        "run.cycle = run\n"  # keeps the loaders until the interpreter is gone
        "print('done')\n"
    )
    words = [sys.executable, "-c", script, str(tiny), str(tmp_path / "runs")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
