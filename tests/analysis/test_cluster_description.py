"""Clusters described on the other half: planted effects come back within their intervals, tables agree with loops."""

import numpy as np
import pandas
import pytest

from tests.analysis.planted_groups import CONDITIONS, EFFECTS, recorded
from workbench.analysis.cluster_description import effects, layers, profiles, top_prompts
from workbench.analysis.cluster_features import features
from workbench.analysis.clusters import labels_of
from workbench.errors import StatisticsError

ATTACKS = [("erased", "adv", "ctl")]


@pytest.fixture(scope="module")
def halves():
    """(labels, Features) of the selection half; values, index of the evaluation half; the true group of each cluster."""
    values, index, group = recorded(seed=1)
    other, _, _ = recorded(n_units=20, seed=2)
    found = features(values, index)
    labels = labels_of(found.matrix, k=3)
    return labels, found, other, index, [group[labels == number][0] for number in range(3)]


def test_mean_profiles_on_the_other_half_are_the_planted_effects(halves):
    labels, found, values, _, group = halves
    table = profiles(labels, found, values, calls=[10, 20, 30])
    assert len(table) == 3 * len(CONDITIONS) * 3 and set(table["call"]) == {10, 20, 30} and (table["n"] == 20).all()
    for row in table.itertuples():
        truth = EFFECTS[group[row.cluster], CONDITIONS.index((row.variant, row.prompt_set))]
        assert row.low <= row.value <= row.high and row.value == pytest.approx(truth, abs=0.5)


def test_intervals_of_profiles_hold_a_true_zero_about_as_often_as_they_say():
    covered = []
    for seed in range(20):
        values, index, group = recorded(30, 20, seed=10 + seed)
        table = profiles(group, features(values, index), values)
        truth = [EFFECTS[row.cluster, CONDITIONS.index((row.variant, row.prompt_set))] for row in table.itertuples()]
        silent = table[np.array(truth) == 0]
        covered += ((silent["low"] <= 0) & (silent["high"] >= 0)).tolist()
    assert 0.88 <= np.mean(covered) <= 0.98


def test_a_profile_agrees_with_loops(halves):
    labels, found, values, _, _ = halves
    row = profiles(labels, found, values).set_index(["cluster", "variant", "prompt_set", "call"]).loc[1, "erased", "adv", 2]
    terms = []
    reference = values["base", "reference"].astype(float)
    for i in np.flatnonzero(labels == 1):
        spread = np.sqrt(np.mean([np.var(reference[:, call, i], ddof=1) for call in range(3)]))
        terms.append(np.mean([values["erased", "adv"][u, 2, i] - reference[u, 2, i] for u in range(20)]) / spread)
    assert row["value"] == pytest.approx(np.mean(terms), rel=1e-4) and row["n_neurons"] == 30


def test_deactivation_and_reactivation_are_the_planted_ones_and_a_cluster_without_contrast_says_why(halves):
    labels, found, values, index, group = halves
    table = effects(labels, found, values, index, ATTACKS, 300, 19).set_index(["cluster", "effect"])
    # the mean of 3 calls has a spread of 1 / sqrt(3), which is the unit of delta
    truth = {0: (1, 5 / 6, 5 * np.sqrt(3)), 1: (0, 0, 0), 2: (None, None, 0)}
    for number in range(3):
        for effect, expected in zip(("deactivation", "reactivation", "sensitivity"), truth[group[number]], strict=True):
            row = table.loc[number, effect]
            if expected is None:
                assert "not distinguishable from 0" in row["reason"] and np.isnan(row["value"])
                continue
            assert row["value"] == pytest.approx(expected, abs=0.1 if effect != "sensitivity" else 0.7) and pandas.isna(row["reason"])
            assert row["low"] <= row["value"] <= row["high"] and row["n"] == 20
            if effect != "sensitivity":
                assert row["n_random"] == 19


def test_layer_counts_add_up(halves):
    labels, found, _, index, _ = halves
    labels = np.where(np.arange(90) < 4, -1, labels)
    table = layers(labels, found)
    assert len(table) == 9 and table["n"].sum() == 86 and table.groupby("cluster")["share"].sum().to_list() == pytest.approx([1, 1, 1])
    for row in table.itertuples():
        own = [i for i in range(90) if labels[i] == row.cluster and index["layer"][i] == row.layer]
        assert row.n == len(own)
        assert row.expected == pytest.approx(sum(index["layer"][i] == row.layer for i in range(4, 90)) / 86)


def test_the_prompt_that_excites_a_cluster_most_comes_first(halves):
    labels, found, values, _, group = halves
    number = group.index(2)
    values = {condition: array.copy() for condition, array in values.items()}
    values["base", "retained"][7][:, labels == number] *= 1.5
    about = pandas.DataFrame({"id": [f"r{i}" for i in range(20)], "unit": range(20), "prompt": [f"a picture {i}" for i in range(20)]})
    table = top_prompts(labels, found, values, {"retained": about}, n=3)
    mine = table[(table["cluster"] == number) & (table["prompt_set"] == "retained")]
    assert mine["rank"].tolist() == [1, 2, 3] and mine["prompt"].iloc[0] == "a picture 7" and mine["row"].iloc[0] == 7
    assert mine["value"].is_monotonic_decreasing and set(table["variant"]) == {"base"}
    assert set(table["prompt_set"]) == {"target", "reference", "retained"}
    with pytest.raises(StatisticsError, match="19 prompts of the set .retained. do not pair with 20"):
        top_prompts(labels, found, values, {"retained": about[:19]})


def test_a_half_with_fewer_neurons_is_refused(halves):
    labels, found, values, _, _ = halves
    with pytest.raises(StatisticsError, match="more than the 50 neurons"):
        profiles(labels, found, {condition: array[:, :, :50] for condition, array in values.items()})
