"""Laws and worked examples of the statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.errors import StatisticsError
from workbench.statistics import (
    false_discovery,
    iou,
    iou_chance,
    matched_random_sets,
    mcnemar,
    mcnemar_power,
    permutation_p,
    split_halves,
    unit_weights,
    wilson,
)


@pytest.mark.parametrize(("x", "n", "low", "high"), [(29, 142, 0.146, 0.278), (108, 142, 0.684, 0.823), (79, 113, 0.609, 0.776)])
def test_wilson_gives_the_intervals_of_the_worked_example(x, n, low, high):
    found = wilson(x, n)
    assert found.low == pytest.approx(low, abs=6e-4) and found.high == pytest.approx(high, abs=6e-4)


@given(st.integers(1, 300), st.data())
def test_wilson_agrees_with_scipy_and_contains_the_rate(n, data):
    x = data.draw(st.integers(0, n))
    found, theirs = wilson(x, n), stats.binomtest(x, n).proportion_ci(method="wilson")
    assert found.low <= x / n <= found.high
    assert found.low == pytest.approx(theirs.low, abs=1e-9) and found.high == pytest.approx(theirs.high, abs=1e-9)


def test_a_rate_of_nothing_is_an_error():
    with pytest.raises(StatisticsError, match="no trials"):
        wilson(0, 0)


def test_bootstrap_weights_average_like_resampled_units():
    weights = unit_weights(5, 4000, 0)
    assert np.allclose(weights.sum(axis=1), 1) and np.allclose(weights.mean(axis=0), 0.2, atol=0.01)
    values = np.array([1.0, 2, 3, 4, 5])
    assert (weights @ values).std() == pytest.approx(values.std() / np.sqrt(5), rel=0.05)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_counts_pairs_and_its_interval_contains_the_difference(pairs):
    a, b = (np.array(x) for x in zip(*pairs, strict=True))
    found = mcnemar(a, b)
    assert found["both"] + found["only_a"] + found["only_b"] + found["neither"] == len(pairs)
    assert found["difference"] == pytest.approx(b.mean() - a.mean())
    assert found["low"] <= found["difference"] <= found["high"]
    assert mcnemar(b, a)["p_mcnemar"] == pytest.approx(found["p_mcnemar"])


def test_power_at_forty_prompts_is_near_what_the_reference_says():
    assert mcnemar_power(0.6, 0.4, 40) == pytest.approx(0.63, abs=0.03)
    assert mcnemar_power(0.6, 0.4, 15) < mcnemar_power(0.6, 0.4, 40) < mcnemar_power(0.6, 0.4, 100)


@given(st.integers(2, 50), st.integers(0, 5))
def test_halves_are_balanced_and_keep_a_unit_together(n, seed):
    units = [f"u{i // 2}" for i in range(2 * n)]
    half = split_halves(units, seed)
    assert abs(int(half.sum()) - n) <= 2
    assert all(half[2 * i] == half[2 * i + 1] for i in range(n))


def test_random_sets_match_the_layers_and_avoid_the_set():
    layer = np.repeat(["a", "b", "c"], 20)
    chosen = np.zeros(60, bool)
    chosen[[1, 2, 25]] = True
    for row in matched_random_sets(chosen, layer, 30, 0):
        assert not (row & chosen).any()
        assert [int((row & (layer == x)).sum()) for x in "abc"] == [2, 1, 0]


def test_random_sets_of_a_full_layer_are_refused():
    with pytest.raises(StatisticsError, match="too few"):
        matched_random_sets(np.ones(4, bool), np.array(["a"] * 4), 2, 0)


def test_permutation_p_counts_the_set_itself():
    assert permutation_p(100.0, np.arange(19.0)) == pytest.approx(1 / 20)
    assert permutation_p(9.0, np.arange(19.0)) == 1.0


def test_overlap_of_random_sets_is_near_its_chance():
    rng = np.random.default_rng(0)
    found = [iou(rng.random(20_000) < 0.1, rng.random(20_000) < 0.1) for _ in range(20)]
    assert np.mean(found) == pytest.approx(iou_chance(0.1), abs=0.003)
    with pytest.raises(StatisticsError):
        iou(np.zeros(3, bool), np.zeros(3, bool))


def test_false_discovery_keeps_what_the_definition_keeps():
    p = np.array([0.001, 0.008, 0.039, 0.041, 0.3, 0.9])
    largest = max(j for j in range(1, 7) if np.sort(p)[j - 1] <= j * 0.05 / 6)
    assert (false_discovery(p) <= 0.05).sum() == largest
