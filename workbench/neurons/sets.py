"""Neuron sets: named, saved, reusable. Positions count through all recorded layers in their order.

A set is a boolean array over `index`, a table with columns layer, index, site.
"""

import numpy as np
import pandas


def index_table(layers):
    """Data frame (one row per neuron): layer, index within the layer, site."""
    rows = [pandas.DataFrame({"layer": layer.path, "index": np.arange(layer.n_neurons), "site": layer.site.name}) for layer in layers]
    return pandas.concat(rows, ignore_index=True)


def by_layer(index, chosen):
    """{layer path: sorted neuron indices} of a boolean array over the index table."""
    rows = index[np.asarray(chosen, bool)]
    return {layer: np.sort(group["index"].to_numpy()) for layer, group in rows.groupby("layer", sort=True)}


def top(score, share, within):
    """Boolean array: the highest `share` of the scores among the positions where `within` is true.

    Ties and NaN are never chosen beyond the count; at least one neuron is chosen.
    """
    score = np.where(within, np.nan_to_num(score, nan=-np.inf), -np.inf)
    n = max(1, round(share * int(np.sum(within))))
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score, kind="stable")[:n]] = True
    return chosen & np.isfinite(score)


def halve(chosen, score, seed):
    """Split a set into two of equal size and like scores (alternating down the ranking): one to prune, one to watch.

    returns   (prune, watch) boolean arrays; in each pair of neighbours in rank a coin decides who is pruned
    """
    order = np.flatnonzero(chosen)
    order = order[np.argsort(-np.asarray(score)[order], kind="stable")]
    coin = np.random.default_rng(seed).random((len(order) + 1) // 2) < 0.5
    prune = np.zeros(len(chosen), bool)
    for pair, first in enumerate(coin):
        rank = 2 * pair + (0 if first else 1)
        if rank < len(order):
            prune[order[rank]] = True
    return prune, np.asarray(chosen, bool) & ~prune
