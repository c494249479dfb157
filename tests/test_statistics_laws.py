"""Laws of workbench.statistics, and agreement with loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

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
    slowly = slow.bootstrap(lambda a, b: a.mean() / b.mean(), units, x, y, n_resamples=200, seed=4)
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
    found = statistics.bootstrap_means(lambda a, b: b - a, np.arange(40), x, x + 2, n_resamples=100)
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
    with pytest.raises(StatisticsError):
        statistics.bootstrap_means(lambda a: a, units, rows)


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


UNIT_ROWS = st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 3), st.floats(0.1, 3)), min_size=4, max_size=20)


@given(UNIT_ROWS)
def test_the_jackknife_agrees_with_leaving_out_each_unit_by_loops(rows):
    units, x, y = (list(column) for column in zip(*rows, strict=True))
    units[0], units[1] = 0, 1
    found = statistics.jackknife(np.divide, units, np.array(x), np.array(y))
    quantile = float(stats.t.ppf(0.975, len(set(units)) - 1))
    expected = slow.jackknife(lambda a, b: a / b, units, x, y, quantile=quantile)
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert found.n == len(set(units)) and found.undefined == 0


def test_the_jackknife_of_a_mean_is_the_t_interval_of_scipy():
    x = np.random.default_rng(0).normal(size=12)
    found, theirs = statistics.jackknife(lambda a: a, np.arange(12), x), stats.ttest_1samp(x, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(theirs))
    assert found.se == pytest.approx(stats.sem(x))


def test_neither_copies_of_a_unit_nor_the_order_of_units_change_the_jackknife():
    rng = np.random.default_rng(1)
    x, y, order = rng.normal(1, 1, 9), rng.normal(3, 1, 9), rng.permutation(9)
    alone = statistics.jackknife(np.divide, np.arange(9), x, y)
    copied = statistics.jackknife(np.divide, np.repeat(np.arange(9), 4), np.repeat(x, 4), np.repeat(y, 4))
    turned = statistics.jackknife(np.divide, np.arange(9), x[order], y[order])
    for found in (copied, turned):
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_quantity_that_some_unit_alone_defines_has_no_interval():
    with pytest.raises(StatisticsError, match="1 of 4 units"):
        statistics.jackknife(np.divide, range(4), np.ones(4), np.array([0.0, 0, 5, 0]))
    with pytest.raises(StatisticsError, match="at least 2"):
        statistics.jackknife(np.divide, ["a", "a"], np.ones(2), np.ones(2))


@given(st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=2, max_size=9))
def test_the_sign_flip_p_is_the_share_of_all_flips_and_does_not_depend_on_order(differences):
    found = statistics.sign_flip_p(differences)
    assert found == pytest.approx(slow.sign_flip_p(differences) if any(differences) else 1.0)
    assert statistics.sign_flip_p(differences[::-1]) == found == statistics.sign_flip_p([-one for one in differences])


def test_many_units_are_flipped_at_random_and_count_themselves():
    assert statistics.sign_flip_p(np.ones(40)) == 2 / 10_000
    x = np.random.default_rng(2).normal(0.4, 1, 30)
    order = np.random.default_rng(3).permutation(30)
    assert statistics.sign_flip_p(x) == statistics.sign_flip_p(x[order])
    assert statistics.sign_flip_p(x) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.01)
    for bad in ([1.0], [1.0, np.nan]):
        with pytest.raises(StatisticsError, match="Signs"):
            statistics.sign_flip_p(bad)


def test_flips_for_many_quantities_are_those_of_the_test_of_one():
    x = np.random.default_rng(4).normal(0.3, 1, (10, 3))
    signs, every = statistics.flip_signs(10)
    assert every and len(np.unique(signs, axis=0)) == len(signs) == 2**10 and set(np.unique(signs)) == {-1.0, 1.0}
    for column in x.T:
        p = np.mean(np.abs(signs @ column) >= abs(column.sum()) - 1e-9)
        assert p == pytest.approx(statistics.sign_flip_p(column))
    signs, every = statistics.flip_signs(20)
    assert not every and signs.shape == (9999, 20)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_wilson_by_unit_solves_its_defining_equation(counts):
    n, successes = [one for one, _ in counts], [min(one, x) for one, x in counts]
    found, effective = statistics.wilson_by_unit(successes, n)
    assert (found.low, found.high) == pytest.approx(slow.wilson_by_unit(successes, n), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.high - found.low > 0.01 and effective <= sum(n)


def test_wilson_by_unit_of_independent_images_is_wilsons_and_of_copies_that_of_the_units():
    alone = statistics.wilson(12, 40)
    even = statistics.wilson_by_unit([1] * 20, [2] * 20)[0]  # units less unlike than chance would have them count as images do
    assert (even.low, even.high) == pytest.approx((statistics.wilson(20, 40).low, statistics.wilson(20, 40).high))
    once, effective = statistics.wilson_by_unit([1] * 12 + [0] * 28, [1] * 40)
    assert once.value == alone.value and effective == pytest.approx(39)  # n - 1: the variance of 40 images, from 40 images
    copied, same = statistics.wilson_by_unit([3] * 12 + [0] * 28, [3] * 40)
    assert same == pytest.approx(39) and copied.high - copied.low >= once.high - once.low - 1e-9
    for bad in (([1], [2]), ([3, 0], [2, 2]), ([0, 0], [0, 2])):
        with pytest.raises(StatisticsError, match="2 units"):
            statistics.wilson_by_unit(*bad)


def test_random_sets_with_a_key_do_not_depend_on_how_neurons_are_numbered():
    rng = np.random.default_rng(5)
    key, layer, chosen, order = rng.random(60), np.repeat(["a", "b"], 30), np.arange(60) % 12 == 0, rng.permutation(60)
    first = statistics.matched_random_sets(chosen, layer, 20, 1, key=key)
    second = statistics.matched_random_sets(chosen[order], layer[order], 20, 1, key=key[order])
    assert (second == first[:, order]).all()


def test_resamples_that_are_not_finite_are_counted():
    found = statistics.interval(1.0, [0.5, np.nan, 1.5, np.inf], 4)
    assert found.undefined == 2 and (found.low, found.high) == pytest.approx((0.525, 1.475))
