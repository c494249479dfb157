"""How sure is a clustering? Do its clusters come back, are they groups at all, and are they just layers?

stability           adjusted Rand over bootstrap resamples of the units; silhouette; both beside one cloud without groups
choose_k            the same for several k, and which k to take
aligned             labels renamed to fit other labels best
layer_information   how much of the cluster the layer tells, beside permuted labels

Two questions, two numbers. *Stable*: the clusters come back when units are resampled; clusters of noise do not. *Grouped*: the
silhouette is above that of a cloud with the same covariance and the same noise, in which any cut is arbitrary however stable.
The cloud is normal; a few neurons far out raise the silhouette of the data, not of the cloud, so look at the picture too.
"""

from dataclasses import dataclass

import numpy as np
import pandas
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, silhouette_score

from workbench.analysis.clusters import METHODS, canonical, labels_of
from workbench.errors import StatisticsError
from workbench.statistics import permutation_p, unit_weights

STABLE = 0.6
SILHOUETTE_ROWS = 1000
CLOUD_ROWS = 2000
FEWEST_CLOUDS = 19


@dataclass(frozen=True)
class Stability:
    """What was found, on all units and over resamples.

    labels     (neuron,) int on all units, as `cluster` gives them
    row        dict method, k, n, n_units, n_clusters, in_none, silhouette, silhouette_chance, p_silhouette, stability (mean
               adjusted Rand), low, high (where 95 % of the resamples lie), stability_chance, n_resamples, n_random, stable,
               grouped, reason (a sentence, or None)
    clusters   data frame: cluster, n, jaccard (mean |A and B| / |A or B| with its partner in each resample), low, high
    kept       (neuron,) in what share of the resamples a neuron is in its own cluster's partner
    """

    labels: np.ndarray
    row: dict
    clusters: pandas.DataFrame
    kept: np.ndarray


def stability(make, n_units, method="kmeans", k=None, *, min_size=None, n_resamples=20, n_random=19, seed=0):
    """Cluster on all units, on bootstrap resamples of the units, and in clouds without groups.

    make      weights (unit,) or None -> Features, such as partial(features, values, index, members)
    returns   Stability; with kmeans, some 5 seconds of one core for 5,000 neurons of 28 features
    Raises    StatisticsError where `cluster` does
    """
    all_units = make(None)
    resampled = [make(weights).matrix for weights in unit_weights(n_units, n_resamples, seed)]
    return _stability(all_units.matrix, resampled, n_units, method, k, min_size, n_random, seed)


def choose_k(make, n_units, ks=range(2, 9), method="kmeans", *, n_resamples=20, n_random=19, seed=0, most=2000):
    """The k with the highest silhouette among those that are stable and grouped; where none is, none is chosen.

    most      more neurons than this are drawn down to that number with `seed`: some 10 seconds of one core for 7 values of k,
              and 20 at 50,000 neurons, whose profiles are still made anew for every resample
    returns   (k or None, data frame with the row of `stability` for each k, and chosen)
    Raises    StatisticsError for a method that takes no k, or when no k is possible
    """
    if method in METHODS and not METHODS[method].takes_k:
        raise StatisticsError(f"{method} finds the number of clusters itself; choose k for {', '.join(_taking_k())}.")
    all_units = make(None)
    drawn = canonical(all_units.matrix)
    if len(drawn) > most:
        drawn = drawn[np.sort(np.random.default_rng(seed).choice(len(drawn), most, replace=False))]
    matrix = all_units.matrix[drawn]
    resampled = [make(weights).matrix[drawn] for weights in unit_weights(n_units, n_resamples, seed)]
    possible = [k for k in ks if 2 <= k < len(np.unique(matrix, axis=0))]
    if not possible:
        raise StatisticsError(f"None of the numbers of clusters {list(ks)} is possible for {len(matrix)} neurons.")
    table = pandas.DataFrame([_stability(matrix, resampled, n_units, method, k, None, n_random, seed).row for k in possible])
    good = table[table["stable"] & table["grouped"]]
    best = int(good.loc[good["silhouette"].idxmax(), "k"]) if len(good) else None
    return best, table.assign(chosen=table["k"] == best)


def aligned(labels, to):
    """Labels renamed so that as many neurons as possible agree with `to`; clusters without a partner get new numbers.

    Shapes   labels, to (neuron,) int, -1 = in none, stays
    """
    names, partners = (np.unique(some[some >= 0]) for some in (labels, to))
    common = np.array([[np.sum((labels == a) & (to == b)) for b in partners] for a in names]).reshape(len(names), len(partners))
    rows, columns = linear_sum_assignment(-common)
    new = {names[row]: partners[column] for row, column in zip(rows, columns, strict=True)}
    free = max(partners, default=-1) + 1
    for name in names:
        if name not in new:
            new[name], free = free, free + 1
    return np.array([new.get(label, -1) for label in labels])


def layer_information(labels, layer, n_random=199, seed=0):
    """Is it just layers? How much of a neuron's cluster its layer tells.

    value = I(cluster; layer) / H(cluster)      0 = nothing, 1 = the layer tells the cluster

    labels, layer   (neuron,); neurons in no cluster (-1) are left out
    returns         dict n, n_clusters, n_layers, value, chance, chance_low, chance_high (labels permuted), n_random, p_random
    Raises          StatisticsError for one layer or one cluster
    """
    inside = np.asarray(labels) >= 0
    labels, layer = np.asarray(labels)[inside], np.asarray(layer)[inside]
    clusters, own = np.unique(labels, return_inverse=True)
    layers, place = np.unique(layer, return_inverse=True)
    if len(clusters) < 2 or len(layers) < 2:
        raise StatisticsError(
            f"{len(labels)} neurons in {len(clusters)} cluster(s) and {len(layers)} layer(s): whether clusters are layers can only be "
            "asked with at least 2 of each."
        )
    rng = np.random.default_rng(seed)
    value = _information(own, place)
    null = [_information(rng.permutation(own), place) for _ in range(n_random)]
    low, high = np.quantile(null, [0.025, 0.975])
    row = {"n": len(labels), "n_clusters": len(clusters), "n_layers": len(layers), "value": value, "chance": float(np.mean(null))}
    row |= {"chance_low": float(low), "chance_high": float(high), "n_random": n_random}
    return row | {"p_random": permutation_p(value, null, "greater")}


