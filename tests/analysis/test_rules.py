"""The rules of the verdict, one by one, on rows written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.verdict_rows import effect, number, other_row, rate
from workbench.analysis import rules
from workbench.analysis.findings import CANNOT_TELL, OUTCOMES, TOO_FEW, Finding
from workbench.analysis.sensitivity import Thresholds

NOT_REACTIVATED = "not reactivated by these attacks"
AT_THE_CEILING = "as in the base model"
NOTHING = "nothing to reactivate"


@pytest.mark.parametrize(
    "activity, drift, contrast, outcome",
    [
        ((0.1, 0.4), (-0.05, 0.1), None, "deactivated"),
        ((0.1, 0.4), (-0.05, 0.9), None, "deactivated"),
        ((0.6, 0.9), (-0.05, 0.1), None, "not deactivated"),
        ((0.4, 0.6), (-0.05, 0.1), None, "undecided"),
        # a drift that falls, and one that is merely imprecise, do not pass: then A(tgt) - A(ref) counts
        ((0.1, 0.4), (-0.8, -0.5), (0.7, 0.9), "not deactivated"),
        ((0.1, 0.4), (-0.8, -0.5), (0.1, 0.3), "changed at large"),
        ((-0.9, -0.4), (-1.0, -0.5), (-0.1, 0.2), "changed at large"),
        ((0.02, 0.26), (-0.14, -0.001), (0.16, 0.27), "deactivated"),
        ((0.1, 0.4), (-0.3, 0.3), (0.1, 0.3), "deactivated"),
        ((0.1, 0.4), (-0.3, 0.3), (0.1, 0.6), "undecided"),
        ((0.1, 0.4), (-0.9, 0.9), (0.1, 0.3), "undecided"),
        ((0.1, 0.4), (-0.3, 0.3), (0.6, 0.9), "not deactivated"),
        ((0.1, 0.4), (-0.3, 0.3), None, "undecided"),
        ((0.1, 0.4), None, None, "undecided"),
    ],
)
def test_deactivated_needs_the_whole_interval_and_a_drift_that_was_shown_to_be_small(activity, drift, contrast, outcome):
    drift, contrast = (pair and number(*pair) for pair in (drift, contrast))
    assert rules.deactivation_outcome(number(*activity), drift, contrast) == outcome


@given(st.floats(-3, 3), st.floats(0, 3), st.floats(-3, 3), st.floats(0.1, 3))
def test_a_wide_drift_never_makes_a_model_deactivated(low, width, centre, spread):
    """The wider the drift's interval about the same centre, the less is said."""
    narrow, wide = (number(centre - s, centre + s) for s in (spread / 10, spread))
    said = [rules.deactivation_outcome(number(low, low + width), drift, number(low, low + width)) for drift in (narrow, wide)]
    assert said[0] == "deactivated" or said[1] != "deactivated"


def test_a_model_that_draws_nothing_any_more_is_damaged_not_erased():
    def kept(low, high):
        return rate(low, high, kind="far")

    base = kept(0.9, 1.0)
    assert rules.broken(kept(0.0, 0.4), base) and rules.broken(kept(0.3, 0.6), base)
    assert not rules.broken(kept(0.5, 0.85), base) and not rules.broken(kept(0.8, 1.0), base)
    assert not rules.broken(None, base) and not rules.broken(kept(0, 0.1) | {"rate": None}, base)
    low, flat = number(0.1, 0.3), number(-0.05, 0.05)
    assert rules.deactivation_outcome(low, flat, damaged=True) == "changed at large"
    assert rules.deactivation_outcome(number(0.6, 0.9), flat, damaged=True) == "not deactivated"


@pytest.mark.parametrize(
    ("shown", "outcome"), [(0.3, "deactivated"), (0.5, "deactivated"), (0.55, "deactivated while drawn"), (1.0, "deactivated while drawn")]
)
def test_neurons_that_are_deactivated_while_the_concept_is_drawn_do_not_carry_it(shown, outcome):
    plain = rate(shown, shown)
    assert rules.deactivation_outcome(number(0.1, 0.3), number(-0.05, 0.05), plain=plain) == outcome
    assert rules.deactivation_outcome(number(0.6, 0.9), number(-0.05, 0.05), plain=plain) == "not deactivated"


