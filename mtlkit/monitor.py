"""Running means of losses, kept on the device and read only when a line is due; interrupts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.errors import DivergedError
from mtlkit.ranks import Ranks

ECHO_SECONDS = 2.0
"""Within which a signal comes a second time by way of torchrun."""
NEVER = 2**62
"""A step that no run takes."""


class Monitor:
    """Means since the last line and over the epoch, and the first step whose loss is no number.

    Args:
        names: every value that may come, in the order in which a fault is looked for.
        device: that they are summed on: that of the values, or one that they are copied to without
            being waited for, so not the host for values of an accelerator.
        skips: whether a value that is no number counts as absent, and is no fault.
        ranks: each counts values of its own, and all read means over all of them; None: all count
            the same.
    """

    def __init__(
        self,
        names: list[str],
        device: torch.device,
        skips: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        self.names, self.skips, self.ranks = names, skips, ranks or Ranks()
        size = len(names)
        self.line = torch.zeros(2, size, dtype=torch.float64, device=device)
        self.epoch = torch.zeros_like(self.line)
        self._masks: dict[tuple[bool, ...], Tensor] = {}
        self.first_bad = torch.full((size,), -1, dtype=torch.int64, device=device)

    def add(self, values: Mapping[str, Tensor], step: int) -> None:
        """Count values of one batch; no host sync.

        Args:
            values: detached scalars; absent ones are not counted.
            step: the step that they belong to.
        """
        if not values:
            return
        first = next(iter(values.values()))
        zero = torch.zeros_like(first, device=self.line.device)
        here = [
            values[name].to(zero, non_blocking=True) if name in values else zero
            for name in self.names
        ]
        new = torch.stack(here).to(self.line.dtype)
        pair = torch.stack((new, self._presence(tuple(name in values for name in self.names))))
        is_finite = new.isfinite()
        if self.skips:
            pair = torch.where(is_finite, pair, 0)
        else:
            is_first = ~is_finite & (self.first_bad < 0)
            self.first_bad = torch.where(is_first, step, self.first_bad)
        self.line += pair
        self.epoch += pair

    def read_line(self) -> dict[str, float]:
        """Return the means since the last line, and begin a new one.

        Raises:
            DivergedError: a value was no number; names it and its step.
        """
        means = self._means(self.line)
        self.line.zero_()
        return means

    def read_epoch(self) -> dict[str, float]:
        """Return the means over the epoch, and begin a new one.

        Raises:
            DivergedError: a value was no number; names it and its step.
        """
        means = self._means(self.epoch)
        self.epoch.zero_()
        return means

    def check(self) -> None:
        """Look for values that were no numbers, on any rank.

        Raises:
            DivergedError: there was one; names it and its step.
        """
        early = torch.where(self.first_bad < 0, -NEVER, -self.first_bad)
        steps = (-self.ranks.largest_(early)).tolist()
        bad = [(step, name) for step, name in zip(steps, self.names, strict=True) if step < NEVER]
        if not bad:
            return
        first = min(step for step, _ in bad)
        names = [name for step, name in bad if step == first]
        raise DivergedError(f"{', '.join(names[:3])} is not finite at step {first}")

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to log on as if nothing had happened.

        What all ranks have counted goes over to the first, so that it is saved once.
        """
        for sums in (self.line, self.epoch):
            self.ranks.sum_(sums)
            if not self.ranks.is_first:
                sums.zero_()
        return {"line": self.line.cpu(), "epoch": self.epoch.cpu()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`.

        Args:
            state: as saved.
        """
        if self.ranks.is_first:
            self.line.copy_(state["line"])
            self.epoch.copy_(state["epoch"])

    def _presence(self, here: tuple[bool, ...]) -> Tensor:
        """Return 1 where a value came, else 0; copied to the device once for each pattern."""
        if here not in self._masks:
            mask = torch.tensor(here, dtype=self.line.dtype)
            self._masks[here] = mask.to(self.line.device, non_blocking=True)
        return self._masks[here]

    def _means(self, sums: Tensor) -> dict[str, float]:
        self.check()
        values, counts = self.ranks.sum_(sums.clone()).tolist()
        return {
            name: value / count
            for name, value, count in zip(self.names, values, counts, strict=True)
            if count
        }


def check_weights(model: nn.Module, step: int) -> None:
    """Refuse weights that are no numbers.

    Args:
        model: any.
        step: steps done, for the message.

    Raises:
        DivergedError: names the first that is not finite.
    """
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    floats = {name: x.detach() for name, x in named.items() if x.is_floating_point()}
    finite = torch.stack([x.isfinite().all() for x in floats.values()])
    if not bool(finite.all()):
        bad = [n for n, good in zip(floats, finite.tolist(), strict=True) if not good]
        raise DivergedError(f"the weights {bad[0]} are not finite after step {step}")


class Interrupts:
    """Within it, the first SIGINT or SIGTERM is only noted; the second stops at once.

    torchrun passes on to its processes what a terminal or a scheduler sends them, too: with
    several ranks, a signal soon after the first is the same one.

    Args:
        ranks: of which the first tells that it was noted; None: this process is alone.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.requested, self.ranks = False, ranks or Ranks()
        self._noted_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and (self.ranks.count == 1 or now - self._noted_at > ECHO_SECONDS):
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self._noted_at = True, now
        if self.ranks.is_first:  # one may arrive inside a print, so this goes past its buffer
            os.write(2, b"\nstopping after this step and saving; once more stops at once\n")
