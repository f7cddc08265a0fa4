"""Two processes, started by torchrun, learn what one learns from the same batches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures import two_ranks
from fixtures.networks import assert_same
from fixtures.tiny import TINY
from torch import Tensor

SCRIPT = Path(two_ranks.__file__)
CASES = two_ranks.cases()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> tuple[Path, list[dict[str, dict[str, Tensor]]]]:
    """Return the recipe, and what each of two processes learned."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "tiny_encoder.py").write_bytes((SCRIPT.parent / "tiny_encoder.py").read_bytes())
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), str(recipe), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return recipe, [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("model", "method"), CASES)
def test_two_ranks_take_the_step_that_one_takes_with_two_batches(ranks, model, method):
    recipe, (first, second) = ranks
    here = two_ranks.trained(two_ranks.learner_of(recipe, model, method, 2), slice(0, 2))
    there = first[f"{model} {method}"]
    assert there.keys() == here.keys()
    for name, value in there.items():
        # biases before batch norms have gradients of mere rounding, which Adam makes larger
        torch.testing.assert_close(value, here[name], rtol=1e-9, atol=1e-11, msg=name)
        assert torch.equal(value, second[f"{model} {method}"][name]), name


def test_ranks_stay_alike_where_the_last_batch_of_a_step_is_left_out(ranks):
    recipe, (first, second) = ranks
    expected = two_ranks.after_a_spoilt_batch(recipe, [0, 1])
    fresh = dict(two_ranks.learner_of(recipe, "spoilt", "uncertainty").model.named_parameters())
    assert any(not torch.equal(value, fresh[name]) for name, value in expected.items())
    for name, value in expected.items():
        assert torch.equal(first["spoilt"][name], second["spoilt"][name]), name
        torch.testing.assert_close(first["spoilt"][name], value, rtol=1e-9, atol=1e-11, msg=name)


def test_gradients_of_own_losses_are_averaged_over_ranks(ranks):
    recipe, (first, second) = ranks
    expected = two_ranks.gradients_with_own_loss(recipe, two_ranks.parts_of(0))
    assert any("edges" in name for name in expected)
    for found in (first["own"], second["own"]):
        assert_same(found, expected)


@pytest.mark.parametrize("method", two_ranks.HALF)
def test_two_ranks_in_half_precision_differ_by_rounding_alone(ranks, method):
    torch.set_default_dtype(torch.float32)
    recipe, (first, second) = ranks
    learner = two_ranks.learner_of(recipe, "xtascnet", method, 2, "bf16")
    for name, value in two_ranks.trained(learner, slice(0, 2)).items():
        there = first[f"bf16 {method}"][name]
        assert torch.equal(there, second[f"bf16 {method}"][name]), name
        if value.ndim > 1:  # biases before batch norms: see above; Adam's steps are 1e-3 each
            torch.testing.assert_close(there, value, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("double", 1e-9), ("single", 1e-4)], ids=["double", "single"]
)
@pytest.mark.parametrize("method", two_ranks.HALF)
def test_two_ranks_learn_in_twenty_steps_what_one_does(ranks, method, kind, tolerance):
    torch.set_default_dtype(two_ranks.TYPES[kind])
    recipe, (first, _) = ranks
    learner = two_ranks.learner_of(recipe, "xtascnet", method, 2)
    found, cancelled = first[f"{kind} {method}"], two_ranks.biases_before_norms(learner.model)
    assert cancelled
    for name, value in two_ranks.trained(learner, slice(0, 2), two_ranks.MANY).items():
        if name not in cancelled:  # see above
            assert_near(found[name], value, tolerance, name)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("double", 1e-9), ("single", 1e-4)], ids=["double", "single"]
)
@pytest.mark.parametrize("method", two_ranks.HALF)
def test_with_frozen_norms_two_ranks_learn_what_one_does_of_all_images(
    ranks, method, kind, tolerance
):
    torch.set_default_dtype(two_ranks.TYPES[kind])
    recipe, (first, _) = ranks
    learner = two_ranks.with_frozen_norms(two_ranks.learner_of(recipe, "xtascnet", method))
    whole = two_ranks.trained(learner, slice(0, 2), two_ranks.MANY, is_whole=True)
    for name, value in whole.items():
        assert_near(first[f"{kind} {method} frozen"][name], value, tolerance, name)


@pytest.mark.parametrize("count", two_ranks.VALIDATED)
def test_two_ranks_measure_what_one_does(ranks, count):
    torch.set_default_dtype(torch.float32)
    recipe, found = ranks
    expected = two_ranks.measured(recipe, count)
    first, second = (rank[f"measured {count}"] for rank in found)
    assert first == second
    assert first == pytest.approx(expected, rel=1e-9)
    for name in ("segmentation/miou", "segmentation/pixel_accuracy", "depth/delta1"):
        assert first[name] == expected[name], name  # of counts alone


def assert_near(found: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=name)


def test_two_ranks_compare_whole_maps_as_one_does(ranks, monkeypatch):
    recipe, (first, second) = ranks
    monkeypatch.setitem(two_ranks.METHODS, "mgda", {"type": "mgda", "at": "features"})
    learner = two_ranks.learner_of(recipe, "xtascnet", "mgda")
    parts = two_ranks.parts_of(0)
    expected = two_ranks.gradients_at_features(learner, [two_ranks.joined(parts)])
    for found in (first["features"], second["features"]):
        assert_same(found, expected)
