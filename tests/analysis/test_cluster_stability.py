"""Planted groups are stable, noise is not, a continuum is called one; whether clusters are layers is seen."""

from collections import Counter
from functools import partial
from itertools import permutations
from math import log

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from experiments.nulls import clusters
from tests.analysis.planted_groups import CONDITIONS, recorded
from workbench.analysis import cluster_stability
from workbench.analysis.cluster_features import features
from workbench.analysis.cluster_stability import aligned, choose_k, layer_information, stability
from workbench.errors import StatisticsError


def maker(values, index):
    """weights -> Features."""
    return lambda weights: features(values, index, weights=weights)


def test_planted_groups_are_stable_and_grouped():
    values, index, group = recorded()
    for method, k in (("kmeans", 3), ("hdbscan", None)):
        found = stability(maker(values, index), 12, method, k, n_resamples=8)
        assert found.row["stability"] == found.row["low"] == 1 and found.row["reason"] is None and found.row["grouped"]
        assert adjusted_rand_score(group, found.labels) == 1
        assert found.clusters["jaccard"].tolist() == [1, 1, 1] and found.clusters["n"].tolist() == [30] * 3 and (found.kept == 1).all()


def test_clusters_of_noise_do_not_come_back_and_say_so():
    values, index, _ = recorded(effects=None)
    found = stability(maker(values, index), 12, k=3)
    assert found.row["stability"] < 0.5 and not found.row["stable"]
    assert found.row["reason"].startswith("the clusters do not recur") and found.clusters["jaccard"].max() < 0.8
    assert found.kept.mean() < 0.9


def test_cuts_through_a_continuum_come_back_but_are_no_groups():
    values, index, _ = recorded(300, 12, 1)
    place = np.random.default_rng(5).normal(size=300)
    size = values["base", "reference"].mean(axis=(0, 1)) / 20
    for at, condition in enumerate(CONDITIONS):
        values[condition] = values["base", "reference"] + (20 * place * size * (1 if at < 3 else -1)).astype(np.float32)
    found = stability(maker(values, index), 12, k=2, n_resamples=8)
    assert found.row["stability"] >= 0.6 and not (found.row["stable"] and found.row["grouped"])
    assert "without groups" in found.row["reason"]


@pytest.mark.parametrize(
    "kind",
    [
        "uniform, stretched",
        "skewed (exponential)",
        "one gradient, uniform",
        "one gradient, skewed",
        "chosen for a large score of either sign",
    ],
)
def test_data_without_groups_is_not_called_stable_and_grouped(kind):
    """Each of these used to be, or is two groups by the choice of its neurons alone; experiments/nulls counts more draws and kinds."""
    assert clusters.answer(kind, "few features", 0) is None


def test_planted_groups_are_called_so_beside_the_same_clouds():
    assert clusters.answer("4 groups, 6 sd apart", "few features", 1) == 4


def test_two_signs_of_a_score_are_no_groups_and_a_group_beyond_them_is():
    rng = np.random.default_rng(8)
    rise = np.where(np.arange(120) < 60, 3.0, -3.0)
    parts, pulled = (rise < 0).astype(int), (np.arange(120) % 3 == 0) * 6.0
    signs = np.stack([rise + rng.normal(size=120), rng.normal(size=120), rng.normal(size=120)], axis=1)
    settings = {"n_resamples": 6, "seed": 0, "parts": parts}
    alone = stability(clusters.made(signs, rng, 0.1), 20, k=2, **settings)
    assert alone.row["silhouette"] > 0.5 and not alone.row["grouped"]
    assert stability(clusters.made(signs, rng, 0.1), 20, k=2, n_resamples=6).row["grouped"]
    more = stability(clusters.made(signs + np.outer(pulled, [0, 1, 0]), rng, 0.1), 20, k=4, **settings)
    assert more.row["grouped"] and more.row["stable"]


