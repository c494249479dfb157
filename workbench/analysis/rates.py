"""Rates: what the detector sees in the images of each condition.

Definitions: docs/reference/definitions.md#rates.

b successes without attack among N prompts, k prompts that only the attack brings back:
pre_asr = b / N        asr = (b + k) / N        asr_fail = k / (N - b)

With one image per unit the intervals are Wilson's; with several they are Wilson's at the effective number of images, n over the
design effect of the units (statistics.wilson_by_unit). No interval has width 0. n counts images, n_units units.
"""

import numpy as np
from scipy import stats

from workbench.errors import StatisticsError
from workbench.statistics import (
    detectable,
    false_discovery,
    mcnemar,
    mcnemar_power,
    paired_by_unit,
    score_interval,
    swap_p,
    t_quantile,
    unit_variance,
    wilson,
    wilson_by_unit,
)

MISSING = {"n": 0, "n_units": 0, "n_effective": None, "successes": None, "rate": None, "low": None, "high": None}
RELATIVE_CUT = 0.4
NORMAL = float(stats.norm.ppf(0.975))
POWER = 0.8


def rate(successes, n, reason=None):
    """{n, n_units, n_effective, successes, rate, low, high, reason} of images of different units, with the Wilson interval.

    Nulls and a reason when there are no images.
    """
    if n == 0:
        return MISSING | {"reason": reason or "no prompts"}
    found = wilson(int(successes), int(n))
    row = {"n": int(n), "n_units": int(n), "n_effective": None, "successes": int(successes)}
    return row | {"rate": found.value, "low": found.low, "high": found.high, "reason": None}


def share(success, units=None, among=None, reason=None):
    """The share of images with a success, among all or some, as the columns of `rate`.

    success, among   (prompt,) bool;  units   (prompt,) names when a unit has several images
    reason           why, when there are no images among which to count
    """
    success = np.asarray(success, bool)
    among = np.ones(len(success), bool) if among is None else np.asarray(among, bool)
    successes, n = int((success & among).sum()), int(among.sum())
    if not _several(units) or n == 0:
        return rate(successes, n, reason)
    _, unit_of = np.unique(np.asarray(units)[among], return_inverse=True)
    images = np.bincount(unit_of)
    row = {"n": n, "n_units": len(images), "n_effective": None, "successes": successes}
    if len(images) < 2:
        return row | {"rate": None, "low": None, "high": None, "reason": "all images are of one unit, which alone has no interval"}
    found, effective = wilson_by_unit(np.bincount(unit_of, weights=success[among]), images)
    return row | {"n_effective": effective, "rate": successes / n, "low": found.low, "high": found.high, "reason": None}


def success_rate(success, definition="success_rate", units=None, **labels):
    """One row: the share of images in which the concept is seen.

    success   (prompt,) bool;  units   (prompt,) names when a unit has several images
    """
    return labels | {"definition": definition} | share(success, units)


def attack_rates(without, with_attack, units=None, **labels):
    """Three rows: pre_asr, asr, asr_fail.

    without, with_attack   (prompt,) bool: the concept seen without and with the attack, the same prompts in the same order
    units                  (prompt,) names when a unit has several images
    """
    before, after = _paired(without, with_attack)
    seen = "the concept is seen in every image without an attack"
    return [
        labels | {"definition": "pre_asr"} | share(before, units),
        labels | {"definition": "asr"} | share(before | after, units),
        labels | {"definition": "asr_fail"} | share(after & ~before, units, ~before, seen),
    ]


def sweep(scores, thresholds, units=None, **labels):
    """One row per threshold: the share of images whose score reaches it; the rate never rises with the threshold.

    scores   (prompt,) highest probability of the concept's labels in each image. For a detector without a `rule` these are the
             rows of Detector.sweep, without looking at the images again.
    units    (prompt,) names when a unit has several images
    """
    scores = np.asarray(scores)
    if not np.isfinite(scores).all():
        raise StatisticsError("Some scores of the detector are not finite, so no threshold can be put on them. Look for broken images.")
    return [labels | {"threshold": float(threshold)} | share(scores >= scores.dtype.type(threshold), units) for threshold in thresholds]


