"""A plugin that is missing, broken or in conflict is named, with its file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from faulty import Case, assert_told, edited, lay_out, run, snapshot

GOOD = """\
from typing import Literal
import torch
import mtlkit

class Mine(mtlkit.Task):
    type: Literal["mine"] = "mine"
    @property
    def channels(self): return 1
    def loss(self, prediction, label): return (prediction * 0).sum()
    def metrics(self): return {}

@mtlkit.hookimpl
def mtlkit_tasks(): return [Mine]
"""
MINE = edited(("depth: {}", "depth: {type: mine}"))
LOSS = "return (prediction * 0).sum()"


def broken(name: str, code: str, *says: str, code_of: int = 3, file: str = "my_task.py") -> Case:
    says = (says[0].replace("FILE", file), *says[1:]) if says else ()
    return Case(name, f"check recipe.yaml --plugin {file}", code_of, says, files={file: code})


def mended(name: str, old: str, new: str, *says: str) -> Case:
    """Return the case of the good plugin with one edit, used by the recipe."""
    assert old in GOOD
    files = {"my_task.py": GOOD.replace(old, new, 1)}
    return Case(name, "check recipe.yaml --plugin my_task.py", 3, says, MINE, files)


def option(name: str, options: str, code: int, *says: str, **files: str) -> Case:
    return Case(name, f"check recipe.yaml {options}", code, says, files=files)


IMPORTS = [
    option("no file", "--plugin nope.py", 3, "nope.py: no such plugin file. Give the path"),
    option("a folder", "--plugin .", 3, ".: no such plugin file. Give the path"),
    option("a recipe", "--plugin recipe.yaml", 3, "a plugin file is a Python file"),
    broken("a syntax error", "x = 1\ndef f(:\n", "FILE:2: invalid syntax. Mend the plugin file"),
    broken("an indentation error", "if 1:\nx = 1\n", "FILE:2: expected an indented block"),
    broken("a NUL byte", "x = 1\0\n", "FILE:1: ", "null bytes. Mend the plugin file"),
    broken("an unknown import", "\nimport no_such_thing\n", "FILE:2: ModuleNotFoundError"),
    broken("an unknown name", "from mtlkit import Tsk\n", "FILE:1: ImportError: cannot import"),
    broken("an error at import", "def f():\n    1 / 0\nf()\n", "FILE:2: ZeroDivisionError"),
    broken("an exit at import", "import sys\nsys.exit(0)\n", "FILE:2: SystemExit", "Mend"),
    broken("no hook", "x = 1\n", "FILE: offers nothing. Define a hook such as mtlkit_tasks()"),
    broken("a name with a dash", GOOD, "FILE: a plugin file is", file="my-task.py"),
    broken("a name of Python's", GOOD, "'random' is the name of another module", file="random.py"),
    broken("a name of ours", GOOD, "'mtlkit' is the name of another module", file="mtlkit.py"),
    broken("a name of torch's", GOOD, "'torch' is the name of another module", file="torch.py"),
    Case(
        "two files of one name",
        "check recipe.yaml --plugin a/same.py --plugin b/same.py",
        3,
        ("b/same.py: ", "a/same.py has the same name. Rename one"),
        files={"a/same.py": GOOD, "b/same.py": GOOD},
    ),
    Case(
        "a file outside the recipe's folder",
        "check recipe.yaml",
        2,
        ("recipe.yaml:2: plugins.0: '../x.py' lies outside the recipe's folder. Move it",),
        edited(("[tiny_encoder.py]", "[../x.py]")),
    ),
    Case(
        "a file that the recipe names is missing",
        "check recipe.yaml",
        3,
        ("no.py: no such plugin file",),
        edited(("[tiny_encoder.py]", "[no.py]")),
    ),
]
OFFERS = [
    mended("a misspelt hook", "mtlkit_tasks", "mtlkit_task", "did you mean 'mtlkit_tasks'?"),
    mended("a hook without its mark", "@mtlkit.hookimpl\n", "", "mark mtlkit_tasks with @mtlkit"),
    mended("a hook with arguments", "tasks()", "tasks(foo)", "my_task.py: ", "foo", "Remove them"),
    mended("a hook that fails", "return [Mine]", "return [Mi]", "my_task.py: mtlkit_tasks() fails"),
    mended(
        "a hook without a list", "return [Mine]", "return Mine", "must return a list of classes"
    ),
    mended("a hook that returns nothing", "return [Mine]", "pass", "must return a list of classes"),
    mended("an instance for a class", "[Mine]", "[Mine()]", "is no subclass of mtlkit.Task"),
    mended("a class of another kind", "mtlkit_tasks", "mtlkit_edges", "no subclass of mtlkit.Edge"),
    mended(
        "a class without base", "(mtlkit.Task)", "", "Mine is offered as task but is no subclass"
    ),
    mended("no type", '    type: Literal["mine"] = "mine"\n', "", "Mine needs a type name: type: "),
    mended("a type that is any text", 'Literal["mine"]', "str", "Mine needs a type name: type: "),
    mended("an unfinished class", "    def metrics(self): return {}\n", "", "must define metrics"),
    mended("a field without type", "    @property", "    a = 3\n    @property", "my_task.py:5: "),
    mended(
        "a shipped name", '["mine"] = "mine"', '["depth"] = "depth"', "two plugins offer", "my_task"
    ),
    option("block nobody", "--no-plugin foo", 2, "--no-plugin foo: no such plugin; known: "),
    option(
        "block what is needed",
        "--no-plugin equal",
        2,
        "recipe.yaml:12: weighting: no weighting type is called 'equal'",
        "Left out with --no-plugin: equal",
    ),
    option(
        "block the only one", "--no-plugin tiny_encoder --no-plugin resnet", 2, "encoder: no loaded"
    ),
]
BEHAVIOUR = [
    mended(
        "a loss that raises", LOSS, "return nope", "NameError", "Mend the plugin my_task, line 9"
    ),
    mended(
        "a loss of pixels", LOSS, "return prediction", "the loss depth/direct has shape", "scalar"
    ),
    mended(
        "a loss without gradient",
        LOSS,
        "return prediction.detach().sum()",
        "task 'depth': ",
        "grad",
    ),
    mended("a loss that is a number", LOSS, "return 0.0", "the model of this recipe fails", "Mend"),
    mended(
        "a loss that looks at values", LOSS, "return prediction.sum().item()", "line 9", "item()"
    ),
    mended(
        "a prediction of another shape",
        "    def loss",
        "    def build_head(self, width): return torch.nn.Conv2d(width, 3, 1)\n    def loss",
        "task 'depth': the prediction has shape (2, 3, 32, 64), it must have (2, 1, 32, 64)",
    ),
    mended("no channels", "return 1", "return 0", "task 'depth': predicts 0 channels"),
    mended(
        "metrics that fail", "return {}", "return 1 / 0", "ZeroDivisionError", "my_task, line 10"
    ),
    mended(
        "metrics that are none",
        "return {}",
        "return {'a': 3}",
        "metric 'a' is int. Return a mtlkit.MetricSpec",
    ),
    mended(
        "problems() that fails",
        "    def loss",
        "    def problems(self, recipe): return 1 / 0\n    def loss",
        "mine: problems() fails: ZeroDivisionError",
        "my_task, line 9",
    ),
    mended(
        "a class that cannot be made",
        "    def loss",
        "    def model_post_init(self, context): raise RuntimeError('no')\n    def loss",
        "RuntimeError: no. Mend the plugin my_task, line 9",
    ),
]


UNFINISHED = """\
import mtlkit
from typing import Literal

