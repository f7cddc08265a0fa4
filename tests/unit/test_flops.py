from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

import mtlkit
from mtlkit.flops import counted, flops_of, step_flops
from mtlkit.objective import build_model


def a_run(tiny: Path, settings: dict[str, str]) -> mtlkit.Run:
    return mtlkit.Run(mtlkit.load_recipe(tiny, overrides=settings, blocked=["progress"]))


def counted_in_real_steps(run: mtlkit.Run, steps: int) -> float:
    """Return what torch's counter sees for an image, in the mean over steps."""
    batches = [next(iter(run.loader("train")[0]))] * run.recipe.train.accumulate
    with FlopCounterMode(display=False) as counter:
        for _ in range(steps):
            run.step(*batches)
    return counter.get_total_flops() / steps / sum(len(batch.image) for batch in batches)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 1),
        ({"edges": "[]"}, 1),
        ({"weighting": "{type: pcgrad}"}, 1),
        ({"weighting": "{type: pcgrad, at: features}"}, 1),
        ({"weighting": "{type: pcgrad, every: 2}"}, 2),
        ({"weighting": "{type: upgrad, at: last_shared, every: 2}", "train.accumulate": "2"}, 2),
    ],
)
def test_the_flops_of_a_step_are_those_that_a_real_step_runs(tiny, settings, steps):
    run = a_run(tiny, settings)
    found = step_flops(run.recipe, run.reach, 0)
    products = 2e-3  # of the solver: the Gram matrix
    assert found == pytest.approx(counted_in_real_steps(run, steps), rel=products)


EDGE = "{from: %s, to: %s, type: xtc, weight: %s, widths: [4, 8]}"
PAIR = (EDGE % ("segmentation", "depth", 0.03), EDGE % ("depth", "segmentation", 0.01))
ROUND = "{path: [depth, segmentation, depth], type: xtc, weight: 0.02}"
"""A cycle, whose first network the edge beside it runs, too."""


@pytest.mark.parametrize("edges", [PAIR, (*PAIR, ROUND)], ids=["edges", "edges and a path"])
def test_where_edges_are_drawn_the_flops_are_the_expected_ones(tiny, edges):
    run = a_run(tiny, {"train.edges_per_step": "1", "edges": f"[{', '.join(edges)}]"})
    found = step_flops(run.recipe, run.reach, 0)
    sampler = run.learner.sampler
    by_edge = dict[tuple[str, ...], float]()
    while len(by_edge) < len(sampler.keys):
        (drawn,) = sampler.draw(run.position.step + 1)
        by_edge[drawn] = counted_in_real_steps(run, 1)
    expected = zip(sampler.keys, sampler.probabilities, strict=True)
    assert found == pytest.approx(sum(by_edge[key] * share for key, share in expected), rel=0.01)
    assert len(set(map(float, sampler.probabilities))) > 1


def test_what_does_not_learn_in_a_phase_needs_no_flops(tiny):
    phases = "[{epochs: 1}, {epochs: 1, only: architecture.decoders}]"
    run = a_run(tiny, {"train.epochs": "null", "train.phases": phases})
    whole = step_flops(run.recipe, run.learner.reaches[0], 0)
    run.learner.begin_epoch(2)
    part = step_flops(run.recipe, run.reach, 1)
    assert part < 0.9 * whole
    assert part == counted_in_real_steps(run, 1)


def test_a_decoder_that_is_called_in_pieces_has_the_flops_of_its_pieces(recipe):
    model = build_model(recipe, "meta").eval()
    found = counted(model, recipe.size)
    path = "MultiTaskModel.architecture.decoders.depth"
    decoder = model.architecture.decoders["depth"]
    pieces = found[f"{path}.trunk"] + found[f"{path}.head"]
    assert flops_of(found, path, decoder) == pieces > 0
