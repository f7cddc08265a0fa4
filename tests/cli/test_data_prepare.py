"""Samples that are kept before a run: read by it, made anew where damaged, never half."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from fixtures.commands import run, start

EVERY = {f"train {i}" for i in range(6)} | {"val 0", "val 1"}
MIB = 2**20


def decoded(folder: Path) -> Counter[str]:
    """Return how often each sample was decoded since this was asked last."""
    log = folder / "decoded"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return Counter(lines)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "samples").iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_reads_what_was_prepared(counting, tmp_path, capfd, workers) -> None:
    code, out, err = run(capfd, "data", "prepare", counting, "--workers", workers)
    assert code == 0
    assert decoded(tmp_path) == Counter(EVERY)
    train, val = kept(tmp_path)
    lines = out.splitlines()
    assert lines[0].startswith("counted train: 6 samples, 6 of them new; ")
    assert lines[0].endswith(f" MiB in {train}") and lines[1].endswith(f" MiB in {val}")
    assert "keeping" in err and "8/8" in err
    assert run(capfd, "run", counting)[0] == 0
    assert not decoded(tmp_path)


def test_prepared_twice_is_decoded_once(counting, tmp_path, capfd) -> None:
    assert run(capfd, "data", "prepare", counting)[0] == 0
    decoded(tmp_path)
    _, out, _ = run(capfd, "data", "prepare", counting)
    assert "6 samples, 0 of them new" in out
    assert not decoded(tmp_path)


def test_damaged_records_are_made_anew_and_no_others(counting, tmp_path, capfd) -> None:
    run(capfd, "data", "prepare", counting)
    decoded(tmp_path)
    train, val = kept(tmp_path)
    content = bytearray(train.read_bytes())
    record = len(content) // 6
    content[2 * record + 100] ^= 1
    train.write_bytes(content[: 5 * record + 7])  # sample 2 has a flipped bit, 5 is torn
    val.write_bytes(b"")
    _, out, _ = run(capfd, "data", "prepare", counting)
    assert decoded(tmp_path) == Counter(["train 2", "train 5", "val 0", "val 1"])
    assert "train: 6 samples, 2 of them new" in out
    os.truncate(train, 3 * record)
    assert run(capfd, "run", counting)[0] == 0
    assert decoded(tmp_path) == Counter(["train 3", "train 4", "train 5"])


def test_bad_samples_are_named_and_the_others_kept(counting, tmp_path, capfd) -> None:
    wish = ("--set", "data.bad=[1,4]", "--workers", 1)
    code, out, err = run(capfd, "data", "prepare", counting, *wish)
    assert code == 4
    assert "counted train: 4 samples, 4 of them new" in out
    assert "counted train, sample 1: 1.png: torn. Copy it again" in out
    assert "counted train, sample 4: 4.png: torn" in out
    assert "2 of 8 samples cannot be read" in err
    decoded(tmp_path)
    run(capfd, "data", "prepare", counting, *wish)
    assert decoded(tmp_path) == Counter(["train 1", "train 4"])


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("none", "counted: samples are not kept (loader.cache is none). To keep them on disk, set"),
        ("ram", "counted: samples are kept in memory, run by run (loader.cache is ram). To keep"),
    ],
)
def test_a_recipe_that_keeps_nothing_on_disk_says_what_to_set(
    counting, tmp_path, capfd, cache, says
) -> None:
    code, _, err = run(capfd, "data", "prepare", counting, "--set", f"loader.cache={cache}")
    assert code == 2
    assert says in err and "loader.cache to disk" in err
    assert not decoded(tmp_path)


def wait_for(folder: Path, lines: int) -> None:
    """Return when so many samples are being decoded."""
    log, deadline = folder / "decoded", time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline, "nothing is decoded"
        time.sleep(0.01)


SLOW = ("--set", "data.train=30", "--set", "data.seconds=0.1", "--workers", "2")


@pytest.mark.slow
def test_a_killed_preparation_goes_on_where_it_was(counting, tmp_path, capfd) -> None:
    with start(tmp_path, "data", "prepare", counting, *SLOW) as process:
        wait_for(tmp_path, 8)
        process.kill()
    time.sleep(6)  # the workers find out that they are alone
    before = decoded(tmp_path)
    assert 8 <= before.total() < 32
    code, out, _ = run(capfd, "data", "prepare", counting, *SLOW)
    assert code == 0 and "train: 30 samples" in out
    after = decoded(tmp_path)
    assert after.total() < 32 and len(before | after) == 32
    assert (before & after).total() <= 2  # what the workers were making
    assert run(capfd, "run", counting, *SLOW[:4], "--set", "train.epochs=1")[0] == 0
    assert not decoded(tmp_path)


@pytest.mark.slow
def test_ctrl_c_is_told_in_words_and_keeps_what_is_kept(counting, tmp_path, capfd) -> None:
    with start(tmp_path, "data", "prepare", counting, *SLOW) as process:
        wait_for(tmp_path, 8)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped; what is kept stays, and the same command goes on" in err
    assert "Traceback" not in err
    before = decoded(tmp_path)
    run(capfd, "data", "prepare", counting, *SLOW)
    assert (before & decoded(tmp_path)).total() <= 4  # made, and not awaited


@pytest.mark.slow
def test_a_full_disk_is_told_at_once_with_its_cure(counting, tmp_path, capfd) -> None:
    room = 100_000  # bytes of a file; all samples take six times 14 KiB and more

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    words = ("--workers", "2", "--set", "data.train=40")
    with start(tmp_path, "data", "prepare", counting, *words, preexec_fn=limit) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "cannot keep samples here (File too large). Set MTLKIT_CACHE" in err
    assert "counted-train-" in err and "Traceback" not in err
    decoded(tmp_path)
    code, out, _ = run(capfd, "data", "prepare", counting, *words)
    assert code == 0 and "train: 40 samples" in out  # the torn record is made anew
    assert 0 < decoded(tmp_path).total() < 42