class Mine(mtlkit.{base}):
    pass

class Choice(mtlkit.Weighting):
    type: Literal["mine"] = "mine"
    def build_balancer(self, tasks): return Mine()

@mtlkit.hookimpl
def mtlkit_weightings(): return [Choice]
"""
MODULES = [
    Case(
        f"a {base} without {method}",
        "check recipe.yaml --plugin my_weighting.py",
        3,
        ("the weighting of this recipe fails", method, "Mend the plugin my_weighting, line 9"),
        edited(("{type: equal}", "{type: mine}")),
        {"my_weighting.py": UNFINISHED.format(base=base)},
    )
    for base, method in (("Balancer", "total"), ("GradientBalancer", "weights"))
]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # "no channels"
@pytest.mark.parametrize(
    "case", [*IMPORTS, *OFFERS, *BEHAVIOUR, *MODULES], ids=lambda case: case.name
)
def test_a_wrong_plugin_is_named(case: Case, refuse: Callable[[Case], None]) -> None:
    refuse(case)


def test_the_good_plugin_of_these_tests_is_good(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(
        "good", "check recipe.yaml --plugin my_task.py", 0, ("good",), MINE, {"my_task.py": GOOD}
    )
    lay_out(case, tmp_path, monkeypatch)
    assert_told(*run(case.command, capfd), case)


def test_a_loss_that_becomes_nan_ends_the_run_and_keeps_the_checkpoint_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = GOOD.replace(LOSS, "return prediction.mean() * self.factor(prediction.is_meta)").replace(
        "    def loss",
        "    def factor(self, is_meta):  # two losses a step: its own and the edge's\n"
        "        calls.append(is_meta)\n"
        "        return float('nan') if calls.count(False) > 4 else 1.0\n"
        "    def loss",
    )
    recipe = MINE.replace("train: 2,", "train: 8,").replace(
        "pictures: 0", "pictures: 0, log_every: 1"
    )
    says = ("depth/direct", "not finite at step 3", "last.pt", "optimizer.lr")
    files = {"my_task.py": "calls = []\n" + nan}
    case = Case(
        "nan", "run recipe.yaml --plugin my_task.py --no-plugin progress", 5, says, recipe, files
    )
    lay_out(case, tmp_path, monkeypatch)
    before = snapshot(tmp_path)
    assert_told(*run(case.command, capfd), case)
    assert before.items() <= snapshot(tmp_path).items()
    (last,) = tmp_path.glob("runs/tiny/*/last.pt")
    state = torch.load(last, weights_only=True)
    assert all(bool(x.isfinite().all()) for x in state["model"].values())
