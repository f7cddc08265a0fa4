from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from fixtures.gradient_level import NAMES, balancer_of, part, problem, restored

from mtlkit.document import parse_document
from mtlkit.errors import RecipeError, UsageError
from mtlkit.recipe import recipe_of
from mtlkit_plugins.weightings.mgda import MGDA
from mtlkit_plugins.weightings.torchjd import TorchJD

library = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")

RECIPE = """\
data: {{type: streets, size: [32, 64]}}
loader: {{batch_size: 2}}
encoder: {{type: resnet, depth: 18}}
architecture: {{type: shared_encoder}}
tasks: {{segmentation: {{classes: 7}}, depth: }}
weighting: {{type: torchjd, {fields}}}
optimizer: {{type: adam}}
train: {{epochs: 1}}
"""


def refusal(**fields):
    with pytest.raises(UsageError) as caught:
        balancer_of(TorchJD(**fields))
    return str(caught.value)


def test_weights_are_those_of_the_library():
    g = problem(3, 0)
    weights = balancer_of(TorchJD(weighting="IMTLG")).weights(g)
    assert torch.equal(weights, library.IMTLGWeighting()(g.gramian))
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("name", ["aligned_mtl", "AlignedMTL", "AlignedMTLWeighting", "alignedmtl"])
def test_a_name_is_known_in_any_spelling(name):
    g = problem(3, 1)
    found = balancer_of(TorchJD(weighting=name)).weights(g)
    assert torch.equal(found, balancer_of(TorchJD()).weights(g))


def test_options_reach_the_library():
    g = problem(3, 2)
    precise = TorchJD(weighting="mgda", options={"epsilon": 1e-12, "max_iters": 2000})
    expected = balancer_of(MGDA()).weights(g)
    assert torch.allclose(balancer_of(precise).weights(g), expected, atol=1e-3)
    loose = TorchJD(weighting="mgda", options={"max_iters": 1})
    assert not torch.allclose(balancer_of(loose).weights(g), expected, atol=1e-3)


def test_a_random_weighting_draws_from_its_own_numbers_and_no_other():
    g, weighting = problem(4, 3), TorchJD(weighting="pcgrad")
    there, here = balancer_of(weighting), balancer_of(weighting)
    torch.manual_seed(1)
    first = [there.weights(g) for _ in range(10)]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = [here.weights(g) for _ in range(10)]
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.stack(first), torch.stack(second))
    assert len({tuple(w.tolist()) for w in first}) > 1


def test_a_restored_random_weighting_goes_on_identically():
    g, weighting = problem(4, 3), TorchJD(weighting="pcgrad")
    balancer = balancer_of(weighting)
    balancer.weights(g)
    again = restored(weighting, balancer)
    for _ in range(5):
        assert torch.equal(again.weights(g), balancer.weights(g))


def test_absent_tasks_take_no_part():
    some = part(problem(4, 4), ("d", "b"))
    found = balancer_of(TorchJD()).weights(some)
    assert torch.equal(found, balancer_of(TorchJD(), ("b", "d")).weights(some))


def test_an_unknown_name_is_refused_with_the_nearest():
    message = refusal(weighting="MDGA")
    assert "TorchJD has no weighting 'MDGA'; did you mean 'MGDA'?" in message
    assert "UPGrad" in message and "Mean" not in message and "PCD" not in message


@pytest.mark.parametrize(
    ("name", "advice"),
    [("nash_mtl", "type: nash_mtl"), ("GradDrop", "type: graddrop"), ("ConFIG", "mtlkit plugins")],
)
def test_what_needs_more_than_the_gram_matrix_is_refused_with_advice(name, advice):
    message = refusal(weighting=name)
    assert f"{name} of TorchJD needs more than the Gram matrix" in message and advice in message


@pytest.mark.parametrize(("name", "advice"), [("gradvac", "type: gradvac"), ("PCD", "another")])
def test_what_keeps_state_is_refused_with_advice(name, advice):
    message = refusal(weighting=name)
    assert "keeps state that no checkpoint would hold" in message and advice in message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"weighting": "mgda", "options": {"epsilom": 0.1}}, "did you mean 'epsilon'?"),
        ({"weighting": "mgda", "options": {"epsilon": -1.0}}, "epsilon must be positive"),
        ({"weighting": "krum"}, "n_byzantine"),
        ({"weighting": "krum", "options": {"n_byzantine": 1}}, "cannot weigh 1 of 4 tasks"),
        ({"weighting": "AlignedMTL", "options": {"scale_mode": "x"}}, "scale_mode='x'"),
    ],
)
def test_options_that_do_not_fit_are_refused(fields, expected):
    assert expected in refusal(**fields)


@pytest.mark.skipif(find_spec("qpsolvers") is not None, reason="the solver is installed")
def test_a_weighting_without_its_solver_is_refused_with_what_to_install():
    assert 'pip install "torchjd[quadprog_projector]"' in refusal(weighting="upgrad")


@pytest.mark.skipif(find_spec("qpsolvers") is None, reason="needs torchjd[quadprog_projector]")
def test_upgrad_of_torchjd_hurts_no_task():
    g = problem(3, 5)
    weights = balancer_of(TorchJD(weighting="upgrad")).weights(g)
    assert (g.gramian @ weights).min() >= -1e-2


def test_without_torchjd_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    assert "pip install 'mtlkit[torchjd]'" in refusal()


def test_check_refuses_a_faulty_weighting_at_its_line():
    text = RECIPE.format(fields="weighting: MDGA")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:6: weighting: TorchJD has no weighting"):
        recipe_of(parse_document(text, Path("recipe.yaml")))


def test_check_takes_what_can_be_used():
    text = RECIPE.format(fields="weighting: mgda, options: {max_iters: 7}")
    weighting = recipe_of(parse_document(text, Path("recipe.yaml"))).weighting
    assert weighting == TorchJD(weighting="mgda", options={"max_iters": 7})
    assert balancer_of(weighting, NAMES[:2]).weights(problem(2, 6)).sum() == pytest.approx(1)
