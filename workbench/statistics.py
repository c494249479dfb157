"""Statistics of every result; arrays in, numbers out.

wilson                 interval of a rate; wilson_by_unit: where a unit has several images
jackknife              t interval of a function of means, one unit left out at a time: what activity and differences rest on
sign_flip_p            is the mean of paired differences 0? signs of units flipped at random
unit_weights           bootstrap weights over units, shared by all quantities so that pairs stay together
bootstrap_means        bootstrap interval of a function of means, whole units resampled by weights
interval               percentile interval of resampled values
unit_means             average the rows of each unit first, where units are what counts
mcnemar, mcnemar_power paired comparison of two rates
paired_by_unit         interval of their difference where a unit has several pairs; swap_p: the test
detectable             the smallest change such a comparison would have found
split_halves           choose on one half of the units, measure on the other
matched_random_sets    as many neurons per layer, outside the set
permutation_p, iou, iou_chance, false_discovery
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when a function first asks for one

from workbench.errors import StatisticsError

Array = npt.NDArray[Any]
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval and the count behind it.

    se          standard error, of intervals that rest on one; else None
    undefined   resamples that were not finite and were left out
    """

    value: float
    low: float
    high: float
    n: int
    se: float | None = None
    undefined: int = 0


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of successes / n, by scipy.

    Raises   StatisticsError for n = 0 or counts that cannot be
    Source   Wilson 1927
    """
    if n <= 0:
        raise StatisticsError("A rate of no trials was asked for; it is undefined, not 0.")
    if not 0 <= successes <= n:
        raise StatisticsError(f"{successes} successes among {n} trials cannot be.")
    p = successes / n
    found = scipy.stats.binomtest(int(successes), int(n)).proportion_ci(confidence, "wilson")
    return Interval(p, float(min(p, found.low)), float(max(p, found.high)), int(n))


def wilson_by_unit(successes: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[Interval, float]:
    """(Interval, effective n) of a rate whose units have several images: Wilson's at the effective number of images.

    p = sum x_u / sum n_u,   V = m / (m - 1) sum_u (x_u - p n_u)^2 / (sum n_u)^2,   deff = max(1, V / (p (1 - p) / sum n_u))
    The interval is Wilson's with sum n_u / deff trials and the t quantile of (m - 1) deff / (deff - 1) degrees of freedom: what
    V has beyond independent images, a share of (deff - 1) / deff, is known from m units only. A rate of 0 or 1 shows no spread:
    it counts as m trials. Never of width 0.

    Shapes   successes, n (unit,) images with and images in all, n >= 1;  m units, at least 2
    Source   Korn and Graubard 1998, Survey Methodology 24 (effective size, t); the degrees of freedom are ours, chosen by coverage
    """
    successes, n = np.asarray(successes, float), np.asarray(n, float)
    m, images = len(n), n.sum()
    if m < 2 or (n < 1).any() or (successes < 0).any() or (successes > n).any():
        raise StatisticsError(f"A rate over {m} units was asked for; it takes at least 2 units, each with images.")
    p = successes.sum() / images
    variance = m / (m - 1) * ((successes - p * n) ** 2).sum() / images**2
    if p in (0, 1):
        effective, quantile = m, scipy.special.ndtri(0.5 + confidence / 2)
    else:
        deff = max(1.0, variance / (p * (1 - p) / images))
        effective = images / deff
        quantile = t_quantile((m - 1) * deff / (deff - 1), confidence) if deff > 1 else scipy.special.ndtri(0.5 + confidence / 2)
    low, high = score_interval(p, effective, quantile)
    return Interval(float(p), low, high, m), float(effective)


def score_interval(p: float, n: float, quantile: float) -> tuple[float, float]:
    """(low, high): the rates q with |p - q| <= quantile sqrt(q (1 - q) / n); n may be a fraction, as an effective number is."""
    square = quantile * quantile
    centre = p + square / (2 * n)
    spread = quantile * np.sqrt(p * (1 - p) / n + square / (4 * n * n))
    low, high = (centre - spread) / (1 + square / n), (centre + spread) / (1 + square / n)
    return float(min(p, max(0.0, low))), float(max(p, min(1.0, high)))


def jackknife(
    function: Callable[..., npt.ArrayLike], units: Sequence[Hashable], *arrays: npt.ArrayLike, confidence: float = 0.95
) -> Interval:
    """t interval of a function of the arrays' means over rows, one whole unit left out at a time.

    t = f(mean x, mean y, ...),   t_u the same without unit u,   SE^2 = (m - 1) / m sum_u (t_u - mean t_.)^2
    interval = t +- quantile of Student's t with m - 1 degrees of freedom * SE

    Shapes     units (row,) names;  every array (row,)
    function   called with one (1 + m,) array of means per array, all units first; returns (1 + m,)
    Raises     StatisticsError for fewer than 2 units, and where the function is not finite on some of them
    Source     Tukey 1958; Efron and Tibshirani 1993, chapter 11. Of the ratios of this project it covers 93 to 97 % from 8 units
               on, where the percentile bootstrap covers 85 % (tests/test_statistics_coverage.py)
    """
    names, unit_of, columns = _by_unit(units, arrays)
    m = len(names)
    if m < 2:
        raise StatisticsError(f"{m} unit has no interval; at least 2 are needed.")
    size = np.bincount(unit_of)
    left = len(unit_of) - np.concatenate([[0], size])
    sums = (np.bincount(unit_of, weights=column.astype(float)) for column in columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(function(*((one.sum() - np.concatenate([[0.0], one])) / left for one in sums)), float)
    undefined = int((~np.isfinite(values[1:])).sum())
    if undefined or not np.isfinite(values[0]):
        raise StatisticsError(f"The quantity is undefined on this data, or without one unit ({undefined} of {m} units).")
    se = float(np.sqrt((m - 1) / m * ((values[1:] - values[1:].mean()) ** 2).sum()))
    value, reach = float(values[0]), t_quantile(m - 1, confidence) * se
    return Interval(value, value - reach, value + reach, m, se)


def t_quantile(freedom: float, confidence: float = 0.95) -> float:
    """How many standard errors a two-sided t interval reaches."""
    return float(scipy.special.stdtrit(freedom, 0.5 + confidence / 2))


FLIPS = 9999


def sign_flip_p(differences: npt.ArrayLike, alternative: Alternative = "two-sided", seed: int = 0) -> float:
    """p of paired differences when the sign of each unit's is flipped at random; by scipy.

    All 2^n flips up to n = 13, else 9,999 drawn ones, themselves counted in: (1 + as extreme) / (1 + 9999). Exact where the two
    conditions of a unit could have been exchanged, such as an attack that is no more than a second draw of its control.

    Shapes   differences (unit,), in any order
    Source   Fisher 1935; scipy.stats.permutation_test
    """
    differences = np.sort(np.asarray(differences, float))  # so that drawn flips do not depend on the order of units
    if len(differences) < 2 or not np.isfinite(differences).all():
        raise StatisticsError(f"Signs of {len(differences)} units were to be flipped; it takes at least 2 finite differences.")
    if not differences.any():
        return 1.0
    found = scipy.stats.permutation_test(
        (differences,), _total, permutation_type="samples", vectorized=True, n_resamples=FLIPS, alternative=alternative, rng=seed
    )
    return float(min(1.0, found.pvalue))


def _total(values: Array, axis: int = -1) -> Array:
    return values.sum(axis=axis)


def flip_signs(n: int, n_draws: int = FLIPS, seed: int = 0) -> tuple[Array, bool]:
    """(signs (flip, unit) of -1 and 1, whether these are all there are): every one of 2^n where they are at most n_draws + 1, else drawn.

    For testing many quantities by the same flips in one matrix product, which scipy does not do; `sign_flip_p` is the test of one.
    """
    if 2**n <= n_draws + 1:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1), True
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n_draws, n)), False


def unit_weights(n_units: int, n_resamples: int, seed: int) -> Array:
    """Bootstrap weights (resample, unit): how often each unit was drawn, divided by the number of units.

    weights @ values averages a resample; using one matrix for all quantities keeps the pairs of a unit together.
    """
    if n_units < 2:
        raise StatisticsError(f"{n_units} unit cannot be resampled; at least 2 are needed.")
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples) / n_units


def unit_means(units: Sequence[Hashable], values: Array) -> Array:
    """(unit, ...) mean of the rows of each unit, units by their first row; with one row per unit `values` as they are.

    Shapes   units (row,) names;  values (row, ...), summed in float64, floats keep their dtype
    """
    names, unit_of = _numbered(units)
    if len(unit_of) != len(values):
        raise StatisticsError(f"{len(values)} values do not pair with {len(unit_of)} units; give one unit per row.")
    if len(names) == len(unit_of):
        return values
    values = np.asarray(values)
    means = np.stack([values[unit_of == unit].mean(axis=0, dtype=np.float64) for unit in range(len(names))])
    return means.astype(values.dtype) if np.issubdtype(values.dtype, np.floating) else means


def _numbered(units: Sequence[Hashable]) -> tuple[list[Hashable], Array]:
    """Names by first appearance, and the number of each row's."""
    number = {name: place for place, name in enumerate(dict.fromkeys(units))}
    return list(number), np.array([number[name] for name in units], int)


