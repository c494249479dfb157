"""Features agree with loops; planted groups come back by every method; results follow a permutation of the neurons."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.analysis.planted_groups import CONDITIONS, recorded
from workbench.analysis.cluster_features import Features, features
from workbench.analysis.clusters import METHODS, as_sets, embed, labels_of
from workbench.errors import StatisticsError


def slow_features(values, index, credit, clip=5.0):
    """Each feature of each neuron, loop by loop."""
    reference, n = values["base", "reference"].astype(float), len(index)
    n_units, n_calls = reference.shape[:2]
    raw = np.zeros((n, len(CONDITIONS) * n_calls + 1))
    for i in range(n):
        variance = 0.0
        for call in range(n_calls):
            middle = sum(reference[u, call, i] for u in range(n_units)) / n_units
            variance += sum((reference[u, call, i] - middle) ** 2 for u in range(n_units)) / (n_units - 1) / n_calls
        for place, condition in enumerate(CONDITIONS):
            for call in range(n_calls):
                rise = np.mean([float(values[condition][u, call, i]) - reference[u, call, i] for u in range(n_units)])
                raw[i, place * n_calls + call] = rise / np.sqrt(variance)
        raw[i, -1] = credit[i]
    scaled = np.zeros_like(raw)
    for i in range(n):
        mine = [j for j in range(n) if index["layer"][j] == index["layer"][i]]
        for column in range(raw.shape[1]):
            own = [raw[j, column] for j in mine]
            scaled[i, column] = min(clip, max(-clip, (raw[i, column] - np.mean(own)) / np.std(own)))
    scaled[:, :-1] /= np.sqrt(n_calls)
    return scaled


def test_features_agree_with_loops():
    values, index, _ = recorded(24, 5, 2)
    credit = np.random.default_rng(1).standard_cauchy(24)
    found = features(values, index, attribution={"gradient": credit}, clip=1.5)
    assert found.matrix == pytest.approx(slow_features(values, index, credit, 1.5), rel=1e-6, abs=1e-6)
    assert found.columns["attribution"].tolist()[-1] == "gradient" and found.left_out == 0
    assert list(found.columns[["variant", "prompt_set", "call"]].iloc[3]) == ["erased", "target", 1.0]


def test_members_are_scaled_by_their_whole_layer_and_still_neurons_are_left_out():
    values, index, _ = recorded(24, 5, 2)
    whole = features(values, index)
    members = np.isin(np.arange(24), [3, 9, 20])
    part = features(values, index, members)
    assert part.matrix == pytest.approx(whole.matrix[members]) and part.position.tolist() == [3, 9, 20]
    for array in values.values():
        array[:, :, 9] = 0.1
    part = features(values, index, members)
    assert part.position.tolist() == [3, 20] and part.left_out == 1
    assert part.index["index"].tolist() == index["index"][[3, 20]].tolist()


def test_equal_weights_change_nothing_and_a_resample_equals_repeated_units():
    values, index, _ = recorded(24, 4, 2)
    assert features(values, index, weights=np.full(4, 1 / 4)).matrix == pytest.approx(features(values, index).matrix)
    weighted = features(values, index, weights=np.array([2, 0, 1, 1]) / 4).matrix
    moved = {c: a if c == ("base", "reference") else a[[0, 0, 2, 3]] for c, a in values.items()}
    moved["base", "reference"] = values["base", "reference"]
    zero = values["base", "reference"]
    shift = zero.mean(axis=0) - zero[[0, 0, 2, 3]].mean(axis=0)
    moved = {c: a if c == ("base", "reference") else a + shift for c, a in moved.items()}
    assert weighted == pytest.approx(features(moved, index).matrix, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_planted_groups_come_back_whatever_layer_their_neurons_are_in(method):
    values, index, group = recorded()
    labels = labels_of(features(values, index).matrix, method, None if method == "hdbscan" else 3)
    assert adjusted_rand_score(group, labels) == 1 and sorted(set(labels)) == [0, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_pictures_follow_a_permutation_of_the_neurons(method):
    values, index, _ = recorded(60, 6, 2, effects=np.random.default_rng(3).normal(0, 0.7, (3, len(CONDITIONS))))
    order = np.random.default_rng(2).permutation(60)
    mixed = {condition: array[:, :, order] for condition, array in values.items()}
    first, second = features(values, index), features(mixed, index.iloc[order].reset_index(drop=True))
    k = None if method == "hdbscan" else 4
    assert (labels_of(second.matrix, method, k, 4) == labels_of(first.matrix, method, k, 4)[order]).all()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_pictures_follow_a_permutation_and_repeat_themselves(method):
    values, index, _ = recorded(40, 6, 2)
    order = np.random.default_rng(2).permutation(40)
    found = features(values, index)
    mixed = Features(found.matrix[order], found.columns, found.index.iloc[order].reset_index(drop=True), found.position[order], 0)
    (first, about), (second, _) = embed(found, method), embed(mixed, method)
    assert first.equals(second) and first.equals(embed(found, method)[0])
    assert first[["layer", "index"]].equals(index[["layer", "index"]]) and about["n"] == about["of"] == 40
    assert (about["share_x"] is None) == (method == "tsne")


def test_pca_shares_are_those_of_the_covariance():
    values, index, _ = recorded(40, 6, 2)
    found = features(values, index)
    table, about = embed(found)
    eigen = np.sort(np.linalg.eigvalsh(np.cov(found.matrix.T)))[::-1]
    assert [about["share_x"], about["share_y"]] == pytest.approx((eigen[:2] / eigen.sum()).tolist())
    assert table["x"].var() == pytest.approx(eigen[0])


def test_a_large_picture_is_drawn_down_and_says_so():
    values, index, group = recorded(90)
    table, about = embed(features(values, index), "tsne", most=30)
    assert len(table) == about["n"] == 30 and about["of"] == 90 and table["position"].is_unique
    places = table[["x", "y"]].to_numpy()
    own = group[table["position"]]
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(30, np.inf))
    assert (own[distance.argmin(axis=1)] == own).all()


def test_each_cluster_is_a_neuron_set():
    values, index, group = recorded()
    members = np.arange(90) >= 10
    found = features(values, index, members)
    labels = labels_of(found.matrix, k=3)
    sets = as_sets(np.where(np.arange(80) == 0, -1, labels), found, "m", {"study": "test", "half": "a"})
    assert sum(len(one) for one in sets.values()) == 79
    for number, one in sets.items():
        chosen = one.to_boolean(index)
        assert chosen[found.position[1:]].tolist() == (labels[1:] == number).tolist() and len(set(group[chosen])) == 1
        assert one.provenance == {"made": f"cluster {number} of 3", "cluster": number, "study": "test", "half": "a"}


def test_what_cannot_be_clustered_gets_one_sentence():
    values, index, _ = recorded(24, 5, 2)
    flat = {condition: np.ones_like(array) for condition, array in values.items()}
    found = features(values, index)
    constant = found.rows(np.zeros(6, int))
    for call, sentence in (
        (lambda: features(flat, index), "None of the neurons ever moves"),
        (lambda: features({("base", "reference"): values["base", "reference"]}, index), "at least one other condition"),
        (lambda: features(values | {("a", "b"): values["base", "target"][:3]}, index), "equal arrays"),
        (lambda: features({c: a[:1] for c, a in values.items()}, index), "1 unit has no spread"),
        (lambda: features(values, index[:5]), "do not fit an index table of 5"),
        (lambda: features(values, index, attribution={"gradient": np.ones(3)}), 'attribution "gradient"'),
        (lambda: features(values | {("a", "b"): values["base", "target"] * np.nan}, index), "finite"),
        (lambda: labels_of(constant.matrix, k=2), "all the same"),
        (lambda: labels_of(found.rows(np.arange(3)).matrix, k=4), "cannot make 4 clusters of 3 neurons with 3 different"),
        (lambda: labels_of(found.matrix), "cannot make None"),
        (lambda: labels_of(found.matrix, "kmean", 2), "Did you mean .kmeans"),
        (lambda: embed(constant), "span no plane"),
        (lambda: embed(found.rows(np.arange(3)), "tsne"), "span no plane"),
        (lambda: embed(found, "umap"), "No embedding"),
    ):
        with pytest.raises(StatisticsError, match=sentence):
            call()


def test_a_method_that_cannot_bear_so_many_neurons_says_why():
    values, index, _ = recorded(24, 5, 2)
    many = features(values, index).rows(np.zeros(15_001, int))
    with pytest.raises(StatisticsError, match="at most 15,000 neurons.*1 GB.*15,001.*kmeans"):
        labels_of(many.matrix, "agglomerative", 2)


def test_a_single_neuron_of_a_layer_stands_at_its_middle():
    values, index, _ = recorded(24, 5, 2)
    index.loc[0, "layer"] = "alone.ff"
    assert (features(values, index).matrix[0] == 0).all()
