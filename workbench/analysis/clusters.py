"""Clusters: groups of neurons that answer alike over conditions and calls. A cluster is a neuron set.

Definitions: docs/reference/definitions.md#clusters.

cluster      kmeans, agglomerative, hdbscan or spectral of scikit-learn, on Features (cluster_features)
embed        two axes for a picture, by PCA or t-SNE
as_sets      each cluster as a NeuronSet

Choose on half A of the units; how sure the clusters are is in `cluster_stability`, what they do on half B in
`cluster_description`. Results do not depend on the order of the neurons, and are the same for the same seed.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from workbench.errors import StatisticsError, nearest
from workbench.neurons.sets import NeuronSet


def _kmeans(matrix, k, min_size, seed):
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=4, random_state=seed).fit_predict(matrix)


def _agglomerative(matrix, k, min_size, seed):
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(k, linkage="ward").fit_predict(matrix)


def _hdbscan(matrix, k, min_size, seed):
    from sklearn.cluster import HDBSCAN

    return HDBSCAN(min_cluster_size=min_size, copy=True).fit_predict(matrix)


def _spectral(matrix, k, min_size, seed):
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=min(15, len(matrix) - 1), random_state=seed)
    with warnings.catch_warnings():
        # groups without a neighbour in another group are what is looked for
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return model.fit_predict(matrix)


@dataclass(frozen=True)
class Method:
    """A way to cluster: its function, whether it takes k, the most neurons it is allowed, and why."""

    call: object
    takes_k: bool
    most: int
    limit: str


METHODS = {
    "kmeans": Method(_kmeans, True, 1_000_000, ""),
    "agglomerative": Method(_agglomerative, True, 15_000, "all distances are held in memory, 1 GB at 15,000 neurons"),
    "hdbscan": Method(_hdbscan, False, 20_000, "time grows with the square of the number of neurons"),
    "spectral": Method(_spectral, True, 10_000, "eigenvectors of a matrix of all neurons"),
}


def cluster(found, method="kmeans", k=None, min_size=None, seed=0):
    """Label of each neuron's cluster: 0 the largest; -1 in none (hdbscan).

    found      Features
    k          number of clusters; hdbscan finds its own and takes min_size, its smallest cluster, default n / 50, at least 5
    returns    (neuron,) int, rows as in the features
    Raises     StatisticsError for an unknown method, a k that cannot be, constant features, or more neurons than the method bears
    """
    return labels_of(found.matrix, method, k, min_size, seed)


def labels_of(matrix, method, k, min_size=None, seed=0):
    """`cluster` of a plain (neuron, feature) array."""
    if method not in METHODS:
        raise StatisticsError(f'No clustering is called "{method}".{nearest(method, METHODS)}')
    way, n = METHODS[method], len(matrix)
    if n > way.most:
        raise StatisticsError(
            f"{method} takes at most {way.most:,} neurons ({way.limit}); here are {n:,}. Cluster a neuron set, or take kmeans."
        )
    if n < 2 or np.ptp(matrix, axis=0).max() == 0:
        raise StatisticsError(f"The features of these {n} neurons are all the same; there is nothing to cluster.")
    order = canonical(matrix)
    if way.takes_k:
        different = 1 + int((matrix[order][1:] != matrix[order][:-1]).any(axis=1).sum())
        if k is None or not 2 <= k <= different:
            raise StatisticsError(f"{method} cannot make {k} clusters of {n} neurons with {different} different profiles; k is 2 to that.")
    raw = way.call(matrix[order], k, min(n, min_size or max(5, n // 50)), seed)
    labels = np.empty(n, int)
    labels[order] = _by_size(raw)
    return labels


def canonical(matrix):
    """Order of the rows by their content, so that nothing depends on the order in which neurons come."""
    return np.lexsort(matrix.T[::-1])


def _by_size(raw):
    """Numbers from 0 for the largest cluster down; among equal sizes the one whose first row comes first; -1 stays."""
    names, first, size = np.unique(raw, return_index=True, return_counts=True)
    clusters = names >= 0
    ranked = names[clusters][np.lexsort((first[clusters], -size[clusters]))]
    new = {name: number for number, name in enumerate(ranked)} | {-1: -1}
    return np.array([new[name] for name in raw])


def embed(found, method="pca", seed=0, most=2000):
    """Two axes for a picture: data frame layer, index, position, x, y, and a dict about it.

    pca     the two directions of largest variance; about: the share of the variance on each
    tsne    neighbours stay neighbours, distances and sizes mean nothing; more than `most` neurons are drawn down to that
            number with `seed`; 2,000 take some 5 seconds of one core
    returns (data frame, {method, n, of, share_x, share_y}); shares are None for tsne
    """
    if method not in ("pca", "tsne"):
        raise StatisticsError(f'No embedding is called "{method}".{nearest(method, ("pca", "tsne"))}')
    total = len(found.matrix)
    if total < 4 or found.matrix.shape[1] < 2 or np.ptp(found.matrix, axis=0).max() == 0:
        raise StatisticsError(
            f"{total} neurons with {found.matrix.shape[1]} features span no plane; at least 4 and 2 that vary are needed."
        )
    order = canonical(found.matrix)
    about = {"method": method, "n": total, "of": total, "share_x": None, "share_y": None}
    if method == "pca":
        from sklearn.decomposition import PCA

        model = PCA(2, svd_solver="full")
        plane = model.fit_transform(found.matrix[order])
        about |= {"share_x": float(model.explained_variance_ratio_[0]), "share_y": float(model.explained_variance_ratio_[1])}
    else:
        from sklearn.manifold import TSNE

        if total > most:
            order = order[np.sort(np.random.default_rng(seed).choice(total, most, replace=False))]
        about["n"] = len(order)
        model = TSNE(2, init="pca", perplexity=min(30, (len(order) - 1) / 3), max_iter=500, random_state=seed)
        plane = model.fit_transform(found.matrix[order])
    table = found.index.iloc[order][["layer", "index"]].reset_index(drop=True)
    table = table.assign(position=found.position[order], x=plane[:, 0].astype(float), y=plane[:, 1].astype(float))
    return table.sort_values("position", ignore_index=True), about


def as_sets(labels, found, model, provenance):
    """{cluster: NeuronSet} of every cluster; neurons in none are left out.

    model, provenance   as in NeuronSet; `made` is filled in
    """
    sets = {}
    for number in np.unique(labels[labels >= 0]).tolist():
        made = {"made": f"cluster {number} of {labels.max() + 1}", "cluster": number}
        sets[number] = NeuronSet.from_boolean(found.index, labels == number, f"cluster {number}", model, {**made, **provenance})
    return sets
