"""A damaged, foreign or hostile checkpoint is refused; it runs no code and changes nothing."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import Case, assert_told, run, snapshot

WEIGHT = "architecture.encoder.stages.0.0.weight"
State = dict[str, Any]


class Bomb:
    """Would write a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("BOOM", "w")


def truncated(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def flipped(path: Path) -> None:
    """Spoil the pickle inside, not its archive."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content[:40] if name.endswith("data.pkl") else content)


def stored(path: Path, change: Callable[[State], object]) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def part(name: str, value: object) -> Callable[[Path], None]:
    return lambda path: stored(path, lambda state: state.__setitem__(name, value))


def lacking(name: str) -> Callable[[Path], None]:
    return lambda path: stored(path, lambda state: state.pop(name))


def weight(name: str, value: object) -> Callable[[Path], None]:
    return lambda path: stored(path, lambda state: state["model"].__setitem__(name, value))


def bombed(**how: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({"format": 1, "model": Bomb()}, path, **how)


def narrowed(state: State) -> None:
    for values in state["optimizer"]["state"].values():
        values["exp_avg"] = torch.zeros(1)


DAMAGED = "is damaged or incomplete"
BOTH: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in half": (lambda path: truncated(path, 0.5), DAMAGED),
    "cut at its end": (lambda path: truncated(path, 0.999), DAMAGED),
    "empty": (lambda path: path.write_bytes(b""), DAMAGED),
    "noise": (lambda path: path.write_bytes(bytes(range(1, 256)) * 9), DAMAGED),
    "a text": (lambda path: path.write_text("hello"), DAMAGED),
    "a torn pickle": (flipped, DAMAGED),
    "another archive": (lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), DAMAGED),
    "a pickle bomb": (bombed(), "could run code, so it was not loaded"),
    "an old pickle bomb": (bombed(_use_new_zipfile_serialization=False), "could run code"),
    "a bare pickle bomb": (
        lambda path: path.write_bytes(pickle.dumps(Bomb(), 2)),
        "could run code",
    ),
    "a state dict": (
        lambda path: torch.save({"a": torch.zeros(1)}, path),
        "is no checkpoint of mtl",
    ),
    "a list": (lambda path: torch.save([1], path), "is no checkpoint of mtlkit. Give a run folder"),
    "another format": (part("format", 2), "has format 2, this release reads 1. Use the release"),
    "no weights": (lacking("model"), "lacks model. Use another checkpoint"),
    "no recipe": (lacking("recipe"), "lacks recipe. Use another checkpoint"),
    "a recipe of another kind": (part("recipe", 3), "its recipe cannot be read"),
    "weights of another kind": (part("model", [1]), "its model cannot be read"),
    "a place of another kind": (part("position", {"epoch": "x"}), "its position cannot be read"),
    "a place before the start": (part("position", {"epoch": -1}), "its position cannot be read"),
    "a best of another kind": (part("best", {"metrics": 3}), "its best cannot be read"),
    "weights of other shapes": (weight(WEIGHT, torch.zeros(3)), "does not fit this recipe's model"),
    "a weight that is missing": (
        lambda p: stored(p, lambda s: s["model"].pop(WEIGHT)),
        "Missing key",
    ),
    "a weight too many": (
        weight("foo", torch.zeros(1)),
        "does not fit this recipe's model: Unexpec",
    ),
    "a weight that is a text": (weight(WEIGHT, "x"), "does not fit this recipe's model"),
}
RESUMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a torn recipe": (part("recipe", "a: ["), "The recipe in it is damaged"),
    "a recipe that is a list": (part("recipe", "- a"), "The recipe in it is damaged"),
    "an optimizer of others": (part("optimizer", {}), "the state of the optimizer is damaged"),
    "moments of other shapes": (lambda p: stored(p, narrowed), "the state of the optimizer is dam"),
    "no generators": (part("rng", {}), "random generators is damaged"),
    "no log": (part("monitor", {}), "is damaged"),
}


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run's folder, free to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run")).relative_to(tmp_path)


def refused(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    before = snapshot(Path())
    assert_told(*run(case.command, capfd), case)
    assert snapshot(Path()) == before
    assert not Path("BOOM").exists()


@pytest.mark.parametrize(("spoil", "says"), BOTH.values(), ids=BOTH.keys())
def test_a_bad_checkpoint_is_not_evaluated(
    spoil: Callable[[Path], object], says: str, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(copy / "last.pt")
    refused(Case("", f"eval {copy}/last.pt", 4, (f"{copy}/last.pt: ", says)), capfd)


@pytest.mark.parametrize(("spoil", "says"), (BOTH | RESUMED).values(), ids=(BOTH | RESUMED).keys())
def test_a_bad_checkpoint_is_not_resumed(
    spoil: Callable[[Path], object], says: str, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(copy / "last.pt")
    command = f"run {copy}/recipe.yaml --resume {copy} --set train.epochs=2"
    refused(Case("", command, 4, (says,)), capfd)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("optimizer.lr=0.5", ("optimizer.lr: 0.001 there, 0.5 here", "start a new run")),
        ("edges=[]", ("that run had another recipe", "edges")),
        ("tasks.depth.loss=mse", ("tasks.depth.loss: l1 there, mse here", "recipe.yaml")),
    ],
)
def test_a_run_of_another_recipe_is_not_resumed(
    settings: str, says: tuple[str, ...], copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused(Case("", f"run {copy}/recipe.yaml --resume {copy} --set {settings}", 2, says), capfd)


def test_a_folder_of_something_else_is_not_resumed(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "else").mkdir()
    command = f"run {copy}/recipe.yaml --resume else"
    refused(
        Case("", command, 4, ("else/last.pt: no such checkpoint. Give the folder of a run",)), capfd
    )


def test_a_checkpoint_is_no_folder_to_resume(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = f"run {copy}/recipe.yaml --resume {copy}/last.pt"
    refused(Case("", command, 4, ("last.pt: no such checkpoint. Give the folder of a run",)), capfd)


def test_a_bad_baseline_is_told(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = run(f"eval {copy} --baseline no", capfd)
    assert code == 4
    assert "no: no such checkpoint" in said


def test_a_bad_checkpoint_is_not_begun_from(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truncated(copy / "last.pt", 0.5)
    command = f"run {copy}/recipe.yaml --set train.init_from={copy}"
    refused(Case("", command, 4, (DAMAGED,)), capfd)
