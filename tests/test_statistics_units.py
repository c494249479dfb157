"""Several rows per unit: means of units, and the test that swaps whole units, against loops and enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import StatisticsError
from workbench.statistics import mcnemar, swap_p, unit_means

ROWS = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=14)


def p_by_enumeration(a, b, units):
    """The share of all swaps of whole units that give a difference at least as far from 0."""
    names, hits, n = sorted(set(units)), 0, 0
    observed = sum(int(y) - int(x) for x, y in zip(a, b, strict=True))
    for swapped in product((False, True), repeat=len(names)):
        turned = dict(zip(names, swapped, strict=True))
        total = 0
        for x, y, unit in zip(a, b, units, strict=True):
            total += int(x) - int(y) if turned[unit] else int(y) - int(x)
        hits, n = hits + (abs(total) >= abs(observed)), n + 1
    return hits / n


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_the_swapping_p_is_the_share_of_all_swaps(rows):
    units, a, b = zip(*rows, strict=True)
    assert swap_p(a, b, units) == pytest.approx(p_by_enumeration(a, b, units), rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_with_one_row_per_unit_it_is_mcnemars_exact_test(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    assert swap_p(a, b, range(len(a))) == pytest.approx(mcnemar(a, b)["p_mcnemar"], rel=1e-9)


def test_copies_within_a_unit_do_not_make_a_difference_surer():
    a, b = np.zeros(6, bool), np.ones(6, bool)
    copied = np.repeat(np.arange(6), 5)
    assert swap_p(a[copied], b[copied], copied) == pytest.approx(swap_p(a, b, range(6))) == pytest.approx(2 / 2**6)
    assert mcnemar(a[copied], b[copied])["p_mcnemar"] < 1e-8


def test_the_swapping_p_is_at_most_alpha_about_as_often_as_it_says_when_nothing_differs():
    draws, small = np.random.default_rng(5), 0
    units = np.repeat(np.arange(20), 3)
    for _ in range(400):
        a, b = np.repeat(draws.random((2, 20)) < 0.5, 3, axis=1)
        small += swap_p(a, b, units) < 0.05
    assert small / 400 < 0.08


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=12))
def test_unit_means_are_means_in_the_order_of_first_appearance(rows):
    units = [unit for unit, *_ in rows]
    found = unit_means(units, np.array([values for _, *values in rows], np.float32))
    order = []
    for unit in units:
        if unit not in order:
            order.append(unit)
    for unit, mean in zip(order, found, strict=True):
        mine = [np.array(values, float) for name, *values in rows if name == unit]
        assert mean == pytest.approx(sum(mine) / len(mine), rel=1e-5, abs=1e-5)
    assert found.dtype == np.float32


def test_with_one_row_per_unit_nothing_is_computed():
    values = np.array([True, False, True])
    assert unit_means(["c", "a", "b"], values) is values
    assert unit_means(["c", "a", "c"], values).tolist() == [1.0, 0.0]


def test_rows_that_do_not_pair_are_refused():
    with pytest.raises(StatisticsError, match="3 values do not pair with 2 units"):
        unit_means(["a", "b"], np.zeros(3))
    for a, b, units in (([True], [True, False], "ab"), ([True, True], [True, False], "a"), ([], [], "")):
        with pytest.raises(StatisticsError, match="do not pair"):
            swap_p(a, b, units)
