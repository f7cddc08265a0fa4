"""What every edge promises, between tasks of classes and of values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlkit.contracts import Edge, End, Task, Transfer
from mtlkit.testing.contract import (
    BrokenPromise,
    Contract,
    backward,
    has_gradient,
    number,
    require,
    require_close,
    require_scalar,
    told,
)
from mtlkit.testing.inputs import label_of, on_meta, prediction_of
from mtlkit.testing.stand_ins import pair_of
from mtlkit.testing.transfers import (
    SIZE,
    changed_where_void,
    ends_of,
    networks_of,
    path_of,
    transfer_of,
)

EDGE = Contract("edge")


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
    networks = networks_of(edge, source, target)
    transfer = transfer_of(edge, ends_of(source, target), networks)
    loss = edge.loss(transfer)
    require_scalar(loss, "the loss")
    require(loss.isfinite(), f"the loss is {number(loss)}")
    backward(loss)
    is_free = transfer.target.prediction.grad is None
    require(is_free, "the target's prediction gets a gradient. Detach it, as `as_label` does")
    trained = [any(has_gradient(p.grad) for p in network.parameters()) for network in networks]
    if edge.trains_network:
        advice = "Compare `transfer.transferred`, undetached"
        require(all(trained), f"the network gets no gradient. {advice}")
    else:
        seen = "the network gets a gradient in spite of `trains_network = False`"
        require(not any(trained), seen)
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
    networks = networks_of(edge, source, target)
    transfer = transfer_of(edge, ends_of(source, target, labelled=False), networks)
    loss = edge.loss(transfer)
    require(loss.requires_grad, "the loss is not on the graph. Return `transferred.sum() * 0`")
    if edge.applies(transfer):
        require(loss.isfinite(), f"the loss is {number(loss)}")
        return
    require(loss == 0, f"the loss is {number(loss)}, and `applies` is False. Return 0 there")
    backward(loss)
    moved = any(p.grad is not None and bool(p.grad.any()) for p in networks.parameters())
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
    charged = {"source": edge.hops[0], "target": edge.hops[-1]}[edge.charge]
    require(edge.charged_to == charged, f"`charged_to` is {edge.charged_to!r}, not {charged!r}")
    key = (*edge.hops, edge.type_name())
    require(edge.key == key, f"`key` is {edge.key}, not {key}")
    require(0 <= edge.weight <= 1, f"`weight` is {edge.weight}. It is a share, from 0 to 1")
    again = type(edge).model_validate(edge.model_dump(by_alias=True))
    require(again == edge, "`model_dump` and `model_validate` change it. Mend its validators")


@EDGE.promises
def what_is_void_changes_no_loss(edge: Edge, source: Task, target: Task) -> None:
    """What is void changes no loss: the target's void pixels, and images without any label.

    What an edge that `applies` without labels compares is predicted everywhere, so that its
    predictions are not looked at.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    networks = networks_of(edge, source, target).eval()  # batch statistics would look at all
    unlabelled = transfer_of(edge, ends_of(source, target, labelled=False), networks)
    predicted = not edge.applies(unlabelled)
    for where, ends, others in changed_where_void(source, target, predicted):
        before, after = (
            _losses(edge, transfer_of(edge, pair, networks)) for pair in (ends, others)
        )
        for name, loss in before.items():
            seen = f"with other values {where} the {name} is {number(after[name])}, before "
            seen += f"{number(loss)}. Compare by mtlkit.nn.masked_mean, with the label's `valid`"
            require_close(after[name], loss, seen)


@EDGE.promises
def its_own_loss_trains_the_network_alone(edge: Edge, source: Task, target: Task) -> None:
    """`own_loss` is None where `trains_network` is True, else it trains the network alone.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    networks = networks_of(edge, source, target)
    transfer = transfer_of(edge, ends_of(source, target), networks)
    loss = edge.own_loss(transfer)
    if edge.trains_network:
        advice = "Set `trains_network = False`, and let `loss` leave the network alone"
        require(loss is None, f"there is one, and `loss` trains the network too. {advice}")
        return
    if loss is None:
        learns = any(p.requires_grad for p in networks.parameters())
        require(not learns, "nothing trains the network: `own_loss` is None with both labels")
        return
    require_scalar(loss, "it")
    require(loss.isfinite(), f"it is {number(loss)}")
    backward(loss)
    for end in (transfer.source, transfer.target):
        seen = f"the prediction of {end.task.name!r} gets a gradient"
        require(end.prediction.grad is None, f"{seen}. Read labels, or detach it")
    trained = any(has_gradient(p.grad) for p in networks.parameters())
    require(trained, "the network gets no gradient. Run `transfer.network` in it")
    alone = edge.own_loss(transfer_of(edge, ends_of(source, target, labelled=False), networks))
    is_good = alone is None or bool(alone.isfinite())
    require(is_good, "it is not finite without labels. Return None there")


@EDGE.promises
def as_a_path_it_keeps_its_promises(edge: Edge, source: Task, target: Task) -> None:
    """As a path, which has no network of its own, it trains those on its way and the source.

    Its loss without labels, its key, charge, fields and formula are those of an edge. A validator
    may refuse a `path`, and an edge with an `own_loss` is never asked to be one.

    Args:
        edge: what is checked.
        source: the task it reads.
        target: the task it predicts.
    """
    path = path_of(edge, source, target)
    if path is None:
        return
    for promise in (
        the_loss_trains_network_and_source_and_never_the_target,
        the_loss_is_zero_on_the_graph_where_nothing_can_be_compared,
        explain_names_both_ends,
        it_is_charged_to_one_of_its_ends_and_keeps_its_fields,
    ):
        try:
            promise(path, source, target)
        except BrokenPromise as error:
            raise BrokenPromise(f"with `path: {list(path.hops)}`, {error}") from None


def _losses(edge: Edge, transfer: Transfer) -> dict[str, Tensor]:
    """Return the loss and, where there is one, the own loss."""
    own = edge.own_loss(transfer)
    return {"loss": edge.loss(transfer), **({} if own is None else {"own loss": own})}
