"""Some edges a step: exact probabilities, an unbiased sum, and the same draw for the same step."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.sampling import EdgeSampler, inclusion_probabilities
from mtlkit_plugins.edges.transfer import CrossTaskConsistency

WEIGHTS = [0.3, 0.01, 0.05, 0.2, 0.01, 0.1]


def edges_of(weights):
    pairs = itertools.permutations("abcdefghij", 2)
    return [
        CrossTaskConsistency(source=a, target=b, weight=weight)
        for (a, b), weight in zip(pairs, weights, strict=False)
    ]


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=40), st.integers(1, 45))
def test_probabilities_sum_to_the_count_and_follow_the_weights(weights, count):
    found = inclusion_probabilities(np.array(weights), count)
    assert found.sum() == pytest.approx(min(count, len(weights)))
    assert (found > 0).all() and (found <= 1).all()
    free = found < 1
    ratios = found[free] / np.array(weights)[free]
    assert np.allclose(ratios, ratios[:1])
    if free.any() and (~free).any():  # what is always drawn weighs more than what is not
        assert np.array(weights)[~free].min() >= np.array(weights)[free].max()


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-3, 1), min_size=1, max_size=20), st.integers(1, 22), st.integers(1, 99)
)
def test_every_draw_has_exactly_the_number_asked_for(weights, count, step):
    sampler = EdgeSampler(edges_of(weights), count, seed=0)
    assert len(sampler.draw(step)) == min(count, len(weights))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_mean_over_many_draws_is_the_full_sum(count):
    edges, draws = edges_of(WEIGHTS), 20_000
    losses = {edge.key: i + 1.0 for i, edge in enumerate(edges)}
    sampler = EdgeSampler(edges, count, seed=3)
    sums = [
        sum(edge.weight * losses[edge.key] * drawn.get(edge.key, 0.0) for edge in edges)
        for drawn in map(sampler.draw, range(draws))
    ]
    expected = sum(edge.weight * losses[edge.key] for edge in edges)
    error = np.std(sums) / np.sqrt(draws)
    assert abs(np.mean(sums) - expected) < 4 * error + 1e-12


def test_each_edge_is_drawn_as_often_as_its_probability_says():
    sampler, draws = EdgeSampler(edges_of(WEIGHTS), 3, seed=1), 20_000
    seen = Counter(key for step in range(draws) for key in sampler.draw(step))
    for key, wanted in zip(sampler.keys, sampler.probabilities, strict=True):
        assert seen[key] / draws == pytest.approx(wanted, abs=4 * np.sqrt(0.25 / draws))


def test_a_draw_depends_on_seed_and_step_alone():
    first, second = (EdgeSampler(edges_of(WEIGHTS), 2, seed=5) for _ in range(2))
    forwards = [first.draw(step) for step in range(30)]
    assert [second.draw(step) for step in reversed(range(30))] == forwards[::-1]
    other = EdgeSampler(edges_of(WEIGHTS), 2, seed=6)
    assert [other.draw(step) for step in range(30)] != forwards


def test_with_room_for_all_every_edge_runs_by_one():
    sampler = EdgeSampler(edges_of(WEIGHTS), 9, seed=0)
    assert sampler.draw(1) == dict.fromkeys((e.key for e in edges_of(WEIGHTS)), 1.0)


def test_an_edge_without_weight_is_never_drawn():
    sampler = EdgeSampler(edges_of([0.1, 0.0, 0.1]), 3, seed=0)
    assert len(sampler.draw(1)) == 2