def test_a_silhouette_is_compared_with_the_largest_over_all_numbers_tried():
    """By hand: three clouds, two k. Scaled over clouds and data, the largest of each cloud counts against both."""
    silhouettes = np.array([[0.1, 0.5], [0.2, 0.3], [0.3, 0.4]])
    clouds, data = np.stack([silhouettes, np.zeros((3, 2))], axis=2), np.array([[0.4, 0.45], [0.5, 0.5]]).T
    together = np.vstack([silhouettes, data[:, 0]])
    scaled = (together - together.mean(axis=0)) / together.std(axis=0)
    expected = [sum(cloud.max() >= value for cloud in scaled[:3]) for value in scaled[3]]
    assert cluster_stability._against(data, clouds)[:, 0].tolist() == expected and expected[1] > (silhouettes[:, 1] >= 0.45).sum() - 1
    assert cluster_stability._against(data, clouds)[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize(
    "draw",
    [lambda r: r.normal(size=400), lambda r: r.exponential(size=400), lambda r: np.where(r.random(400) < 0.5, -4, 4) + r.normal(size=400)],
)
def test_the_density_with_one_mode_rises_then_falls_and_lies_where_the_values_do(draw):
    values = draw(np.random.default_rng(0))
    edges, chance = cluster_stability._one_mode(values)
    density = np.diff(chance) / np.diff(edges)
    top = density.argmax()
    assert (np.diff(density[: top + 1]) >= -1e-9).all() and (np.diff(density[top:]) <= 1e-9).all() and chance[-1] == pytest.approx(1)
    middle = (edges[:-1] + edges[1:]) / 2
    assert (np.diff(chance) * middle).sum() == pytest.approx(values.mean(), abs=0.3 * values.std())
    spread = np.sqrt((np.diff(chance) * (middle - values.mean()) ** 2).sum())
    assert spread == pytest.approx(values.std(), rel=0.15)


def test_what_choose_k_said_of_chance_is_taken_over():
    values, index, _ = recorded()
    make = maker(values, index)
    _, table = choose_k(make, 12, [3, 4], n_resamples=5)
    row = table[table["k"] == 3].iloc[0].to_dict()
    found = stability(make, 12, k=3, n_resamples=5, judged=row).row
    assert {key: found[key] for key in cluster_stability.JUDGED} == {key: row[key] for key in cluster_stability.JUDGED}
    assert found["n_tried"] == 2 and stability(make, 12, k=3, n_resamples=5).row["n_tried"] == 1


def test_hdbscan_that_finds_nothing_says_so():
    values, index, _ = recorded(40, 6, 2, effects=None)
    found = stability(maker(values, index), 6, "hdbscan", min_size=15, n_resamples=4)
    assert found.row["n_clusters"] == 0 and found.row["in_none"] == 40 and "no groups to compare" in found.row["reason"]
    assert len(found.clusters) == 0 and not found.row["grouped"]


def test_stability_follows_a_permutation_of_the_neurons():
    values, index, _ = recorded(45, 6, 2, effects=np.random.default_rng(3).normal(0, 0.5, (3, len(CONDITIONS))))
    order = np.random.default_rng(2).permutation(45)
    mixed = {condition: array[:, :, order] for condition, array in values.items()}
    settings = {"k": 3, "n_resamples": 5}
    first = stability(maker(values, index), 6, **settings)
    second = stability(maker(mixed, index.iloc[order].reset_index(drop=True)), 6, **settings)
    assert (second.labels == first.labels[order]).all() and (second.kept == first.kept[order]).all()
    assert second.row == pytest.approx(first.row)


def test_the_planted_number_of_clusters_is_chosen():
    values, index, _ = recorded()
    best, table = choose_k(maker(values, index), 12, range(2, 6), n_resamples=5)
    assert best == 3 and table["k"].tolist() == [2, 3, 4, 5] and table.loc[table["chosen"], "k"].tolist() == [3]
    assert table.loc[table["k"] == 3, "silhouette"].item() == table["silhouette"].max()
    drawn, table = choose_k(maker(values, index), 12, [3], n_resamples=5, most=40)
    assert drawn == 3 and table["n"].tolist() == [40]


def test_in_noise_no_number_of_clusters_is_chosen():
    values, index, _ = recorded(effects=None)
    best, table = choose_k(maker(values, index), 12, [3, 4], n_resamples=8)
    assert best is None and not table["chosen"].any() and table["reason"].notna().all()


def test_numbers_of_clusters_that_cannot_be_are_refused():
    values, index, _ = recorded(6, 6, 2)
    make = maker(values, index)
    for call, sentence in (
        (lambda: choose_k(make, 6, [6, 7]), "None of the numbers of clusters"),
        (lambda: choose_k(make, 6, method="hdbscan"), "finds the number of clusters itself"),
        (lambda: choose_k(make, 6, method="kmean"), "Did you mean"),
        (lambda: stability(make, 6, k=2, n_random=18), "18 clouds cannot"),
        (lambda: stability(partial(features, values, index), 1, k=2), "cannot be resampled"),
    ):
        with pytest.raises(StatisticsError, match=sentence):
            call()


def test_aligned_labels_are_the_best_of_all_renamings():
    rng = np.random.default_rng(4)
    for _ in range(10):
        labels, to = rng.integers(-1, 3, 20), rng.integers(-1, 3, 20)
        best = max(sum((names[a] if a >= 0 else -1) == b >= 0 for a, b in zip(labels, to, strict=True)) for names in permutations(range(3)))
        found = aligned(labels, to)
        assert ((found == to) & (to >= 0)).sum() == best
        assert adjusted_rand_score(labels, found) == 1 and ((found == -1) == (labels == -1)).all()
    assert aligned(np.array([0, 0, 1, 2]), np.array([1, 1, 0, 0])).tolist()[:2] == [1, 1]


def slow_information(labels, layer):
    """I(cluster; layer) / H(cluster) from counted pairs."""
    n = len(labels)
    pairs, own, place = Counter(zip(labels, layer, strict=True)), Counter(labels), Counter(layer)
    shared = sum(c / n * log(c * n / own[a] / place[b]) for (a, b), c in pairs.items())
    return shared / -sum(c / n * log(c / n) for c in own.values())


def test_information_agrees_with_counting_and_stands_beside_permuted_labels():
    rng = np.random.default_rng(6)
    layer = np.repeat(["down", "mid", "up"], 40)
    noise, same = rng.integers(0, 3, 120), np.repeat([2, 0, 1], 40)
    for labels in (noise, np.where(rng.random(120) < 0.5, same, noise)):
        assert layer_information(labels, layer, 19)["value"] == pytest.approx(slow_information(labels.tolist(), layer.tolist()))
    just_layers, mixed = layer_information(same, layer), layer_information(noise, layer)
    assert just_layers["value"] == pytest.approx(1) and just_layers["p_random"] == 1 / 200
    assert mixed["value"] <= mixed["chance_high"] * 1.5 and mixed["p_random"] > 0.01 and mixed["n_layers"] == 3
    assert layer_information(np.where(np.arange(120) < 5, -1, same), layer)["n"] == 115


def test_whether_one_layer_is_the_clusters_cannot_be_asked():
    for labels, layer in (([0, 1, 0], ["a"] * 3), ([0, 0, -1], ["a", "b", "c"])):
        with pytest.raises(StatisticsError, match="at least 2 of each"):
            layer_information(labels, layer)
