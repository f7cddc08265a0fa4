"""Every command: its exit code, results on stdout and talk on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import mtlkit
from mtlkit import cli, errors
from mtlkit.listing import shipped

QUICK = ("--set", "train.epochs=1", "--set", "data.train=2", "--set", "data.val=1")


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("COLUMNS", "200")

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["mtlkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        captured = capsys.readouterr()
        return Done(leaving.value.code, captured.out, captured.err)

    return called


def python(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command_and_exit_code(run, option):
    done = run(option)
    assert (done.code, done.err) == (0, "")
    for command in ("run", "eval", "explain", "check", "plugins", "schema", "recipes", "data"):
        assert f"\n  {command} " in done.out
    flat = " ".join(done.out.split())
    assert "2 recipe or usage · 3 plugin · 4 data or device missing · 5 diverged" in flat


@pytest.mark.parametrize(
    "command", ["run", "eval", "explain", "check", "plugins", "schema", "recipes", "recipes copy"]
)
def test_every_command_has_help(run, command):
    done = run(*command.split(), "-h")
    assert (done.code, done.err) == (0, "") and f"mtlkit {command}" in done.out


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"{mtlkit.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [("trian",), ("run",), ("run", "x", "--epochs", "3"), ("--no",)]
)
def test_a_wrong_command_line_is_told_on_stderr(run, arguments):
    done = run(*arguments)
    assert done.code == 2 and done.out == "" and done.err.startswith("Usage: mtlkit")


def test_a_run_prints_metrics_and_paths_and_writes_its_folder(run, tiny):
    done = run("run", tiny, *QUICK, "--out", "here", "--device", "cpu")
    assert done.code == 0, done.err
    (folder,) = Path("here/tiny").iterdir()
    for words in ("miou", "abs_err", f"checkpoint   {folder}/best.pt", f"metrics      {folder}"):
        assert words in done.out
    assert "miou" not in done.err.split("\n")[0] and "Traceback" not in done.err
    pictures = [line.split()[1] for line in done.out.splitlines() if line.startswith("pictures")]
    assert len(pictures) == 1 and Path(pictures[0]).is_file()


def test_a_checkpoint_is_measured_from_its_folder_alone(run, tiny, tmp_path):
    run("run", tiny, *QUICK, "--out", tmp_path / "runs")
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    tiny.unlink()
    done = run("eval", folder, "--baseline", folder)
    assert done.code == 0, done.err
    assert "best.pt, val" in done.out and "+0.00 % over all metrics" in done.out
    assert (folder / "best_val.png").is_file()
    train = run("eval", folder / "last.pt", "--split", "train")
    assert train.code == 0 and "last.pt, train" in train.out
    wrong = run("eval", folder, "--split", "test")
    assert wrong.code == 2 and wrong.out == "" and "--split test" in wrong.err


def test_a_recipe_is_checked_and_explained_on_stdout(run, tiny):
    checked = run("check", tiny)
    assert (checked.code, checked.err) == (0, "")
    assert f"{tiny}: good. 2 tasks, 2 edges" in " ".join(checked.out.split())
    assert " shared parameter tensors" in " ".join(checked.out.split())
    explained = run("explain", tiny, "--set", "edges.0.weight=0.25")
    assert (explained.code, explained.err) == (0, "")
    in_one_line = " ".join(explained.out.split())
    assert "L_segmentation = 0.75·cross_entropy(segmentation, label) + 0.25·l1" in in_one_line


def test_shipped_recipes_are_found_by_name_and_need_no_data_to_be_checked(run, monkeypatch):
    monkeypatch.delenv("CITYSCAPES_ROOT", raising=False)
    assert run("check", "base_st_depth_cityscapes").code == 0
    done = run("run", "base_st_depth_cityscapes")
    assert done.code == 2 and "CITYSCAPES_ROOT is not set" in done.err


def test_recipes_are_listed_and_copied(run):
    listed = run("recipes")
    assert (listed.code, listed.err) == (0, "")
    assert all(name in listed.out for name in shipped())
    done = run("recipes", "copy", "xtascnet_streets")
    assert done == (0, "xtascnet_streets.yaml\n", "")
    assert Path("xtascnet_streets.yaml").read_bytes() == shipped()["xtascnet_streets"].read_bytes()
    again = run("recipes", "copy", "xtascnet_streets")
    assert again.code == 2 and "exists" in again.err and again.out == ""
    assert run("recipes", "copy", "xtascnet_streets", "new/mine.yaml").out == "new/mine.yaml\n"
    wrong = run("recipes", "copy", "xtasnet_streets")
    assert wrong.code == 2 and "did you mean 'xtascnet_streets'" in wrong.err


def test_plugins_are_listed_for_people_and_for_programs(run, tiny):
    file = tiny.parent / "tiny_encoder.py"
    table = run("plugins", "--plugin", file, "--no-plugin", "dwa")
    assert (table.code, table.err) == (0, "") and "encoder tiny" in table.out
    done = run("plugins", "--json", "--plugin", file, "--no-plugin", "dwa")
    assert (done.code, done.err) == (0, "")
    rows = {row["plugin"]: row for row in json.loads(done.out)}
    assert rows["tiny_encoder"] == {
        "plugin": "tiny_encoder",
        "offers": ["encoder tiny"],
        "hooks": ["mtlkit_encoders"],
        "origin": str(file),
        "broken": None,
    }
    depth = rows["mtlkit_plugins.tasks.depth"]
    assert depth["offers"] == ["task depth"] and depth["origin"] == f"mtlkit {mtlkit.__version__}"
    assert "mtlkit_plugins.weightings.dwa" not in rows


def test_the_schema_is_json_on_stdout(run, tiny):
    done = run("schema", "--plugin", tiny.parent / "tiny_encoder.py")
    assert (done.code, done.err) == (0, "")
    assert "TinyEncoder" in json.loads(done.out)["$defs"]


def test_each_kind_of_failure_has_its_exit_code_and_prints_no_trace(run, tiny, tmp_path):
    (tmp_path / "broken.py").write_text("import nowhere_at_all")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    streets = "data={type: cityscapes, root: /nowhere, size: [32, 64]}"
    cases = [
        (2, ("run", tiny, "--set", "train.epoch=1"), "did you mean 'epochs'"),
        (2, ("run", tiny, "--set", "train.epochs"), "write KEY=VALUE"),
        (2, ("check", "nothing.yaml"), "no such file"),
        (3, ("check", tiny, "--plugin", tmp_path / "broken.py"), "nowhere_at_all"),
        (4, ("run", tiny, "--set", streets), "/nowhere"),
        (4, ("eval", tmp_path / "noise.pt"), "damaged"),
        (4, ("eval", tmp_path / "nothing.pt"), "no such checkpoint"),
        (5, ("run", tiny, "--set", "optimizer.lr=1e30"), "is not finite at step"),
    ]
    if not torch.cuda.is_available():
        cases.append((4, ("run", tiny, "--device", "cuda"), "--device cpu"))
    for code, arguments, words in cases:
        done = run(*arguments)
        assert done.code == code, (arguments, done.err)
        assert words in done.err and done.out == "" and "Traceback" not in done.err


def test_a_hook_that_fails_in_a_run_is_blamed_on_its_plugin(run, tiny, tmp_path):
    text = "import mtlkit\n\n\n@mtlkit.hookimpl\ndef mtlkit_epoch_end(run, epoch):\n    {}['x']\n"
    (tmp_path / "bad_hook.py").write_text(text)
    done = run("run", tiny, *QUICK, "--plugin", tmp_path / "bad_hook.py")
    assert done.code == 3, done.err
    assert "KeyError: 'x'" in done.err and "bad_hook, line 6" in done.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ZeroDivisionError("oops"), 1, "please report it"),
        (RuntimeError("CUDA out of memory"), 1, "Traceback"),
        (errors.PluginError("which"), 3, "which\n"),
        (errors.InterruptedRun("go on with: x"), 130, "go on with: x\n"),
        (KeyboardInterrupt(), 130, "the last checkpoint is kept"),
        (BrokenPipeError(), 0, ""),
        (SystemExit(7), 7, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_an_ending_becomes_an_exit_code(error, code, words, capsys):
    def call():
        raise error

    assert cli._closing(call) == code
    captured = capsys.readouterr()
    assert words in captured.err and captured.out == ""
    assert ("please report" in captured.err) is (code == 1)


@pytest.mark.parametrize("command", ["profile", "doctor", "affinity", "data"])
def test_what_several_processes_would_all_do_is_refused(monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(errors.UsageError, match=f"mtlkit {command}: is for one process. Start it"):
        cli.app([command, "--help"], standalone_mode=False)


def test_importing_the_command_line_imports_no_torch():
    heavy = ("torch", "numpy", "pydantic", "rich", "pluggy")
    text = f"import sys, mtlkit, mtlkit.cli; print([m for m in {heavy} if m in sys.modules])"
    done = python("-c", text)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "--help"), ("--version",), ("data", "-h")]
)
def test_help_imports_no_torch(arguments):
    done = python("-X", "importtime", "-m", "mtlkit", *arguments)
    assert done.returncode == 0 and done.stdout
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "typer" in imported
    assert imported.isdisjoint({"torch", "numpy", "torchmetrics", "pluggy"})