def bootstrap_means(
    function: Callable[..., Array],
    units: Sequence[Hashable],
    *arrays: npt.ArrayLike,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Bootstrap interval of a function of the arrays' means over rows, when whole units are resampled; pairs across arrays stay together.

    Shapes   units (prompt,) names;  every array (prompt,)
    function    called with one (1 + n_resamples,) array of means per array; returns (1 + n_resamples,)
    """
    names, unit_of, columns = _by_unit(units, arrays)
    weights = np.vstack([np.full(len(names), 1 / len(names)), unit_weights(len(names), n_resamples, seed)])
    size = weights @ np.bincount(unit_of)
    means = [weights @ np.bincount(unit_of, weights=column.astype(float)) / size for column in columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = function(*means)
    return interval(values[0], values[1:], len(names), confidence)


def _by_unit(units: Sequence[Hashable], arrays: Sequence[npt.ArrayLike]) -> tuple[Array, Array, list[Array]]:
    of_row, columns = np.asarray(units), [np.asarray(array) for array in arrays]
    if not len(of_row):
        raise StatisticsError("A bootstrap of no prompts was asked for; there is nothing to resample.")
    for column in columns:
        if len(column) != len(of_row):
            raise StatisticsError(f"{len(column)} values do not pair with {len(of_row)} units; give one unit per row.")
    names, unit_of = np.unique(of_row, return_inverse=True)
    return names, unit_of, columns


def interval(value: float, resampled: npt.ArrayLike, n: int, confidence: float = 0.95) -> Interval:
    """Percentile interval; resamples that are not finite are left out and counted in `undefined`."""
    resampled = np.asarray(resampled, float)
    finite = np.isfinite(resampled)
    undefined = int((~finite).sum())
    if not finite.any() or not np.isfinite(value):
        raise StatisticsError("No finite resample: the quantity is undefined on this data.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled[finite], [tail, 1 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)), int(n), undefined=undefined)


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95) -> dict[str, Any]:
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
    p = scipy.stats.binomtest(only_b, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    m, up, down = n + 2, only_b + 0.5, only_a + 0.5
    z = scipy.stats.norm.ppf(0.5 + confidence / 2)
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


def paired_by_unit(a: npt.ArrayLike, b: npt.ArrayLike, units: Sequence[Hashable], confidence: float = 0.95) -> Interval:
    """Interval of mean(b) - mean(a) where a unit has several pairs: jackknife t over units.

    Where every unit says the same, so that nothing is spread, it is Agresti-Min's of the units' mean differences d_u:
    centre = sum d_u / (m + 2),   SE^2 = ( (sum d_u^2 + 1) / (m + 2) - centre^2 ) / (m + 2)
    which is the interval of `mcnemar` for one pair a unit. Never of width 0.

    Shapes   a, b (row,) bool;  units (row,) names
    Source   Agresti and Min 2005, Statistics in Medicine 24
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    found = jackknife(lambda x: x, units, b.astype(float) - a, confidence=confidence)
    if found.se is not None and found.se > 1e-12:  # rounding is no spread
        return Interval(found.value, max(-1.0, found.low), min(1.0, found.high), found.n, found.se)
    m = found.n + 2
    centre = found.value * found.n / m
    spread = scipy.stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(((found.value**2 * found.n + 1) / m - centre**2) / m)
    low, high = max(-1.0, min(found.value, centre - spread)), min(1.0, max(found.value, centre + spread))
    return Interval(found.value, float(low), float(high), found.n, found.se)


def unit_variance(values: npt.ArrayLike, units: Sequence[Hashable]) -> tuple[float, float, int]:
    """(variance of the mean when whole units are drawn, when rows are, number of units) of values that sum to about 0.

    m / (m - 1) sum_u (sum of the values in u)^2 / n^2   and   sum of (value - mean)^2 / n^2;   m units, n rows. Their ratio is the
    design effect of the units.

    Shapes   values, units (row,)
    """
    values, (names, unit_of) = np.asarray(values, float), _numbered(units)
    m, n = len(names), len(values)
    if m < 2:
        raise StatisticsError(f"{m} unit has no variance; at least 2 are needed.")
    sums = np.bincount(unit_of, weights=values - values.mean())
    return float(m / (m - 1) * (sums**2).sum() / n**2), float(((values - values.mean()) ** 2).sum() / n**2), m


def swap_p(a: npt.ArrayLike, b: npt.ArrayLike, units: Sequence[Hashable]) -> float:
    """Two-sided p of a paired difference when the two sides of whole units are swapped at random; exact.

    d_u = sum over the rows of unit u of b - a;   p = P( |sum_u s_u d_u| >= |sum_u d_u| ),   s_u = -1 or 1 with equal chances

    The distribution of the sum is built up unit by unit. With one row per unit this is McNemar's exact test.

    Shapes   a, b (row,) bool;  units (row,) names
    Source   Fisher 1935 (randomisation of pairs), by whole units
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if not len(a) == len(b) == len(units) or not len(a):
        raise StatisticsError(f"{len(a)} and {len(b)} outcomes and {len(units)} units do not pair; give one of each per row.")
    _, unit_of = _numbered(units)
    difference = np.rint(np.bincount(unit_of, weights=b.astype(float) - a)).astype(int)
    chances = np.ones(1)  # of the sums -reach, ..., reach
    for step in np.abs(difference[difference != 0]):
        chances = (np.pad(chances, (2 * step, 0)) + np.pad(chances, (0, 2 * step))) / 2
    reach = len(chances) // 2
    extreme = np.abs(np.arange(-reach, reach + 1)) >= abs(difference.sum())
    return float(min(1.0, chances[extreme].sum()))


def mcnemar_power(rate: float, relative_cut: float, n: int, alpha: float = 0.05, correlation: float = 0.3) -> float:
    """Chance that the exact McNemar test finds a true relative cut of a rate on n pairs; exact, no simulation.

    P(both) = p_a p_b + correlation sqrt(p_a (1 - p_a) p_b (1 - p_b)),  p_b = p_a (1 - relative_cut),  kept within what the
    margins allow. At 0.6, 0.4, n = 40: 0.48 without correlation, 0.64 at 0.3, 0.94 when b's successes are a subset of a's:
    the assumption decides, so it is an argument.

    Raises   StatisticsError for n = 0, a rate outside (0, 1] or a cut outside [0, 1]
    """
    if n <= 0 or not 0 < rate <= 1 or not 0 <= relative_cut <= 1:
        raise StatisticsError(f"Power needs n > 0, a rate in (0, 1] and a cut in [0, 1]; got {n}, {rate}, {relative_cut}.")
    return _power(rate, rate * (1 - relative_cut), n, alpha, correlation)


def _power(before: float, after: float, n: int, alpha: float, correlation: float) -> float:
    """Chance that the exact McNemar test rejects on n pairs: over every number of discordant pairs, both tails."""
    both = before * after + correlation * np.sqrt(before * (1 - before) * after * (1 - after))
    both = min(max(both, before + after - 1, 0.0), before, after)
    lost, won = before - both, after - both
    if lost + won <= 0:
        return 0.0
    discordant = np.arange(1, n + 1)
    last = scipy.stats.binom.ppf(alpha / 2, discordant, 0.5) - 1  # the most of the rarer kind at which the test still rejects
    share = min(won / (lost + won), 1.0)
    reject = scipy.stats.binom.cdf(last, discordant, share) + scipy.stats.binom.sf(discordant - last - 1, discordant, share)
    return float(min((scipy.stats.binom.pmf(discordant, n, min(lost + won, 1.0)) * reject).sum(), 1.0))


def detectable(rate: float, n: int, rise: bool = False, power: float = 0.8, alpha: float = 0.05, correlation: float = 0.3) -> float | None:
    """The smallest change of a rate that the exact McNemar test finds on n pairs with a given power, up to 0.001.

    rise      look upwards, to a rate of 1 at most; else for a cut, to 0 at most
    returns   the size of the change, above 0; None when even the largest would be missed. Assumption as in mcnemar_power
    Raises    StatisticsError for n = 0 or a rate outside [0, 1]
    """
    if n <= 0 or not 0 <= rate <= 1:
        raise StatisticsError(f"A detectable change needs n > 0 and a rate in [0, 1]; got {n}, {rate}.")
    sign, least, most = (1, 0.0, 1 - rate) if rise else (-1, 0.0, rate)

    def seen(change: float) -> bool:
        return _power(rate, min(max(rate + sign * change, 0.0), 1.0), n, alpha, correlation) >= power

    if most <= 0 or not seen(most):
        return None
    while most - least > 0.001:
        middle = (least + most) / 2
        least, most = (least, middle) if seen(middle) else (middle, most)
    return float(most)


def false_discovery(p: npt.ArrayLike) -> Array:
    """Benjamini-Hochberg adjusted p values (Benjamini and Hochberg 1995); no p values are refused."""
    if not np.size(p):
        raise StatisticsError("False discovery control of no p values was asked for.")
    return scipy.stats.false_discovery_control(np.asarray(p, float), method="bh")


def split_halves(units: Sequence[str], seed: int) -> Array:
    """Boolean array (row,): half A. All rows of a unit fall into one half; the halves differ by at most one unit."""
    names = sorted(set(units))
    if len(names) < 2:
        raise StatisticsError(f"{len(names)} unit cannot be split into halves.")
    order = np.random.default_rng(seed).permutation(len(names))
    half = {names[i] for i in order[: len(names) // 2]}
    return np.array([unit in half for unit in units])


def matched_random_sets(
    chosen: npt.ArrayLike,
    layer: npt.ArrayLike,
    n_sets: int,
    seed: int,
    exclude: npt.ArrayLike | None = None,
    key: npt.ArrayLike | None = None,
) -> Array:
    """(set, neuron) boolean: random sets outside `chosen` (and `exclude`), with as many neurons in every layer.

    key      (neuron,) a number of each neuron by which they are put in order before they are drawn, so that the sets do not depend
             on how neurons are numbered; default: as numbered
    Raises   StatisticsError when a layer has too few other neurons
    """
    chosen, layer = np.asarray(chosen, bool), np.asarray(layer)
    free = ~chosen if exclude is None else ~(chosen | np.asarray(exclude, bool))
    rng = np.random.default_rng(seed)
    sets = np.zeros((n_sets, len(chosen)), bool)
    for name in np.unique(layer[chosen]):
        n = int((chosen & (layer == name)).sum())
        pool = np.flatnonzero(free & (layer == name))
        if key is not None:
            pool = pool[np.argsort(np.asarray(key)[pool], kind="stable")]
        if len(pool) < n:
            raise StatisticsError(
                f'Layer "{name}" has {len(pool)} neurons outside the set, too few for random sets of {n}. Choose a smaller share.'
            )
        for row in sets:
            row[rng.choice(pool, n, replace=False)] = True
    return sets


def permutation_p(value: float, null: npt.ArrayLike, alternative: Alternative = "two-sided") -> float:
    """(1 + null values at least as extreme) / (1 + K); two-sided counts distance from the null's median.

    alternative   two-sided | greater | less
    Raises        StatisticsError for an empty or non-finite null, or another alternative
    """
    null = np.asarray(null, float)
    if not len(null) or not np.isfinite(null).all() or not np.isfinite(value):
        raise StatisticsError("A p value needs a finite value and at least one finite null value.")
    if alternative not in ("two-sided", "greater", "less"):
        raise StatisticsError(f'No alternative "{alternative}". Possible: two-sided, greater, less.')
    centre = np.median(null)
    extreme = {"two-sided": np.abs(null - centre) >= abs(value - centre), "greater": null >= value, "less": null <= value}[alternative]
    return float((1 + extreme.sum()) / (1 + len(null)))


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """|A and B| / |A or B| of boolean arrays; StatisticsError when both are empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if not (a | b).any():
        raise StatisticsError("The overlap of two empty sets is undefined.")
    return float((a & b).sum() / (a | b).sum())


def iou_chance(share: float) -> float:
    """About what two random sets of a share of all neurons overlap: q / (2 - q)."""
    return share / (2 - share)
