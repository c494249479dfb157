"""How sure is a clustering? Do its clusters come back, are they groups at all, and are they just layers?

Definitions: docs/reference/definitions.md#clusters.

stability           adjusted Rand over bootstrap resamples of the units; silhouette; both beside clouds without groups
choose_k            the same for several k, and which k to take
aligned             labels renamed to fit other labels best
layer_information   how much of the cluster the layer tells, beside permuted labels

Two questions, two numbers. *Stable*: the clusters come back when units are resampled, more than the cuts through a cloud without
groups do: where units say much the same, any cut of a long cloud comes back. *Grouped*: the silhouette is above that of such a
cloud, in which any cut is arbitrary however stable.

Clouds have the correlations of the data and the noise of its resamples. They come in three kinds (CLOUDS), and the data must stand
out from each of them: normal; uniform along the principal axes; and with the skewness and the tails of each feature of the data,
but with one mode (joined by a Gaussian copula). Where several k are tried, a silhouette is compared with the largest that the same
cloud reaches over all of them. Neurons that were chosen for large scores of either sign are two groups by that choice: then each
part of the data (`parts`) has a cloud of its own, and only what goes beyond these parts is called grouped.
"""

from dataclasses import dataclass

import numpy as np
import pandas
from scipy import stats
from scipy.optimize import isotonic_regression, linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, silhouette_score

from workbench.analysis.clusters import METHODS, canonical, labels_of
from workbench.errors import StatisticsError
from workbench.statistics import permutation_p, unit_weights

STABLE = 0.6
ALPHA = 0.05
SAMPLE = 1000
FEWEST_CLOUDS = 19
BINS = 40
NOISES = 2  # resamples of each cloud
ENOUGH = 4  # clouds that reach the data: p is 0.25 or more


@dataclass(frozen=True)
class Stability:
    """What was found, on all units and over resamples.

    labels     (neuron,) int on all units, as `cluster` gives them
    row        dict method, k, n, n_units, n_clusters, in_none, silhouette, silhouette_chance, p_silhouette, stability (mean
               adjusted Rand), low, high (where 95 % of the resamples lie), stability_chance, p_stability, n_resamples, n_random
               (clouds of each kind; fewer where they speak against every k), n_tried (numbers of clusters that p_silhouette is
               corrected for), stable, grouped, reason (a sentence, or None). silhouette_chance and p_silhouette are those of the
               kind of cloud that comes nearest, stability_chance and p_stability those of all clouds together
    clusters   data frame: cluster, n, jaccard (mean |A and B| / |A or B| with its partner in each resample), low, high
    kept       (neuron,) in what share of the resamples a neuron is in its own cluster's partner
    """

    labels: np.ndarray
    row: dict
    clusters: pandas.DataFrame
    kept: np.ndarray


JUDGED = ("silhouette_chance", "p_silhouette", "stability_chance", "p_stability", "n_random", "n_tried")


def stability(make, n_units, method="kmeans", k=None, *, min_size=None, n_resamples=20, n_random=19, seed=0, parts=None, judged=None):
    """Cluster on all units, on bootstrap resamples of the units, and in clouds without groups.

    make      weights (unit,) or None -> Features, such as partial(features, values, index, members)
    parts     (neuron,) numbers of parts that the choice of the neurons made, such as the sign of their score; default one part
    judged    the row of `choose_k` for this k: chance and p are taken from there, as they are corrected for the numbers tried;
              else they are those of this k alone
    returns   Stability; with kmeans, some 10 seconds of one core for 5,000 neurons of 28 features
    Raises    StatisticsError where `cluster` does
    """
    matrix = make(None).matrix
    order = canonical(matrix)
    resampled = [make(weights).matrix[order] for weights in unit_weights(n_units, n_resamples, seed)]
    matrix = matrix[order]
    if judged is None:
        rows = _sample(len(matrix), SAMPLE, seed)
        small = min_size and max(2, round(min_size * len(rows) / len(matrix)))
        own = np.zeros(len(rows), int) if parts is None else np.asarray(parts)[order][rows]
        judged = _beside_clouds(matrix[rows], [one[rows] for one in resampled], own, method, [k], small, n_random, seed)[0]
    return _stability(matrix, resampled, order, n_units, method, k, min_size, {key: judged[key] for key in JUDGED}, seed)


