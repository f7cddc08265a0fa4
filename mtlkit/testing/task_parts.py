"""What every task promises of its decoder, and of what edges read."""

from __future__ import annotations

import torch

from mtlkit.contracts import Task
from mtlkit.nn import Decoder
from mtlkit.structures import Label
from mtlkit.testing.contract import Contract, backward, has_gradient, require
from mtlkit.testing.inputs import label_of, prediction_of
from mtlkit.testing.stand_ins import StagesEncoder, image_of

TASK = Contract("task")  # `tasks` adds the other promises
SIZE = (16, 24)
WIDTH = 7  # unlike any task's channels


@TASK.promises
def decoder_and_head_end_in_its_prediction(task: Task) -> None:
    """`build_decoder` and `build_head` end in `channels`: maps, or one vector where `vector` is."""
    encoder, features = StagesEncoder().build_encoder()
    decoder, head = task.build_decoder(features, WIDTH), task.build_head(WIDTH)
    seen = f"`build_decoder` returns {type(decoder).__name__}"
    require(isinstance(decoder, Decoder), f"{seen}. Return a mtlkit.nn.Decoder of trunk and head")
    with torch.no_grad():
        found = {
            "build_head": head(torch.rand(2, WIDTH, *SIZE)),
            "build_decoder": decoder(encoder(image_of(SIZE))),
        }
    wanted = (2, task.channels) if task.vector else (2, task.channels, *SIZE)
    for name, prediction in found.items():
        seen = f"`{name}` ends in {tuple(prediction.shape)}, and `channels` and `vector` say"
        require(prediction.shape == wanted, f"{seen} {wanted}. Mend one of them")


@TASK.promises_once
def what_an_edge_reads_of_a_prediction_is_live(task: Task) -> None:
    """`as_input` has `input_channels` channels and passes gradients to the prediction."""
    prediction = prediction_of(task).requires_grad_()
    read, wanted = task.as_input(prediction), task.input_channels
    seen = f"`as_input` has {read.shape[1]} channels, `input_channels` says {wanted}"
    require(read.shape[1] == wanted, f"{seen}. Make `as_input` work on a meta tensor")
    require(read.requires_grad, "`as_input` is detached. Keep it on the graph")
    backward((read * torch.linspace(1, 2, read.numel()).view_as(read)).sum())
    require(has_gradient(prediction.grad), "`as_input` passes no gradient on. Keep it smooth")


@TASK.promises_once
def a_label_is_read_in_the_form_of_a_prediction(task: Task) -> None:
    """`label_as_input` has the shape of `as_input`, and is finite floats."""
    read, wanted = task.label_as_input(label_of(task)), task.as_input(prediction_of(task))
    seen = f"its shape is {tuple(read.shape)}, that of `as_input` {tuple(wanted.shape)}"
    require(read.shape == wanted.shape, f"{seen}. Override `label_as_input`")
    is_good = read.is_floating_point() and bool(read.isfinite().all())
    require(is_good, "`label_as_input` is not float, or not finite. Clamp what it takes logs of")


@TASK.promises
def a_label_is_read_as_the_prediction_that_it_equals(task: Task) -> None:
    """`label_as_input` of `as_label(p)` is nearer to `as_input` of p than to that of −p."""
    prediction = prediction_of(task)
    read = task.label_as_input(Label(task.as_label(prediction), label_of(task).valid))
    right, wrong = (
        float((read - task.as_input(p)).abs().mean()) for p in (prediction, -prediction)
    )
    seen = f"its mean distance from that of p is {right:g}, from that of −p {wrong:g}"
    require(right < wrong, f"{seen}. Look for a wrong sign in `label_as_input`")
