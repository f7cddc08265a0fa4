"""How a model computes: compiled part by part, or with maps that are computed again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from mtlkit.errors import UsageError
from mtlkit.model import MultiTaskModel
from mtlkit.nn import Decoder
from mtlkit.sections import Train

CONTAINERS = (nn.ModuleDict, nn.ModuleList, Decoder)
"""Modules whose parts are called, and not they themselves."""


def arrange(model: MultiTaskModel, train: Train) -> None:
    """Let a model compute as the recipe asks; weights keep their names.

    Args:
        model: on its device.
        train: the recipe's section.
    """
    if train.memory == "checkpoint":
        model.recompute()
    if train.compile:
        compile_parts(model)


def compile_parts(model: MultiTaskModel) -> None:
    """Compile a model's parts in place.

    Encoder, decoders and transfer networks are compiled each alone: in one graph a task's loss
    would pass back through all of them, give zeros where it reaches nothing, and every draw of
    edges would be another graph. What fails does so in the model's first forward pass.

    Args:
        model: on its device.
    """
    parts = [*_parts(model.architecture), *_parts(model.edges)]
    dynamo, autograd = torch._dynamo.config, torch._functorch.config
    # parts of one class share a cache, and each may be of another shape, in training and out of it
    dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(parts))
    autograd.donated_buffer = False  # several passes may go back through one graph
    for part in parts:
        part.compile(dynamic=False)
    model.around = compiling


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from _parts(child)
        else:
            yield child


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Turn a failure of the compiler into a sentence.

    Raises:
        UsageError: torch cannot compile a part here.
    """
    try:
        with warnings.catch_warnings():  # it looks at every input's .grad, also where there is none
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not")
            yield
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(
            f"train.compile: torch cannot compile this model here: {' '.join(lines[:2])}. "
            "Write train.compile: false"
        ) from None