def choose_k(make, n_units, ks=range(2, 9), method="kmeans", *, n_resamples=20, n_random=19, seed=0, parts=None, most=SAMPLE):
    """The k with the highest silhouette among those that are stable and grouped; where none is, none is chosen.

    parts     as of `stability`
    most      more neurons than this are drawn down to that number with `seed`: some 20 seconds of one core for 7 values of k,
              and 30 at 50,000 neurons, whose profiles are still made anew for every resample
    returns   (k or None, data frame with the row of `stability` for each k, p corrected for all of them, and chosen)
    Raises    StatisticsError for a method that takes no k, or when no k is possible
    """
    if method in METHODS and not METHODS[method].takes_k:
        raise StatisticsError(f"{method} finds the number of clusters itself; choose k for {', '.join(_taking_k())}.")
    all_units = make(None).matrix
    drawn = canonical(all_units)
    drawn = drawn[_sample(len(drawn), most, seed)]
    matrix = all_units[drawn]
    resampled = [make(weights).matrix[drawn] for weights in unit_weights(n_units, n_resamples, seed)]
    possible = [k for k in ks if 2 <= k < len(np.unique(matrix, axis=0))]
    if not possible:
        raise StatisticsError(f"None of the numbers of clusters {list(ks)} is possible for {len(matrix)} neurons.")
    own = np.zeros(len(drawn), int) if parts is None else np.asarray(parts)[drawn]
    judged = _beside_clouds(matrix, resampled, own, method, possible, None, n_random, seed)
    same = np.arange(len(matrix))
    rows = [_stability(matrix, resampled, same, n_units, method, k, None, one, seed).row for k, one in zip(possible, judged, strict=True)]
    table = pandas.DataFrame(rows)
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
            f"{len(labels)} neurons in {len(clusters)} cluster(s) and {len(layers)} layer(s): whether clusters reproduce layers can "
            "only be tested with at least 2 of each."
        )
    rng = np.random.default_rng(seed)
    value = _information(own, place)
    null = [_information(rng.permutation(own), place) for _ in range(n_random)]
    low, high = np.quantile(null, [0.025, 0.975])
    row = {"n": len(labels), "n_clusters": len(clusters), "n_layers": len(layers), "value": value, "chance": float(np.mean(null))}
    row |= {"chance_low": float(low), "chance_high": float(high), "n_random": n_random}
    return row | {"p_random": permutation_p(value, null, "greater")}


