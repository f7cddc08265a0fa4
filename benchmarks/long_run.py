"""Whether memory stays flat in a long run of tiny steps, and nothing is left of it at the end.

python benchmarks/long_run.py [--steps 2000]

`mtlkit run` trains XTasC-Net on streets of 32×64, with two loader workers, validation,
checkpoints and all. From outside, by what Linux tells in /proc, this script follows the main
process: its resident memory, its open files, and the step that metrics.jsonl has come to. A line
is laid through the samples after the first of ten epochs, by least squares: its slope may be 1 % of
the memory a thousand steps, and open files may not grow.

A second run gets Ctrl-C there, as a terminal sends it: to every process of the group. After each
run, nothing may be left of what it began: a process, shared memory with a name, a temporary file.
The first must end with the exit code 0, the second with 130.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median

from _verdicts import at_most, print_lines

RECIPE = Path(__file__).parents[1] / "recipes" / "xtascnet_streets.yaml"
EPOCHS, BATCH = 10, 2
WORKERS = 2
SETTINGS = (
    "data.size=[32, 64]",
    "data.val=8",
    f"loader={{batch_size: {BATCH}, workers: {WORKERS}}}",
    "architecture.width=8",
    "edges=[{from: all, to: all, type: xtc, weight: 0.01, widths: [4, 8, 8]}]",
    f"train.epochs={EPOCHS}",
    "train.threads=1",
    "train.log_every=10",
    "schedule.warmup=0",
)
LEAST_STEPS = 100  # that some lines of metrics.jsonl lie between the first epoch and the end
MOST_GROWTH = 0.01  # of the memory, a thousand steps
STOPPED = 128 + signal.SIGINT  # exit code after Ctrl-C
EVERY_SECONDS = 0.1
GRACE_SECONDS = 5.0  # for helpers that end by themselves once they are alone
TORCHS_OWN = "torchinductor_"  # a cache that importing torch._dynamo makes, one a user
SAID = "said.txt"  # what a run prints
NAMES = ("memory, MiB", "open files")
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20
SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Sample:
    """The main process at some moment.

    Args:
        step: the last one that was logged.
        memory: resident, in bytes.
        files: open ones.
    """

    step: int
    memory: int
    files: int


@dataclass(frozen=True)
class Ended:
    """What is left of a run.

    Args:
        code: its exit code.
        processes: of its session that live.
        shared: names of shared memory that were not there before.
        temporary: files in the folder for them.
    """

    code: int
    processes: Sequence[str]
    shared: Sequence[str]
    temporary: Sequence[str]

    @property
    def is_any(self) -> bool:
        """Whether anything is left."""
        return bool(self.processes or self.shared or self.temporary)

    @property
    def line(self) -> str:
        """In words."""
        left = {
            "processes": self.processes,
            "shared memory": self.shared,
            "temporary files": self.temporary,
        }
        told = [f"{what} {' '.join(names)}" for what, names in left.items() if names]
        return f"exit code {self.code}, left behind: " + (", ".join(told) or "nothing")

    def verdict(self, when: str, code: int) -> str:
        """Return the line that says whether the run ended as it should.

        Args:
            when: in words.
            code: that it should have ended with.
        """
        is_met = self.code == code and not self.is_any
        return f"  {when:32}{self.line}: {'meets' if is_met else 'misses'}"


def main() -> None:
    """Train twice, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help=f"at least {LEAST_STEPS}")
    steps: int = parser.parse_args().steps
    if steps < LEAST_STEPS:
        parser.error(f"argument --steps: {steps} are too few, give at least {LEAST_STEPS}")
    settled = steps // EPOCHS  # the first validation starts workers of its own
    samples: list[Sample] = []
    ended = train(steps, samples)
    end = samples[-1].step
    report([sample for sample in samples if settled < sample.step < end])
    print(ended.verdict("after the last step", 0), flush=True)
    print(train(steps, [], stop_at=settled).verdict("after Ctrl-C", STOPPED), flush=True)


