"""The page about hooks, and that every hook is called when it says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from doc_blocks import ROOT

import mtlkit
from mtlkit import hookspecs

HOOKS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("mtlkit_")}

EVERY_HOOK = """
import mtlkit
from mtlkit import MetricSpec
from mtlkit.metrics import AbsoluteError

CALLS = []


@mtlkit.hookimpl
def mtlkit_encoders():
    CALLS.append("mtlkit_encoders")
    return []


@mtlkit.hookimpl
def mtlkit_architectures():
    CALLS.append("mtlkit_architectures")
    return []


@mtlkit.hookimpl
def mtlkit_datasets():
    CALLS.append("mtlkit_datasets")
    return []


@mtlkit.hookimpl
def mtlkit_tasks():
    CALLS.append("mtlkit_tasks")
    return []


@mtlkit.hookimpl
def mtlkit_edges():
    CALLS.append("mtlkit_edges")
    return []


@mtlkit.hookimpl
def mtlkit_auxiliary_losses():
    CALLS.append("mtlkit_auxiliary_losses")
    return []


@mtlkit.hookimpl
def mtlkit_weightings():
    CALLS.append("mtlkit_weightings")
    return []


@mtlkit.hookimpl
def mtlkit_metrics(name, task):
    CALLS.append("mtlkit_metrics")
    return {"error": MetricSpec(AbsoluteError(), "", False)} if task.type_name() == "depth" else {}


@mtlkit.hookimpl
def mtlkit_run_start(run):
    CALLS.append("mtlkit_run_start")


@mtlkit.hookimpl
def mtlkit_step_end(run, step):
    CALLS.append("mtlkit_step_end")


@mtlkit.hookimpl
def mtlkit_epoch_end(run, epoch):
    assert epoch.val["depth/error"] == epoch.val["depth/abs_err"]
    CALLS.append("mtlkit_epoch_end")


@mtlkit.hookimpl
def mtlkit_run_end(run, outcome):
    CALLS.append(f"mtlkit_run_end {outcome.status}")
"""


def test_the_page_shows_every_hook_with_its_signature_in_order() -> None:
    text = (ROOT / "docs" / "reference" / "hooks.md").read_text()
    shown = re.findall(r"^### `(mtlkit_.*)`$", text, re.MULTILINE)
    real = [f"{name}{inspect.signature(spec)}".replace("'", "") for name, spec in HOOKS.items()]
    assert shown == real


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_in_a_test(name: str) -> None:
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    assert any(re.search(rf"\b{name}\b", text) for text in texts)


def test_a_run_calls_every_hook_in_the_order_of_the_page(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "every_hook.py"
    file.write_text(EVERY_HOOK, encoding="utf-8")
    recipe = mtlkit.load_recipe(tiny, {"train.epochs": 1}, plugins=[file], blocked=["progress"])
    (module,) = [p.module for p in recipe.loaded.loaded if p.name == "every_hook"]
    offers = [name for name in HOOKS if name.endswith("s") and name != "mtlkit_metrics"]
    assert list(module.CALLS) == offers
    mtlkit.Run(recipe, out=tmp_path / "runs").fit()
    first_calls = [call.partition(" ")[0] for call in dict.fromkeys(module.CALLS)]
    assert first_calls == list(HOOKS)
    assert module.CALLS.count("mtlkit_step_end") == 3
    assert module.CALLS[-1] == "mtlkit_run_end done"


def test_a_run_that_fails_says_so_to_its_trackers(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "stubborn.py"
    file.write_text(
        "import mtlkit\n\nSEEN = []\n\n\n@mtlkit.hookimpl\ndef mtlkit_step_end(run, step):\n"
        "    raise mtlkit.MtlkitError('no more')\n\n\n@mtlkit.hookimpl\n"
        "def mtlkit_run_end(run, outcome):\n    SEEN.append(outcome.status)\n",
        encoding="utf-8",
    )
    recipe = mtlkit.load_recipe(tiny, plugins=[file], blocked=["progress"])
    (module,) = [p.module for p in recipe.loaded.loaded if p.name == "stubborn"]
    with pytest.raises(mtlkit.MtlkitError, match="no more"):
        mtlkit.Run(recipe, out=tmp_path / "runs").fit()
    assert module.SEEN == ["failed"]
