"""Laws of workbench.statistics, and agreement with loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference as slow
from workbench import statistics
from workbench.errors import StatisticsError

COUNTS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(COUNTS)
def test_wilson_solves_its_defining_equation_and_holds_the_rate(counts):
    found, (low, high) = statistics.wilson(*counts), slow.wilson(*counts)
    assert found.low == pytest.approx(low, abs=1e-9) and found.high == pytest.approx(high, abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(COUNTS)
def test_wilson_mirrors_when_success_and_failure_swap(counts):
    x, n = counts
    a, b = statistics.wilson(x, n), statistics.wilson(n - x, n)
    assert a.low == pytest.approx(1 - b.high, abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 0), (4, 3), (-1, 3)])
def test_wilson_refuses_no_trials_and_impossible_counts(counts):
    with pytest.raises(StatisticsError):
        statistics.wilson(*counts)


def test_fast_and_slow_bootstrap_agree_on_units_of_unequal_size():
    rng = np.random.default_rng(1)
    units = np.repeat(["c", "a", "d", "b", "e"], [1, 4, 2, 3, 2])
    x, y = rng.normal(1, 1, len(units)), rng.normal(3, 1, len(units))
    fast = statistics.bootstrap_means(lambda a, b: a / b, units, x, y, n_resamples=200, seed=4)
    slowly = statistics.bootstrap(lambda a, b: a.mean() / b.mean(), units, x, y, n_resamples=200, seed=4)
    for name in ("value", "low", "high", "n"):
        assert getattr(fast, name) == pytest.approx(getattr(slowly, name))
    assert fast.n == 5 and fast.low < fast.value < fast.high


def test_bootstrap_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(2)
    units, x = np.repeat(list("abcdefgh"), 2), rng.normal(size=16)
    order = rng.permutation(16)
    first = statistics.bootstrap_means(lambda a: a, units, x, seed=0)
    second = statistics.bootstrap_means(lambda a: a, units[order], x[order], seed=0)
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_bootstrap_keeps_pairs_together():
    x = np.random.default_rng(3).normal(size=40)
    found = statistics.bootstrap(lambda a, b: (b - a).mean(), np.arange(40), x, x + 2, n_resamples=100)
    assert found.low == pytest.approx(2) and found.high == pytest.approx(2)


def test_copies_of_a_prompt_in_one_unit_do_not_narrow_the_interval():
    x = np.random.default_rng(4).normal(size=30)
    alone = statistics.bootstrap_means(lambda a: a, np.arange(30), x, seed=1)
    copied = statistics.bootstrap_means(lambda a: a, np.repeat(np.arange(30), 5), np.repeat(x, 5), seed=1)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_bootstrap_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(300):
        found = statistics.bootstrap_means(lambda a: a, np.arange(60), rng.normal(size=60), n_resamples=400, seed=seed)
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize("units, rows", [([], []), (["a"], [1.0]), (["a", "b"], [1.0])])
def test_bootstrap_refuses_nothing_one_unit_and_unpaired_rows(units, rows):
    for form in (statistics.bootstrap, statistics.bootstrap_means):
        with pytest.raises(StatisticsError):
            form(lambda a: a, units, rows)


@given(PAIRS)
def test_mcnemar_agrees_with_counting_and_mirrors_when_the_sides_swap(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    row, mirror = statistics.mcnemar(a, b), statistics.mcnemar(b, a)
    assert row["both"] + row["only_a"] + row["only_b"] + row["neither"] == row["n"] == len(pairs)
    assert row["difference"] == pytest.approx(b.mean() - a.mean())
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["p_mcnemar"] == pytest.approx(slow.mcnemar_p(row["only_a"], row["only_b"]))
    assert (row["low"], row["high"]) == pytest.approx((-mirror["high"], -mirror["low"]))


def test_mcnemar_of_a_variant_with_itself_finds_nothing():
    a = np.arange(20) % 3 == 0
    row = statistics.mcnemar(a, a)
    assert row["p_mcnemar"] == 1 and row["difference"] == 0 and row["low"] < 0 < row["high"]


def test_paired_interval_covers_the_true_difference_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(6), 0
    for _ in range(1000):
        a = rng.random(60) < 0.6
        b = np.where(a, rng.random(60) < 0.5, rng.random(60) < 0.1)
        row = statistics.mcnemar(a, b)
        hits += row["low"] <= 0.6 * 0.5 + 0.4 * 0.1 - 0.6 <= row["high"]
    assert 0.93 <= hits / 1000 <= 0.975


def test_relative_difference_is_null_when_nothing_succeeds_before():
    assert statistics.mcnemar([False, False], [True, False])["relative_difference"] is None
    assert statistics.mcnemar([True, True], [True, False])["relative_difference"] == pytest.approx(-0.5)


def test_mcnemar_refuses_arrays_that_do_not_pair():
    for a, b in (([], []), ([True], [True, False])):
        with pytest.raises(StatisticsError):
            statistics.mcnemar(a, b)


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_power_is_the_sum_over_all_tables(correlation):
    found = statistics.mcnemar_power(0.6, 0.4, 14, correlation=correlation)
    assert found == pytest.approx(slow.mcnemar_power(0.6, 0.4, 14, correlation), abs=1e-9)


def test_power_agrees_with_simulated_studies():
    rng, found = np.random.default_rng(7), 0
    for _ in range(1500):
        a, b = rng.random(40) < 0.6, rng.random(40) < 0.36
        found += statistics.mcnemar(a, b)["p_mcnemar"] < 0.05
    assert found / 1500 == pytest.approx(statistics.mcnemar_power(0.6, 0.4, 40, correlation=0), abs=0.04)


def test_power_grows_with_pairs_and_with_correlation_and_is_near_alpha_without_effect():
    by_n = [statistics.mcnemar_power(0.6, 0.4, n) for n in (20, 40, 80, 160)]
    assert by_n == sorted(by_n) and by_n[-1] > 0.95
    by_correlation = [statistics.mcnemar_power(0.6, 0.4, 40, correlation=c) for c in (0, 0.3, 1)]
    assert by_correlation == pytest.approx([0.480, 0.639, 0.942], abs=0.001)
    assert statistics.mcnemar_power(0.6, 0.0, 80) < 0.05


@pytest.mark.parametrize(("rate", "n"), [(0.6, 40), (0.9, 100), (0.5, 15)])
def test_the_detectable_cut_is_the_smallest_with_that_power(rate, n):
    cut = statistics.detectable(rate, n)
    assert statistics.mcnemar_power(rate, cut / rate, n) >= 0.8 > statistics.mcnemar_power(rate, (cut - 0.002) / rate, n)


def test_a_rise_is_as_hard_to_see_as_the_cut_that_undoes_it():
    rise = statistics.detectable(0.1, 60, rise=True)
    assert statistics.mcnemar_power(0.1 + rise, rise / (0.1 + rise), 60) == pytest.approx(0.8, abs=0.01)
    assert statistics.detectable(0.0, 20, rise=True) == pytest.approx(0.367, abs=0.002)  # some 7 of 20, so that 6 are seen in 4 of 5


def test_the_detectable_change_shrinks_with_pairs_and_is_none_where_even_the_largest_is_missed():
    by_n = [statistics.detectable(0.5, n) for n in (20, 40, 100, 400)]
    assert by_n == sorted(by_n, reverse=True)
    assert statistics.detectable(0.05, 40) is statistics.detectable(1.0, 40, rise=True) is statistics.detectable(0.5, 4) is None
    for rate, n in ((1.2, 40), (0.5, 0)):
        with pytest.raises(StatisticsError, match="n > 0"):
            statistics.detectable(rate, n)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_false_discovery_agrees_with_its_definition(p):
    assert list(statistics.false_discovery(p)) == pytest.approx(slow.false_discovery(p), abs=1e-12)


def test_false_discovery_of_no_tests_is_refused():
    with pytest.raises(StatisticsError):
        statistics.false_discovery([])


@given(st.lists(st.integers(0, 30), min_size=2, max_size=80), st.integers(0, 5), st.randoms())
def test_halves_are_balanced_keep_units_whole_and_ignore_row_order(rows, seed, random):
    units = [f"u{row}" for row in rows]
    if len(set(units)) < 2:
        units[0] = "other"
    half = statistics.split_halves(units, seed)
    in_a = {u for u, a in zip(units, half, strict=True) if a}
    in_b = {u for u, a in zip(units, half, strict=True) if not a}
    assert not in_a & in_b and abs(len(in_a) - len(in_b)) <= 1
    mixed = list(units)
    random.shuffle(mixed)
    again = {u for u, a in zip(mixed, statistics.split_halves(mixed, seed), strict=True) if a}
    assert again == in_a


def test_one_unit_cannot_be_halved():
    with pytest.raises(StatisticsError, match="split"):
        statistics.split_halves(["a", "a"], 0)


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_random_sets_lie_outside_and_match_every_layer(seed, per_layer):
    layer = np.repeat(["down", "mid", "up"], [20, 14, 30])
    chosen, exclude = np.zeros(64, bool), np.zeros(64, bool)
    chosen[:per_layer], chosen[40 : 40 + 2 * per_layer], exclude[20:25], exclude[60:] = (
        True,
        True,
        True,
        True,
    )
    sets = statistics.matched_random_sets(chosen, layer, 9, seed, exclude)
    assert not (sets & (chosen | exclude)).any()
    for name in ("down", "mid", "up"):
        assert (sets[:, layer == name].sum(axis=1) == chosen[layer == name].sum()).all()
    assert (sets == statistics.matched_random_sets(chosen, layer, 9, seed, exclude)).all()
    assert len(np.unique(sets, axis=0)) > 1


def test_every_outside_neuron_is_drawn_about_equally_often():
    layer, chosen = np.array(["a"] * 12), np.arange(12) < 2
    often = statistics.matched_random_sets(chosen, layer, 5000, 0)[:, 2:].mean(axis=0)
    assert often == pytest.approx(np.full(10, 0.2), abs=0.025)


def test_a_layer_with_too_few_other_neurons_is_named():
    with pytest.raises(StatisticsError, match='"mid".*2 neurons.*3'):
        statistics.matched_random_sets(np.array([1, 1, 1, 0, 0], bool), np.array(["mid"] * 5), 3, 0)


def test_permutation_p_counts_itself_and_its_direction():
    null = np.arange(1, 100)
    assert statistics.permutation_p(1000, null, "greater") == 1 / 100
    assert statistics.permutation_p(1000, null, "less") == 1
    assert statistics.permutation_p(95, null, "greater") == 6 / 100
    assert statistics.permutation_p(50, null, "two-sided") == 1
    assert statistics.permutation_p(0, null) == statistics.permutation_p(100, null) == 1 / 100


@given(st.integers(0, 1000))
def test_permutation_p_is_uniform_enough_under_the_null(seed):
    draws = np.random.default_rng(seed).normal(size=(400, 20))
    p = np.array([statistics.permutation_p(row[0], row[1:], "greater") for row in draws])
    assert (p <= 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_permutation_p_refuses_an_empty_null_and_unknown_directions():
    for call in ((1.0, []), (np.nan, [1.0]), (1.0, [np.inf]), (1.0, [1.0], "bigger")):
        with pytest.raises(StatisticsError):
            statistics.permutation_p(*call)


@given(st.integers(0, 500))
def test_overlap_of_random_sets_is_about_what_chance_says(seed):
    a, b = np.random.default_rng(seed).random((2, 20000)) < 0.2
    assert statistics.iou(a, b) == pytest.approx(statistics.iou_chance(0.2), abs=0.02)


def test_overlap_is_one_with_itself_zero_when_apart_and_refused_when_empty():
    a = np.array([True, False, True])
    assert statistics.iou(a, a) == 1 and statistics.iou(a, ~a) == 0
    assert statistics.iou(a, [True, True, False]) == pytest.approx(1 / 3)
    with pytest.raises(StatisticsError):
        statistics.iou([False], [False])


def test_with_one_member_and_one_run_nested_means_are_those_of_the_bootstrap():
    rng, units = np.random.default_rng(0), np.arange(20) // 2
    a, b = rng.random((2, 20)) < 0.4
    found = statistics.bootstrap_means(lambda x, y: y - x, units, a, b, n_resamples=300, seed=3)
    values = statistics.nested_means(units, [[b]], 300, 3, stream=1) - statistics.nested_means(units, [[a]], 300, 3)
    again = statistics.interval(values[0], values[1:], 10)
    assert (again.value, again.low, again.high) == pytest.approx((found.value, found.low, found.high))


def test_nested_means_cover_the_truth_when_runs_differ_and_units_alone_do_not():
    """60 prompts, 8 runs whose own success is drawn between 0.1 and 0.5: the truth is 0.3."""
    rng, units, held = np.random.default_rng(1), np.arange(60), np.zeros(2)
    for _ in range(200):
        runs = list(rng.random((8, 60)) < rng.uniform(0.1, 0.5, size=(8, 1)))
        nested = statistics.nested_means(units, [runs], 200)
        alone = statistics.nested_means(units, [runs[:1]], 200)
        for which, values in enumerate((nested, alone)):
            found = statistics.interval(values[0], values[1:], 60)
            held[which] += found.low <= 0.3 <= found.high
    assert held[0] >= 0.88 * 200 and held[1] < 0.75 * 200


def test_nested_means_say_what_is_missing():
    for members in ([], [[]], [[np.ones(4)], []]):
        with pytest.raises(StatisticsError, match="has none"):
            statistics.nested_means(np.arange(4), members)
    with pytest.raises(StatisticsError, match="do not pair"):
        statistics.nested_means(np.arange(4), [[np.ones(3)]])
