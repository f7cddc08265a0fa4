"""Checkpoints: whole or not at all, read without running code, taken in parts."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlkit import checkpoint
from mtlkit.errors import CheckpointError, MissingError


def state(**parts):
    empty = {name: kind() for name, kind in checkpoint.PARTS.items()}
    best = {"metrics": {}, "epoch": 0}
    return empty | {"model": {"w": torch.ones(3)}, "best": best} | parts


def test_what_is_saved_is_loaded_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "last.pt"
    for number in (1, 2):
        checkpoint.save(path, state(position={"step": number}))
    loaded = checkpoint.load(path)
    assert loaded["position"] == {"step": 2} and torch.equal(loaded["model"]["w"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    import torch
    from mtlkit import checkpoint
    from mtlkit.errors import MissingError

    path = Path(sys.argv[1])
    state = dict.fromkeys(checkpoint.PARTS)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        checkpoint.save(path, state | {"model": {"w": torch.zeros(1_000_000)}})
    except MissingError as error:
        print(error)
    """


def test_a_save_that_fails_keeps_the_old_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, state())
    before = path.read_bytes()
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(f"{path}: cannot write the checkpoint (")
    assert "the last one is kept" in done.stdout and done.stdout.count("\n") == 1
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_is_not_there_or_a_folder_in_the_place_is_told(tmp_path):
    for path in (tmp_path / "none" / "last.pt", tmp_path / "taken"):
        if path.name == "taken":
            (path / "inside").mkdir(parents=True)
        with pytest.raises(MissingError, match="cannot write the checkpoint"):
            checkpoint.save(path, state())
        with pytest.raises(MissingError, match="no such checkpoint"):
            checkpoint.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_strides_are_kept(tmp_path):
    weight = torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last)
    optimizer = {"state": {0: {"exp_avg": weight.clone()}}}
    checkpoint.save(tmp_path / "x.pt", state(model={"w": weight}, optimizer=optimizer))
    loaded = checkpoint.load(tmp_path / "x.pt")
    for found in (loaded["model"]["w"], loaded["optimizer"]["state"][0]["exp_avg"]):
        assert found.stride() == weight.stride() and torch.equal(found, weight)


def test_a_run_folder_means_its_best_checkpoint_else_its_last(tmp_path):
    with pytest.raises(MissingError, match="no checkpoint in this folder"):
        checkpoint.find(tmp_path)
    for name in ("last.pt", "best.pt"):
        (tmp_path / name).touch()
        assert checkpoint.find(tmp_path) == tmp_path / name
    assert checkpoint.find(tmp_path / "last.pt") == tmp_path / "last.pt"
    with pytest.raises(MissingError, match=r"other\.pt: no such checkpoint"):
        checkpoint.find(tmp_path / "other.pt")


class Code:
    """Runs when it is unpickled."""

    ran: list[int] = []

    def __reduce__(self):
        return (self.ran.append, (1,))


def test_code_is_refused_and_never_run(tmp_path):
    torch.save({"format": 1, **state(recipe=Code())}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="could run code"):
        checkpoint.load(tmp_path / "x.pt")
    assert Code.ran == []


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -50])
def test_a_file_that_is_cut_off_is_refused(tmp_path, kept):
    path = tmp_path / "x.pt"
    checkpoint.save(path, state())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {}}, "is no checkpoint of mtlkit"),
        ([1, 2], "is no checkpoint of mtlkit"),
        ({"format": 2}, "has format 2, this release reads 1"),
        ({"format": 1, "model": {}}, "lacks auxiliary_losses, balancer, optimizer"),
        ({"format": 1, **state(rng=5, recipe=None)}, "damaged: its rng, recipe cannot be read"),
        ({"format": 1, **state(position={"step": -1}, best={})}, "its position, best cannot be"),
    ],
)
def test_other_files_are_refused_by_what_they_lack(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"weight": torch.ones(2, 2)},
        {"weight": torch.ones(3, 2), "bias": torch.ones(2)},
        None,
        5,
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(weights):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(nn.Linear(2, 2), weights, Path("x.pt"))
    assert str(caught.value).startswith("x.pt: does not fit this recipe's model")
    assert "\n" not in str(caught.value)


def test_weights_are_taken_where_name_and_shape_fit():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    kept = module[1].weight.detach().clone()
    given = {
        "0.weight": torch.full((2, 2), 7.0),
        "0.bias": torch.zeros(5),
        "1.bias": torch.full((3,), 8.0),
        "2.weight": torch.ones(1),
    }
    missing, unused = checkpoint.load_partly(module, given)
    assert (missing, unused) == (["0.bias", "1.weight"], ["0.bias", "2.weight"])
    assert module[0].weight.unique().tolist() == [7] and module[1].bias.unique().tolist() == [8]
    assert torch.equal(module[1].weight, kept)


def test_nothing_of_another_network_is_taken():
    module = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert checkpoint.load_partly(module, {"x": torch.ones(2)}) == (["weight", "bias"], ["x"])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_an_optimizer_goes_on_only_from_a_state_of_its_own_parameters():
    def stepped(width):
        layer = nn.Linear(2, width)
        optimizer = torch.optim.Adam(layer.parameters())
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return optimizer

    source, good = Path("x.pt"), stepped(3)
    checkpoint.load_optimizer(good, stepped(3).state_dict(), source)
    moments = torch.cat([state["exp_avg"].flatten() for state in good.state.values()])
    assert moments.tolist() == pytest.approx([0.1] * 9)
    for damaged in (stepped(2).state_dict(), {}, {"state": 1, "param_groups": []}):
        with pytest.raises(CheckpointError, match="state of the optimizer is damaged"):
            checkpoint.load_optimizer(stepped(3), damaged, source)