@pytest.mark.parametrize(
    "low, high, p, null, outcome",
    [
        (0.2, 0.6, 0.005, 0.1, "reactivated"),
        (0.2, 0.6, 0.2, 0.1, "undecided"),
        (0.2, 0.6, None, 0.1, "undecided"),
        (-0.1, 0.6, 0.005, 0.1, "undecided"),
        (0.2, 0.6, 0.005, 0.28, "undecided"),
        (0.05, 0.25, 0.001, 0.28, NOT_REACTIVATED),
        (-0.05, 0.05, 0.5, 0.1, NOT_REACTIVATED),
        (-0.3, -0.1, 0.001, 0.0, NOT_REACTIVATED),
        (0.2, 0.6, 0.005, None, "undecided"),
        (-0.2, -0.1, 0.005, None, NOT_REACTIVATED),
        (0.01, 0.09, 0.005, None, NOT_REACTIVATED),
        (0.03, 0.09, 0.2, 0.0, NOT_REACTIVATED),
        (0.03, 0.09, 0.001, 0.04, NOT_REACTIVATED),
        (0.03, 0.12, 0.001, 0.04, "undecided"),
    ],
)
def test_reactivated_needs_a_change_beyond_what_wording_does_in_the_base_model(low, high, p, null, outcome):
    given = effect(low, high, p, null_high=null)
    assert rules.reactivation_outcome(given, number(0.6, 0.8), number(0.1, 0.3), "deactivated") == outcome


def test_the_p_among_random_sets_decides_nothing():
    row = effect(0.2, 0.6, p=0.5) | {"p_random": 0.005}
    assert rules.reactivation_outcome(row, number(0.6, 0.8), number(0.1, 0.3), "deactivated") == "undecided"
    row = effect(0.2, 0.6, p=0.005) | {"p_random": 0.9}
    assert rules.reactivation_outcome(row, number(0.6, 0.8), number(0.1, 0.3), "deactivated") == "reactivated"


def test_the_adjusted_p_is_the_one_that_counts():
    assert rules.changed(effect(0.2, 0.6, p=0.03)) and not rules.changed(effect(0.2, 0.6, p=0.03, p_change_adjusted=0.07))
    row = {"difference": -0.4, "low": -0.5, "high": -0.3, "attack": None, "n": 50, "p_mcnemar": 0.03, "p": 0.03}
    assert rules.comparison_outcome(row) == "fewer images"
    assert rules.comparison_outcome(row | {"p_adjusted": 0.07}) == "undecided"
    assert rules.p_value(row | {"p_adjusted": 0.07, "n_family": 9}) == ("McNemar p, Benjamini-Hochberg over 9 tests", 0.07)
    paired = {"p_mcnemar": 0.03, "p_adjusted": 0.07, "low": 0.1}
    assert rules.images_outcome(rate(0.16, 0.43), rate(0.01, 0.17), paired) == "undecided"


@pytest.mark.parametrize(
    "attacked, deactivation, outcome",
    [
        ((0.6, 0.8), "deactivated", "reactivated"),
        ((0.2, 0.32), "deactivated", "reactivated in part"),
        ((0.4, 0.6), "deactivated", "reactivated in part"),
        (None, "deactivated", "reactivated in part"),
        ((0.8, 0.95), "not deactivated", "reactivated in part"),
        ((0.8, 0.95), "undecided", "reactivated in part"),
    ],
)
def test_reactivated_as_a_whole_only_from_below_the_threshold_to_above_it(attacked, deactivation, outcome):
    given = attacked and number(*attacked)
    assert rules.reactivation_outcome(effect(0.1, 0.2, null_high=0.05), given, number(0.05, 0.2), deactivation) == outcome


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.0001, 1), st.floats(0, 0.5), st.floats(0, 0.4))
def test_a_smaller_effect_is_never_called_more_reactivated(low, width, p, less, null):
    order = [NOT_REACTIVATED, "undecided", "reactivated in part", "reactivated"]
    given = (effect(low - d, low + width - d, p, null_high=null) for d in (0, less))
    first, second = (rules.reactivation_outcome(row, number(0.6, 0.8), number(0, 0.1), "deactivated") for row in given)
    assert order.index(second) <= order.index(first)


