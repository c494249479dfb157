"""Choosing neurons on the selection half, by one score or by the agreement of several; confirming them on the evaluation half; stability.

Definitions: docs/reference/definitions.md#validity-of-a-neuron-set.

mean_rank, by_rank   agreement of scores as the mean of their ranks
confirm              sign and p of every chosen neuron on the evaluation half, Benjamini-Hochberg over a stated number of tests
                     beside random and comparable sets
valid                is a set about the concept at all? from its scale and from what was confirmed
stability            overlap of sets chosen by other seeds, triggers or scores, pair by pair, beside chance
over_halves          overlap of the choice on two halves of the units, over many splits
over_groups          the choice on each group of units

One score chooses by `workbench.neurons.sets.top`.
"""

import numpy as np
import pandas
from scipy import stats

from workbench.analysis import comparable
from workbench.errors import StatisticsError, nearest
from workbench.neurons.sets import top
from workbench.statistics import (
    FLIPS,
    flip_signs,
    interval,
    iou,
    matched_random_sets,
    permutation_p,
    split_halves,
    t_quantile,
    unit_weights,
)


def mean_rank(scores, within=None):
    """Agreement of several scores: the mean over scores of a neuron's rank, as a share of the neurons ranked.

    rank = (how many score lower + half of those that score the same, itself included) / n

    scores    {name: (neuron,)};  within   (neuron,) bool, where to rank; default everywhere
    returns   (neuron,) in (0, 1), 1 = first by every score; NaN outside `within` and where a score is NaN
    """
    values, within = _aligned(scores, within)
    within = within & np.isfinite(values).all(axis=0)
    if not within.any():
        raise StatisticsError("No neuron has a finite value of every score; there is nothing to rank.")
    ranks = np.full(values.shape[1], np.nan)
    ranks[within] = ((stats.rankdata(values[:, within], axis=1) - 0.5) / within.sum()).mean(axis=0)
    return ranks


def by_rank(scores, share, within=None, among=None):
    """(neuron,) bool: the top share by mean rank; equals are ordered by their best rank, then by the scores as given.

    among   (neuron,) bool, who of those ranked may be chosen; default everyone
    """
    values, within = _aligned(scores, within)
    ranks = mean_rank(scores, within)
    here = np.flatnonzero(np.isfinite(ranks) if among is None else np.isfinite(ranks) & among)
    keys = np.stack([ranks[here], stats.rankdata(values[:, here], axis=1).max(axis=0), *values[:, here]], axis=1)
    place = np.full(len(ranks), np.nan)
    place[here] = np.unique(keys, axis=0, return_inverse=True)[1]
    return top(place, share, within)


SHARES = ("share", "share_low", "share_high", "over", "over_low", "over_high")
N_UNITS_RESAMPLED, N_SETS_RESAMPLED = 200, 50


