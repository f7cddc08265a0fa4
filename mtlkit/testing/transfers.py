"""Edges at work: both ends with predictions and labels, the networks, and what they transfer."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mtlkit.contracts import Edge, End, Task, Transfer
from mtlkit.nn import frozen
from mtlkit.structures import Label
from mtlkit.testing.inputs import label_of, prediction_of
from mtlkit.testing.stand_ins import ValueTask

Ends = tuple[End, End]
SIZE = (9, 14)
UNLIKE = -100  # times another prediction: far from any that a network makes


def path_of(edge: Edge, source: Task, target: Task) -> Edge | None:
    """Return the edge as a path over a third task; None where it refuses to be one.

    An edge whose network learns from `own_loss` alone is never a path: a path has no network of its
    own to hand to it.

    Args:
        edge: from source to target.
        source: the first task.
        target: the last task.
    """
    if not edge.trains_network:
        return None
    fields = edge.model_dump(by_alias=True, exclude={"source", "target"})
    path = (source.name, f"{source.name}_{target.name}", target.name)
    try:
        return type(edge).model_validate({**fields, "path": path})
    except ValidationError:
        return None


def way_of(edge: Edge, source: Task, target: Task) -> tuple[Task, ...]:
    """Return the tasks on the way: both ends, and stand-ins for what a path has in between.

    Args:
        edge: from source to target.
        source: the first task.
        target: the last task.
    """
    return (source, *(ValueTask(name=name) for name in edge.hops[1:-1]), target)


def networks_of(edge: Edge, source: Task, target: Task) -> nn.ModuleList:
    """Return the networks on the way: the edge's own, or those that a path walks.

    Args:
        edge: from source to target.
        source: the first task.
        target: the last task.
    """
    way = itertools.pairwise(way_of(edge, source, target))
    return nn.ModuleList(edge.build_network(*hop) for hop in way)


def ends_of(source: Task, target: Task, labelled: bool = True, seed: int = 0) -> Ends:
    """Return both ends with live predictions; both are void at the same pixels.

    Args:
        source: the task that is read.
        target: the task that is predicted.
        labelled: whether they have labels.
        seed: equal seeds give equal values; the void pixels are those of any seed.
    """
    source_end, target_end = (
        End(
            task,
            prediction_of(task, seed + i, size=SIZE).requires_grad_(),
            _label_of(task, seed) if labelled else None,
            is_labelled=labelled,
        )
        for i, task in enumerate((source, target))
    )
    return source_end, target_end


def transfer_of(edge: Edge, ends: Ends, networks: nn.ModuleList) -> Transfer:
    """Return what an edge's losses see, as the model makes it.

    Args:
        edge: between the tasks of both ends.
        ends: source and target.
        networks: on the way.
    """
    source, target = ends
    way = way_of(edge, source.task, target.task)
    transferred = source.prediction.detach() if edge.detach_input else source.prediction
    for task, network in zip(way, networks, strict=False):  # nobody reads the last task
        learns = edge.trains_network
        with contextlib.nullcontext() if learns else frozen(network.parameters()):
            transferred = network(task.as_input(transferred))
    return Transfer(source, target, None if edge.is_path else networks[0], transferred)


def changed_where_void(
    source: Task, target: Task, predicted: bool
) -> Iterator[tuple[str, Ends, Ends]]:
    """Yield where values are changed, in words, and both ends before and after.

    They are the target's at its void pixels, and both ends' in an image where both are void. The
    source's void pixels are left as they are: a network that reads its label sees them from beside.

    Args:
        source: the task that is read.
        target: the task that is predicted.
        predicted: whether predictions are changed, and not labels alone.
    """
    ends, others = ends_of(source, target), ends_of(source, target, seed=7)
    if not (source.vector or target.vector):
        changed = _changed(ends[1], others[1], _label(ends[1]).valid, predicted)
        yield "at the target's void pixels", ends, (ends[0], changed)
    first, second = (_without_first_image(end) for end in ends)
    source_end, target_end = (
        _changed(end, other, _all_but_first_image(end), predicted)
        for end, other in zip((first, second), others, strict=True)
    )
    yield "in an image where both are void", (first, second), (source_end, target_end)


def _changed(end: End, other: End, kept: Tensor, predicted: bool) -> End:
    """Return an end that holds another one's values except where a mask says to keep its own."""
    value, prediction = _label(end).value, end.prediction
    value = torch.where(_like(kept, value), value, _label(other).value)
    if predicted:
        unlike = UNLIKE * other.prediction
        prediction = torch.where(_like(kept, prediction), prediction, unlike)
    prediction = prediction.detach().requires_grad_()
    return replace(end, prediction=prediction, label=replace(_label(end), value=value))


def _without_first_image(end: End) -> End:
    """Return an end whose label is void in the whole first image."""
    valid = _label(end).valid & _all_but_first_image(end)
    return replace(end, label=replace(_label(end), valid=valid))


def _all_but_first_image(end: End) -> Tensor:
    """Return a mask like the label's that is False in the first image alone."""
    mask = torch.ones_like(_label(end).valid)
    mask[0] = False
    return mask


def _label(end: End) -> Label:
    assert end.label is not None  # `ends_of` gives labels unless it is told not to
    return end.label


def _label_of(task: Task, seed: int) -> Label:
    """Return a label whose values are the seed's, and whose void pixels are no seed's."""
    value = label_of(task, seed + 1, size=SIZE).value
    return Label(value, label_of(task, size=SIZE).valid)


def _like(valid: Tensor, values: Tensor) -> Tensor:
    """Return a mask that broadcasts to values: class maps lack its channel, vectors have more."""
    if values.ndim < valid.ndim:
        return valid[:, 0]
    return valid.view(*valid.shape, *[1] * (values.ndim - valid.ndim))
