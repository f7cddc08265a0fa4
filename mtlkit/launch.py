"""Processes that torchrun starts: they find each other, talk with one voice, and end together."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from mtlkit.errors import DivergedError, InterruptedRun, MissingError, UsageError

FOUND = timedelta(minutes=5)
"""How long ranks look for each other."""
PATIENCE = timedelta(seconds=15)
"""How long a rank that fails waits for another to say the same, so that it is said once."""
LINGER = timedelta(seconds=5)
"""How long the first rank, which may keep the store, waits for the others to have heard it."""
TOLD, HEARD, ALL_HEARD = "told", "heard", "all heard"
ALIKE = (UsageError.exit_code, DivergedError.exit_code, InterruptedRun.exit_code)
"""Exit codes of what all ranks find at once: said without a rank."""
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
LOST = ("gloo", "Connection", "NCCL", "ProcessGroup")
"""Words of torch's errors about ranks that are gone."""


class LostRankError(MissingError):
    """Another rank ended before its time."""


@dataclass(frozen=True)
class Launch:
    """What the environment says of this process.

    Args:
        rank: its number, 0 for the first.
        count: of processes.
    """

    rank: int
    count: int

    @classmethod
    def read(cls) -> Launch:
        """Return it.

        Raises:
            UsageError: the environment is not that of torchrun.
        """
        count, rank = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
        missing = [name for name in NEEDED if name not in os.environ]
        if missing or not (count.isdecimal() and rank.isdecimal()):
            wrong = f"{missing[0]} is not set" if missing else f"RANK is {rank!r}"
            raise UsageError(
                f"WORLD_SIZE is {count!r}, but {wrong}. Start several processes with torchrun, or "
                "one without these variables"
            )
        return cls(int(rank), int(count))


@contextlib.contextmanager
def joined() -> Iterator[Any]:
    """Let the processes that torchrun started find each other, and part in the end.

    For scripts of your own; the command line does it by itself. Tensors on the CPU go through
    gloo, those on a GPU through NCCL.

    Yields:
        The store that all of them reach.

    Raises:
        UsageError: the environment is not that of torchrun.
        MissingError: they do not find each other.
    """
    # every rank would say that DDP looked for parameters without use, which not every step has
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from mtlkit.device import distributed_backend

    launch = Launch.read()
    try:
        shared, rank, count = next(rendezvous("env://", timeout=FOUND))
        # torchrun's store outlives a restart, with the addresses of processes that are gone
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"mtlkit/{attempt}", shared)
        distributed.init_process_group(
            distributed_backend(), store=store, rank=rank, world_size=count
        )
    except (RuntimeError, ValueError) as error:
        raise MissingError(
            f"rank {launch.rank} of {launch.count} does not find the others ({_first(error)}). "
            "See that all machines reach the one that torchrun's --rdzv-endpoint names"
        ) from None
    try:
        yield store
    finally:
        distributed.destroy_process_group()


def together(call: Callable[[], None], closing: Callable[[Callable[[], None]], int]) -> int:
    """Return the exit code of a call that all ranks make, of which only the first prints.

    What a rank fails with is said once: by the first or, if it does not say the same, by itself.

    Args:
        call: what they do.
        closing: calls it, prints what it fails with, and returns the exit code.

    Raises:
        UsageError: the environment is not that of torchrun.
        MissingError: the ranks do not find each other.
    """
    launch, last_words = Launch.read(), io.StringIO()
    with joined() as store:
        heard = _Heard(call, sys.stderr if launch.rank == 0 else None)
        with contextlib.redirect_stderr(last_words):
            code = closing(heard)
        if code:
            words = _Words(last_words.getvalue(), code in ALIKE, heard.is_lost)
            _say(words, launch, store)
    return code


class _Heard:
    """The call, of which all or nothing is heard; the loss of another rank is told as such."""

    def __init__(self, call: Callable[[], None], stream: TextIO | None) -> None:
        self.call, self.stream, self.is_lost = call, stream, False

    def __call__(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                if self.stream is None:
                    nowhere = stack.enter_context(Path(os.devnull).open("w"))
                    stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(self.stream or nowhere))
                self.call()
        except Exception as error:
            reason = _loss(error)
            if reason is None:
                raise
            self.is_lost = True
            raise LostRankError(f"another rank is gone ({reason})") from None


@dataclass(frozen=True)
class _Words:
    """What a rank fails with."""

    text: str
    is_alike: bool
    is_lost: bool


def _say(words: _Words, launch: Launch, store: Any) -> None:
    """Print what a rank fails with, unless another has said what there is to say."""
    is_first = launch.rank == 0
    with contextlib.suppress(RuntimeError):  # the store may be gone, too
        if not is_first:
            store.wait([TOLD], PATIENCE)
        if (not is_first or words.is_lost) and store.check([TOLD]):
            told = store.get(TOLD).decode()
            if store.add(HEARD, 1) == launch.count - 1:
                store.set(ALL_HEARD, "")
            if words.is_lost or told == words.text:
                return
    if words.text:
        name = "" if is_first and words.is_alike else f"rank {launch.rank}: "
        print(name + words.text, end="", file=sys.stderr, flush=True)
    with contextlib.suppress(RuntimeError):
        store.set(TOLD, words.text)
        if is_first:
            store.wait([ALL_HEARD], LINGER)


def _loss(error: BaseException | None) -> str | None:
    """Return the first line of an error that says that another rank is gone; else None."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(word in str(error) for word in LOST):
            return _first(error)
        error = error.__cause__ or error.__context__
    return None


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0].rsplit("] ", 1)[-1][:160].rstrip(". ")