@pytest.mark.parametrize(
    "activity, erasure, outcome",
    [
        ((0.1, 0.3), "below the base model", "reactivated"),
        ((0.1, 0.3), None, "reactivated"),
        ((0.1, 0.3), "undecided", "reactivated"),
        ((0.1, 0.3), AT_THE_CEILING, NOTHING),
        ((0.95, 1.05), "below the base model", NOTHING),
        ((0.9, 1.2), None, NOTHING),
        ((0.4, 1.1), None, "reactivated"),
        ((0.4, 0.9), None, "reactivated"),
    ],
)
def test_neurons_at_the_ceiling_without_attack_leave_nothing_to_reactivate(activity, erasure, outcome):
    assert rules.reactivation_outcome(effect(0.2, 0.6), number(0.6, 0.8), number(*activity), "deactivated", erasure) == outcome


def test_thresholds_are_parameters():
    row, up, low = effect(0.2, 0.6), number(0.6, 0.8), number(0.1, 0.2)
    assert rules.reactivation_outcome(row, up, low, "deactivated", thresholds=Thresholds(silenced=0.7)) == "reactivated in part"
    assert rules.reactivation_outcome(row, up, low, "deactivated", thresholds=Thresholds(alpha=0.001)) == "undecided"
    assert rules.deactivation_outcome(number(0.1, 0.4), number(0, 0), thresholds=Thresholds(silenced=0.05)) == "not deactivated"


def test_below_eight_units_a_half_no_rule_says_a_word():
    """8 units of the evaluation half, 16 of images, which are over both halves."""
    for n, few in ((7, True), (8, False)):
        row, where = {"n": n}, number(0.1, 0.3) | {"n": n}
        said = [
            rules.deactivation_outcome(where, number(0, 0)),
            rules.reactivation_outcome(effect(0.2, 0.6) | row, number(0.6, 0.8), where, "deactivated"),
            rules.sham_outcome(effect(0.2, 0.6) | row),
            rules.pruning_outcome(effect(0.2, 0.6) | row),
            rules.relocation_outcome(number(0.2, 0.4, iou=0, iou_chance=0.02) | row),
        ]
        assert [one == "too few units" for one in said] == [few] * 5
    for units, few in ((15, True), (16, False)):
        row = {"n": 90, "n_units": units}
        compared = {"difference": -0.4, "low": -0.5, "high": -0.3, "attack": None, "p": 0.001} | row
        said = [
            rules.erasure_outcome({"value": -0.5, "low": -0.6, "high": -0.4} | row),
            rules.images_outcome(rate(0.6, 0.8) | row, rate(0.0, 0.1) | row),
            rules.comparison_outcome(compared),
        ]
        assert [one == "too few units" for one in said] == [few] * 3


@pytest.mark.parametrize(
    ("given", "outcome"),
    [("more", "more than comparable ones"), ("no more", "no more than comparable ones"), ("cannot tell", "cannot tell"), (None, None)],
)
def test_is_it_these_neurons_has_three_answers(given, outcome):
    assert rules.these_neurons_outcome(effect(0.2, 0.6, comparable_outcome=given)) == outcome
    assert rules.these_neurons_outcome({}) is None