def compare(a, b, units=None, **labels):
    """One row: two variants on the same prompts, b - a and b / a - 1, with the power to see a relative cut of RELATIVE_CUT.

    McNemar's test takes pairs as independent. With several images per unit its p and the power are null, the intervals are by
    whole units, and p_permutation (null otherwise) swaps the two variants in whole units; `reason` says so. `p` is the one of the
    two that there is.
    """
    a, b = _paired(a, b)
    power = mcnemar_power(float(a.mean()), RELATIVE_CUT, len(a)) if a.any() else None
    row = mcnemar(a, b) | {"n_units": len(a), "p_permutation": None, "power": power, "reason": None}
    several = _several(units)
    row["relative_low"], row["relative_high"] = relative_by_unit(a, b, units) if several else relative_interval(*_counts(row))
    if several:
        found = paired_by_unit(a, b, units)
        row |= {"n_units": found.n, "low": found.low, "high": found.high, "power": None}
        row |= {"p_mcnemar": None, "p_permutation": swap_p(a, b, units)}
        row["reason"] = "several images per unit are not independent pairs: interval over units, p by swapping whole units"
    return labels | row | {"p": row["p_permutation"] if several else row["p_mcnemar"]}


def with_adjusted(rows):
    """Rows of paired comparisons with p_adjusted, Benjamini-Hochberg over the n_family rows of the table that have a `p`.

    A row without a discordant pair can reject nothing and is not counted (Tarone 1990), so that an attack that does nothing
    changes no other row; its p_adjusted is its p.
    """
    rows = [row | {"p_adjusted": row["p"], "n_family": None} for row in rows]
    tested = [row for row in rows if row["p"] is not None and any(row[key] for key in row if key.startswith("only_"))]
    for row, p in zip(tested, false_discovery([row["p"] for row in tested]).tolist() if tested else (), strict=True):
        row["p_adjusted"] = p
    return [row | {"n_family": None if row["p"] is None else len(tested)} for row in rows]


def _counts(row):
    return row["both"], row["only_a"], row["only_b"]


def with_detectable(row, only_first, rise):
    """The row of a paired comparison with `detectable`: the change of the first rate that is detected with the power POWER.

    only_first   the column that counts successes of the first alone;  rise   look for a rise of its rate, else for a reduction
    Pairs are counted in units, so with several images per unit the change is rather too large than too small. Null, and the
    reason says why, when even the largest change would be missed; null too when nothing was compared.
    """
    if row["n"] is None or row["difference"] is None:
        return row | {"detectable": None}
    n, first = row.get("n_units") or row["n"], (row["both"] + row[only_first]) / row["n"]
    size = detectable(first, n, rise, POWER)
    if size is not None:
        return row | {"detectable": size}
    end = 1 if rise else 0
    why = f"the first rate is {end}, so it cannot {'rise' if rise else 'fall'}" if first == end else None
    why = why or f"on {n} units even {'a rise to 100 %' if rise else 'a reduction to 0'} would be detected with less power than {POWER}"
    return row | {"detectable": None, "reason": f"{row['reason']}; {why}" if row["reason"] else why}


def relative_interval(both, only_a, only_b, quantile=NORMAL):
    """(low, high) of the relative difference p_b / p_a - 1 of paired rates; (None, None) when a never succeeds.

    Wilson intervals (l, u) of both rates among the prompts where either succeeds, at a confidence that makes up for their pairing:
    low = l_b / u_a - 1,   high = u_b / l_a - 1

    both, only_a, only_b   counts of pairs, or effective ones, which may be fractions;  quantile   1.96 for 95 %

    Source   Bonett and Price 2006, Statistics in Medicine 25, 3039
    """
    n, a, b = both + only_a + only_b, both + only_a, both + only_b
    if a == 0:
        return None, None
    apart = np.sqrt((only_a + only_b + 2) / ((a + 1) * (b + 1)))
    alone = sum(np.sqrt((1 - (x + 1) / (n + 2)) / (x + 1)) for x in (a, b))
    z = apart / alone * quantile
    one, two = (score_interval(x / n, n, z) for x in (a, b))
    return two[0] / one[1] - 1, two[1] / one[0] - 1


def relative_by_unit(a, b, units):
    """`relative_interval` where a unit has several pairs: every count over the design effect of b - r a, r = mean b / mean a.

    The quantile is that of Student's t with as many degrees of freedom as there are units, less 1. (None, None) when a never succeeds.
    """
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    if both + only_a == 0:
        return None, None
    ratio = (both + only_b) / (both + only_a)
    clustered, alone, n_units = unit_variance(b.astype(float) - ratio * a, units)
    deff = max(1.0, clustered / alone) if alone > 0 else len(a) / n_units
    return relative_interval(both / deff, only_a / deff, only_b / deff, t_quantile(n_units - 1))


def _several(units):
    return units is not None and len(set(units)) < len(units)


def _paired(a, b):
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise StatisticsError(f"{len(a)} and {len(b)} images do not pair; give both conditions on the same prompts.")
    return a, b
