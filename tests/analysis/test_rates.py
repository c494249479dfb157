"""Laws and worked examples of workbench.analysis.rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference as slow
from workbench.analysis import rates
from workbench.errors import StatisticsError
from workbench.statistics import wilson

LABELS = dict.fromkeys(
    (
        "variant",
        "prompt_set",
        "attack",
        "provenance",
        "against",
        "control",
        "detector",
        "threshold",
    ),
    "x",
)
RATE_KEYS = {*LABELS, "definition", "n", "n_units", "n_effective", "successes", "rate", "low", "high", "reason"}
COMPARISON_KEYS = {
    *(
        "variant_a",
        "variant_b",
        "prompt_set",
        "attack",
        "n",
        "n_units",
        "both",
        "only_a",
        "only_b",
        "neither",
        "difference",
    ),
    *("low", "high", "relative_difference", "relative_low", "relative_high", "p_mcnemar", "p_permutation", "p", "power", "reason"),
}
SIDES = {"variant_a": "esd", "variant_b": "pruned", "prompt_set": "target", "attack": None}
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def by_definition(rows):
    return {row["definition"]: row for row in rows}


def test_the_published_esd_counts_give_the_published_rates_and_their_intervals():
    before, after = np.arange(142) < 29, (np.arange(142) >= 29) & (np.arange(142) < 29 + 79)
    found = by_definition(rates.attack_rates(before, after, **LABELS))
    for name, expected in {
        "pre_asr": (0.204, 0.146, 0.278),
        "asr": (0.761, 0.684, 0.823),
        "asr_fail": (0.699, 0.609, 0.776),
    }.items():
        assert [round(found[name][key], 3) for key in ("rate", "low", "high")] == list(expected)
    assert (found["asr_fail"]["successes"], found["asr_fail"]["n"]) == (79, 113)


@settings(deadline=None)
@given(PAIRS)
def test_attack_rates_follow_their_definitions(pairs):
    before, after = (list(side) for side in zip(*pairs, strict=True))
    n, b = len(pairs), sum(before)
    k = sum(1 for x, y in pairs if y and not x)
    found = by_definition(rates.attack_rates(before, after, **LABELS))
    assert found["pre_asr"]["rate"] == b / n and found["asr"]["rate"] == (b + k) / n
    assert found["asr"]["rate"] >= found["pre_asr"]["rate"]
    if b < n:
        assert found["asr_fail"]["rate"] == k / (n - b)
    else:
        assert found["asr_fail"]["rate"] is None and "without an attack" in found["asr_fail"]["reason"]
    assert all(set(row) == RATE_KEYS for row in found.values())


@settings(deadline=None)
@given(PAIRS, st.integers(0, 79))
def test_asr_never_falls_when_one_more_image_counts_as_a_success(pairs, place):
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    more = after.copy()
    more[place % len(more)] = True
    asr = [by_definition(rates.attack_rates(before, x, **LABELS))["asr"]["rate"] for x in (after, more)]
    assert asr[1] >= asr[0]


def test_no_prompts_give_nulls_with_a_reason_not_a_zero():
    row = rates.success_rate([], **LABELS)
    assert row["rate"] is None and row["reason"]
    assert set(row) == RATE_KEYS


def test_one_image_per_unit_gives_wilson_and_several_a_wider_interval():
    rng = np.random.default_rng(0)
    success = np.repeat(rng.random(30) < 0.5, 4)
    alone = rates.success_rate(success, **LABELS)
    named = rates.success_rate(success, units=np.arange(120), **LABELS)
    copies = rates.success_rate(success, units=np.repeat(np.arange(30), 4), **LABELS)
    assert alone == named and set(copies) == RATE_KEYS
    assert copies["rate"] == alone["rate"]
    assert copies["high"] - copies["low"] > 1.5 * (alone["high"] - alone["low"])
    assert (copies["n"], copies["n_units"], alone["n"], alone["n_units"]) == (120, 30, 120, 120)


def test_ten_units_of_three_seeds_that_agree_are_ten_images_not_thirty():
    units = np.repeat(np.arange(10), 3)
    success = units < 4
    row = rates.success_rate(success, units=units, **LABELS)
    thirty, ten = wilson(12, 30), wilson(4, 10)
    assert (row["n"], row["n_units"], row["successes"], row["rate"]) == (30, 10, 12, 0.4)
    assert row["high"] - row["low"] > 1.4 * (thirty.high - thirty.low)
    assert row["high"] - row["low"] == pytest.approx(ten.high - ten.low, abs=0.1)
    assert row["n_effective"] == pytest.approx(30 / (3 * 10 / 9))
    assert (row["low"], row["high"]) == pytest.approx(slow.wilson_by_unit([0, 0, 0, 3, 3, 3, 3, 0, 0, 0], [3] * 10), abs=1e-9)


def test_images_of_a_single_unit_have_no_interval_and_say_so():
    row = rates.share([True, False, True], ["a", "a", "a"])
    assert (row["n"], row["n_units"], row["successes"], row["rate"], row["low"]) == (3, 1, 2, None, None)
    assert "one unit" in row["reason"]


@pytest.mark.parametrize("seen", [True, False])
def test_a_rate_of_none_or_all_keeps_an_interval_with_several_images_per_unit(seen):
    row = rates.success_rate([seen] * 40, units=np.repeat(np.arange(10), 4), **LABELS)
    assert row["rate"] == float(seen) and row["high"] - row["low"] > 0.2


def test_asr_fail_with_several_images_per_unit_counts_the_images_without_the_concept_of_each_unit():
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(40), 3)
    before, after = rng.random(120) < 0.3, rng.random(120) < 0.5
    row = by_definition(rates.attack_rates(before, after, units=units, **LABELS))["asr_fail"]
    assert row["rate"] == (after & ~before).sum() / (~before).sum() and row["low"] < row["rate"] < row["high"]
    kept = [u for u in range(40) if (~before[units == u]).any()]
    counts = [[(one & ~before)[units == u].sum() for u in kept] for one in (after, ~before)]
    assert (row["low"], row["high"]) == pytest.approx(slow.wilson_by_unit(*counts), abs=1e-9) and row["n_units"] == len(kept)


@settings(deadline=None)
@given(PAIRS)
def test_a_comparison_is_b_minus_a_with_exactly_the_keys_of_its_table(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    row = rates.compare(a, b, **SIDES)
    assert set(row) == COMPARISON_KEYS
    assert row["difference"] == pytest.approx(b.mean() - a.mean())
    assert row["power"] is None or 0 <= row["power"] <= 1


def hybrid(both, only_a, only_b):
    """Bonett and Price's interval of p_b / p_a - 1, step by step."""
    n, a, b = both + only_a + only_b, both + only_a, both + only_b
    big = ((only_a + only_b + 2) / ((a + 1) * (b + 1))) ** 0.5
    one = ((1 - (a + 1) / (n + 2)) / (a + 1)) ** 0.5
    two = ((1 - (b + 1) / (n + 2)) / (b + 1)) ** 0.5
    z = big / (one + two) * 1.959964

    def bounds(x):
        middle, spread = 2 * x + z * z, z * (z * z + 4 * x * (1 - x / n)) ** 0.5
        return (middle - spread) / (2 * (n + z * z)), (middle + spread) / (2 * (n + z * z))

    return bounds(b)[0] / bounds(a)[1] - 1, bounds(b)[1] / bounds(a)[0] - 1


