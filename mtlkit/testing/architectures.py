"""What every architecture promises, with tasks of classes and of values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mtlkit.contracts import Architecture, Encoder, Task
from mtlkit.structures import Output
from mtlkit.testing.contract import (
    Contract,
    has_gradient,
    require,
    require_close,
    require_equal,
    told,
)
from mtlkit.testing.inputs import label_of
from mtlkit.testing.stand_ins import StagesEncoder, image_of, tasks_called

ARCHITECTURE = Contract("architecture")
SIZE = (16, 24)
Tasks = Mapping[str, Task]


def check_architecture(architecture: Architecture, tasks: Tasks | None = None) -> None:
    """Check all that an architecture promises, on a stand-in encoder of strides 2, 4 and 8.

    Args:
        architecture: with its arguments.
        tasks: by name; default: stand-ins of classes and of values.

    Raises:
        AssertionError: a promise is not kept.
    """
    __tracebackhide__ = True
    ARCHITECTURE.run(architecture, tasks or tasks_called(("near", "far")))


@ARCHITECTURE.promises
def every_task_has_one_prediction_at_input_size(architecture: Architecture, tasks: Tasks) -> None:
    """Every task has one finite prediction of its channels, maps at the size of the image.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    network = _built(architecture, tasks)
    for size in ((16, 24), (8, 64)):
        output = network(image_of(size))
        is_output = isinstance(output, Output)
        require(is_output, f"it returns {type(output).__name__}. Return a mtlkit.Output")
        predictions = output.predictions
        seen = f"`predictions` are {list(predictions)}, tasks {list(tasks)}"
        require(list(predictions) == list(tasks), f"{seen}. Keep the tasks' names and order")
        for name, prediction in predictions.items():
            vector = (2, tasks[name].channels)
            wanted = vector if tasks[name].vector else (*vector, *size)
            seen = f"{name!r} is predicted as {tuple(prediction.shape)}, not {wanted}"
            require(prediction.shape == wanted, f"{seen}. Decoders end at the size of the image")
            require(prediction.isfinite().all(), f"the prediction of {name!r} is not finite")


