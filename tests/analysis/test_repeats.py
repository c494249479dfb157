"""Intervals over runs and units: by hand, and by how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from workbench.analysis import repeats
from workbench.errors import StatisticsError
from workbench.statistics import jackknife, t_quantile


def drawn(rng, n_runs, n_units, run, unit=1.0, rest=1.0):
    """(run, unit) values of mean 0: what runs, units and each cell differ by."""
    own = unit * rng.normal(size=n_units)
    return lambda: run * rng.normal(size=(n_runs, 1)) + own + rest * rng.normal(size=(n_runs, n_units))


def by_hand(values):
    """Variance of the mean and its degrees of freedom, by loops over the two-way table."""
    n_runs, n = len(values), len(values[0])
    middle = sum(map(sum, values)) / (n_runs * n)
    of_run = [sum(row) / n for row in values]
    of_unit = [sum(row[u] for row in values) / n_runs for u in range(n)]
    runs = sum((one - middle) ** 2 for one in of_run) / (n_runs - 1) / n_runs
    units = sum((one - middle) ** 2 for one in of_unit) / (n - 1) / n
    rest = sum((values[r][u] - of_run[r] - of_unit[u] + middle) ** 2 for r in range(n_runs) for u in range(n))
    rest /= (n_runs - 1) * (n - 1) * n_runs * n
    variance = max(runs + units - rest, runs, units)
    return variance, variance**2 / (runs**2 / (n_runs - 1) + units**2 / (n - 1))


def test_the_variance_is_that_of_two_crossed_factors():
    values = drawn(np.random.default_rng(0), 3, 12, 0.5)()
    found, (variance, freedom) = repeats.mean_over_runs(values), by_hand(values.tolist())
    assert found.value == pytest.approx(values.mean()) and found.se == pytest.approx(variance**0.5) and found.n == 12
    assert found.high - found.value == pytest.approx(t_quantile(freedom) * variance**0.5)


def test_p_over_runs_is_students_t_with_the_same_degrees_of_freedom_and_below_alpha_where_the_interval_leaves_out_0():
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.4, 1.0, 3.0):
        values = shift + drawn(rng, 3, 12, 0.5)()
        found, (variance, freedom) = repeats.mean_over_runs(values), by_hand(values.tolist())
        p = repeats.p_over_runs(values)
        assert p == pytest.approx(2 * stats.t.sf(abs(values.mean()) / variance**0.5, freedom))
        assert (p < 0.05) == (found.low > 0 or found.high < 0)
    assert repeats.p_over_runs(np.zeros((3, 8))) == 1 and repeats.p_over_runs(np.ones((3, 8))) == 2 / 2**8


def test_one_run_is_the_t_interval_over_units():
    x, scale = np.random.default_rng(1).normal(1, 0.5, (2, 15))
    found, theirs = repeats.mean_over_runs([x]), jackknife(lambda a: a, np.arange(15), x)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    ratio, theirs = repeats.ratio_over_runs([x], 3 + scale), jackknife(np.divide, np.arange(15), x, 3 + scale)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=0.01)


def test_a_copy_of_a_run_says_that_runs_do_not_differ_but_never_narrows_below_the_units():
    x = np.random.default_rng(2).normal(size=(1, 15))
    once, copied = repeats.mean_over_runs(x), repeats.mean_over_runs(np.repeat(x, 3, axis=0))
    assert copied.high - copied.low >= once.high - once.low - 1e-9


def test_the_order_of_runs_and_units_changes_nothing():
    rng = np.random.default_rng(3)
    values = drawn(rng, 4, 10, 0.5)()
    turned = values[rng.permutation(4)][:, rng.permutation(10)]
    first, second = (repeats.mean_over_runs(one) for one in (values, turned))
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_means_ratios_and_differences_over_three_runs_are_covered_and_over_units_alone_they_are_not():
    rng, held, n_draws = np.random.default_rng(4), dict.fromkeys(("mean", "difference", "ratio", "units alone"), 0), 600
    for _ in range(n_draws):
        draw = drawn(rng, 3, 20, 0.5)
        x, y = draw(), draw()
        scale = 4 + rng.normal(size=20)
        found = {"mean": repeats.mean_over_runs(x), "difference": repeats.difference_over_runs(x, y)}
        found |= {"ratio": repeats.ratio_over_runs(2 + x, scale), "units alone": jackknife(lambda a: a, np.arange(20), x[0])}
        truth = {"mean": 0, "difference": 0, "ratio": 0.5, "units alone": 0}
        for name, one in found.items():
            held[name] += one.low <= truth[name] <= one.high
    assert all(held[name] / n_draws >= 0.93 for name in ("mean", "difference", "ratio")), held
    assert held["units alone"] / n_draws < 0.9


def test_rates_over_three_runs_are_covered_and_never_of_width_zero():
    rng, held, n_draws = np.random.default_rng(5), 0, 500
    for _ in range(n_draws):
        own = rng.uniform(0.2, 0.6, (3, 1))  # of each run; the truth is 0.4
        found = repeats.rate_over_runs(rng.random((3, 40)) < own)
        held += found.low <= 0.4 <= found.high
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert 0.92 <= held / n_draws <= 0.985
    for seen in (np.zeros((3, 20)), np.ones((3, 20)), np.tile(np.arange(20) < 7, (3, 1))):
        found = repeats.rate_over_runs(seen)
        assert found.high - found.low > 0.1


def test_what_does_not_pair_is_refused():
    for call, sentence in (
        (lambda: repeats.mean_over_runs(np.ones(4)), "run, unit"),
        (lambda: repeats.mean_over_runs(np.ones((3, 1))), "at least 2 units"),
        (lambda: repeats.mean_over_runs(np.full((2, 3), np.nan)), "not finite"),
        (lambda: repeats.difference_over_runs(np.ones((2, 3)), np.ones((2, 4))), "do not pair"),
        (lambda: repeats.ratio_over_runs(np.ones((2, 3)), np.zeros(3)), "denominator is 0"),
    ):
        with pytest.raises(StatisticsError, match=sentence):
            call()
