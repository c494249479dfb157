"""Rates: what the detector sees in the images of each condition.

b successes without attack among N prompts, k prompts that only the attack brings back:
pre_asr = b / N        asr = (b + k) / N        asr_fail = k / (N - b)        (SCIENCE 6)

With one image per unit the intervals are Wilson's; with several, whole units are resampled (SCIENCE 2.6). A rate of 0 or 1
has nothing to resample: there the interval is Wilson's for as many trials as there are units. n counts images, n_units units.
"""

import numpy as np
from scipy import stats

from workbench.errors import StatisticsError
from workbench.statistics import bootstrap_means, detectable, mcnemar, mcnemar_power, swap_p, wilson

MISSING = {"n": 0, "n_units": 0, "successes": None, "rate": None, "low": None, "high": None}
RELATIVE_CUT = 0.4
POWER = 0.8


def rate(successes, n, reason=None):
    """{n, n_units, successes, rate, low, high, reason} of images of different units, with the Wilson interval.

    Nulls and a reason when there are no images.
    """
    if n == 0:
        return MISSING | {"reason": reason or "no prompts"}
    found = wilson(int(successes), int(n))
    row = {"n": int(n), "n_units": int(n), "successes": int(successes)}
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
    n_units = len(set(np.asarray(units)[among]))
    row = {"n": n, "n_units": n_units, "successes": successes}
    if successes in (0, n):
        found = wilson(n_units if successes else 0, n_units)
    elif n_units < 2:
        return row | {"rate": None, "low": None, "high": None, "reason": "all images are of one unit, which cannot be resampled"}
    else:
        found = bootstrap_means(np.divide, units, success & among, among)
    return row | {"rate": successes / n, "low": found.low, "high": found.high, "reason": None}


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

    McNemar's test takes pairs as independent. With several images per unit its p and the power are null, the intervals are a
    bootstrap, and p_permutation (null otherwise) swaps the two variants in whole units; `reason` says so.
    """
    a, b = _paired(a, b)
    power = mcnemar_power(float(a.mean()), RELATIVE_CUT, len(a)) if a.any() else None
    row = mcnemar(a, b) | {"n_units": len(a), "p_permutation": None, "power": power, "reason": None}
    row["relative_low"], row["relative_high"] = relative_interval(row["both"], row["only_a"], row["only_b"])
    if _several(units):
        found = bootstrap_means(lambda x, y: y - x, units, a, b)
        row |= {"n_units": found.n, "low": found.low, "high": found.high, "power": None}
        row |= {"p_mcnemar": None, "p_permutation": swap_p(a, b, units)}
        if a.any():
            ratio = bootstrap_means(lambda x, y: y / x - 1, units, a, b)
            row |= {"relative_low": ratio.low, "relative_high": ratio.high}
        row["reason"] = "several images per unit are not independent pairs: interval by bootstrap, p by swapping whole units"
    return labels | row


def with_detectable(row, only_first, rise):
    """The row of a paired comparison with `detectable`: the change of the first rate that is found with the power POWER.

    only_first   the column that counts successes of the first alone;  rise   look for a rise of its rate, else for a cut
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
    why = f"the first rate is {end}, there is nothing to {'gain' if rise else 'cut'}" if first == end else None
    why = why or f"on {n} units even {'a rise to 100 %' if rise else 'a cut to 0'} would be found with less power than {POWER}"
    return row | {"detectable": None, "reason": f"{row['reason']}; {why}" if row["reason"] else why}


def relative_interval(both, only_a, only_b, confidence=0.95):
    """(low, high) of the relative difference p_b / p_a - 1 of paired rates; (None, None) when a never succeeds.

    Wilson intervals (l, u) of both rates among the prompts where either succeeds, at a confidence that makes up for their pairing:
    low = l_b / u_a - 1,   high = u_b / l_a - 1

    Source   Bonett and Price 2006, Statistics in Medicine 25, 3039
    """
    n, a, b = both + only_a + only_b, both + only_a, both + only_b
    if a == 0:
        return None, None
    apart = np.sqrt((only_a + only_b + 2) / ((a + 1) * (b + 1)))
    alone = sum(np.sqrt((1 - (x + 1) / (n + 2)) / (x + 1)) for x in (a, b))
    z = apart / alone * stats.norm.ppf(0.5 + confidence / 2)
    one, two = (wilson(x, n, 2 * stats.norm.cdf(z) - 1) for x in (a, b))
    return two.low / one.high - 1, two.high / one.low - 1


def _several(units):
    return units is not None and len(set(units)) < len(units)


def _paired(a, b):
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise StatisticsError(f"{len(a)} and {len(b)} images do not pair; give both conditions on the same prompts.")
    return a, b
