"""Two processes, started by torchrun, learn what one learns from the same batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from fixtures import two_ranks
from fixtures.networks import assert_same
from fixtures.tiny import TINY
from torch import Tensor

import mtlkit

SCRIPT = Path(two_ranks.__file__)
CASES = two_ranks.cases()
PRECISIONS = [pytest.param("double", 1e-9, id="double"), pytest.param("single", 1e-4, id="single")]
NOTHING = torch.zeros(())
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> tuple[Path, list[dict[str, dict[str, Tensor]]]]:
    """Return the recipe, beside which is a trained best.pt, and what two processes learned."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "tiny_encoder.py").write_bytes((SCRIPT.parent / "tiny_encoder.py").read_bytes())
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    short = {"train.epochs": 1, "train.pictures": 0}
    run = mtlkit.Run(mtlkit.load_recipe(recipe, short, blocked=["progress"]), out=folder / "runs")
    run.fit()
    assert run.folder is not None
    (run.folder / "best.pt").rename(recipe.with_name("best.pt"))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), str(recipe), str(folder / "best.pt"), str(folder)],
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


@pytest.mark.parametrize(("kind", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("method", two_ranks.HALF)
def test_two_ranks_learn_in_twenty_steps_what_one_does(ranks, method, kind, tolerance):
    torch.set_default_dtype(two_ranks.TYPES[kind])
    recipe, (first, second) = ranks
    learner = two_ranks.learner_of(recipe, "xtascnet", method, 2)
    start, cancelled = two_ranks.learned_by(learner), two_ranks.biases_before_norms(learner.model)
    assert cancelled
    expected = two_ranks.trained(learner, slice(0, 2), two_ranks.MANY)
    found = first[f"{kind} {method}"]
    assert_near(found, expected, start, tolerance, cancelled)  # see above
    assert_equal(second[f"{kind} {method}"], found)


@pytest.mark.parametrize(("kind", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("method", two_ranks.HALF)
def test_with_frozen_norms_two_ranks_learn_what_one_does_of_all_images(
    ranks, method, kind, tolerance
):
    torch.set_default_dtype(two_ranks.TYPES[kind])
    recipe, (first, second) = ranks
    learner = two_ranks.with_frozen_norms(two_ranks.learner_of(recipe, "xtascnet", method))
    start = two_ranks.learned_by(learner)
    expected = two_ranks.trained(learner, slice(0, 2), two_ranks.MANY, is_whole=True)
    found = first[f"{kind} {method} frozen"]
    assert_near(found, expected, start, tolerance)
    assert_equal(second[f"{kind} {method} frozen"], found)


@pytest.mark.parametrize("count", two_ranks.VALIDATED)
def test_two_ranks_measure_of_a_checkpoint_what_one_does(ranks, count):
    torch.set_default_dtype(torch.float32)
    recipe, found = ranks
    expected = two_ranks.measured(recipe, count, recipe.with_name("best.pt"))
    first, second = (rank[f"measured {count}"] for rank in found)
    assert first == second
    assert first == pytest.approx(expected, rel=1e-9)
    counts = {name for name in expected if f"/{two_ranks.COUNT}" in name}
    assert len(counts) == two_ranks.CLASSES**2 + 4
    for name in counts | {"segmentation/miou", "segmentation/pixel_accuracy", "depth/delta1"}:
        assert first[name] == expected[name], name


def assert_near(
    found: dict[str, Tensor],
    expected: dict[str, Tensor],
    start: dict[str, Tensor],
    tolerance: float,
    without: Collection[str] = (),
) -> None:
    """Hold losses to their size, and what was learned to how far it came from the start."""
    assert found.keys() == expected.keys()
    assert sum(name.startswith("step ") for name in expected) > two_ranks.MANY
    for name in expected.keys() - without:
        here, there, begun = (x.get(name, NOTHING).double() for x in (found, expected, start))
        assert (here - there).norm() <= tolerance * (there - begun).norm(), name


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_two_ranks_compare_whole_maps_as_one_does(ranks, monkeypatch):
    recipe, (first, second) = ranks
    monkeypatch.setitem(two_ranks.METHODS, "mgda", {"type": "mgda", "at": "features"})
    learner = two_ranks.learner_of(recipe, "xtascnet", "mgda")
    parts = two_ranks.parts_of(0)
    expected = two_ranks.gradients_at_features(learner, [two_ranks.joined(parts)])
    for found in (first["features"], second["features"]):
        assert_same(found, expected)