def _sample(n, most, seed):
    """Which of n rows, in order, when at most so many are looked at."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _stability(matrix, resampled, order, n_units, method, k, min_size, judged, seed):
    """The Stability of rows in canonical order; `order` puts labels back."""
    labels, rand, again = _found(matrix, resampled, method, k, min_size, seed)
    low, high = np.quantile(rand, [0.025, 0.975])
    row = {"method": method, "k": k, "n": len(labels), "n_units": n_units, "n_clusters": int(labels.max()) + 1}
    row |= {"in_none": int((labels < 0).sum()), "silhouette": _silhouette(matrix, labels, seed)}
    row |= {"stability": float(np.mean(rand)), "low": float(low), "high": float(high), "n_resamples": len(resampled)} | judged
    row |= {"stable": row["stability"] >= STABLE and row["p_stability"] <= ALPHA, "grouped": row["p_silhouette"] <= ALPHA}
    partners = np.array([aligned(other, labels) for other in again])
    back = np.empty(len(labels))
    back[order] = (partners == labels).mean(axis=0)
    original = np.empty(len(labels), int)
    original[order] = labels
    return Stability(original, row | {"reason": _reason(row)}, _by_cluster(labels, partners), back)


def _found(matrix, resampled, method, k, min_size, seed):
    """(labels on all units, [adjusted Rand of each resample], [labels of each resample])."""
    labels = labels_of(matrix, method, k, min_size, seed)
    again = [labels_of(one, method, k, min_size, seed + 1 + place) for place, one in enumerate(resampled)]
    return labels, [_came_back(labels, other) for other in again], again


def _came_back(labels, other):
    """Adjusted Rand of two clusterings; 0 where the first has fewer than 2 clusters, as there is nothing that could come back."""
    return adjusted_rand_score(labels, other) if labels.max() > 0 else 0.0


def _beside_clouds(matrix, resampled, parts, method, ks, min_size, n_random, seed):
    """[{silhouette_chance, p_silhouette, stability_chance, p_stability, n_random, n_tried} of each k].

    p_stability    counts the clouds of all kinds whose adjusted Rand at this k, a mean over NOISES resamples, is above that of the
                   data: where all units say the same, clusters of clouds and data come back alike, and only p_silhouette tells
    p_silhouette   silhouettes of each k are standardised by their mean and sd over clouds and data; counts the clouds whose largest
                   value over all k is at least that of the data at this k (Westfall and Young 1993); of each kind of cloud, and of
                   these the largest p

    No more clouds are drawn once ENOUGH of one kind speak against every k.
    """
    if n_random < FEWEST_CLOUDS:
        raise StatisticsError(f"{n_random} clouds cannot give a p of 0.05, which the test for groups needs. Use at least {FEWEST_CLOUDS}.")
    data = np.zeros((len(ks), 2))
    for at, k in enumerate(ks):
        labels, rand, _ = _found(matrix, resampled, method, k, min_size, seed)
        data[at] = _silhouette(matrix, labels, seed), np.mean(rand)
    rows = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    shapes, kinds = [_shape(matrix[own]) for own in rows], []
    for number, kind in enumerate(CLOUDS.values()):
        clouds = np.zeros((0, len(ks), 2))
        while len(clouds) < n_random and not _settled(data, clouds):
            rng = np.random.default_rng([seed, number, len(clouds)])
            cloud = np.empty_like(matrix)
            for own, shape in zip(rows, shapes, strict=True):
                cloud[own] = kind(shape, len(own), rng)
            noises = [(resampled[rng.integers(len(resampled))] - matrix)[rng.permutation(len(matrix))] for _ in range(NOISES)]
            drawn = np.zeros((1, len(ks), 2))
            for at, k in enumerate(ks):
                labels, rand, _ = _found(cloud, [cloud + noise for noise in noises], method, k, min_size, int(rng.integers(2**31)))
                drawn[0, at] = _silhouette(cloud, labels, seed), np.mean(rand)
            clouds = np.concatenate([clouds, drawn])
        kinds.append(clouds)
        if len(clouds) < n_random:
            break
    reached, sizes = np.array([_against(data, clouds) for clouds in kinds]), np.array([len(clouds) for clouds in kinds])
    p = (1 + reached[..., 0]) / (1 + sizes)[:, None]
    together, found = np.concatenate(kinds)[..., 1], []
    for at in range(len(ks)):
        nearest = p[:, at].argmax()
        row = {"silhouette_chance": float(kinds[nearest][:, at, 0].mean()), "p_silhouette": float(p[nearest, at])}
        row |= {"stability_chance": float(together[:, at].mean()), "p_stability": float((1 + reached[:, at, 1].sum()) / (1 + sizes.sum()))}
        found.append(row | {"n_random": int(sizes[-1]), "n_tried": len(ks)})
    return found


def _against(data, clouds):
    """(k, 2) how many clouds reach the data: in the largest silhouette over all k, and in the stability at each k.

    Shapes   data (k, 2);  clouds (cloud, k, 2), silhouette and stability
    """
    together = np.concatenate([clouds, data[None]])[..., 0]
    spread = together.std(axis=0)
    scaled = (together - together.mean(axis=0)) / np.where(spread > 0, spread, 1)
    largest = scaled[:-1].max(axis=1, keepdims=True)
    return np.stack([(largest >= scaled[-1] - 1e-9).sum(axis=0), (clouds[..., 1] > data[:, 1] + 1e-9).sum(axis=0)], axis=1)


def _settled(data, clouds):
    return len(clouds) > 0 and bool((_against(data, clouds).max(axis=1) >= ENOUGH).all())


@dataclass(frozen=True)
class _Shape:
    """What clouds take from data: along its principal axes, and feature by feature.

    mean (feature,), vectors (feature, axis), spread (axis,)   the principal axes and the standard deviation along them
    root (feature, feature)   times its transpose: the correlations of the features' normal scores
    edges, chance             of each feature (step + 1,) the quantile function of the density with one mode that is nearest to its own
    """

    mean: np.ndarray
    vectors: np.ndarray
    spread: np.ndarray
    root: np.ndarray
    edges: list
    chance: list


def _shape(matrix):
    values, vectors = np.linalg.eigh(np.cov(matrix.T, bias=True).reshape(matrix.shape[1], -1))
    scores = stats.norm.ppf((stats.rankdata(matrix, axis=0) - 0.5) / len(matrix))
    scores -= scores.mean(axis=0)
    scores /= np.maximum(scores.std(axis=0), 1e-12)
    size, turned = np.linalg.eigh(scores.T @ scores / len(matrix))
    edges, chance = zip(*(_one_mode(feature) for feature in matrix.T), strict=True)
    spread = np.sqrt(np.maximum(values, 0))
    return _Shape(matrix.mean(axis=0), vectors, spread, turned * np.sqrt(np.maximum(size, 0)), list(edges), list(chance))


def _one_mode(values, bins=BINS):
    """(edges, chance): the values between which a density with one mode is constant, and its distribution function there.

    Of the densities that are constant between quantiles of the values it is the one of largest likelihood: for each place of the mode,
    increasing before it and decreasing after it by isotonic regression (Grenander 1956).
    """
    lowest, span = values.min(), np.ptp(values)
    if span <= 1e-12 * np.abs(values).max():  # a feature that is the same of all neurons
        return np.full(2, lowest), np.array([0.0, 1.0])
    values = (values - lowest) / span
    edges = np.quantile(values, np.linspace(0, 1, min(bins, max(2, len(values) // 5)) + 1))
    width = np.maximum(np.diff(edges), 1e-9)
    edges = edges[0] + np.concatenate([[0], np.cumsum(width)])
    density = 1 / len(width) / width
    best, most = None, -np.inf
    for mode in range(len(width)):
        up = isotonic_regression(density[: mode + 1], weights=width[: mode + 1]).x
        down = isotonic_regression(density[mode:], weights=width[mode:], increasing=False).x
        found = np.concatenate([up[:-1], [max(up[-1], down[0])], down[1:]])
        mass = found * width / (found * width).sum()
        likelihood = np.log(mass / width).mean()
        if likelihood > most:
            best, most = mass, likelihood
    return lowest + edges * span, np.concatenate([[0], np.cumsum(best)])


def _normal(shape, n, rng):
    return shape.mean + rng.normal(size=(n, len(shape.spread))) * shape.spread @ shape.vectors.T


def _uniform(shape, n, rng):
    return shape.mean + rng.uniform(-np.sqrt(3), np.sqrt(3), (n, len(shape.spread))) * shape.spread @ shape.vectors.T


def _with_one_mode(shape, n, rng):
    at = stats.norm.cdf(rng.normal(size=(n, len(shape.root))) @ shape.root.T)
    return np.stack([np.interp(*one) for one in zip(at.T, shape.chance, shape.edges, strict=True)], axis=1)


# (shape, n, rng) -> (neuron, feature) without groups
CLOUDS = {"one mode": _with_one_mode, "normal": _normal, "uniform": _uniform}


def _reason(row):
    if row["n_clusters"] < 2:
        return f"{row['method']} finds {row['n_clusters']} cluster(s) among {row['n']} neurons, so there are no groups to compare"
    if row["stability"] < STABLE:
        return f"the clusters do not recur when units are resampled (adjusted Rand {row['stability']:.2f}, at least {STABLE} is needed)"
    if not row["stable"]:
        return (
            f"splits of a cloud without groups recur as often when units are resampled (adjusted Rand {row['stability']:.2f}, cloud "
            f"{row['stability_chance']:.2f}, p {row['p_stability']:.2f})"
        )
    if not row["grouped"]:
        return (
            f"a cloud without groups may split as clearly (silhouette {row['silhouette']:.2f}, cloud {row['silhouette_chance']:.2f}, "
            f"p {row['p_silhouette']:.2f}): the clusters may be splits of a continuum"
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
    """Mean silhouette over at most SAMPLE neurons that are in a cluster; 0 for fewer than 2 clusters."""
    rows = np.flatnonzero(labels >= 0)
    rows = rows[_sample(len(rows), SAMPLE, seed)]
    n_clusters = len(np.unique(labels[rows]))
    if not 2 <= n_clusters < len(rows):
        return 0.0
    return float(silhouette_score(matrix[rows], labels[rows]))


def _information(own, place):
    counts = np.bincount(own * (place.max() + 1) + place, minlength=(own.max() + 1) * (place.max() + 1))
    joint = counts.reshape(own.max() + 1, -1) / len(own)
    cluster, layer = joint.sum(axis=1), joint.sum(axis=0)
    expected = np.outer(cluster, layer)
    inside = joint > 0
    return float((joint[inside] * np.log(joint[inside] / expected[inside])).sum() / -(cluster * np.log(cluster)).sum())


def _taking_k():
    return [name for name, method in METHODS.items() if method.takes_k]