@pytest.mark.parametrize("cells", [(31, 87, 7), (5, 0, 0), (0, 9, 0), (1, 0, 30), (12, 3, 3)])
def test_the_relative_difference_has_bonett_and_prices_interval_around_it(cells):
    low, high = rates.relative_interval(*cells)
    assert (low, high) == pytest.approx(hybrid(*cells), rel=1e-6, abs=1e-6)
    both, only_a, only_b = cells
    assert low - 1e-9 <= (both + only_b) / (both + only_a) - 1 <= high + 1e-9 and low >= -1


def test_without_a_success_of_a_there_is_no_relative_difference():
    row = rates.compare([False] * 5, [True] * 5, **SIDES)
    assert row["relative_difference"] is row["relative_low"] is row["relative_high"] is None and row["difference"] == 1


def test_the_relative_interval_holds_the_truth_about_as_often_as_it_says():
    draws, held, n, (p_a, p_b) = np.random.default_rng(4), 0, 60, (0.6, 0.36)
    for _ in range(400):
        shared = draws.random(n)
        a, b = shared < p_a, np.where(draws.random(n) < 0.5, shared, draws.random(n)) < p_b
        low, high = rates.relative_interval((a & b).sum(), (a & ~b).sum(), (~a & b).sum())
        held += low <= p_b / p_a - 1 <= high
    assert 0.92 < held / 400 < 0.99


def test_several_images_per_unit_take_the_place_of_mcnemar():
    rng = np.random.default_rng(2)
    a, b = np.repeat(rng.random((2, 30)) < 0.5, 4, axis=1)
    row = rates.compare(a, b, units=np.repeat(np.arange(30), 4), **SIDES)
    plain = rates.compare(a, b, **SIDES)
    assert row["p_mcnemar"] is None and "not independent" in row["reason"] and "swapping whole units" in row["reason"]
    each_once = rates.compare(a[::4], b[::4], units=np.arange(30), **SIDES)
    assert row["p_permutation"] == pytest.approx(each_once["p_mcnemar"]) and each_once["p_permutation"] is None
    assert (row["n"], row["n_units"], each_once["n"], each_once["n_units"]) == (120, 30, 30, 30)
    assert row["high"] - row["low"] > 1.5 * (plain["high"] - plain["low"])
    assert row["relative_high"] - row["relative_low"] > 1.2 * (plain["relative_high"] - plain["relative_low"])
    assert row["relative_low"] < row["relative_difference"] < row["relative_high"]
    assert row["p"] == row["p_permutation"] and each_once["p"] == each_once["p_mcnemar"]