def confirm(
    chosen, kappa_a, target, reference, layer, *, test="sign_flip", alpha=0.05, m=None, n_resamples=1000, n_random=199, exclude=None, seed=0
):
    """Does the chosen set hold on the evaluation half? Sign and one-sided p of every neuron, and the set beside other sets.

    kappa = mean_target |a| - mean_reference |a|, tested in the direction it had on the selection half
    sign_flip   the sign of each unit's difference flipped: every way where there are at most 10,000, else 9,999 drawn ones and the
                data themselves
    welch       unequal variances, pairs not used; Welch 1947
    confirmed   same sign and Benjamini-Hochberg p <= alpha over m tests, default the number chosen; m counts more where more
                were looked at, such as every call

    Shapes    chosen, kappa_a, layer (neuron,) of the selection half;  target, reference (unit, neuron) of the evaluation half, paired
    returns   data frame (one row per chosen neuron: position, n, kappa, low, high, same_sign, p, p_adjusted, confirmed) and a
              dict n (units), m, alpha, test, chosen, confirmed, same_sign with low and high (bootstrap over units), and the
              same share on matched random sets: random, random_low, random_high, n_random, p_random; and

              confirmed_share   confirmed / chosen
              random_share, random_share_low, random_share_high   the same of random sets, their mean and where 95 % of them lie
              random_over, random_over_low, random_over_high      confirmed_share minus that of such a set, with its interval over
                                units and sets: SE^2 = variance over resampled units + variance over sets, t of n - 1 degrees of freedom
              comparable_...    the same beside comparable sets, n_comparable of them; null with comparable_reason where there are none
    Raises    StatisticsError for an empty set, unpaired halves, an unknown test, or m smaller than the set
    """
    position = np.flatnonzero(chosen)
    if not len(position):
        raise StatisticsError("The chosen set is empty, so there is nothing to confirm.")
    if target.shape != reference.shape or target.shape[1] != len(chosen) or len(target) < 2:
        raise StatisticsError(
            f"Target {target.shape} and reference {reference.shape} of the evaluation half do not pair, unit by unit, "
            f"for {len(chosen)} neurons."
        )
    if test not in TESTS:
        raise StatisticsError(f'No test is called "{test}".{nearest(test, TESTS)}')
    m = len(position) if m is None else m
    if m < len(position):
        raise StatisticsError(f"{m} tests were stated, but {len(position)} neurons are tested.")
    signs = np.sign(kappa_a)
    order = np.argsort((target - reference).astype(float) @ signs, kind="stable")  # the order of units is to change no draw
    target, reference = target[order], reference[order]
    here, there = (side.astype(float) * signs for side in (target, reference))
    random_sets = matched_random_sets(chosen, layer, n_random, seed + 1, exclude, kappa_a)
    try:
        like, reason = comparable.partners(chosen, kappa_a, layer, exclude).sets(n_random, seed + 2), None
    except StatisticsError as error:
        like, reason = None, str(error)
    tested = np.flatnonzero(np.any([chosen, random_sets.any(axis=0), *([] if like is None else [like.any(axis=0)])], axis=0))
    p = np.full(len(chosen), np.nan)
    p[tested] = TESTS[test](here[:, tested], there[:, tested], seed)
    adjusted = _adjusted(p[position], m)
    weights = unit_weights(len(target), n_resamples, seed)
    difference = (here - there)[:, position]
    resampled = weights @ difference
    kappa = difference.mean(axis=0)
    low, high = np.sort(np.quantile(resampled, [0.025, 0.975], axis=0) * signs[position], axis=0)
    table = pandas.DataFrame(
        {"position": position, "n": len(target), "kappa": kappa * signs[position], "low": low, "high": high, "same_sign": kappa > 0}
        | {"p": p[position], "p_adjusted": adjusted, "confirmed": (kappa > 0) & (adjusted <= alpha)}
    )
    same = interval((kappa > 0).mean(), (resampled > 0).mean(axis=1), len(target))
    held = (target - reference).mean(axis=0, dtype=float) * signs > 0
    random = (random_sets @ held.astype(float)) / len(position)
    summary = {"n": len(target), "m": m, "alpha": alpha, "test": test, "chosen": len(position), "confirmed": int(table["confirmed"].sum())}
    summary |= {"same_sign": same.value, "low": same.low, "high": same.high, "random": float(random.mean())}
    summary |= {"random_low": float(np.quantile(random, 0.025)), "random_high": float(np.quantile(random, 0.975))}
    summary |= {"n_random": n_random, "p_random": permutation_p(same.value, random, "greater")}
    summary["confirmed_share"] = float(table["confirmed"].mean())
    drawn = _resampled_p(here - there, unit_weights(len(target), N_UNITS_RESAMPLED, seed))
    for name, sets in (("random", random_sets), ("comparable", like)):
        found = (
            dict.fromkeys(SHARES) if sets is None else _beside(summary["confirmed_share"], p, drawn, position, sets, m, alpha, len(target))
        )
        summary |= {f"{name}_{key}": value for key, value in found.items()}
    summary |= {"n_comparable": None if like is None else n_random, "comparable_reason": reason}
    return table, summary


def _beside(share, p, drawn, position, sets, m, alpha, n):
    """SHARES: of other sets the share confirmed, and how far the chosen set's lies above it."""
    members = np.stack([np.flatnonzero(one) for one in sets])
    shares = (_adjusted(p[members], m) <= alpha).mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    others = np.mean([(_adjusted(drawn[:, one], m) <= alpha).mean(axis=1) for one in members[:N_SETS_RESAMPLED]], axis=0)
    over_units = ((_adjusted(drawn[:, position], m) <= alpha).mean(axis=1) - others).var(ddof=1)
    reach = t_quantile(n - 1) * np.sqrt(over_units + shares.var(ddof=1))
    over = share - shares.mean()
    return dict(zip(SHARES, map(float, (shares.mean(), low, high, over, over - reach, over + reach)), strict=True))