@ARCHITECTURE.promises
def features_are_views_that_every_prediction_is_made_from(
    architecture: Architecture, tasks: Tasks
) -> None:
    """`Output.features` are `nn.cut` maps that every prediction is made from, or there are none.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    output = _built(architecture, tasks)(image_of(SIZE))
    for feature in output.features:
        is_cut = feature._is_view() and feature.requires_grad
        require(is_cut, "a feature is no view of a map on the graph. Make them by mtlkit.nn.cut")
    for name, prediction in output.predictions.items() if output.features else ():
        grads = torch.autograd.grad(
            prediction.square().mean(), output.features, retain_graph=True, allow_unused=True
        )
        read = [grad for grad in grads if grad is not None]  # a task may read some of the maps
        require(read, f"{name!r} reads none of them. Give decoders the maps that `cut` returned")
        are_good = all(has_gradient(grad) for grad in read)
        require(are_good, f"the gradient of {name!r} at a feature is 0 or not finite")


@ARCHITECTURE.promises
def every_task_trains_its_decoder_and_the_encoder(architecture: Architecture, tasks: Tasks) -> None:
    """Each task's loss reaches `decoders.<task>`, and `encoder` where there is one.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    network = _built(architecture, tasks)
    parameters = dict(network.named_parameters())
    predictions = network(image_of(SIZE)).predictions
    for name, task in tasks.items():
        loss = task.loss(predictions[name], label_of(task, size=SIZE))
        grads = torch.autograd.grad(
            loss, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(parameters, grads, strict=True)
        reached = [key for key, grad in pairs if grad is not None and bool(grad.any())]
        for part in (f"decoders.{name}.", *(["encoder."] if architecture.uses_encoder else [])):
            is_reached = any(key.startswith(part) for key in reached)
            require(is_reached, f"the loss of {name!r} reaches no parameter of {part!r}")


@ARCHITECTURE.promises
def weights_are_saved_under_encoder_and_decoders(architecture: Architecture, tasks: Tasks) -> None:
    """The state dict has `encoder.…` and `decoders.<task>.…` of every task, and of no other.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    heads = {".".join(key.split(".")[:2]) for key in _built(architecture, tasks).state_dict()}
    decoders = {head for head in heads if head.startswith("decoders.")}
    wanted = {f"decoders.{name}" for name in tasks}
    seen = f"it has {sorted(decoders)}, and the tasks need {sorted(wanted)}"
    require(decoders == wanted, f"{seen}. Hold decoders in a ModuleDict of that name, by task")
    if architecture.uses_encoder:
        has_encoder = any(head.startswith("encoder.") for head in heads)
        require(has_encoder, "it has no `encoder.…`. Hold the encoder in an attribute of that name")


@ARCHITECTURE.promises
def it_is_built_and_run_without_values(architecture: Architecture, tasks: Tasks) -> None:
    """It is built and run on the meta device.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    with told("It is not. Use no value of the image"), torch.device("meta"):
        output = _built(architecture, tasks)(torch.empty(2, 3, *SIZE))
    are_meta = all(prediction.is_meta for prediction in output.predictions.values())
    require(are_meta, "a prediction has values there. Compute it from the image alone")


@ARCHITECTURE.promises
def the_same_seed_gives_the_same_weights_and_moves_no_generator(
    architecture: Architecture, tasks: Tasks
) -> None:
    """One seed gives one set of weights, and building leaves torch's generator where it was.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    first, second = (_built(architecture, tasks).state_dict() for _ in range(2))
    for key, value in first.items():
        require_equal(value, second[key], f"{key} differs between two builds of one seed")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _built(architecture, tasks)
    sentence = "building moves torch's generator. Build parts inside mtlkit.nn.seeded"
    require_equal(before, torch.get_rng_state(), sentence)


@ARCHITECTURE.promises
def initial_weights_of_a_part_depend_on_no_other_task(
    architecture: Architecture, tasks: Tasks
) -> None:
    """Another order of the tasks, or a task less, changes the initial weights of no part.

    Parts are compared by name, where they have one shape.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    before = _built(architecture, tasks).state_dict()
    orders = {
        "with the tasks in another order": {name: tasks[name] for name in reversed(list(tasks))}
    }
    orders |= {f"with {name!r} alone": {name: task} for name, task in tasks.items()}
    for where, some in orders.items():
        after = _built(architecture, some).state_dict()
        for key in sorted(before.keys() & after.keys()):
            if after[key].shape == before[key].shape:  # else it is made for that many tasks
                sentence = f"{where}, {key} starts from other weights"
                advice = "Name a part by its task, and build it inside mtlkit.nn.seeded(…, name)"
                require_equal(after[key], before[key], f"{sentence}. {advice}")


@ARCHITECTURE.promises
def a_subset_of_tasks_works_too(architecture: Architecture, tasks: Tasks) -> None:
    """It is built for each task alone.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    for name, task in tasks.items():
        found = list(_built(architecture, {name: task})(image_of(SIZE)).predictions)
        require(found == [name], f"built for {name!r} alone, it predicts {found}")


@ARCHITECTURE.promises
def evaluation_is_deterministic_and_changes_nothing(
    architecture: Architecture, tasks: Tasks
) -> None:
    """In evaluation an image gets one prediction, whatever is beside it, and nothing changes.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    network, pixels = _built(architecture, tasks).eval(), image_of(SIZE)
    kept, before = pixels.clone(), copy.deepcopy(network.state_dict())
    with torch.no_grad():
        first, second = network(pixels).predictions, network(pixels).predictions
        alone = network(pixels[:1]).predictions
    require_equal(pixels, kept, "the image is changed. Use no operation in place on it")
    for key, value in network.state_dict().items():
        require_equal(value, before[key], f"{key} changes in evaluation")
    for name in tasks:
        require_equal(first[name], second[name], f"{name!r} is predicted in two ways. Draw nothing")
        sentence = f"the prediction of {name!r} changes with the other images of the batch"
        require_close(first[name][:1], alone[name], sentence)


@ARCHITECTURE.promises
def two_tasks_of_one_type_have_decoders_of_their_own(
    architecture: Architecture, tasks: Tasks
) -> None:
    """Two tasks of one type, by other names, have other weights.

    Args:
        architecture: what is checked.
        tasks: by name.
    """
    task = next(iter(tasks.values()))
    twins = {name: task.model_copy(update={"name": name}) for name in ("near", "far")}
    near, far = _built(architecture, twins)(image_of(SIZE)).predictions.values()
    differ = not torch.equal(near, far)
    require(differ, "they predict the same. Build each decoder inside mtlkit.nn.seeded(…, name)")


def _built(architecture: Architecture, tasks: Tasks) -> Any:
    """Return the network of some tasks; equal weights at every call."""
    torch.manual_seed(0)
    encoder: Encoder | None = StagesEncoder() if architecture.uses_encoder else None
    network: nn.Module = architecture.build_architecture(encoder, tasks)
    return network
