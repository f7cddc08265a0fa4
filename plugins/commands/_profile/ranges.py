"""Ranges of the profiler around every part of a model, by hooks from outside."""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from mtlkit.model import MultiTaskModel
from mtlkit.nn import Decoder

from .parts import Part

REST = "rest of the model"
PIECES = ("hide", "predict")
"""Methods of a decoder that run more than its modules: they enlarge maps."""


class Ranges:
    """Knows which part of the step is computed now, and which one made a node of autograd's graph.

    Autograd numbers its nodes in the order in which they are made, so the numbers at which one part
    follows another say whose a node is that the backward pass has come to.

    Args:
        model: gets hooks.
        parts: of the model.
    """

    def __init__(self, model: MultiTaskModel, parts: Sequence[Part]) -> None:
        self.labels = {REST, *(part.label for part in parts)}
        self._stack: list[tuple[str, Any]] = []
        self._changes: list[tuple[int, str | None]] = []
        self._thread = threading.get_ident()
        self._watch(model, REST)
        for part in parts:
            for module in part.module.modules():
                self._watch(module, part.label)
                if isinstance(module, Decoder):
                    for name in PIECES:
                        setattr(module, name, self._around(part.label, getattr(module, name)))

    @property
    def label(self) -> str | None:
        """What is computed now, as far as it is known."""
        return self._stack[-1][0] if self._stack else None

    def maker(self, node: int) -> str | None:
        """Return what was computed when a node of autograd's graph was made.

        Args:
            node: its number; negative for what is no part of the graph.
        """
        place = bisect_right(self._changes, node, key=lambda change: change[0])
        return self._changes[place - 1][1] if place and node >= 0 else None

    @contextlib.contextmanager
    def within(self, label: str) -> Iterator[None]:
        """Name what is computed inside.

        Args:
            label: its name.
        """
        self.labels.add(label)
        self._enter(label)
        try:
            yield
        finally:
            self._leave()

    def _watch(self, module: nn.Module, label: str) -> None:
        module.register_forward_pre_hook(lambda *_: self._enter(label))
        module.register_forward_hook(lambda *_: self._leave(), always_call=True)

    def _around(self, label: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*inputs: Any) -> Any:
            with self.within(label):
                return call(*inputs)

        return called

    def _enter(self, label: str) -> None:
        record = None
        if label != self.label:  # a module inside its part needs no range of its own
            record = record_function(label)
            record.__enter__()  # type: ignore[no-untyped-call]
        self._stack.append((label, record))
        self._note()

    def _leave(self) -> None:
        record = self._stack.pop()[1]
        if record is not None:
            record.__exit__(None, None, None)
        self._note()

    def _note(self) -> None:
        is_new = not self._changes or self._changes[-1][1] != self.label
        if is_new and threading.get_ident() == self._thread:  # each thread numbers for itself
            self._changes.append((torch._C._autograd._get_sequence_nr(), self.label))