def _adjusted(p, m):
    """Benjamini-Hochberg along the last axis, over m tests: those not given count as p = 1."""
    return np.minimum(stats.false_discovery_control(p, axis=-1, method="bh") * (m / p.shape[-1]), 1)


def _resampled_p(difference, weights):
    """(resample, neuron) one-sided p of the paired t test on resampled units: fast enough for every neuron and resample."""
    n = len(difference)
    mean = weights @ difference
    variance = np.maximum(weights @ difference**2 - mean**2, 0) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt(variance)
    return stats.t.sf(np.where(np.isnan(t), 0, t), n - 1)


def valid(scale, confirmed, thresholds, why=None):
    """(flag, reason): is a set about the concept at all? Words on its neurons may be said only then.

    Its scale lies `thresholds.sure` standard errors from 0 with a bounded Fieller interval, and more of it is confirmed on the other half
    than of random and of comparable sets, each by a difference whose interval lies above 0.

    scale       dict of Sensitivity.scale;  confirmed   summary of `confirm`, or None where it could not be made, and why
    reason      one sentence where the set is not valid, else None
    """
    wrong = []
    over = scale["scale_over_se"]
    if over is not None and (over < thresholds.sure or not scale["scale_bounded"]):
        wrong.append(
            f"the base model's contrast of the set is {over:.1f} standard errors from 0 on the evaluation half, "
            f"but a scale needs {thresholds.sure:g}"
        )
    for name in () if confirmed is None else ("random", "comparable"):
        if confirmed[f"{name}_over"] is None:
            wrong.append(f"there are no {name} sets to compare it with ({confirmed[f'{name}_reason'].rstrip('.')})")
        elif confirmed[f"{name}_over_low"] <= 0:
            wrong.append(
                f"{100 * confirmed['confirmed_share']:.0f} % of its neurons are confirmed on the evaluation half, and "
                f"{100 * confirmed[f'{name}_share']:.0f} % of {name} sets (difference {confirmed[f'{name}_over']:.2f}, "
                f"{confirmed[f'{name}_over_low']:.2f} to {confirmed[f'{name}_over_high']:.2f})"
            )
    if confirmed is None:
        wrong.append("its neurons could not be tested on the evaluation half" + (f" ({why.rstrip('.')})" if why else ""))
    return (not wrong, f"No valid set: {'; '.join(wrong)}. Use more units or another score" if wrong else None)


def _sign_flip(target, reference, seed, at_once=500):
    difference = target - reference
    signs, every = flip_signs(len(difference), FLIPS, seed)
    seen, as_large = difference.mean(axis=0), np.zeros(difference.shape[1])
    for start in range(0, len(signs), at_once):
        # a flip that restores the data must count as equal, whatever the order of summation
        flipped = signs[start : start + at_once] @ difference / len(difference)
        as_large += (flipped >= seen - 1e-12 * np.abs(difference).max(axis=0)).sum(axis=0)
    return as_large / len(signs) if every else (1 + as_large) / (1 + len(signs))


def _welch(target, reference, seed):
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.ttest_ind(target, reference, equal_var=False, alternative="greater").pvalue
    # no difference and no spread: nothing speaks against chance
    return np.where(np.isnan(p), 1.0, p)


TESTS = {"sign_flip": _sign_flip, "welch": _welch}


