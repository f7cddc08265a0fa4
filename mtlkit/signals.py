"""Signals to the processes that help a main one: only that one decides when to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

STOPPING = (signal.SIGINT, signal.SIGTERM)
HAS_MASKS = hasattr(signal, "pthread_sigmask")  # not on Windows


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Keep signals back that stop a run, here and in the processes that are started inside.

    Such a process inherits that: it must let them through once it knows what to do with them.
    """
    if not HAS_MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts(worker: int = 0) -> None:
    """Leave Ctrl-C to the main process, which ends its helpers; let the other signals through.

    Args:
        worker: its number, which changes nothing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HAS_MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
