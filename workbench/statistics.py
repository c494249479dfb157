"""Statistics of every result; arrays in, numbers out.

wilson                 interval of a rate
unit_weights           bootstrap weights over units, shared by all quantities so that pairs stay together
interval               percentile interval of resampled values
mcnemar, mcnemar_power paired comparison of two rates
split_halves           choose on one half of the units, measure on the other
matched_random_sets    as many neurons per layer, outside the set
permutation_p, iou, iou_chance, false_discovery
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from workbench.errors import StatisticsError


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval and the count behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes, n, confidence=0.95):
    """Wilson score interval of successes / n.

    Raises   StatisticsError for n = 0 or counts that cannot be
    Source   Wilson 1927; SCIENCE 6
    """
    if n <= 0:
        raise StatisticsError("A rate of no trials was asked for; it is undefined, not 0.")
    if not 0 <= successes <= n:
        raise StatisticsError(f"{successes} successes among {n} trials cannot be.")
    z = stats.norm.ppf(0.5 + confidence / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(p, float(min(p, max(0.0, (centre - spread) / scale))), float(max(p, min(1.0, (centre + spread) / scale))), n)


def unit_weights(n_units, n_resamples, seed):
    """Bootstrap weights (resample, unit): how often each unit was drawn, divided by the number of units.

    weights @ values averages a resample; using one matrix for all quantities keeps the pairs of a unit together.
    """
    if n_units < 2:
        raise StatisticsError(f"{n_units} unit cannot be resampled; at least 2 are needed.")
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples) / n_units


def interval(value, resampled, n, confidence=0.95):
    """Percentile interval; non-finite resamples are left out."""
    resampled = np.asarray(resampled, float)
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled) or not np.isfinite(value):
        raise StatisticsError("No finite resample: the quantity is undefined on this data.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)), int(n))


def mcnemar(a, b, confidence=0.95):
    """Paired comparison of two boolean arrays on the same prompts.

    returns  dict both, only_a, only_b, neither, difference (b - a), low, high, relative_difference (None when a never
             succeeds), p_mcnemar (exact, two-sided), n
    Source   McNemar 1947, exact binomial form; interval of the difference: Wald with Agresti-Min 2005 adjustment (0.5 a cell)
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or not len(a):
        raise StatisticsError(f"Paired rates need equal, non-empty arrays, not {a.shape} and {b.shape}.")
    n = len(a)
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    p = stats.binomtest(only_b, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    m, up, down = n + 2, only_b + 0.5, only_a + 0.5
    z = stats.norm.ppf(0.5 + confidence / 2)
    centre = (up - down) / m
    spread = z * np.sqrt(up + down - (up - down) ** 2 / m) / m
    difference = (only_b - only_a) / n
    return {
        "n": n,
        "both": both,
        "only_a": only_a,
        "only_b": only_b,
        "neither": n - both - only_a - only_b,
        "difference": difference,
        "low": float(max(-1.0, min(difference, centre - spread))),
        "high": float(min(1.0, max(difference, centre + spread))),
        "relative_difference": float(b.mean() / a.mean() - 1) if a.any() else None,
        "p_mcnemar": float(p),
    }


def mcnemar_power(rate, relative_cut, n, alpha=0.05, n_simulations=4000, seed=0):
    """Chance that the exact McNemar test finds a relative cut of a rate, the cut prompts being a subset of the successes."""
    rng = np.random.default_rng(seed)
    lost = rng.binomial(n, min(1.0, rate * relative_cut), n_simulations)
    p = np.array([stats.binomtest(0, k, 0.5).pvalue if k else 1.0 for k in range(n + 1)])
    return float((p[lost] < alpha).mean())


def false_discovery(p):
    """Benjamini-Hochberg adjusted p values (Benjamini and Hochberg 1995)."""
    return stats.false_discovery_control(np.asarray(p, float), method="bh")


def split_halves(units, seed):
    """Boolean array (row,): half A. All rows of a unit fall into one half; the halves differ by at most one unit."""
    names = sorted(set(units))
    if len(names) < 2:
        raise StatisticsError(f"{len(names)} unit cannot be split into halves.")
    order = np.random.default_rng(seed).permutation(len(names))
    half = {names[i] for i in order[: len(names) // 2]}
    return np.array([unit in half for unit in units])


def matched_random_sets(chosen, layer, n_sets, seed, exclude=None):
    """(set, neuron) boolean: random sets outside `chosen` (and `exclude`), with as many neurons in every layer.

    Raises   StatisticsError when a layer has too few other neurons
    """
    chosen, layer = np.asarray(chosen, bool), np.asarray(layer)
    free = ~chosen if exclude is None else ~(chosen | np.asarray(exclude, bool))
    rng = np.random.default_rng(seed)
    sets = np.zeros((n_sets, len(chosen)), bool)
    for name in np.unique(layer[chosen]):
        n = int((chosen & (layer == name)).sum())
        pool = np.flatnonzero(free & (layer == name))
        if len(pool) < n:
            raise StatisticsError(
                f'Layer "{name}" has {len(pool)} neurons outside the set, too few for random sets of {n}. Choose a smaller share.'
            )
        for row in sets:
            row[rng.choice(pool, n, replace=False)] = True
    return sets


def permutation_p(value, null):
    """(1 + null values at least as far from the null's median) / (1 + K), two-sided."""
    null = np.asarray(null, float)
    centre = np.median(null)
    return float((1 + np.sum(np.abs(null - centre) >= abs(value - centre))) / (1 + len(null)))


def iou(a, b):
    """|A and B| / |A or B| of boolean arrays; StatisticsError when both are empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if not (a | b).any():
        raise StatisticsError("The overlap of two empty sets is undefined.")
    return float((a & b).sum() / (a | b).sum())


def iou_chance(share):
    """About what two random sets of a share of all neurons overlap: q / (2 - q)."""
    return share / (2 - share)