def train(steps: int, samples: list[Sample], stop_at: int | None = None) -> Ended:
    """Run `mtlkit run` to its end, and return what is left of it.

    Args:
        steps: of the run, about.
        samples: get what is seen on the way.
        stop_at: step after which it gets Ctrl-C.

    Raises:
        SystemExit: with what the run printed, if it failed before it got Ctrl-C.
    """
    before = shared_names()
    with tempfile.TemporaryDirectory() as folder:
        own, is_stopped = Path(folder, "tmp"), False
        own.mkdir()
        with started(Path(folder), own, steps) as process:
            for sample in followed(process, Path(folder)):
                samples.append(sample)
                if not is_stopped and stop_at is not None and sample.step >= stop_at:
                    os.killpg(process.pid, signal.SIGINT)
                    is_stopped = True
        if process.returncode != 0 and not is_stopped:
            raise SystemExit(Path(folder, SAID).read_text())
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := remains(process, before, own)).is_any and time.monotonic() < deadline:
            time.sleep(EVERY_SECONDS)
        return left


def remains(process: subprocess.Popen[bytes], before: set[str], temporary: Path) -> Ended:
    """Return what there is of a run that has ended.

    Args:
        process: its main one.
        before: names of shared memory when it began.
        temporary: where its temporary files were.
    """
    names = (path.name for path in temporary.iterdir())
    return Ended(
        process.returncode,
        session(process.pid),
        sorted(shared_names() - before),
        [name for name in names if not name.startswith(TORCHS_OWN)],
    )


def started(folder: Path, temporary: Path, steps: int) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own, which all of its processes belong to.

    Args:
        folder: for the run's own.
        temporary: for temporary files.
        steps: of the run, about.
    """
    settings = [*SETTINGS, f"data.train={max(1, steps // EPOCHS) * BATCH}"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "mtlkit", "run", str(RECIPE), "--device", "cpu"]
    with (folder / SAID).open("wb") as said:
        return subprocess.Popen(
            [*command, "--out", str(folder / "runs"), *words],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def followed(process: subprocess.Popen[bytes], folder: Path) -> Iterator[Sample]:
    """Yield samples of a run until it has ended.

    Args:
        process: the main one.
        folder: of `started`.
    """
    here = Path("/proc", str(process.pid))
    while process.poll() is None:
        step = last_step(folder)
        try:
            memory = int((here / "statm").read_text().split()[1]) * PAGE
            yield Sample(step, memory, sum(1 for _ in (here / "fd").iterdir()))
        except OSError:  # it has just ended
            pass
        time.sleep(EVERY_SECONDS)


def last_step(folder: Path) -> int:
    """Return the last step of training that a run has logged; 0: none yet."""
    for path in folder.glob("runs/*/*/metrics.jsonl"):
        for line in reversed(path.read_bytes()[-20_000:].splitlines()):
            if b'"train"' in line and line.endswith(b"}"):
                return int(json.loads(line)["step"])
    return 0


def session(leader: int) -> list[str]:
    """Return the names of the processes of a session that live, and do not wait to be reaped.

    Args:
        leader: number of its first process.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, _, _, number = rest.split()[:4]
        if int(number) == leader and state != "Z":
            found.append(name)
    return found


def shared_names() -> set[str]:
    """Return the names of shared memory on this machine."""
    return {path.name for path in SHARED.iterdir()}


def report(samples: Sequence[Sample]) -> None:
    """Print memory and open files, medians of the first and the last tenth, and how they grow.

    Args:
        samples: after the first steps, and before the last one is logged: there the process ends.
    """
    steps = [sample.step for sample in samples]
    print(f"from step {steps[0]} to {steps[-1]}, {len(samples)} samples of the main process")
    print(f"{'':16}{'first':>10}{'last':>10}{'a thousand steps':>20}")
    memory = [sample.memory / MIB for sample in samples]
    files = [float(sample.files) for sample in samples]
    slopes = [1000 * linear_regression(steps, values).slope for values in (memory, files)]
    tenth = 1 + len(samples) // 10
    ends = {}
    for what, values, slope in zip(NAMES, (memory, files), slopes, strict=True):
        ends[what] = first, last = median(values[:tenth]), median(values[-tenth:])
        print(f"{what:16}{first:10.1f}{last:10.1f}{slope:+20.2f}")
    before, after = ends["open files"]
    lines = [
        at_most("growth of memory", slopes[0] / memory[0], MOST_GROWTH),
        at_most("open files, last over first", after / before, 1),
    ]
    print_lines(lines)


if __name__ == "__main__":
    main()