UNITS = np.repeat(np.arange(10), 3)


@pytest.mark.parametrize(
    "a, b",
    [
        (np.zeros(30, bool), np.zeros(30, bool)),
        (np.ones(30, bool), np.ones(30, bool)),
        (UNITS < 4, UNITS < 4),
        (np.zeros(30, bool), np.ones(30, bool)),
        (np.ones(30, bool), np.zeros(30, bool)),
    ],
    ids=["never", "always", "the same", "all won", "all lost"],
)
def test_no_interval_of_images_in_units_has_width_zero(a, b):
    row = rates.compare(a, b, units=UNITS, **SIDES)
    assert row["low"] <= row["difference"] <= row["high"] and row["high"] - row["low"] > 0.05
    once = rates.compare(a[::3], b[::3], **SIDES)
    assert (row["low"], row["high"]) == pytest.approx((once["low"], once["high"]))  # ten units that agree are ten pairs
    if a.any():
        assert row["relative_low"] <= row["relative_difference"] <= row["relative_high"]
        assert row["relative_high"] - row["relative_low"] > 0.05
    for one in (a, b):
        found = rates.share(one, UNITS)
        assert found["high"] - found["low"] > 0.05 and found["low"] <= found["rate"] <= found["high"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=20), st.integers(2, 4))
def test_copies_of_an_image_within_its_unit_narrow_nothing(pairs, n_copies):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    units = np.arange(len(a))
    copied = np.repeat(units, n_copies)
    once, more = rates.share(a, units), rates.share(a[copied], copied)
    assert more["high"] - more["low"] >= once["high"] - once["low"] - 1e-9
    first, second = rates.compare(np.repeat(a, 2), np.repeat(b, 2), np.repeat(units, 2)), rates.compare(a[copied], b[copied], copied)
    for low, high in (("low", "high"), ("relative_low", "relative_high")):
        if first[low] is not None:
            assert second[high] - second[low] == pytest.approx(first[high] - first[low], abs=1e-9)
    assert second["p"] == pytest.approx(first["p"])


def test_comparisons_are_corrected_over_the_table_they_stand_in():
    rng = np.random.default_rng(3)
    rows = [rates.compare(rng.random(40) < 0.5, rng.random(40) < 0.2 + 0.1 * k, **SIDES) for k in range(5)]
    rows.insert(2, rows[0] | {"p": None})
    found = rates.with_adjusted(rows)
    tested = [row for row in found if row["p"] is not None]
    assert [row["p_adjusted"] for row in tested] == pytest.approx(slow.false_discovery([row["p"] for row in tested]))
    assert {row["n_family"] for row in tested} == {5} and found[2]["p_adjusted"] is found[2]["n_family"] is None
    assert rates.with_adjusted([rows[2]])[0]["p_adjusted"] is None and rates.with_adjusted([]) == []
    nothing = rates.compare([True, False] * 20, [True, False] * 20, **SIDES)
    assert rates.with_adjusted([*rows, nothing])[:-1] == found  # an attack that changes no image changes no other row
    assert rates.with_adjusted([nothing])[0]["p_adjusted"] == 1


def test_images_that_do_not_pair_are_refused():
    for call in (rates.attack_rates, rates.compare):
        with pytest.raises(StatisticsError, match="pair"):
            call([True, False], [True], variant="esd")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_sweep_over_scores_is_the_detectors_own_sweep(scores, thresholds):
    import torch

    from workbench.methods.detectors import Detector

    images = torch.tensor(scores)[:, None, None, None].expand(-1, 3, 2, 2)
    detector = Detector(
        "grey", "1", ["a", "b"], {"a": 0.5, "b": 0.5}, lambda part: torch.stack([part[:, 0, 0, 0], part[:, 0, 0, 0] / 2], 1)
    )
    kept = detector.present(images, ["a", "b"])[1].numpy()
    found = rates.sweep(kept, thresholds, variant="x")
    more = {"variant": "x", "n_units": len(scores), "n_effective": None, "reason": None}
    assert found == [row | more for row in detector.sweep(images, ["a", "b"], thresholds)]


def test_a_sweep_counts_images_and_resamples_units():
    scores, units = np.repeat(np.linspace(0, 1, 10), 3), np.repeat(np.arange(10), 3)
    for row in rates.sweep(scores, [0.25, 0.5, 2.0], units):
        assert row == {"threshold": row["threshold"]} | rates.share(scores >= row["threshold"], units) and row["n_units"] == 10


def test_a_sweep_refuses_broken_scores_and_says_when_there_are_none():
    with pytest.raises(StatisticsError, match="not finite"):
        rates.sweep([0.1, np.nan], [0.5])
    (row,) = rates.sweep(np.zeros(0), [0.5])
    assert row["rate"] is None and row["reason"] == "no prompts"
