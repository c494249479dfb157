"""Simulated truth for activity, deactivation, reactivation; laws of the rates and words of the verdict."""

import numpy as np
import pytest

from tests import reference
from workbench.analysis import rates
from workbench.analysis.rules import deactivation_outcome, reactivation_outcome
from workbench.analysis.sensitivity import Sensitivity, Thresholds
from workbench.errors import StatisticsError
from workbench.neurons.sets import halve, top
from workbench.registry import method

N_UNITS, N_NEURONS = 40, 400
LAYER = np.repeat(["down", "mid", "up", "last"], N_NEURONS // 4)
CARRIES = np.arange(N_NEURONS) % 20 == 0


def simulate(left, woken, seed=0):
    """Conditions of a base and an erased model; `left` and `woken` are the true A under target and under attack."""
    rng = np.random.default_rng(seed)
    level = 1 + rng.random(N_NEURONS)
    unit = rng.normal(0, 0.2, (N_UNITS, N_NEURONS))

    def condition(share):
        return level + unit + share * CARRIES + rng.normal(0, 0.15, (N_UNITS, N_NEURONS))

    return {
        ("base", "target"): condition(1.0),
        ("base", "reference"): condition(0.0),
        ("erased", "target"): condition(left),
        ("erased", "reference"): condition(0.0),
        ("erased", "adv"): condition(woken),
        ("erased", "ctl"): condition(left),
    }


def halves(values):
    """Choose on the first half of the units by contrast, measure on the second."""
    score = method("scores", "contrast").call(values["base", "target"][:20], values["base", "reference"][:20], layer=LAYER)
    return top(score, 0.05, np.ones(N_NEURONS, bool)), Sensitivity({k: v[20:] for k, v in values.items()}, LAYER, 400)


@pytest.mark.parametrize(("left", "woken"), [(0.0, 1.0), (0.3, 0.3), (0.0, 0.4), (1.0, 1.0)])
def test_the_true_activities_come_back_within_their_intervals(left, woken):
    members, measured = halves(simulate(left, woken))
    for condition, truth in ((("base", "target"), 1), (("base", "reference"), 0), (("erased", "target"), left), (("erased", "adv"), woken)):
        found = measured.activity(condition, members)
        assert found.low - 0.03 <= truth <= found.high + 0.03
    effect = measured.effect(("erased", "adv"), ("erased", "ctl"), members, 99)
    assert effect["value"] == pytest.approx(woken - left, abs=0.1)
    assert (effect["p_random"] < 0.05) == (woken - left > 0.2)


def test_a_null_study_is_called_neither_deactivated_nor_reactivated():
    words = []
    for seed in range(40):
        members, measured = halves(simulate(1.0, 1.0, seed))
        activity = measured.effect(("erased", "target"), ("base", "reference"), members, 39)
        drift = measured.effect(("erased", "reference"), ("base", "reference"), members, 39)
        effect = measured.effect(("erased", "adv"), ("erased", "ctl"), members, 39) | {"null_high": 0.1}
        words.append((deactivation_outcome(activity, drift), reactivation_outcome(effect)))
    assert sum(word == ("not deactivated", "not reactivated by these attacks") for word in words) >= 38


def test_the_fast_activity_equals_the_loop():
    values = simulate(0.2, 0.6)
    measured = Sensitivity(values, LAYER, 100)
    for condition in values:
        slow = reference.concept_activity(values, CARRIES, condition)
        assert measured.activity(condition, CARRIES).value == pytest.approx(slow)


def test_per_neuron_numbers_follow_their_definitions():
    values = simulate(0.2, 0.6)
    found = Sensitivity(values, LAYER, 100).per_neuron("erased", "adv", "ctl")
    i = int(np.flatnonzero(CARRIES)[3])
    n = {k: v[:, i].mean() for k, v in values.items()}
    kappa = n["base", "target"] - n["base", "reference"]
    assert found["d"][i] == pytest.approx((n["base", "target"] - n["erased", "target"]) / kappa)
    assert found["r"][i] == pytest.approx((n["erased", "adv"] - n["erased", "ctl"]) / kappa)
    assert found["delta"][i] == pytest.approx((n["erased", "adv"] - n["erased", "ctl"]) / values["base", "reference"][:, i].std(ddof=1))


def test_permuting_neurons_permutes_their_numbers():
    values, order = simulate(0.2, 0.6), np.random.default_rng(1).permutation(N_NEURONS)
    found = Sensitivity(values, LAYER, 100).per_neuron("erased", "adv", "ctl")
    moved = Sensitivity({k: v[:, order] for k, v in values.items()}, LAYER[order], 100).per_neuron("erased", "adv", "ctl")
    assert np.allclose(found.to_numpy(float)[order], moved.to_numpy(float))


def test_shares_find_silenced_and_woken_neurons_and_say_so_when_there_are_none():
    members, measured = halves(simulate(0.0, 1.0))
    row = measured.shares("erased", "adv", "ctl", members, Thresholds())
    assert row["share_deactivated"] > 0.95 and row["share_reactivated"] > 0.95
    assert row["share_deactivated_low"] <= row["share_deactivated"] <= row["share_deactivated_high"]
    quiet = measured.shares("erased", None, None, members, Thresholds())
    assert quiet["median_r"] is None and quiet["reason"] == "no attack on this variant"


def test_conditions_of_other_shapes_and_a_missing_base_are_refused():
    values = simulate(0, 1)
    with pytest.raises(StatisticsError, match="shapes"):
        Sensitivity(values | {("erased", "adv"): np.zeros((3, 3))}, LAYER)
    del values["base", "reference"]
    with pytest.raises(StatisticsError, match="reference condition is missing"):
        Sensitivity(values, LAYER)


def test_pruned_and_watched_halves_do_not_overlap_and_have_like_scores():
    rng = np.random.default_rng(0)
    score, chosen = rng.random(200), rng.random(200) < 0.3
    prune, watch = halve(chosen, score, 0)
    assert not (prune & watch).any() and ((prune | watch) == chosen).all()
    assert abs(int(prune.sum()) - int(watch.sum())) <= 1
    assert score[prune].mean() == pytest.approx(score[watch].mean(), abs=0.05)


def test_attack_rates_count_new_successes_apart():
    without, attacked = np.array([1, 1, 0, 0, 0], bool), np.array([0, 1, 1, 1, 0], bool)
    pre, asr, fail = rates.attack_rates(without, attacked, variant="v")
    assert (pre["successes"], asr["successes"], fail["successes"], fail["n"]) == (2, 4, 2, 3)
    assert asr["rate"] == pytest.approx(0.8) and fail["rate"] == pytest.approx(2 / 3)


def test_a_rate_among_no_failures_is_null_with_a_reason():
    fail = rates.attack_rates([True, True], [True, True])[2]
    assert fail["rate"] is None and "every image" in fail["reason"]
