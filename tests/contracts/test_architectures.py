"""What every architecture promises, with every registered map task at once."""

from __future__ import annotations

import copy

import pytest
import torch
from arguments import label_of, make, registered, tiny_encoder, variants

TASKS = {name: make("task", name, name=name) for name in registered("task")}
EVERY = pytest.mark.parametrize(("name", "fields"), variants("architecture"))
SIZE = (16, 24)


def built(name, fields, tasks=TASKS, seed=0):
    torch.manual_seed(seed)
    architecture = make("architecture", name, **fields)
    encoder = tiny_encoder() if type(architecture).uses_encoder else None
    return architecture.build_architecture(encoder, tasks)


def image(seed=0, size=SIZE):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


@EVERY
@pytest.mark.parametrize("size", [(16, 24), (8, 64)])
def test_every_task_has_one_prediction_at_input_size(name, fields, size):
    predictions = built(name, fields)(image(size=size)).predictions
    assert list(predictions) == list(TASKS)
    for task, prediction in predictions.items():
        wanted = (2, TASKS[task].channels)
        assert prediction.shape == (wanted if TASKS[task].vector else (*wanted, *size))
        assert prediction.isfinite().all()


@EVERY
def test_features_are_views_so_that_gradients_can_be_read_there(name, fields):
    output = built(name, fields)(image())
    assert all(feature._is_view() and feature.requires_grad for feature in output.features)
    if not output.features:
        return
    for prediction in output.predictions.values():
        grads = torch.autograd.grad(prediction.square().mean(), output.features, retain_graph=True)
        assert all(grad.isfinite().all() and grad.any() for grad in grads)


@EVERY
def test_every_task_trains_its_decoder_and_the_encoder_and_no_other_decoder(name, fields):
    network = built(name, fields)
    named = dict(network.named_parameters())
    predictions = network(image()).predictions
    for key, task in TASKS.items():
        loss = task.loss(predictions[key], label_of(task, size=SIZE))
        grads = torch.autograd.grad(
            loss, list(named.values()), retain_graph=True, allow_unused=True
        )
        reached = {
            n for n, grad in zip(named, grads, strict=True) if grad is not None and grad.any()
        }
        assert any(n.startswith(f"decoders.{key}.") for n in reached)
        if type(make("architecture", name)).uses_encoder:
            assert any(n.startswith("encoder.") for n in reached)


@EVERY
def test_weights_are_saved_under_encoder_and_decoders(name, fields):
    heads = {".".join(key.split(".")[:2]) for key in built(name, fields).state_dict()}
    decoders = {f"decoders.{task}" for task in TASKS}
    assert decoders <= heads
    assert [h for h in heads - decoders if h.startswith("decoders.")] == []
    if type(make("architecture", name)).uses_encoder:
        assert any(head.startswith("encoder.") for head in heads)


@EVERY
def test_it_is_built_and_run_without_values(name, fields):
    with torch.device("meta"):
        output = built(name, fields)(torch.empty(2, 3, *SIZE))
    assert all(prediction.is_meta for prediction in output.predictions.values())


@EVERY
def test_the_same_seed_gives_the_same_weights_and_moves_no_generator(name, fields):
    first, second = built(name, fields).state_dict(), built(name, fields).state_dict()
    assert all(torch.equal(x, second[key]) for key, x in first.items())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    built(name, fields)
    assert torch.equal(before, torch.get_rng_state())


@EVERY
def test_a_subset_of_tasks_works_too(name, fields):
    for key, task in TASKS.items():
        assert set(built(name, fields, {key: task})(image()).predictions) == {key}


@EVERY
def test_evaluation_is_deterministic_and_leaves_image_and_weights_alone(name, fields):
    network, pixels = built(name, fields).eval(), image()
    kept, before = pixels.clone(), copy.deepcopy(network.state_dict())
    with torch.no_grad():
        first, second = network(pixels).predictions, network(pixels).predictions
        alone = network(pixels[:1]).predictions
    assert torch.equal(pixels, kept)
    assert all(torch.equal(x, before[key]) for key, x in network.state_dict().items())
    for key in TASKS:
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key][:1], alone[key])


@EVERY
def test_uneven_or_repeated_names_of_tasks_do_not_matter(name, fields):
    kind, task = next(iter(TASKS.items()))
    twins = {
        "near": make("task", kind, name="near"),
        "far": task.model_copy(update={"name": "far"}),
    }
    predictions = built(name, fields, twins)(image()).predictions
    assert list(predictions) == ["near", "far"]
    assert not torch.equal(predictions["near"], predictions["far"])
