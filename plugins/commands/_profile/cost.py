"""What a step computes and keeps: FLOPs by part, and the most memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .ranges import Ranges

KIB = 1024


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, by the formulas of torch's counter, what runs within it.

    `FlopCounterMode` counts the same, but mixes up modules in the backward pass of several losses.

    Args:
        ranges: say whose an operator is.
    """

    def __init__(self, ranges: Ranges) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ranges, self.found = ranges, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count it.

        Args:
            func: the operator.
            types: not used.
            args: its inputs.
            kwargs: its named inputs.
        """
        named = kwargs or {}
        result = func(*args, **named)
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.found[self._label() or ""] += formula(*args, **named, out_val=result)
        return result

    def _label(self) -> str | None:
        node = torch._C._current_autograd_node()
        return self.ranges.label if node is None else self.ranges.maker(node._sequence_nr())


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that were in use, of the device or of this process; None: not known.

    Args:
        device: of the run.
    """
    if device.type != "cpu":
        accelerator: Any = torch.accelerator
        known = hasattr(accelerator, "max_memory_allocated")  # since torch 2.9
        return int(accelerator.max_memory_allocated(device)) if known else None
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * KIB
