"""Choosing by several scores, confirming on the other half, stability: planted truth, and loops that must agree."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests import reference as slow
from workbench.analysis import selection
from workbench.analysis.comparable import partners
from workbench.analysis.sensitivity import Thresholds
from workbench.errors import StatisticsError
from workbench.neurons.sets import top
from workbench.statistics import matched_random_sets

N_UNITS, N = 24, 200
LAYER = np.repeat(["down", "mid", "up", "last"], N // 4)
CARRIES = np.arange(N) % 20 == 0
FEW = settings(max_examples=20, deadline=None)


def contrast(target, reference):
    return target.mean(axis=0) - reference.mean(axis=0)


def half(effect=1.0, seed=0, n_units=N_UNITS):
    rng = np.random.default_rng(seed)
    unit = rng.normal(3, 1, (n_units, N))
    return unit + effect * CARRIES + rng.normal(0, 0.3, (n_units, N)), unit + rng.normal(0, 0.3, (n_units, N))


def slow_rank(score, i):
    lower = sum(other < score[i] for other in score)
    same = sum(other == score[i] for other in score)
    return (lower + same / 2) / len(score)


@FEW
@given(st.lists(st.lists(st.integers(0, 6), min_size=8, max_size=8), min_size=1, max_size=4))
def test_mean_rank_agrees_with_counting(rows):
    scores = {str(i): np.array(row, float) for i, row in enumerate(rows)}
    found = selection.mean_rank(scores)
    assert found == pytest.approx([np.mean([slow_rank(row, i) for row in rows]) for i in range(8)])


@FEW
@given(st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=3), st.integers(0, 1000))
def test_what_scores_full_of_ties_agree_on_does_not_hang_on_the_order_of_the_neurons(rows, seed):
    order = np.random.default_rng(seed).permutation(9)
    scores = {str(i): np.array(row, float) for i, row in enumerate(rows)}
    mixed = {name: score[order] for name, score in scores.items()}
    assert (selection.by_rank(mixed, 0.3) == selection.by_rank(scores, 0.3)[order]).all()


@FEW
@given(st.integers(0, 1000))
def test_choices_follow_a_permutation_of_the_neurons_and_ignore_monotone_scaling(seed):
    rng = np.random.default_rng(seed)
    scores = {"a": rng.normal(size=N), "b": rng.normal(size=N)}
    order = rng.permutation(N)
    mixed = {name: score[order] for name, score in scores.items()}
    stretched = {"a": np.exp(scores["a"]), "b": 5 * scores["b"] - 2}
    ranks = selection.mean_rank(scores)
    assert (selection.mean_rank(mixed) == ranks[order]).all() and (selection.mean_rank(stretched) == ranks).all()
    chosen = selection.by_rank(scores, 0.1)
    assert chosen.sum() == N // 10 and ranks[chosen].min() >= ranks[~chosen].max()


def test_several_noisy_scores_agree_on_the_carriers_better_than_one():
    rng = np.random.default_rng(1)
    scores = {str(i): 1.5 * CARRIES + rng.normal(0, 1, N) for i in range(8)}
    together = selection.by_rank(scores, CARRIES.mean())
    alone = [top(score, CARRIES.mean(), np.ones(N, bool)) for score in scores.values()]
    assert (together & CARRIES).sum() > max((one & CARRIES).sum() for one in alone)


def test_nan_and_neurons_outside_are_never_chosen():
    scores = {"a": np.arange(10.0), "b": np.arange(10.0)}
    scores["b"][9] = np.nan
    within = np.arange(10) != 8
    chosen = selection.by_rank(scores, 0.2, within)
    assert not chosen[[8, 9]].any() and chosen[7]


@pytest.mark.parametrize("test", selection.TESTS)
def test_carriers_are_confirmed_and_chance_finds_are_not(test):
    a, b = half(seed=3), half(seed=4)
    kappa = contrast(*a)
    chosen = top(kappa, 0.2, np.ones(N, bool))
    table, summary = selection.confirm(chosen, kappa, *b, LAYER, test=test)
    confirmed = np.zeros(N, bool)
    confirmed[table.loc[table["confirmed"], "position"]] = True
    # welch does not use the pairs, which carry most of the spread here
    assert (confirmed & ~CARRIES).sum() <= 2 and (confirmed & CARRIES).sum() >= (8 if test == "sign_flip" else 1)
    assert summary["m"] == summary["chosen"] == chosen.sum() and summary["confirmed"] == confirmed.sum()
    assert summary["low"] <= summary["same_sign"] <= summary["high"]


def test_a_chosen_set_of_noise_keeps_its_sign_no_more_often_than_random_sets():
    ps = []
    for seed in range(20):
        kappa = contrast(*half(0, seed))
        chosen = top(kappa, 0.05, np.ones(N, bool))
        summary = selection.confirm(chosen, kappa, *half(0, 100 + seed), LAYER, test="welch", n_resamples=100)[1]
        assert summary["random_low"] <= 0.5 <= summary["random_high"]
        ps.append(summary["p_random"])
    assert np.mean(np.array(ps) < 0.05) <= 0.2


def test_p_values_agree_with_their_definitions():
    target, reference = half(0.4, seed=5, n_units=8)
    chosen = np.arange(N) < 12
    kappa = np.where(np.arange(N) % 2, 1.0, -1.0)
    flipped = selection.confirm(chosen, kappa, target, reference, LAYER, test="sign_flip")[0]
    welch = selection.confirm(chosen, kappa, target, reference, LAYER, test="welch")[0]
    for i in range(12):
        difference = (target[:, i] - reference[:, i]) * kappa[i]
        flips = [np.mean(difference * signs) for signs in product([-1, 1], repeat=8)]
        exact = np.mean([flip >= difference.mean() - 1e-12 for flip in flips])
        assert flipped["p"][i] == pytest.approx(exact, abs=0.02)
        t, r = target[:, i] * kappa[i], reference[:, i] * kappa[i]
        vt, vr = t.var(ddof=1) / 8, r.var(ddof=1) / 8
        freedom = (vt + vr) ** 2 / (vt**2 / 7 + vr**2 / 7)
        assert welch["p"][i] == pytest.approx(stats.t.sf((t.mean() - r.mean()) / np.sqrt(vt + vr), freedom))
        assert flipped["kappa"][i] == pytest.approx((target[:, i] - reference[:, i]).mean())
        assert flipped["low"][i] <= flipped["kappa"][i] <= flipped["high"][i]
    assert flipped["p_adjusted"].tolist() == pytest.approx(slow.false_discovery(flipped["p"].tolist()))


def test_more_tests_stated_make_it_harder():
    kappa, b = contrast(*half(seed=6)), half(0.5, seed=7)
    chosen = top(kappa, 0.1, np.ones(N, bool))
    few, many = (selection.confirm(chosen, kappa, *b, LAYER, m=m)[0] for m in (None, 50 * N))
    assert (many["p_adjusted"] >= few["p_adjusted"]).all() and many["confirmed"].sum() < few["confirmed"].sum()
    twice = selection.confirm(chosen, kappa, *b, LAYER, m=40)[0]
    assert twice["p_adjusted"].tolist() == pytest.approx(slow.false_discovery([*few["p"], *[1.0] * 20])[:20])


def test_a_neuron_that_never_moves_is_not_confirmed():
    target, reference = half(seed=8)
    target[:, 0] = reference[:, 0] = 0
    for test in selection.TESTS:
        table = selection.confirm(np.arange(N) < 2, np.ones(N), target, reference, LAYER, test=test)[0]
        assert table["p"][0] == 1 and not table["confirmed"][0]


def test_what_cannot_be_confirmed_is_refused():
    target, reference = half()
    ones, none = np.ones(N), np.zeros(N, bool)
    some = np.arange(N) < 3
    for call, sentence in (
        (lambda: selection.confirm(none, ones, target, reference, LAYER), "empty"),
        (lambda: selection.confirm(some, ones, target[:5], reference, LAYER), "do not pair"),
        (lambda: selection.confirm(some, ones, target, reference, LAYER, test="wlech"), "Did you mean .welch"),
        (lambda: selection.confirm(some, ones, target, reference, LAYER, m=2), "2 tests were stated"),
        (lambda: selection.mean_rank({}), "no scores"),
        (lambda: selection.mean_rank({"a": ones, "b": ones[:3]}), "different lengths"),
        (lambda: selection.mean_rank({"a": ones * np.nan}), "nothing to rank"),
        (lambda: selection.stability({"a": some}, LAYER), "nothing to agree with"),
        (lambda: selection.stability({"a": some, "b": none}, LAYER), '"b" is empty'),
        (lambda: selection.stability({"a": some, "b": some}, LAYER, ~some), "outside"),
        (lambda: selection.over_groups(lambda rows: some, ["a"] * (N_UNITS - 1) + ["b"]), '"b" has 1 unit'),
    ):
        with pytest.raises(StatisticsError, match=sentence):
            call()


def test_overlap_of_sets_stands_beside_that_of_drawn_random_sets():
    rng = np.random.default_rng(9)
    sets = {"seed 1": CARRIES | (rng.random(N) < 0.05), "seed 2": CARRIES | (rng.random(N) < 0.05), "random": rng.random(N) < 0.1}
    table = selection.stability(sets, LAYER).set_index(["first", "second"])
    assert len(table) == 3
    row = table.loc["seed 1", "seed 2"]
    assert row["iou"] > row["chance_high"] and row["p_random"] == 1 / 1000
    assert table.loc["seed 1", "random"]["p_random"] > 0.01
    drawn = []
    for _ in range(2000):
        pair = []
        for label in ("seed 1", "seed 2"):
            one = set()
            for name in np.unique(LAYER):
                own = np.flatnonzero(name == LAYER)
                one |= set(rng.choice(own, int(sets[label][own].sum()), replace=False).tolist())
            pair.append(one)
        drawn.append(len(pair[0] & pair[1]) / len(pair[0] | pair[1]))
    assert row["chance"] == pytest.approx(np.mean(drawn), abs=0.01)
    assert row["chance_high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.04)


def top_contrast(target, reference):
    """The rule: rows -> the top share of the contrast on these rows."""
    return lambda rows: top(contrast(target[rows], reference[rows]), 0.05, np.ones(N, bool))


def test_the_choice_is_stable_over_halves_and_triggers_where_there_are_carriers_and_not_in_noise():
    units = np.arange(N_UNITS)
    found = {effect: selection.over_halves(top_contrast(*half(effect, 10)), units, LAYER, n_splits=30)[0] for effect in (1.0, 0.0)}
    assert found[1.0]["low"] > found[1.0]["chance_high"] and found[1.0]["n_chosen"] == 10 and found[1.0]["n"] == N_UNITS
    assert found[0.0]["value"] < 0.25 and found[0.0]["low"] <= found[0.0]["value"] <= found[0.0]["high"]
    by_trigger = selection.over_groups(top_contrast(*half(1.0, 11)), units % 2)
    assert selection.stability(by_trigger, LAYER)["iou"][0] > 0.8


def test_units_stay_whole_in_halves():
    target, reference = half(1.0, 12, n_units=6)
    copied = [np.repeat(side, 3, axis=0) for side in (target, reference)]
    units = np.repeat(list("abcdef"), 3)
    alone, often = selection.over_halves(top_contrast(target, reference), list("abcdef"), LAYER, n_splits=20)
    together, as_often = selection.over_halves(top_contrast(*copied), units, LAYER, n_splits=20)
    assert alone == together and (often == as_often).all() and often.sum() == pytest.approx(10)


def population(seed, n_units=20, n=400, special=0.0, shared=0.4):
    """(kappa of the selection half, target, reference of the evaluation half, chosen, layer).

    Most neurons answer to the concept a little; the chosen ones, the largest of the selection half in each layer, answer by `special` more.
    """
    rng = np.random.default_rng(seed)
    lift, layer = np.abs(rng.normal(0, 0.25, n)) * rng.choice([-1, 1], n), np.array(["a", "b"])[np.arange(n) % 2]
    lift[:40] += special

    def differences():
        return lift + rng.normal(size=(n_units, 3)) @ (shared * rng.normal(size=(3, n))) + rng.normal(0, 0.8, (n_units, n))

    kappa, reference = differences().mean(axis=0), rng.normal(2, 0.1, (n_units, n))
    return kappa, reference + differences(), reference, top(kappa, 0.1, np.ones(n, bool)), layer


def test_what_random_and_comparable_sets_reach_stands_beside_what_was_confirmed():
    kappa, target, reference, chosen, layer = population(0, special=0.8)
    table, found = selection.confirm(chosen, kappa, target, reference, layer, n_random=99)
    assert found["confirmed_share"] == found["confirmed"] / found["chosen"]
    sets = {"random": matched_random_sets(chosen, layer, 99, 1, None, kappa), "comparable": partners(chosen, kappa, layer).sets(99, 2)}
    target, reference = target * np.sign(kappa), reference * np.sign(kappa)
    order = np.argsort((target - reference).sum(axis=1))
    p = selection.TESTS["sign_flip"](target[order], reference[order], 0)
    for name, others in sets.items():
        shares = [np.mean(np.array(slow.false_discovery(p[one].tolist())) <= 0.05) for one in others]
        assert found[f"{name}_share"] == pytest.approx(np.mean(shares))
        assert found[f"{name}_over"] == pytest.approx(found["confirmed_share"] - np.mean(shares))
        assert found[f"{name}_over_low"] < found[f"{name}_over"] < found[f"{name}_over_high"]
    assert found["comparable_over_low"] > 0 and found["random_over_low"] > 0


def test_a_set_that_is_confirmed_no_more_than_others_is_not_valid():
    rejected = 0
    for seed in range(20):
        kappa, target, reference, _, layer = population(seed)
        chosen = np.zeros(len(kappa), bool)
        chosen[np.random.default_rng(seed).choice(len(kappa), 40, replace=False)] = True
        found = selection.confirm(chosen, kappa, target, reference, layer, n_random=49, n_resamples=100)[1]
        rejected += found["comparable_over_low"] <= 0
    assert rejected >= 18


def test_the_difference_of_shares_confirmed_is_covered():
    kappa, target, reference, chosen, layer = population(1, n=200, special=0.3)
    lift, rng, over = (target - reference).mean(axis=0), np.random.default_rng(0), []
    for _ in range(100):
        again = reference + lift + rng.normal(0, 0.8, target.shape)
        over.append(selection.confirm(chosen, kappa, again, reference, layer, test="welch", n_random=19, n_resamples=100)[1])
    for name in ("random", "comparable"):
        truth = np.mean([one[f"{name}_over"] for one in over])
        assert np.mean([one[f"{name}_over_low"] <= truth <= one[f"{name}_over_high"] for one in over]) >= 0.93


SURE = {"scale_over_se": 9.0, "scale_bounded": True}
HELD = {"confirmed_share": 0.8, "comparable_reason": None, "random_reason": None}
HELD |= {f"{name}_{key}": value for name in ("random", "comparable") for key, value in (("share", 0.5), ("over", 0.3))}
HELD |= {f"{name}_over_{end}": value for name in ("random", "comparable") for end, value in (("low", 0.1), ("high", 0.5))}


@pytest.mark.parametrize(
    "scale, confirmed, said",
    [
        (SURE, HELD, None),
        ({"scale_over_se": 4.9, "scale_bounded": True}, HELD, "4.9 standard errors from 0"),
        ({"scale_over_se": 6.0, "scale_bounded": False}, HELD, "6.0 standard errors"),
        ({"scale_over_se": None, "scale_bounded": True}, HELD, None),  # the same contrast on every unit
        (SURE, HELD | {"random_over_low": 0.0}, "80 % of its neurons are confirmed on the evaluation half, and 50 % of random sets"),
        (SURE, HELD | {"comparable_over_low": -0.1}, "50 % of comparable sets .difference 0.30, -0.10 to 0.50"),
        (SURE, HELD | {"comparable_over": None, "comparable_reason": "too few"}, "no comparable sets to compare it with .too few"),
        (SURE, None, "could not be tested on the evaluation half .too few neurons.[.]"),
    ],
)
def test_a_valid_set_has_a_sure_scale_and_is_confirmed_beyond_other_sets(scale, confirmed, said):
    flag, reason = selection.valid(scale, confirmed, Thresholds(), "too few neurons.")
    assert flag == (said is None)
    if said:
        assert re.search(said, reason) and reason.startswith("No valid set: ") and reason.endswith("Use more units or another score")


def test_what_is_confirmed_does_not_depend_on_the_order_of_units_or_neurons():
    kappa, target, reference, chosen, layer = population(4, special=0.5)
    settings = {"n_random": 49, "n_resamples": 100}
    _, first = selection.confirm(chosen, kappa, target, reference, layer, **settings)
    order = np.random.default_rng(0).permutation(len(kappa))
    sides = (side[:, order] for side in (target, reference))
    _, second = selection.confirm(chosen[order], kappa[order], *sides, layer[order], **settings)
    assert {key: pytest.approx(value) if isinstance(value, float) else value for key, value in first.items()} == second
    units = np.random.default_rng(1).permutation(len(target))
    _, third = selection.confirm(chosen, kappa, target[units], reference[units], layer, **settings)
    assert {key: pytest.approx(value) if isinstance(value, float) else value for key, value in first.items()} == third
