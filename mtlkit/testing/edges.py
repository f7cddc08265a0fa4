"""What every edge promises, between tasks of classes and of values."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Sequence

import torch

from mtlkit.contracts import Edge, End, Task, Transfer
from mtlkit.nn import frozen
from mtlkit.testing.contract import (
    Contract,
    backward,
    has_gradient,
    number,
    require,
    require_scalar,
    told,
)
from mtlkit.testing.inputs import label_of, on_meta, prediction_of
from mtlkit.testing.stand_ins import pair_of

EDGE = Contract("edge")
SIZE = (9, 14)


def check_edge(edge: Edge, ends: Sequence[tuple[Task, Task]] = ()) -> None:
    """Check all that an edge promises.

    Args:
        edge: with its arguments.
        ends: pairs of source and target, named as the edge's ends; default: stand-ins of classes
            and of values.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    for source, target in ends or pair_of(edge.source, edge.target):
        EDGE.run(edge, source, target)


@EDGE.promises_once
def the_network_turns_one_prediction_into_the_other(edge: Edge, source: Task, target: Task) -> None:
    """The network turns what it reads of the source into a prediction of the target, at any size.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    network = edge.build_network(source, target)
    for size in ((16, 32), (33, 47), (5, 6)):
        with torch.no_grad():
            transferred = network(source.as_input(prediction_of(source, size=size)))
        wanted = prediction_of(target, size=size).shape
        seen = f"from a source of {size[0]}×{size[1]} it makes {tuple(transferred.shape)}"
        require(transferred.shape == wanted, f"{seen}, and the target has {tuple(wanted)}")


@EDGE.promises
def the_loss_trains_network_and_source_and_never_the_target(
    edge: Edge, source: Task, target: Task
) -> None:
    """The loss is a finite scalar that trains the source, never the target, and the network.

    The network only where `trains_network` says so.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    transfer = _transfer_of(edge, source, target)
    loss = edge.loss(transfer)
    require_scalar(loss, "the loss")
    require(loss.isfinite(), f"the loss is {number(loss)}")
    backward(loss)
    is_free = transfer.target.prediction.grad is None
    require(is_free, "the target's prediction gets a gradient. Detach it, as `as_label` does")
    network = transfer.network
    trained = network is not None and any(has_gradient(p.grad) for p in network.parameters())
    if edge.trains_network:
        require(trained, "the network gets no gradient. Compare `transfer.transferred`, undetached")
    else:
        require(not trained, "the network gets a gradient in spite of `trains_network = False`")
    gradient = transfer.source.prediction.grad
    if edge.detach_input:
        require(gradient is None, "the source gets a gradient in spite of `detach_input`")
    else:
        require(has_gradient(gradient), "the source gets no gradient. Detach nothing of it")


@EDGE.promises
def the_loss_is_zero_on_the_graph_where_nothing_can_be_compared(
    edge: Edge, source: Task, target: Task
) -> None:
    """Without labels the loss is 0, on the graph, unless `applies` says that it needs none.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    transfer = _transfer_of(edge, source, target, labelled=False)
    loss, network = edge.loss(transfer), transfer.network
    require(loss.requires_grad, "the loss is not on the graph. Return `transferred.sum() * 0`")
    if edge.applies(transfer):
        require(loss.isfinite(), f"the loss is {number(loss)}")
        return
    require(loss == 0, f"the loss is {number(loss)}, and `applies` is False. Return 0 there")
    backward(loss)
    moved = network is not None and any(
        p.grad is not None and bool(p.grad.any()) for p in network.parameters()
    )
    require(not moved, "the network gets a gradient from a loss of 0")


@EDGE.promises
def the_loss_runs_without_values(edge: Edge, source: Task, target: Task) -> None:
    """Network and loss run on meta tensors: they wait for no value.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    sentence = "They do not. Use no `.item()`, `if` on a value or indexing by a mask"
    with told(sentence), torch.device("meta"):
        network, ends = edge.build_network(source, target), []
        for task in (source, target):
            with torch.device("cpu"):
                label = on_meta(label_of(task, size=SIZE))
            prediction = torch.empty(2, task.channels, *SIZE, requires_grad=True)
            ends.append(End(task, prediction, label, is_labelled=True))
        transferred = network(source.as_input(ends[0].prediction))
        loss = edge.loss(Transfer(ends[0], ends[1], network, transferred))
    is_good = loss.is_meta and loss.shape == () and loss.requires_grad
    require(is_good, "the loss is no scalar on the graph of meta tensors")


@EDGE.promises
def explain_names_both_ends(edge: Edge, source: Task, target: Task) -> None:
    """`as_maths` is one line that names source and target.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    text = edge.as_maths(source, target)
    is_good = source.name in text and target.name in text and "\n" not in text
    require(is_good, f"it is {text!r}. Write the names of both tasks")


@EDGE.promises
def copies_and_pickles_are_equal(edge: Edge, source: Task, target: Task) -> None:
    """Copies and pickles equal the edge, and other ends make another one.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    copies = pickle.loads(pickle.dumps(edge)), copy.deepcopy(edge)
    require(all(one == edge for one in copies), "a copy differs. Keep all state in fields")
    turned = edge.model_copy(update={"source": edge.target, "target": edge.source})
    require(turned != edge, "the edge in the other direction equals it. Compare all fields")


@EDGE.promises
def it_is_charged_to_one_of_its_ends_and_keeps_its_fields(
    edge: Edge, source: Task, target: Task
) -> None:
    """It is charged to one of its ends, and is the same read back from what a recipe keeps.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    charged = {"source": edge.source, "target": edge.target}[edge.charge]
    require(edge.charged_to == charged, f"`charged_to` is {edge.charged_to!r}, not {charged!r}")
    key = (edge.source, edge.target, edge.type_name())
    require(edge.key == key, f"`key` is {edge.key}, not {key}")
    require(0 <= edge.weight <= 1, f"`weight` is {edge.weight}. It is a share, from 0 to 1")
    again = type(edge).model_validate(edge.model_dump(by_alias=True))
    require(again == edge, "`model_dump` and `model_validate` change it. Mend its validators")


def _transfer_of(edge: Edge, source: Task, target: Task, labelled: bool = True) -> Transfer:
    """Return both ends of an edge with live predictions, its network and what it transfers."""
    network = edge.build_network(source, target)
    predictions = [
        prediction_of(task, i, size=SIZE).requires_grad_()
        for i, task in enumerate((source, target))
    ]
    read = predictions[0].detach() if edge.detach_input else predictions[0]
    labels = [label_of(task, size=SIZE) if labelled else None for task in (source, target)]
    ends = [
        End(task, prediction, label, is_labelled=labelled)
        for task, prediction, label in zip((source, target), predictions, labels, strict=True)
    ]
    kept = contextlib.nullcontext() if edge.trains_network else frozen(network.parameters())
    with kept:
        transferred = network(source.as_input(read))
    return Transfer(ends[0], ends[1], network, transferred)
