"""Sensitivity on planted truths, on nulls, and against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference as slow
from workbench.analysis import sensitivity
from workbench.analysis.sensitivity import Sensitivity, Thresholds
from workbench.errors import StatisticsError

TARGET, REFERENCE = ("base", "target"), ("base", "reference")
NAMES = ("target", "reference", "attack", "attack~control")


def planted(n_units=40, n_neurons=300, levels=(1, 0, 0, 1, 0), noise=0.2, seed=0, n_concept=30):
    """(values, layer, concept): concept neurons fire with the concept; `levels` are base tgt, ref; erased tgt, adv, ctl."""
    rng = np.random.default_rng(seed)
    concept = np.zeros(n_neurons, bool)
    concept[rng.choice(n_neurons, n_concept, replace=False)] = True
    floor, unit = rng.gamma(4, 0.3, n_neurons), rng.normal(0, noise, (n_units, n_neurons))
    lift = concept * rng.uniform(0.5, 1.5, n_neurons)

    def at(level):
        return np.float32(floor + level * lift + unit + rng.normal(0, noise, unit.shape))

    erased_target, adversarial, control = levels[2:]
    values = {
        TARGET: at(levels[0]),
        REFERENCE: at(levels[1]),
        ("base", "attack"): at(1),
        ("base", "attack~control"): at(1),
        ("esd", "target"): at(erased_target),
        ("esd", "reference"): at(0),
        ("esd", "attack"): at(adversarial),
        ("esd", "attack~control"): at(control),
    }
    layer = np.array(["down", "mid", "up"])[np.arange(n_neurons) % 3]
    return values, layer, concept


def kappa_chosen(values, rows, n):
    kappa = values[TARGET][rows].mean(axis=0) - values[REFERENCE][rows].mean(axis=0)
    chosen = np.zeros(len(kappa), bool)
    chosen[np.argsort(-kappa)[:n]] = True
    return chosen


@pytest.mark.parametrize("attack_level, reactivation", [(1, 1), (0, 0), (0.3, 0.3)])
def test_a_planted_truth_comes_out_with_neurons_chosen_on_the_other_half(attack_level, reactivation):
    values, layer, _ = planted(levels=(1, 0, 0, attack_level, 0))
    half_b = {key: array[20:] for key, array in values.items()}
    chosen = kappa_chosen(values, slice(0, 20), 30)
    measured = Sensitivity(half_b, layer, 300)
    assert measured.activity(TARGET, chosen).value == pytest.approx(1)
    assert measured.activity(REFERENCE, chosen).value == 0
    assert measured.activity(("esd", "target"), chosen).value == pytest.approx(0, abs=0.05)
    assert measured.contrast(TARGET, ("esd", "target"), chosen).value == pytest.approx(1, abs=0.05)
    found = measured.effect(("esd", "attack"), ("esd", "attack~control"), chosen, 99)
    assert found["value"] == pytest.approx(reactivation, abs=0.05)
    assert found["p_random"] == 0.01 if reactivation else found["p_random"] > 0.01
    assert measured.effect(("base", "attack"), ("base", "attack~control"), chosen, 99)["value"] == pytest.approx(0, abs=0.05)


def test_nothing_is_found_where_eraser_and_attack_do_nothing_though_neurons_were_chosen():
    deactivation, reactivation, covered = [], [], 0
    for seed in range(20):
        values, layer, _ = planted(levels=(1, 0, 1, 1, 1), noise=0.5, seed=seed, n_concept=10)
        measured = Sensitivity({k: v[20:] for k, v in values.items()}, layer, 200, seed)
        chosen = kappa_chosen(values, slice(0, 20), 30)
        lost = measured.contrast(TARGET, ("esd", "target"), chosen)
        deactivation.append(lost.value)
        covered += lost.low <= 0 <= lost.high
        reactivation.append(measured.contrast(("esd", "attack"), ("esd", "attack~control"), chosen).value)
    assert np.mean(deactivation) == pytest.approx(0, abs=0.03) and np.mean(reactivation) == pytest.approx(0, abs=0.03)
    assert covered >= 15


def test_choosing_by_rho_on_the_measured_units_makes_the_claim_true_by_construction():
    values, layer, _ = planted(levels=(1, 0, 1, 1, 1), noise=0.5, n_concept=10)
    rho = values[TARGET].mean(axis=0) - values["esd", "target"].mean(axis=0)
    by_rho = rho >= np.sort(rho)[-30]
    measured = Sensitivity(values, layer, 200)
    null = {s: measured.contrast(TARGET, ("esd", "target"), m) for s, m in {"rho": by_rho}.items()}
    honest = measured.contrast(TARGET, ("esd", "target"), kappa_chosen(values, slice(None), 30))
    assert null["rho"].low > 0 and null["rho"].value > 5 * abs(honest.value)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_fast_numbers_agree_with_loops(seed):
    values, layer, concept = planted(n_units=7, n_neurons=24, n_concept=6, seed=seed)
    measured = Sensitivity(values, layer, 20)
    pair = ("esd", "attack"), ("esd", "attack~control")
    assert measured.contrast(*pair, concept).value == pytest.approx(slow.effect(values, *pair, concept), abs=1e-5)
    for i, row in measured.per_neuron("esd", "attack", "attack~control").iterrows():
        kappa, se, d, r, delta = slow.neuron(values, "esd", "attack", "attack~control", i)
        assert row[["kappa", "kappa_se", "d", "r", "delta"]].tolist() == pytest.approx([kappa, se, d, r, delta], rel=1e-3, abs=1e-5)
        assert row["excluded"] == (abs(kappa) < 2 * se)
    row = measured.shares("esd", "attack", "attack~control", concept, Thresholds())
    expected = slow.shares(values, "esd", "attack", "attack~control", concept, 0.5, 0.25)
    names = (
        "n",
        "excluded",
        "share_deactivated",
        "share_reactivated",
        "median_d",
        "median_r",
        "median_delta",
    )
    for name, number in zip(names, expected, strict=True):
        assert row[name] == (None if number is None else pytest.approx(number, rel=1e-3, abs=1e-5))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_permuting_neurons_permutes_the_numbers_and_leaves_the_sums(seed):
    values, layer, concept = planted(n_units=8, n_neurons=30, n_concept=6, seed=seed)
    order = np.random.default_rng(seed).permutation(30)
    first = Sensitivity(values, layer, 50)
    second = Sensitivity({k: v[:, order] for k, v in values.items()}, layer[order], 50)
    a, b = (m.activity(("esd", "attack"), s) for m, s in ((first, concept), (second, concept[order])))
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-4)
    mine, theirs = (m.per_neuron("esd", "attack", "attack~control") for m in (first, second))
    assert theirs["d"].to_numpy() == pytest.approx(mine["d"].to_numpy()[order], rel=1e-4)


def test_activity_does_not_change_with_the_unit_of_activation():
    values, layer, concept = planted()
    louder = {key: array * 32 for key, array in values.items()}
    a, b = (Sensitivity(v, layer, 50).activity(("esd", "attack"), concept) for v in (values, louder))
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-4)


def test_resampling_keeps_the_base_means_and_the_condition_together():
    values, layer, concept = planted(noise=1.0)
    measured = Sensitivity(values, layer, 200)
    found = measured.activity(TARGET, concept)
    assert (found.low, found.high) == pytest.approx((1, 1))


def test_suppressed_neurons_have_their_own_scale_with_the_same_meaning():
    values, layer, concept = planted(levels=(0, 1, 1, 0, 1))
    measured = Sensitivity(values, layer, 100)
    assert measured.activity(TARGET, concept).value == pytest.approx(1)
    assert measured.contrast(("esd", "attack"), ("esd", "attack~control"), concept).value == pytest.approx(1, abs=0.05)


def test_a_set_without_contrast_defines_no_scale():
    values, layer, concept = planted()
    values[TARGET] = np.where(
        concept,
        values[REFERENCE] + np.random.default_rng(0).normal(0, 0.2, (40, 300)),
        values[TARGET],
    )
    with pytest.raises(StatisticsError, match="no scale"):
        Sensitivity(values, layer, 200).activity(("esd", "target"), concept)


def test_what_cannot_be_measured_is_refused():
    values, layer, concept = planted()
    with pytest.raises(StatisticsError, match="empty"):
        Sensitivity(values, layer, 50).activity(TARGET, concept & False)
    with pytest.raises(StatisticsError, match="shapes"):
        Sensitivity(values | {("esd", "target"): values[TARGET][:5]}, layer)
    with pytest.raises(StatisticsError, match="layer"):
        Sensitivity(values, layer[:5])
    with pytest.raises(StatisticsError, match="reference"):
        Sensitivity({TARGET: values[TARGET]}, layer)
    with pytest.raises(StatisticsError, match="NaN"):
        Sensitivity(values | {("esd", "target"): values[TARGET] * np.nan}, layer)


def test_the_complement_is_the_mean_over_matched_random_sets_and_agrees_with_loops():
    values, layer, concept = planted(n_units=8, n_neurons=60, n_concept=9)
    values["esd", "attack"] = values["esd", "attack"] + 0.5
    measured, pair = Sensitivity(values, layer, 50), (("esd", "attack"), ("esd", "attack~control"))
    found = measured.complement_contrast(*pair, concept)
    assert found.value == pytest.approx(slow.complement_contrast(values, *pair, concept, layer), rel=1e-4)
    assert found.value == pytest.approx(measured.random_contrast(*pair, concept, 3000).mean(), rel=0.02)


def test_random_sets_respect_what_is_excluded_even_when_asked_twice():
    values, layer, concept = planted(n_neurons=60, n_concept=6)
    measured, exclude = Sensitivity(values, layer, 50), np.arange(60) < 20
    measured.random_sets(concept, 50)
    assert not measured.random_sets(concept, 50, exclude)[:, :20].any()


def test_dead_neurons_are_excluded_and_do_not_spoil_the_medians():
    values, layer, concept = planted()
    dead = np.flatnonzero(concept)[:3]
    for array in values.values():
        array[:, dead] = 0
    measured = Sensitivity(values, layer, 50)
    row = measured.shares("esd", "attack", "attack~control", concept, Thresholds())
    assert row["excluded"] >= 3 and row["reason"] is None
    assert row["median_d"] == pytest.approx(1, abs=0.1) and row["median_r"] == pytest.approx(1, abs=0.1)
    assert measured.per_neuron("esd")["excluded"].iloc[dead].all()


def test_a_neuron_constant_in_the_base_model_has_no_delta():
    values, layer, concept = planted()
    still = np.flatnonzero(~concept)[0]
    values[REFERENCE][:, still] = 0.1
    measured = Sensitivity(values, layer, 50)
    assert np.isnan(measured.per_neuron("esd", "attack", "attack~control")["delta"].iloc[still])
    assert np.isfinite(measured.mean_delta("esd", "attack", "attack~control", ~concept).value)


def test_shares_say_why_they_are_null():
    values, layer, concept = planted(levels=(1, 0, 1, 1, 1))
    measured = Sensitivity(values, layer, 50)
    assert "no attack" in measured.shares("esd", None, None, concept, Thresholds())["reason"]
    row = measured.shares("esd", "attack", "attack~control", concept, Thresholds(deactivated=0.9))
    assert row["share_deactivated"] == 0 and row["share_reactivated"] is None and "deactivated" in row["reason"]


def test_activity_by_call_is_one_for_the_base_and_null_where_there_is_no_contrast():
    values, layer, concept = planted()
    rng = np.random.default_rng(0)

    def calls(condition):
        quiet = values[REFERENCE] + rng.normal(0, 0.2, values[REFERENCE].shape)
        return np.stack([values[condition], quiet], axis=1)

    measured = Sensitivity(values, layer, 200)
    reference, target, attack = (calls(c) for c in (REFERENCE, TARGET, ("esd", "attack")))
    base = sensitivity.activity_by_call(target, reference, target, concept)
    found = sensitivity.activity_by_call(attack, reference, target, concept)
    assert base[0].value == pytest.approx(1) and base[1] is None and found[1] is None
    assert found[0].value == pytest.approx(measured.activity(("esd", "attack"), concept).value, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_auroc_counts_pairs(seed):
    values, layer, concept = planted(n_units=12, n_neurons=30, n_concept=9, seed=seed)
    success = np.random.default_rng(seed).random(12) < 0.5
    success[:2] = True, False
    row = Sensitivity(values, layer, 50).waking_auroc(("esd", "attack"), success, concept)
    activity = values["esd", "attack"][:, concept].sum(axis=1, dtype=float)
    assert row["value"] == pytest.approx(slow.auroc(activity, success))
    assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def auroc_of_images(activity, images):
    """P(A_u > A_v, ties half) over all pairs of a successful image and a failed one of another unit, by loops."""
    wins = n = 0
    for u, mine in enumerate(images):
        for v, others in enumerate(images):
            for one in mine:
                for other in others:
                    if u != v and one and not other:
                        wins, n = wins + (activity[u] > activity[v]) + 0.5 * (activity[u] == activity[v]), n + 1
    return wins / n


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_auroc_of_units_with_several_images_counts_pairs_of_images_of_different_units(seed):
    values, layer, concept = planted(n_units=8, n_neurons=30, n_concept=9, seed=seed)
    images = np.random.default_rng(seed).random((8, 3)) < 0.5
    images[0], images[1] = True, False
    row = Sensitivity(values, layer, 50).waking_auroc(("esd", "attack"), images.mean(axis=1), concept)
    activity = values["esd", "attack"][:, concept].sum(axis=1, dtype=float)
    assert row["value"] == pytest.approx(auroc_of_images(activity, images)) and row["successes"] == images.any(axis=1).sum()
    assert (row["n"], row["reason"]) == (8, None) and 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_auroc_is_high_where_activity_makes_the_success_and_null_for_one_class():
    values, layer, concept = planted()
    success = np.arange(40) % 2 == 0
    values["esd", "attack"] = values["esd", "attack"] - np.where(success, 0, 0.8)[:, None] * concept
    measured = Sensitivity(values, layer, 200)
    assert measured.waking_auroc(("esd", "attack"), success, concept)["low"] > 0.9
    for outcome, word in ((True, "always"), (False, "never")):
        row = measured.waking_auroc(("esd", "attack"), np.full(40, outcome), concept)
        assert row["value"] is None and word in row["reason"]


def test_relocation_is_seen_where_other_neurons_take_over_and_not_where_none_do():
    values, layer, concept = planted(levels=(1, 0, 0, 0, 0))
    others = np.flatnonzero(~concept)[:60]
    moved = dict(values)
    moved["esd", "attack"] = values["esd", "attack"].copy()
    moved["esd", "attack"][:, others] += 1
    for setting, relocated in ((moved, True), (values, False)):
        a, b = ({k: v[rows] for k, v in setting.items()} for rows in (slice(0, 20), slice(20, 40)))
        anew = sensitivity.chosen_anew(a["esd", "attack"], a["esd", "attack~control"], a[REFERENCE], 30)
        row = Sensitivity(b, layer, 200).relocation("esd", "attack", "attack~control", concept, anew)
        assert anew.sum() == 30
        assert (row["low"] > 0.1) == relocated
        if relocated:
            assert row["iou"] < row["iou_chance"] and set(np.flatnonzero(anew)) <= set(others)


def test_a_set_chosen_anew_finds_the_woken_neurons_themselves():
    values, layer, concept = planted()
    anew = sensitivity.chosen_anew(values["esd", "attack"], values["esd", "attack~control"], values[REFERENCE], 30)
    row = Sensitivity(values, layer, 50).relocation("esd", "attack", "attack~control", concept, anew)
    assert row["iou"] > 0.9
    with pytest.raises(StatisticsError, match="asked"):
        sensitivity.chosen_anew(values[TARGET], values[TARGET], values[REFERENCE], 31, within=concept)