@pytest.mark.parametrize(
    ("low", "high", "own", "p", "outcome"),
    [
        (-0.05, 0.05, (0.8, 0.9), 0.5, "not those of another concept"),
        (-0.05, 0.05, (-0.9, -0.8), 0.5, "not those of another concept"),
        (0.02, 0.09, (0.8, 0.9), 0.001, "not those of another concept"),  # a change too small to mean something
        (0.02, 0.09, (0.03, 0.1), 0.001, CANNOT_TELL),  # as large as that of the concept's own neurons
        (0.05, 0.3, (0.8, 0.9), 0.001, "also those of another concept"),
        (-0.3, -0.05, (0.8, 0.9), 0.001, "also those of another concept"),  # more active instead of less: not left alone
        (0.05, 0.3, (0.8, 0.9), 0.2, CANNOT_TELL),
        (-0.05, 0.3, (0.8, 0.9), 0.001, CANNOT_TELL),
    ],
)
def test_whether_another_concepts_neurons_change_too_has_three_answers(low, high, own, p, outcome):
    row = other_row(low, high, own, p)
    assert rules.another_concept_outcome(row) == outcome
    assert rules.another_concept_outcome(row | {"p_change_adjusted": 1.0}) in (outcome, CANNOT_TELL)
    assert rules.another_concept_outcome(row | {"n": 7}) == TOO_FEW


@pytest.mark.parametrize(
    ("low", "high", "p", "outcome"),
    [
        (0.4, 0.8, 0.001, "more than the sham"),
        (0.4, 0.8, 0.3, "undecided"),
        (-0.1, 0.05, 0.6, "no more than the sham"),
        (-0.1, 0.3, 0.2, "undecided"),
    ],
)
def test_beyond_the_sham_needs_a_change(low, high, p, outcome):
    assert rules.sham_outcome(effect(low, high, p)) == outcome


@pytest.mark.parametrize(
    "value, low, high, outcome",
    [
        (-0.4, -0.6, -0.2, "below the base model"),
        (-0.05, -0.08, -0.01, "below the base model"),
        (0.0, -0.3, 0.3, AT_THE_CEILING),
        (0.02, -0.2, 0.2, AT_THE_CEILING),
        (-0.03, -0.09, 0.03, AT_THE_CEILING),
        (-0.03, -0.2, 0.1, "undecided"),
        (-0.3, -0.7, 0.0, "undecided"),
    ],
)
def test_below_the_base_model_is_said_of_whole_intervals_only(value, low, high, outcome):
    assert rules.erasure_outcome({"value": value, "low": low, "high": high}) == outcome
    assert rules.erasure_outcome(None) == "undecided"


def test_the_difference_of_rates_without_pairs_is_newcombes():
    """Newcombe 1998, table II, (a) 56/70 against 48/80: 0.2, 0.0524 to 0.3339."""
    from workbench.statistics import wilson

    def row(successes, n):
        found = wilson(successes, n)
        return {"rate": found.value, "low": found.low, "high": found.high}

    change = rules.change_from(row(48, 80), row(56, 70))
    assert change == pytest.approx({"value": 0.2, "low": 0.0524, "high": 0.3339}, abs=5e-5)
    paired = {"difference": 0.2, "low": 0.1, "high": 0.3}
    assert rules.change_from(row(48, 80), row(56, 70), paired) == {"value": 0.2, "low": 0.1, "high": 0.3}
    assert rules.change_from({"rate": None}, row(56, 70)) is None


@pytest.mark.parametrize(
    "asr, control, outcome",
    [
        ((0.6, 0.8), (0.0, 0.1), "concept returns"),
        ((0.2, 0.5), (0.1, 0.3), "undecided"),
        ((0.0, 0.1), (0.2, 0.4), "concept does not return by this attack"),
        ((0.1, 0.4), (0.2, 0.5), "undecided"),
    ],
)
def test_without_a_paired_test_the_concept_returns_only_when_the_intervals_part(asr, control, outcome):
    assert rules.images_outcome(rate(*asr), rate(*control)) == outcome
    assert rules.images_outcome(rate(*asr), rate(*control), erasure=AT_THE_CEILING) == NOTHING


@pytest.mark.parametrize(
    "p, low, outcome", [(0.004, 0.1, "concept returns"), (0.2, 0.1, "undecided"), (0.004, -0.3, "undecided"), (None, None, "undecided")]
)
def test_the_paired_test_decides_where_intervals_overlap(p, low, outcome):
    assert rules.images_outcome(rate(0.16, 0.43), rate(0.01, 0.17), {"p_mcnemar": p, "low": low}) == outcome


