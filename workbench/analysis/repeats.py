"""Intervals that hold for more than one checkpoint: several runs (seeds of an eraser, a mask or an attack) on the same units.

Definitions: docs/reference/definitions.md#several-runs.

Intervals over units alone say what other prompts would give with this very checkpoint and this very attack. Runs differ too, and a
few of them say little of how much: both are taken into account, each by the degrees of freedom it has.

mean_over_runs         a mean, such as a rate, over runs and units
rate_over_runs         the same of successes, as Wilson's interval, so that a rate of 0 or 1 has a width
difference_over_runs   of two sides, each with runs of its own, paired by unit
ratio_over_runs        of two such sides, or of changes over a scale that all runs share
p_over_runs            whether a mean over runs and units is 0

Values are (run, unit). Where runs are nested (attacks repeated on each of several erasers), give the mean over the inner runs as one
run: what differs within it is part of what differs between them.

    y_ru = mu + run_r + unit_u + rest_ru
    Var(mean) = S_run^2 / R + S_unit^2 / n - S_rest^2 / (R n)      S^2: variances of run means, of unit means, and of the residuals
    degrees of freedom by Satterthwaite: V^2 / ( (S_run^2 / R)^2 / (R - 1) + (S_unit^2 / n)^2 / (n - 1) )

Source   Searle, Casella and McCulloch 1992, Variance Components (two crossed factors); Satterthwaite 1946
"""

import numpy as np
from scipy import stats

from workbench.errors import StatisticsError
from workbench.statistics import Interval, score_interval, t_quantile


def mean_over_runs(values, confidence=0.95):
    """Interval of the mean of values (run, unit) over runs and units; with one run, the t interval over units."""
    values = _checked(values)
    return _interval(float(values.mean()), [values], confidence)


def rate_over_runs(success, confidence=0.95):
    """Interval of a rate over runs and units: Wilson's at the effective number of trials p (1 - p) / Var(mean), with t for 1.96.

    success   (run, unit) successes, or the share of a unit's images. A rate of 0 or 1 counts as one trial a unit
    """
    values = _checked(success)
    p, n = float(values.mean()), values.shape[1]
    variance, freedom = _variance([values])
    if p in (0, 1) or variance <= 0:
        effective, freedom = n, n - 1
    else:
        effective = min(p * (1 - p) / variance, values.size)
    return Interval(p, *score_interval(p, effective, t_quantile(freedom, confidence)), n, variance**0.5)


def difference_over_runs(a, b, confidence=0.95):
    """Interval of mean(b) - mean(a); a, b (run, unit) on the same units, each with its own runs."""
    a, b = _checked(a), _checked(b)
    return _interval(float(b.mean() - a.mean()), [-a, b], confidence)


def ratio_over_runs(numerator, denominator, confidence=0.95):
    """Interval of mean(numerator) / mean(denominator), linear in small deviations.

    numerator     (run, unit)
    denominator   (run, unit) with runs of its own, or (unit,) where every run has the same, such as the base model's scale
    Raises        StatisticsError where the denominator is 0 on average
    """
    top, bottom = _checked(numerator), _checked(np.atleast_2d(denominator))
    size = bottom.mean()
    if size == 0:
        raise StatisticsError("The denominator is 0 on average; a ratio to it is undefined.")
    ratio = float(top.mean() / size)
    sides = [(top - ratio * bottom) / size] if len(bottom) == 1 else [top / size, -ratio * bottom / size]
    return _interval(ratio, sides, confidence)


def p_over_runs(values):
    """Two-sided p of mean(values) = 0, values (run, unit): Student's t of mean / SE with the degrees of freedom of the interval.

    Below 0.05 where the interval of `mean_over_runs` leaves out 0. 1 where all values are 0; where all are one other value, so that
    there is no SE, that of flipped signs: 2 of the 2^n patterns are as extreme.
    """
    values = _checked(values)
    value, (variance, freedom) = float(values.mean()), _variance([values])
    if variance <= 0:
        return 1.0 if value == 0 else 2.0 ** (1 - values.shape[1])
    return float(2 * stats.t.sf(abs(value) / variance**0.5, freedom))


def _checked(values):
    values = np.asarray(values, float)
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        raise StatisticsError(f"Values of several runs are (run, unit) with at least 2 units; found {values.shape}.")
    if not np.isfinite(values).all():
        raise StatisticsError("Some values of the runs are not finite, so that they have no mean.")
    return values


def _interval(value, sides, confidence):
    variance, freedom = _variance(sides)
    reach = t_quantile(freedom, confidence) * variance**0.5
    return Interval(value, value - reach, value + reach, sides[0].shape[1], variance**0.5)


def _variance(sides):
    """(variance, degrees of freedom) of the sum of the means of several sides (run, unit), on the same units but with their own runs."""
    units = {side.shape[1] for side in sides}
    if len(units) != 1:
        raise StatisticsError(f"Sides on {sorted(units)} units do not pair.")
    n = units.pop()
    parts = [(sum(side.mean(axis=0) for side in sides).var(ddof=1) / n, n - 1)]
    rest = 0.0
    for side in sides:
        n_runs = len(side)
        if n_runs > 1:
            parts.append((side.mean(axis=1).var(ddof=1) / n_runs, n_runs - 1))
            residual = side - side.mean(axis=0) - side.mean(axis=1, keepdims=True) + side.mean()
            rest += (residual**2).sum() / ((n - 1) * (n_runs - 1)) / (n * n_runs)
    variance = max(sum(part for part, _ in parts) - rest, *(part for part, _ in parts))
    if variance <= 0:
        return 0.0, n - 1
    return variance, variance**2 / sum(part**2 / freedom for part, freedom in parts)
