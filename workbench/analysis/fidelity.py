"""Fidelity: do cheap scores say what happens when neurons are really taken out? Like with like.

Definitions: docs/reference/definitions.md#fidelity.

one_by_one   scores per neuron against gating that neuron alone, on a fixed random sample and on the top of the list
by_sets      sums of scores against gating whole random sets (Pearson). CAD asked the same of random sets of weights, under its own
             objective and on another model, so that its figure is none to compare with
agreement    Spearman and Pearson, with intervals that resample units and neurons (or sets) together
"""

import numpy as np
import pandas
from scipy import stats

from workbench.analysis.attribution import attribute
from workbench.analysis.gated import partitions, single
from workbench.errors import StatisticsError
from workbench.statistics import interval, unit_weights


def agreement(predicted, true, n_resamples=1000, seed=0):
    """How well predictions go with the truth, over neurons or sets.

    Shapes    predicted, true (unit, neuron); the point values compare means over units
    returns   {n_units, n_neurons, spearman, spearman_low, spearman_high, pearson, ...}; each resample draws units and neurons
    Raises    StatisticsError for unlike shapes, fewer than 3 neurons, or a constant
    """
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise StatisticsError(f"Predictions {predicted.shape} and truth {true.shape} do not pair; both are (unit, neuron).")
    n_units, n = predicted.shape
    if n < 3:
        raise StatisticsError(f"{n} neurons are too few for a correlation; give at least 3.")
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.full(n_units, 1 / n_units), unit_weights(n_units, n_resamples, seed)]) if n_units > 1 else np.ones((1, 1))
    drawn = np.vstack([np.arange(n), rng.integers(n, size=(n_resamples, n))])
    a, b = (np.take_along_axis(np.broadcast_to(weights @ x, drawn.shape), drawn, axis=1) for x in (predicted, true))
    if min(np.ptp(a[0]), np.ptp(b[0])) == 0:
        raise StatisticsError("Predictions or truth are the same for every neuron; a correlation is undefined.")
    row = {"n_units": n_units, "n_neurons": n}
    for name, (x, y) in {"spearman": (stats.rankdata(a, axis=1), stats.rankdata(b, axis=1)), "pearson": (a, b)}.items():
        values = _correlation(x, y)
        found = interval(values[0], values[1:], n)
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def one_by_one(model, layers, items, target, methods, n_sample=200, n_top=50, *, baseline=None, both=False, batch=8, seed=0):
    """Scores per neuron against the exact ablation of single neurons, on the same items and target.

    methods   {label: (method, settings)} of attribution.attribute
    returns   data frame: method, where (sample | top), the columns of `agreement`, passes (forward + backward per item).
              The sample is drawn once; the top are the neurons with the largest sizes by the first method.
    baseline, both   as of `attribute`, for scores and truth alike
    """
    n_neurons = sum(layer.n_neurons for layer in layers)
    sample = np.sort(np.random.default_rng(seed).choice(n_neurons, min(n_sample, n_neurons), replace=False))
    common = {"baseline": baseline, "both": both, "batch": batch, "seed": seed}
    found, where = {}, {"sample": sample}
    for label, (method, settings) in methods.items():
        made = attribute(model, layers, items, target, method, watch=range(n_neurons), **common, **settings)
        if "top" not in where:
            where["top"] = np.argsort(-made.scores["value"].abs().to_numpy(), kind="stable")[:n_top]
        at = np.union1d(sample, where["top"])
        found[label] = {neuron: made.watched[neuron] for neuron in at}, made
    at = np.union1d(sample, where["top"])
    exact = attribute(model, layers, items, target, "ablation", columns=single(n_neurons, at), watch=range(len(at)), **common)
    true = dict(zip(at, exact.watched.values(), strict=True))
    rows = []
    for label, (scores, made) in found.items():
        for name, neurons in where.items():
            pairs = (np.stack([values[neuron] for neuron in neurons], axis=1) for values in (scores, true))
            rows.append({"method": label, "target": made.target, "where": name} | agreement(*pairs, seed=seed) | _cost(made))
    return pandas.DataFrame(rows)


def by_sets(model, layers, items, target, methods, share=0.01, n_sets=200, *, baseline=None, both=False, batch=8, seed=0):
    """Sums of scores over random sets against gating the whole set.

    share     of all neurons, in each set; sets are drawn without regard to layers
    returns   data frame as of `one_by_one`, with share
    """
    n_neurons = sum(layer.n_neurons for layer in layers)
    lists = partitions(n_neurons, max(1, round(share * n_neurons)), n_sets, seed)
    common = {"baseline": baseline, "both": both, "batch": batch, "seed": seed}
    true = []
    for columns in lists:
        n = columns.max() + 1
        made = attribute(model, layers, items, target, "ablation", columns=columns, watch=range(n), **common)
        true.append(np.stack([made.watched[column] for column in range(n)], axis=1))
    true, rows = np.concatenate(true, axis=1), []
    for label, (method, settings) in methods.items():
        made = attribute(model, layers, items, target, method, watch=range(n_neurons), **common, **settings)
        scores = np.stack([made.watched[neuron] for neuron in range(n_neurons)], axis=1)
        sums = [scores[:, columns == column].sum(axis=1) for columns in lists for column in range(columns.max() + 1)]
        found = agreement(np.stack(sums, axis=1), true, seed=seed)
        found["n_sets"] = found.pop("n_neurons")
        rows.append({"method": label, "target": made.target, "share": share} | found | _cost(made))
    return pandas.DataFrame(rows)


def _correlation(a, b):
    """Pearson of each pair of rows; NaN where one is constant."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)), -1, 1)


def _cost(made):
    return {"passes": round(made.passes["forward"] + made.passes["backward"], 2)}