def stability(sets, layer, within=None, n_random=999, seed=0):
    """Overlap of every pair of sets, beside that of random sets with the same count in every layer.

    sets      {label: (neuron,) bool}, such as those of several seeds, triggers or scores
    within    (neuron,) bool, the neurons the sets were chosen from; default all
    returns   data frame: first, second, n_first, n_second, iou, chance, chance_low, chance_high, n_random, p_random
    Raises    StatisticsError for fewer than two sets, or an empty one
    """
    if len(sets) < 2:
        raise StatisticsError(f"{len(sets)} set has nothing to agree with; give at least 2.")
    for label, chosen in sets.items():
        if not np.any(chosen):
            raise StatisticsError(f'The set "{label}" is empty; its overlap says nothing.')
    labels, rng, rows = list(sets), np.random.default_rng(seed), []
    for place, first in enumerate(labels):
        for second in labels[place + 1 :]:
            a, b = (np.asarray(sets[label], bool) for label in (first, second))
            null = _random_iou(a, b, layer, within, n_random, rng)
            found = iou(a, b)
            low, high = np.quantile(null, [0.025, 0.975])
            row = {"first": first, "second": second, "n_first": int(a.sum()), "n_second": int(b.sum()), "iou": found}
            row |= {"chance": null.mean(), "chance_low": low, "chance_high": high, "n_random": n_random}
            rows.append(row | {"p_random": permutation_p(found, null, "greater")})
    return pandas.DataFrame(rows)


def over_halves(choose, units, layer, within=None, n_splits=100, seed=0):
    """Overlap of what a rule chooses on two halves of the units, over many splits into halves.

    choose    boolean (row,) -> (neuron,) bool;  units (row,) names, equal names stay in one half
    returns   dict n (units), n_splits, n_chosen, value (mean IoU), low, high (where 95 % of the splits lie), chance, chance_low,
              chance_high (of random sets with the counts of each split's halves); and (neuron,) in what share of all those halves a
              neuron was chosen
    Raises    StatisticsError when nothing is chosen on some half
    """
    units, found, null, often = np.asarray(units), [], [], 0
    rng = np.random.default_rng(seed)
    for split in range(n_splits):
        half = split_halves(units.tolist(), [seed, split])
        a, b = (choose(rows) for rows in (half, ~half))
        if not (a.any() and b.any()):
            raise StatisticsError(f"In split {split + 1} into halves nothing is chosen on one of them, so the overlap has no meaning.")
        found.append(iou(a, b))
        null.append(_random_iou(a, b, layer, within, 1, rng)[0])
        often = often + a + b
    row = {"n": len(np.unique(units)), "n_splits": n_splits, "n_chosen": int(a.sum())}
    for name, series in (("value", found), ("chance", null)):
        start = "" if name == "value" else "chance_"
        low, high = np.quantile(series, [0.025, 0.975])
        row |= {name: float(np.mean(series)), f"{start}low": float(low), f"{start}high": float(high)}
    return row, often / (2 * n_splits)


def over_groups(choose, groups):
    """{group: (neuron,) bool} what a rule chooses on each group of units alone, such as the prompts of one trigger.

    choose   boolean (row,) -> (neuron,) bool;  groups (row,) names
    Raises   StatisticsError for a group of one row
    """
    groups, chosen = np.asarray(groups), {}
    for group in np.unique(groups).tolist():
        rows = groups == group
        if rows.sum() < 2:
            raise StatisticsError(f'The group "{group}" has {rows.sum()} unit; a choice needs at least 2. Join small groups.')
        chosen[group] = choose(rows)
    return chosen


def _random_iou(a, b, layer, within, n_random, rng):
    """(n_random,) overlap of random sets with as many neurons per layer as a and b: their common part is hypergeometric."""
    within = np.ones(len(a), bool) if within is None else np.asarray(within, bool)
    if (np.asarray(a | b) & ~within).any():
        raise StatisticsError("A set has neurons outside those it was to be chosen from.")
    common = np.zeros(n_random)
    for name in np.unique(np.asarray(layer)[a | b]):
        here = within & (np.asarray(layer) == name)
        common += rng.hypergeometric((a & here).sum(), (~a & here).sum(), (b & here).sum(), n_random)
    return common / (a.sum() + b.sum() - common)


def _aligned(scores, within):
    if not scores:
        raise StatisticsError("An agreement of no scores was asked for.")
    lengths = {name: len(score) for name, score in scores.items()}
    if len(set(lengths.values())) != 1:
        raise StatisticsError(f"Scores of different lengths cannot agree: {lengths}.")
    values = np.array([np.asarray(score, float) for score in scores.values()])
    return values, np.ones(values.shape[1], bool) if within is None else np.asarray(within, bool)
