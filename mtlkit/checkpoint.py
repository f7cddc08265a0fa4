"""Checkpoints: written beside and renamed, read without running code."""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.errors import CheckpointError, MissingError, PluginError
from mtlkit.files import beside

FORMAT = 1
PARTS: dict[str, type] = {
    "model": dict,
    "auxiliary_losses": dict,
    "balancer": dict,
    "optimizer": dict,
    "rng": dict,
    "position": dict,
    "recipe": str,
    "monitor": dict,
    "best": dict,
}
_CODE = ("Unsupported global", "Unsupported class", "GLOBAL")  # what torch's safe loader refuses


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that either the old or the new one is there, whole.

    Args:
        path: where to.
        state: the `PARTS`, of tensors and plain values.

    Raises:
        PluginError: a plugin's state holds what no checkpoint can.
        MissingError: it cannot be written; the old one is kept.
    """
    _refuse_objects(state)
    cure = "Free some space, or choose another folder with --out; the last one is kept"
    with beside(path, "the checkpoint", cure) as part, part.open("wb") as file:
        torch.save({"format": FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())


def _refuse_objects(state: Mapping[str, Any]) -> None:
    """Refuse state that could not be written, or not be read without running code."""
    for part in ("model", "auxiliary_losses", "balancer"):
        for key, value in (state.get(part) or {}).items():
            for bad in _objects(value):
                raise PluginError(
                    f"the state of the {part.replace('_', ' ')} holds {type(bad).__name__} under "
                    f"{key!r}, which no checkpoint can. Keep tensors in buffers or parameters, and "
                    "return plain numbers and texts from get_extra_state()"
                )


def _objects(value: Any) -> Iterator[Any]:
    """Yield what is neither a tensor nor a plain value, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _objects(key)
            yield from _objects(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _objects(inner)
    elif not isinstance(value, Tensor | bool | int | float | str | bytes | None):
        yield value


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while saving left in a run folder.

    Args:
        folder: of a run that no process is training.
    """
    for part in folder.glob("*.pt.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def find(path: Path) -> Path:
    """Return the checkpoint that a path means: a run folder means its best.pt, else its last.pt.

    Args:
        path: a checkpoint or a run folder.

    Raises:
        MissingError: there is none.
    """
    if path.is_dir():
        for name in ("best.pt", "last.pt"):
            if (path / name).is_file():
                return path / name
        raise MissingError(f"{path}: no checkpoint in this folder. Give a run folder or a .pt file")
    if not path.is_file():
        raise MissingError(f"{path}: no such checkpoint. Give a run folder or a .pt file")
    return path


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint, on the CPU.

    Args:
        path: a file that `save` wrote.

    Raises:
        MissingError: it is not there.
        CheckpointError: it is damaged, holds code, or is no checkpoint of mtlkit.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such checkpoint. Give the folder of a run")
    state = _safely_loaded(path)
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path}: is no checkpoint of mtlkit. Give a run folder")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: has format {state['format']!r}, this release reads {FORMAT}. Use the release "
            "of mtlkit that wrote it"
        )
    missing = [part for part in PARTS if part not in state]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}. Use another checkpoint")
    wrong = [part for part, kind in PARTS.items() if not isinstance(state[part], kind)]
    wrong = wrong or list(_wrong_inside(state["position"], state["best"]))
    if wrong:
        raise CheckpointError(
            f"{path}: is damaged: its {', '.join(wrong)} cannot be read. Use another checkpoint"
        )
    return state


def load_weights(module: nn.Module, weights: Mapping[str, Any], source: Path) -> None:
    """Copy weights into a module; every name and shape must fit.

    Args:
        module: filled in place.
        weights: a state dict.
        source: for messages.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).split("\n")[1:] if line.strip()]
        reason = (lines[0] if lines else str(error))[:200].rstrip(".")
        raise CheckpointError(
            f"{source}: does not fit this recipe's model: {reason}. Use a checkpoint of this recipe"
        ) from None


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any], source: Path) -> None:
    """Restore an optimizer; fused kernels trust the shapes of its state, so they are compared.

    Args:
        optimizer: filled in place.
        state: its state dict.
        source: for messages.

    Raises:
        CheckpointError: it is that of other parameters.
    """
    try:
        optimizer.load_state_dict(dict(state))
        fits = all(
            value.ndim == 0 or value.shape == parameter.shape
            for parameter, values in optimizer.state.items()
            for value in values.values()
            if isinstance(value, Tensor)
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"{source}: the state of the optimizer is damaged. Use another checkpoint of the run"
        )


def load_partly(module: nn.Module, weights: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Copy the weights whose name and shape fit, and return the names of both sides that did not.

    Args:
        module: filled in place.
        weights: a state dict.

    Returns:
        Names of the module that got nothing, and names of the weights that were not used.
    """
    own = module.state_dict()
    tensors = {n: w for n, w in weights.items() if isinstance(w, Tensor)}
    fitting = {n: w for n, w in tensors.items() if n in own and own[n].shape == w.shape}
    module.load_state_dict(fitting, strict=False)
    return [n for n in own if n not in fitting], [n for n in weights if n not in fitting]


def _safely_loaded(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols that mtlkit never writes
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead to
        if isinstance(error, pickle.UnpicklingError) and any(x in str(error) for x in _CODE):
            raise CheckpointError(
                f"{path}: holds objects that could run code, so it was not loaded. Use a "
                "checkpoint that mtlkit wrote"
            ) from None
        told = isinstance(error, RuntimeError | OSError)
        reason = str(error).split("\n")[0].split(". ")[0][:120] if told else type(error).__name__
        raise CheckpointError(
            f"{path}: is damaged or incomplete ({reason}). Use another checkpoint"
        ) from None


def _wrong_inside(position: Mapping[str, Any], best: Mapping[str, Any]) -> Iterator[str]:
    if not all(isinstance(number, int) and number >= 0 for number in position.values()):
        yield "position"
    if not (isinstance(best.get("metrics"), dict) and isinstance(best.get("epoch"), int)):
        yield "best"