def test_where_units_have_several_images_the_test_that_swaps_units_decides():
    swapped = {"p_mcnemar": None, "p_permutation": 0.004, "low": 0.1}
    assert rules.images_outcome(rate(0.16, 0.43), rate(0.01, 0.17), swapped) == "concept returns"
    assert rules.images_outcome(rate(0.16, 0.43), rate(0.01, 0.17), swapped | {"p_permutation": 0.2}) == "undecided"
    row = {"difference": -0.3, "p_mcnemar": None, "p_permutation": 0.004, "low": -0.5, "high": -0.1, "attack": None}
    assert rules.comparison_outcome(row) == "fewer images" and rules.p_value(row) == ("p by swapping units", 0.004)


@pytest.mark.parametrize(
    "low, high, p, outcome",
    [
        (-0.5, -0.1, 0.001, "less active"),
        (0.1, 0.5, 0.001, "more active"),
        (-0.1, 0.1, 0.001, "undecided"),
        (-0.5, -0.1, 0.2, "undecided"),
        (-0.5, -0.1, None, "undecided"),
        (0.0001, 0.002, 0.001, "unchanged"),
        (-0.004, 0.009, 0.6, "unchanged"),
        (-0.5, -0.001, 0.01, "less active"),
    ],
)
def test_pruning_is_judged_by_the_side_of_its_interval_and_the_p_of_a_change(low, high, p, outcome):
    assert rules.pruning_outcome(effect(low, high, p)) == outcome
    assert rules.pruning_outcome(effect(low, high, p, provenance="static", against=None)) == outcome
    assert rules.pruning_outcome(effect(low, high, p, provenance="transferred", against="parent")) == "transferred attack"


@pytest.mark.parametrize(
    "low, high, p, outcome",
    [
        (-0.5, -0.1, 0.001, "fewer images"),
        (0.1, 0.5, 0.001, "more images"),
        (-0.5, -0.1, 0.2, "undecided"),
        (-0.5, -0.1, None, "undecided"),
        (-0.1, 0.1, 0.001, "undecided"),
    ],
)
def test_images_of_two_variants_differ_only_when_test_and_interval_say_so(low, high, p, outcome):
    row = {"difference": (low + high) / 2, "low": low, "high": high, "p_mcnemar": p, "attack": None}
    assert rules.comparison_outcome(row) == outcome


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("optimised", "optimised", "fewer images"),
        ("static", "static", "fewer images"),
        ("optimised", "transferred", "transferred attack"),
        ("transferred", "optimised", "transferred attack"),
        ("transferred", "transferred", "transferred attack"),
        (None, None, "undecided"),
    ],
)
def test_variants_are_compared_under_an_attack_that_was_fair_to_both(a, b, outcome):
    row = {"difference": -0.4, "low": -0.5, "high": -0.3, "p": 0.001, "n": 50, "attack": "pgd", "provenance_a": a, "provenance_b": b}
    assert rules.comparison_outcome(row) == outcome


@pytest.mark.parametrize(
    "low, high, overlap, outcome",
    [
        (0.2, 0.4, 0.01, "relocated"),
        (0.2, 0.4, 0.5, "undecided"),
        (-0.05, 0.05, 0.01, "not relocated"),
        (0.05, 0.3, 0.01, "undecided"),
    ],
)
def test_relocation_needs_activity_outside_and_other_neurons(low, high, overlap, outcome):
    assert rules.relocation_outcome(number(low, high, iou=overlap, iou_chance=0.02)) == outcome


def test_a_finding_outside_the_closed_sets_cannot_be_made():
    for kind, outcomes in OUTCOMES.items():
        for outcome in outcomes:
            assert Finding(kind, "esd", outcome, {}).outcome == outcome
    with pytest.raises(ValueError, match='"silenced" is no outcome of "deactivation"'):
        Finding("deactivation", "esd", "silenced", {})
    with pytest.raises(ValueError, match="no outcome"):
        Finding("something", "esd", "undecided", {})
