"""Comparable sets: who is like a neuron, and whether an effect happens on a set more than on sets like it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference as slow
from tests.analysis.test_repeats import by_hand
from workbench.analysis import comparable, sensitivity
from workbench.analysis.sensitivity import BESIDE, Sensitivity, Thresholds
from workbench.errors import StatisticsError
from workbench.statistics import t_quantile

LAYER = np.array(["down", "mid", "up"])[np.arange(300) % 3]
MARGIN = Thresholds().margin


def drawn(seed=0, n=300, n_chosen=24):
    """(chosen, kappa): the neurons with the largest kappa of a skewed population of both signs."""
    rng = np.random.default_rng(seed)
    kappa = rng.gamma(2, 0.3, n) * rng.choice([-1, 1], n)
    return kappa >= np.sort(kappa)[-n_chosen], kappa


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 2))
def test_partners_are_those_of_the_definition(seed, rounds):
    chosen, kappa = drawn(seed)
    exclude = np.random.default_rng(seed).random(300) < 0.1
    found = comparable.partners(chosen, kappa, LAYER, exclude & ~chosen, rounds)
    assert found.nearness == pytest.approx(np.abs(kappa[found.positions]).mean() / kappa[chosen].mean())
    expected = slow.partners(chosen, kappa, LAYER, exclude & ~chosen, rounds)
    assert dict(zip(found.members.tolist(), found.positions.tolist(), strict=True)) == expected


def test_a_comparable_set_lies_outside_with_the_same_layers_signs_and_nearly_the_same_contrast():
    chosen, kappa = drawn()
    chosen |= kappa <= np.sort(kappa)[8]  # some that fall with the concept
    exclude = np.arange(300) < 30
    like = comparable.partners(chosen, kappa, LAYER, exclude & ~chosen)
    sets = like.sets(199, 0)
    assert not (sets & (chosen | exclude & ~chosen)).any() and len(np.unique(sets, axis=0)) == 199
    for name in ("down", "mid", "up"):
        for sign in (1, -1):
            side = (name == LAYER) & (np.sign(kappa) == sign)
            assert (sets[:, side].sum(axis=1) == (chosen & side).sum()).all()
    # their contrast is larger than that of the other neurons outside, as that of the set is
    assert kappa[sets.any(axis=0) & (kappa > 0)].mean() > 1.3 * kappa[~chosen & (kappa > 0)].mean()
    assert like.weights.sum() == pytest.approx(chosen.sum())
    assert sets.mean(axis=0) == pytest.approx(like.weights, abs=0.15)


def test_sets_do_not_depend_on_how_neurons_are_numbered():
    chosen, kappa = drawn(3)
    order = np.random.default_rng(1).permutation(300)
    first = comparable.partners(chosen, kappa, LAYER)
    second = comparable.partners(chosen[order], kappa[order], LAYER[order])
    for make in ("sets", "exchanged"):
        assert (getattr(second, make)(50, 7) == getattr(first, make)(50, 7)[:, order]).all()


def test_the_set_itself_is_one_of_the_exchanged_draws():
    chosen, kappa = drawn(n=300, n_chosen=3)
    like = comparable.partners(chosen, kappa, np.array(["a"] * 300), rounds=2)
    draws = like.exchanged(4000, 0)
    assert (draws.sum(axis=1) == 3).all()
    assert (draws == chosen).all(axis=1).mean() == pytest.approx(1 / 3**3, abs=0.01)


def test_what_has_no_comparable_sets_says_why():
    chosen, kappa = drawn()
    crowded = np.where(LAYER == "mid", np.where(chosen, kappa, -np.abs(kappa)), kappa)
    for arguments, sentence in (
        ((chosen & False, kappa, LAYER), "empty"),
        ((chosen, np.where(chosen, 0, kappa), LAYER), "no contrast"),
        ((chosen, crowded, LAYER), 'Layer "mid" has 0 neurons outside the set .* comparable sets need'),
    ):
        with pytest.raises(StatisticsError, match=sentence):
            comparable.partners(*arguments)


def test_sets_of_two_concepts_have_none_of_the_neurons_of_both():
    here, other = np.arange(10) < 4, np.array([9, 8, 0, 0, 7, 6, 0, 0, 0, 0.0])
    choose = lambda scores: scores >= 6  # noqa: E731
    own, found = comparable.of_another_concept(choose, other, here)
    assert np.flatnonzero(own).tolist() == [2, 3] and np.flatnonzero(found).tolist() == [4, 5]
    layer = np.array(["a"] * 5 + ["b"] * 5)
    assert np.flatnonzero(comparable.of_another_concept(choose, other, here, layer)[1]).tolist() == [4]
    for same in (here, np.arange(10) < 6, np.arange(10) < 2):  # the same neurons, all of this concept's, a part of them
        with pytest.raises(StatisticsError, match="same neurons"):
            comparable.of_another_concept(choose, np.where(same, 9.0, 0), here)


@pytest.mark.parametrize(
    "value, low, high, p, said",
    [
        (0.8, 0.2, 0.4, 0.01, "more"),
        (0.8, 0.2, 0.4, 0.2, "cannot tell"),  # surely more over units, but so are many sets of other neurons
        (0.8, -0.1, 0.4, 0.01, "cannot tell"),
        (0.8, -0.2, 0.05, 0.5, "no more"),
        (0.8, 0.02, 0.05, 0.5, "no more"),
        (0.8, -0.4, -0.2, 0.01, "no more"),
        (-0.8, -0.4, -0.2, 0.01, "more"),  # what falls falls more
        (-0.8, -0.05, 0.2, 0.5, "no more"),
    ],
)
def test_the_outcome_takes_units_and_neurons(value, low, high, p, said):
    assert comparable.outcome(value, low, high, p, MARGIN) == said


def recorded(seed, special, n_units=40, common=0.5, noise=0.3):
    """({condition: (unit, neuron)}, chosen, kappa of another draw): all neurons answer to the concept; erasing takes `common` of that from
    every neuron, and `special` more from those of the set."""
    rng = np.random.default_rng(seed)
    lift = rng.gamma(4, 0.25, 300)
    chosen = lift >= np.sort(lift)[-24]

    def at(level, more=0.0):
        return 3 + (level - more * chosen) * lift + rng.normal(0, noise, (n_units, 300))

    values = {("base", "target"): at(1), ("base", "reference"): at(0), ("e", "target"): at(1 - common, special)}
    kappa = (at(1) - at(0)).mean(axis=0)
    return values, chosen, kappa


def beside(values, chosen, kappa, n_sets=199):
    pair = ("base", "target"), ("e", "target")
    return Sensitivity(values, LAYER, 20, kappa=kappa).beside_comparable(*pair, chosen, n_sets)


def test_an_effect_on_a_whole_layer_is_no_more_on_the_set_than_on_comparable_ones_and_an_effect_on_the_set_is_more():
    everywhere, here = beside(*recorded(0, 0.0)), beside(*recorded(0, 0.4))
    assert everywhere["comparable_outcome"] == "no more" and here["comparable_outcome"] == "more"
    assert everywhere["comparable"] == pytest.approx(0.5, abs=0.1) == here["comparable"]
    assert here["comparable_difference"] == pytest.approx(0.4, abs=0.1) and here["p_comparable"] == 1 / 200
    assert here["comparable_low"] <= here["comparable"] <= here["comparable_high"]
    assert here["comparable_difference_low"] < here["comparable_difference"] < here["comparable_difference_high"]


def test_random_sets_of_mixed_sign_would_have_called_the_same_effect_special():
    values, chosen, kappa = recorded(1, 0.0)
    half = np.random.default_rng(0).random(300) < 0.5
    for array in values.values():  # half of the others fall with the concept instead
        array[:, half & ~chosen] = 6 - array[:, half & ~chosen]
    kappa = np.where(half & ~chosen, -kappa, kappa)
    measured = Sensitivity(values, LAYER, 20, kappa=kappa)
    pair = ("base", "target"), ("e", "target")
    assert measured.effect(*pair, chosen, 199)["p_random"] < 0.05
    assert measured.beside_comparable(*pair, chosen, 199)["comparable_outcome"] == "no more"


def test_a_set_drawn_among_its_like_is_told_from_them_no_more_often_than_alpha():
    more, p = 0, []
    for seed in range(150):
        values, _, _ = recorded(seed, 0.0, n_units=12, noise=1.0)
        rng = np.random.default_rng([9, seed])
        effect = rng.normal(0, 0.3, 300)  # erasing does something else to every neuron
        values["e", "target"] += effect
        chosen = np.zeros(300, bool)
        chosen[rng.choice(300, 24, replace=False)] = True
        found = beside(values, chosen, np.linspace(1, 1.01, 300), 99)
        p.append(found["p_comparable"])
        more += found["comparable_outcome"] == "more"
    assert np.mean(np.array(p) <= 0.05) <= 0.1 and more / 150 <= 0.05


def test_the_difference_from_comparable_sets_is_covered():
    held, truth = 0, 0.2
    for seed in range(400):
        values, chosen, kappa = recorded(seed, truth, n_units=8, noise=1.0)
        found = beside(values, chosen, kappa, 19)
        held += found["comparable_difference_low"] <= truth <= found["comparable_difference_high"]
    assert 0.93 <= held / 400 <= 0.98


def test_without_comparable_sets_the_columns_are_null_with_a_reason():
    values, chosen, kappa = recorded(0, 0.0)
    unknown = Sensitivity(values, LAYER, 20).beside_comparable(("base", "target"), ("e", "target"), chosen, 99)
    assert "half of the units that chose the set was not given" in unknown["comparable_reason"]
    outside = ~chosen
    values["base", "target"][:, outside] = values["base", "reference"][:, outside] + np.random.default_rng(1).normal(0, 0.1, (40, 276))
    none = beside(values, chosen, kappa)
    assert "no scale" in none["comparable_reason"]
    assert all(none[column] is unknown[column] is None for column in BESIDE)


def test_three_questions_have_three_answers():
    values, chosen, kappa = recorded(2, 0.0)
    measured, p = Sensitivity(values, LAYER, 100, kappa=kappa), []
    pair = ("base", "target"), ("e", "target")
    d = (values[pair[0]] - values[pair[1]])[:12, chosen].sum(axis=1)
    twelve = Sensitivity({key: array[:12] for key, array in values.items()}, LAYER, 100, kappa=kappa)
    assert twelve.p_change(*pair, chosen) == pytest.approx(slow.sign_flip_p(d))
    assert measured.effect(*pair, chosen, 99)["p_change"] == 1 / 5000  # none of 9,999 flips, both tails
    for seed in range(20):  # a second draw of the same condition is no change, however few units and whatever the set
        again = {("e", "target"): values["base", "target"] + np.random.default_rng([5, seed]).normal(0, 0.3, (40, 300))}
        p.append(Sensitivity(values | again, LAYER, 100).p_change(*pair, chosen))
    assert np.mean(np.array(p) < 0.05) <= 0.15


def test_the_wording_null_is_the_span_of_the_changes_and_0_and_says_what_they_are():
    values, chosen, kappa = recorded(3, 0.0, noise=0.01)
    base = values["base", "target"]
    for name, level in (("words", 0.3), ("far", -0.9)):
        values["base", name] = base + level * (base - values["base", "reference"])
    measured = Sensitivity(values, LAYER, 100)
    changes = [
        ("random words", ("base", "words"), ("base", "target")),
        ("other prompts", ("base", "far"), ("base", "reference")),
    ]
    found = measured.wording_null(changes, chosen)
    assert (found["null_low"], found["null_high"], found["null_n"]) == (0.0, pytest.approx(0.3, abs=0.02), 2)
    assert found["null_from"] == "base model: random words +0.30, other prompts +0.10"
    more = measured.wording_null([*changes, ("an empty attack", ("base", "target"), ("base", "target"))], chosen)
    assert (more["null_low"], more["null_high"]) == (found["null_low"], found["null_high"])
    with pytest.raises(StatisticsError, match="random_tokens"):
        measured.wording_null([], chosen)


@pytest.mark.parametrize(
    "low, high, word", [(-0.05, 0.3, "no drift"), (-0.3, 0.3, "cannot tell"), (-0.4, -0.2, "drifted"), (-0.2, -0.05, "cannot tell")]
)
def test_a_wide_interval_is_no_evidence_that_nothing_drifted(low, high, word):
    assert sensitivity.drift_word({"low": low, "high": high}) == word
    assert sensitivity.drift_word({"low": None, "high": None}) == sensitivity.drift_word(None) == "cannot tell"


def test_the_scale_of_a_set_says_how_surely_it_tells_the_concept():
    values, chosen, _ = recorded(4, 0.0, n_units=6)
    row = Sensitivity(values, LAYER, 50).scale(chosen)
    kappa = (values["base", "target"] - values["base", "reference"])[:, chosen].sum(axis=1)
    assert row["scale"] == pytest.approx(kappa.mean()) and row["scale_se"] == pytest.approx(kappa.std(ddof=1) / 6**0.5)
    assert row["scale_over_se"] == pytest.approx(row["scale"] / row["scale_se"]) and row["scale_bounded"] is True
    assert (row["n"], row["n_neurons"]) == (6, 24)
    rng = np.random.default_rng(0)
    values["base", "target"] = values["base", "reference"] + rng.normal(0, 1, (6, 300))
    assert Sensitivity(values, LAYER, 50).scale(chosen)["scale_bounded"] is False


@pytest.mark.parametrize("of", ["units", "neurons"])
def test_the_order_of_units_and_neurons_changes_nothing(of):
    values, chosen, kappa = recorded(6, 0.3)
    values["e", "control"] = values["base", "reference"] + 0.3
    order = np.random.default_rng(0).permutation(40 if of == "units" else 300)
    turned = (lambda array: array[order]) if of == "units" else (lambda array: array[:, order])
    places = slice(None) if of == "units" else order
    first = Sensitivity(values, LAYER, 100, kappa=kappa)
    second = Sensitivity({key: turned(array) for key, array in values.items()}, LAYER[places], 100, kappa=kappa[places])
    for pair in ((("base", "target"), ("e", "target")), (("e", "control"), ("base", "reference"))):
        a, b = (
            one.effect(*pair, members, 99) | one.beside_comparable(*pair, members, 99) | one.scale(members)
            for one, members in ((first, chosen), (second, chosen[places]))
        )
        assert {key: value for key, value in b.items() if isinstance(value, float)} == pytest.approx(
            {key: value for key, value in a.items() if isinstance(value, float)}, rel=1e-6
        )
        assert b["comparable_outcome"] == a["comparable_outcome"]
    for one in (first, second):
        one.values["e", "attack"] = one.values["e", "target"]
    a, b = (one.shares("e", "attack", "control", members, Thresholds()) for one, members in ((first, chosen), (second, chosen[places])))
    assert b == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in a.items()}


def test_runs_of_one_attack_stand_on_one_scale_and_widen_the_interval_by_how_they_differ():
    values, chosen, kappa = recorded(7, 0.0)
    rng, found = np.random.default_rng(1), {}
    for name, levels in {"alike": (0.3, 0.3, 0.3), "unlike": (0.1, 0.3, 0.5)}.items():
        for run, level in enumerate(levels):
            lift = values["base", "target"] - values["base", "reference"]
            values["e", f"{name}{run}"] = values["e", "target"] + level * lift + rng.normal(0, 0.1, lift.shape)
        pairs = [(("e", f"{name}{run}"), ("e", "target")) for run in range(3)]
        found[name] = Sensitivity(values, LAYER, 20).contrast_over_runs(pairs, chosen)
    for one in found.values():
        assert one.value == pytest.approx(0.3, abs=0.02) and one.low < 0.3 < one.high
    assert found["unlike"].high - found["unlike"].low > 5 * (found["alike"].high - found["alike"].low)
    alone = Sensitivity(values, LAYER, 20)
    single, plain = alone.contrast_over_runs(pairs[:1], chosen), alone.contrast(*pairs[0], chosen)
    assert (single.value, single.low, single.high) == pytest.approx((plain.value, plain.low, plain.high), abs=0.005)


def of_runs(levels, special=0.0, seed=9):
    """(Sensitivity, pairs, chosen) of an eraser trained several times; the shares of the answer it keeps, `special` less in the set."""
    values, chosen, kappa = recorded(seed, 0.0)
    rng, lift = np.random.default_rng(seed), (values["base", "target"] - values["base", "reference"]).mean(axis=0)
    for run, level in enumerate(levels):
        values[f"e{run}", "target"] = values["base", "reference"] + (level - special * chosen) * lift + rng.normal(0, 0.3, (40, 300))
    pairs = [(("base", "target"), (f"e{run}", "target")) for run in range(len(levels))]
    return Sensitivity(values, LAYER, 20, kappa=kappa), pairs, chosen


def test_an_effect_over_runs_beside_comparable_sets_is_that_of_a_slow_reference():
    measured, pairs, chosen = of_runs((0.2, 0.5, 0.6), special=0.2)
    found, weights = measured.effect_over_runs(pairs, chosen, 99), measured.partners(chosen).weights
    base = {name: np.asarray(measured.values["base", name], float) for name in ("target", "reference")}
    runs = [np.asarray(measured.values[minus], float) for _, minus in pairs]
    scale, others = (
        np.array([sum(w * x for w, x in zip(part, row, strict=True)) for row in base["target"] - base["reference"]])
        for part in (chosen, weights)
    )
    own = [(base["target"] - run) @ chosen.astype(float) for run in runs]
    other = [(base["target"] - run) @ weights for run in runs]
    a, c = np.mean(own) / scale.mean(), np.mean(other) / others.mean()
    d = [(x - a * scale) / scale.mean() - (y - c * others) / others.mean() for x, y in zip(own, other, strict=True)]
    variance, freedom = by_hand([list(row) for row in d])
    reach = t_quantile(freedom) * variance**0.5
    assert (found["value"], found["comparable"]) == pytest.approx((a, c))
    ends = (found[f"comparable_difference{end}"] for end in ("", "_low", "_high"))
    assert tuple(ends) == pytest.approx((a - c, a - c - reach, a - c + reach))
    assert found["comparable_outcome"] == "more" and found["n_comparable"] == 99
    assert not any("mean of runs" in condition for condition in measured.values)


def test_runs_that_were_repeated_themselves_count_by_their_mean():
    measured, pairs, chosen = of_runs((0.2, 0.4, 0.6, 0.8))
    nested = measured.contrast_over_runs([[pairs[0], pairs[2]], [pairs[1], pairs[3]]], chosen)
    for name, (one, two) in {"a": (0, 2), "b": (1, 3)}.items():
        measured.values[name, "target"] = (measured.values[pairs[one][1]] + measured.values[pairs[two][1]]) / 2
    flat = measured.contrast_over_runs([(("base", "target"), (name, "target")) for name in "ab"], chosen)
    assert (nested.value, nested.low, nested.high) == pytest.approx((flat.value, flat.low, flat.high))


def test_comparable_sets_cannot_be_told_apart_over_runs_where_runs_differ_in_that():
    measured, pairs, chosen = of_runs((0.5, 0.5, 0.5))
    for run, special in enumerate((-0.1, 0.1, 0.5)):
        lift = (measured.values["base", "target"] - measured.values["base", "reference"]).mean(axis=0)
        measured.values[f"e{run}", "target"] = measured.values[f"e{run}", "target"] - special * chosen * lift
    mean = np.mean([measured.values[minus] for _, minus in pairs], axis=0)
    measured.values["mean", "target"] = mean
    assert measured.beside_comparable(("base", "target"), ("mean", "target"), chosen, 99)["comparable_outcome"] == "more"
    assert measured.effect_over_runs(pairs, chosen, 99)["comparable_outcome"] == "cannot tell"