def _stability(matrix, resampled, n_units, method, k, min_size, n_random, seed):
    if n_random < FEWEST_CLOUDS:
        raise StatisticsError(f"{n_random} clouds cannot give a p of 0.05, by which groups are told; {FEWEST_CLOUDS} or more are needed.")
    order = canonical(matrix)
    matrix, resampled = matrix[order], [one[order] for one in resampled]
    labels = labels_of(matrix, method, k, min_size, seed)
    again = [labels_of(one, method, k, min_size, seed + 1 + place) for place, one in enumerate(resampled)]
    rand = [adjusted_rand_score(labels, other) for other in again]
    found = _silhouette(matrix, labels, seed)
    chance = np.array([_cloud(matrix, resampled, method, k, min_size, [seed, place]) for place in range(n_random)])
    low, high = np.quantile(rand, [0.025, 0.975])
    row = {"method": method, "k": k, "n": len(labels), "n_units": n_units, "n_clusters": int(labels.max()) + 1}
    row |= {"in_none": int((labels < 0).sum()), "silhouette": found, "silhouette_chance": float(chance[:, 0].mean())}
    row |= {"p_silhouette": permutation_p(found, chance[:, 0], "greater")}
    row |= {"stability": float(np.mean(rand)), "low": float(low), "high": float(high), "stability_chance": float(chance[:, 1].mean())}
    row |= {"n_resamples": len(resampled), "n_random": n_random}
    row |= {"stable": row["stability"] >= STABLE, "grouped": row["p_silhouette"] <= 0.05}
    partners = np.array([aligned(other, labels) for other in again])
    back = np.empty(len(labels))
    back[order] = (partners == labels).mean(axis=0)
    original = np.empty(len(labels), int)
    original[order] = labels
    return Stability(original, row | {"reason": _reason(row)}, _by_cluster(labels, partners), back)


def _reason(row):
    if row["n_clusters"] < 2:
        return f"{row['method']} finds {row['n_clusters']} cluster(s) among {row['n']} neurons; there are no groups to tell apart"
    if not row["stable"]:
        return f"the clusters do not come back when units are resampled (adjusted Rand {row['stability']:.2f}, {STABLE} is asked)"
    if not row["grouped"]:
        return (
            f"one cloud without groups may split as well (silhouette {row['silhouette']:.2f}, cloud {row['silhouette_chance']:.2f}, "
            f"p {row['p_silhouette']:.2f}): the clusters may be cuts through a continuum"
        )
    return None


def _by_cluster(labels, partners):
    rows = []
    for number in range(labels.max() + 1):
        own = labels == number
        jaccard = (own & (partners == number)).sum(axis=1) / (own | (partners == number)).sum(axis=1)
        low, high = np.quantile(jaccard, [0.025, 0.975])
        rows.append({"cluster": number, "n": int(own.sum()), "jaccard": jaccard.mean(), "low": low, "high": high})
    return pandas.DataFrame(rows, columns=["cluster", "n", "jaccard", "low", "high"])


def _silhouette(matrix, labels, seed):
    """Mean silhouette over at most SILHOUETTE_ROWS neurons that are in a cluster; 0 for fewer than 2 clusters."""
    rows = np.flatnonzero(labels >= 0)
    if len(rows) > SILHOUETTE_ROWS:
        rows = np.random.default_rng(seed).choice(rows, SILHOUETTE_ROWS, replace=False)
    n_clusters = len(np.unique(labels[rows]))
    if not 2 <= n_clusters < len(rows):
        return 0.0
    return float(silhouette_score(matrix[rows], labels[rows]))


def _cloud(matrix, resampled, method, k, min_size, seed):
    """Silhouette and adjusted Rand in one normal cloud with the covariance of the data and the noise of one resample.

    The cloud has at most CLOUD_ROWS neurons, and min_size shrinks with it.
    """
    rng, n = np.random.default_rng(seed), min(len(matrix), CLOUD_ROWS)
    values, vectors = np.linalg.eigh(np.cov(matrix.T, bias=True).reshape(matrix.shape[1], -1))
    spread = vectors * np.sqrt(np.maximum(values, 0))
    cloud = matrix.mean(axis=0) + rng.normal(size=(n, matrix.shape[1])) @ spread.T
    noise = (resampled[rng.integers(len(resampled))] - matrix)[rng.permutation(len(matrix))[:n]]
    smallest = min_size and max(2, round(min_size * n / len(matrix)))
    first, second = (labels_of(one, method, k, smallest, int(rng.integers(2**31))) for one in (cloud, cloud + noise))
    return _silhouette(cloud, first, 0), adjusted_rand_score(first, second)


def _information(own, place):
    counts = np.bincount(own * (place.max() + 1) + place, minlength=(own.max() + 1) * (place.max() + 1))
    joint = counts.reshape(own.max() + 1, -1) / len(own)
    cluster, layer = joint.sum(axis=1), joint.sum(axis=0)
    expected = np.outer(cluster, layer)
    inside = joint > 0
    return float((joint[inside] * np.log(joint[inside] / expected[inside])).sum() / -(cluster * np.log(cluster)).sum())


def _taking_k():
    return [name for name, method in METHODS.items() if method.takes_k]
