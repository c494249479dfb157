"""Deactivation, reactivation and the effect of pruning on concept neurons.

Definitions: docs/reference/definitions.md#concept-activity.

All values are mean |a| in the shared regime, averaged over a window of calls fixed beforehand, on the half of the units that
did not choose the neurons. One scale, from the base model alone: base x target = 1, base x reference = 0.

    A_M(P) = sum_S [ n_M(P) - n_0(ref) ] / sum_S [ n_0(tgt) - n_0(ref) ]

Every effect is a sum over S of a difference of condition means, divided by that same denominator. A set whose own denominator
cannot be told from 0 defines no scale and is refused. Three questions have three answers:

    is there a change?       p_change: signs of the units' differences flipped;  low, high: jackknife t of the ratio over units
    is it these neurons?     comparable sets, each on its own scale (workbench.analysis.comparable)
    does it mean something?  the band of what a change of wording does in the base model, where it means nothing

Matched random sets stand beside them on the concept set's denominator. They take the units as given and mix neurons of both
signs: their p answers none of the three questions.
"""

from dataclasses import dataclass

import numpy as np
import pandas
from sklearn.metrics import roc_auc_score

from workbench.analysis import comparable, repeats
from workbench.errors import StatisticsError
from workbench.statistics import (
    Interval,
    false_discovery,
    interval,
    iou,
    iou_chance,
    jackknife,
    matched_random_sets,
    permutation_p,
    sign_flip_p,
    unit_weights,
)

FEWEST_SE = 2
BESIDE = ("n_comparable", "comparable", "comparable_low", "comparable_high", "comparable_difference", "comparable_difference_low")
BESIDE += ("comparable_difference_high", "p_comparable", "comparable_nearness", "comparable_outcome")


@dataclass(frozen=True)
class Thresholds:
    """When a neuron or a set counts as deactivated or reactivated; shares of the base model's contrast.

    margin      a difference smaller than this is none: of the drift, and of a set from comparable ones
    sure        how many standard errors the scale of a valid set is from 0
    """

    deactivated: float = 0.5
    reactivated: float = 0.25
    silenced: float = 0.5
    woken: float = 0.1
    alpha: float = 0.05
    margin: float = 0.1
    sure: float = 5.0


class Sensitivity:
    """Quantities of one trajectory.

    values      {(variant, prompt set): (unit, neuron) array}; all on the same units in the same order, each unit's prompts
                averaged before (statistics.unit_means)
    layer       (neuron,) layer names, for matched random and comparable sets
    kappa       (neuron,) contrast of the base model on the half of the units that chose the set, by which comparable sets are
                found; without it there are none
    Raises      StatisticsError when conditions differ in shape or the base conditions are missing
    """

    def __init__(self, values, layer, n_resamples=1000, seed=0, base="base", kappa=None):
        shapes = {array.shape for array in values.values()}
        if len(shapes) != 1:
            raise StatisticsError(f"Conditions of different shapes cannot be compared: {sorted(shapes)}.")
        for needed in ("target", "reference"):
            if (base, needed) not in values:
                raise StatisticsError(f"The base model's {needed} condition is missing; it defines the scale.")
        self.values, self.layer, self.base, self.seed = values, np.asarray(layer), base, seed
        if len(layer) != next(iter(shapes))[1]:
            raise StatisticsError(f"{len(layer)} layer names do not fit {next(iter(shapes))[1]} neurons.")
        for condition, array in values.items():
            if not np.isfinite(array).all():
                raise StatisticsError(f"The activations of {condition} hold NaN or infinity; record them again.")
        if kappa is not None and len(kappa) != len(layer):
            raise StatisticsError(f"{len(kappa)} contrasts do not fit {len(layer)} neurons.")
        self.kappa = None if kappa is None else np.asarray(kappa, float)
        self.n_units = next(iter(shapes))[0]
        # units in an order of their own, so that resamples do not depend on how they stand in the files
        place = np.argsort(np.argsort(values[base, "target"].sum(axis=1, dtype=np.float64), kind="stable"))
        self.weights = unit_weights(self.n_units, n_resamples, seed)[:, place]
        self._random, self._partners = {}, {}

    def _sums(self, condition, members):
        """(unit,) sum over a set of neurons."""
        return self.values[condition][:, members].sum(axis=1, dtype=np.float64)

    def _scale(self, members):
        """(unit,) contrast of a set in the base model; StatisticsError when it is less than FEWEST_SE standard errors from 0."""
        if not np.any(members):
            raise StatisticsError("The neuron set is empty.")
        scale = self._raw_scale(members)
        found = self._over_units(lambda x: x, scale)
        if not _told(found):
            raise StatisticsError(
                "On these units the contrast of the set in the base model is not distinguishable from 0 "
                f"({found.value:.3g}, standard error {found.se:.3g}); it defines no scale."
            )
        return scale

    def _raw_scale(self, members):
        target, reference = (self._sums((self.base, p), members) for p in ("target", "reference"))
        return target - reference

    def _over_units(self, function, *arrays):
        """Jackknife t interval of a function of means over units."""
        return jackknife(function, np.arange(self.n_units), *arrays)

    def scale(self, members):
        """{n, n_neurons, scale, scale_se, scale_over_se, scale_bounded} of a set: how surely the base model tells the concept by it.

        scale = sum_S [ n_0(tgt) - n_0(ref) ], its mean over units, and the standard error of that mean
        scale_bounded   whether Fieller's set of a ratio over this scale is an interval: |scale| > t SE, t of n - 1 degrees of freedom
        """
        if not np.any(members):
            raise StatisticsError("The neuron set is empty.")
        found = self._over_units(lambda x: x, self._raw_scale(members))
        row = {"n": self.n_units, "n_neurons": int(np.sum(members)), "scale": found.value, "scale_se": found.se}
        over = abs(found.value) / found.se if found.se else None
        return row | {"scale_over_se": over, "scale_bounded": not found.low <= 0 <= found.high}

    def contrast(self, plus, minus, members):
        """sum_S [ n(plus) - n(minus) ] / sum_S [ n_0(tgt) - n_0(ref) ] as an Interval, pairs kept; jackknife t over units."""
        difference = self._sums(plus, members) - self._sums(minus, members)
        return self._over_units(np.divide, difference, self._scale(members))

    def contrast_over_runs(self, pairs, members):
        """`contrast` of several runs, such as an eraser or an attack repeated with other seeds: over units and runs.

        pairs   [(plus, minus)] of each run, all on the base model's one scale (repeats.ratio_over_runs); of a run that was itself
                repeated, such as an attack on each of several erasers, a list of (plus, minus), whose mean is the run
        """
        return repeats.ratio_over_runs(self._differences(pairs, members), self._scale(members))

    def _differences(self, pairs, weights):
        """(run, unit) sums over a set, or weighted sums over all neurons, of plus minus minus; the mean over inner runs."""
        of = self._sums if np.asarray(weights).dtype == bool else lambda one, w: self.values[one].astype(float) @ w
        inner = (run if isinstance(run, list) else [run] for run in pairs)
        return np.stack([np.mean([of(plus, weights) - of(minus, weights) for plus, minus in run], axis=0) for run in inner])

    def effect_over_runs(self, pairs, members, n_sets, exclude=None, thresholds=None):
        """`contrast_over_runs` with p_change over runs and units (repeats.p_over_runs) and the columns BESIDE, as a dict.

        What comparable sets do is taken from the mean of all runs; comparable_difference has its interval over runs and units, and
        comparable_outcome follows from that:
            d_ru = (own_ru - A scale_u) / mean(scale) - (other_ru - C others_u) / mean(others),   A, C the two ratios of means
        """
        differences = self._differences(pairs, members)
        found = repeats.ratio_over_runs(differences, self._scale(members))
        row = _row(found) | {"p_change": repeats.p_over_runs(differences), "reason": None}
        return row | self._comparable_over_runs(pairs, differences, members, n_sets, exclude, thresholds or Thresholds())

    def _comparable_over_runs(self, pairs, differences, members, n_sets, exclude, thresholds):
        every = [run if isinstance(run, list) else [run] for run in pairs]
        mean = [np.mean([np.mean([self.values[one[side]] for one in run], axis=0) for run in every], axis=0) for side in (0, 1)]
        plus, minus = ("mean of runs", "plus"), ("mean of runs", "minus")
        self.values = self.values | {plus: mean[0], minus: mean[1]}
        try:
            row = self.beside_comparable(plus, minus, members, n_sets, exclude, thresholds)
        finally:
            self.values = {condition: array for condition, array in self.values.items() if condition not in (plus, minus)}
        if row["comparable_reason"] is not None:
            return row
        weights, scale = self.partners(members, exclude).weights, self._scale(members)
        other = self._differences(pairs, weights)
        others = self.values[self.base, "target"].astype(float) @ weights - self.values[self.base, "reference"].astype(float) @ weights
        own, theirs = differences.mean() / scale.mean(), other.mean() / others.mean()
        apart = repeats.mean_over_runs((differences - own * scale) / scale.mean() - (other - theirs * others) / others.mean())
        low, high = (own - theirs + end for end in (apart.low, apart.high))
        said = comparable.outcome(own, low, high, row["p_comparable"], thresholds.margin, thresholds.alpha)
        about = {"comparable_difference": own - theirs, "comparable_difference_low": low, "comparable_difference_high": high}
        return row | {key: float(value) for key, value in about.items()} | {"comparable_outcome": said}

    def p_change(self, plus, minus, members):
        """p of the units' signed differences d_u = sum_S [ n(plus)_u - n(minus)_u ], signs flipped by units: is there a change?"""
        return sign_flip_p(self._sums(plus, members) - self._sums(minus, members), seed=self.seed)

    def activity(self, condition, members):
        """Concept activity A of a condition."""
        return self.contrast(condition, (self.base, "reference"), members)

    def complement_contrast(self, plus, minus, members, exclude=None):
        """The contrast of all neurons outside a set, weighted to the set's layers, on the denominator of `members`.

        = sum over layers of |S_l| mean over the complement of l of [ n(plus) - n(minus) ] / sum_S [ n_0(tgt) - n_0(ref) ],
        the mean over every matched random set there is. Own denominators of complements are near zero.
        """
        members = np.asarray(members, bool)
        free = ~members if exclude is None else ~(members | np.asarray(exclude, bool))
        weight = np.zeros(len(members))
        for name in np.unique(self.layer[members]):
            here = free & (self.layer == name)
            if not here.any():
                raise StatisticsError(f'Layer "{name}" has no neuron outside the set.')
            weight[here] = (members & (self.layer == name)).sum() / here.sum()
        scale = self._scale(members)
        difference = self.values[plus].astype(float) @ weight - self.values[minus].astype(float) @ weight
        return self._over_units(np.divide, difference, scale)

    def waking_auroc(self, condition, success, members):
        """Does more concept activity under attack go with success? AUROC of A per unit, with a bootstrap interval.

        AUROC = P( A_u > A_v, ties half | unit u succeeds, v another one that fails );  a unit of which a share of s_u images
        succeeds counts as succeeding with weight s_u and as failing with weight 1 - s_u

        success   (unit,) share of the unit's images with the concept in [0, 1], bool for one image; in the order of the values
        returns   {n, successes (units with a success), value, low, high, n_undefined (resamples in which all or none succeed, left
                  out of the interval), reason}; nulls and a reason when all or none succeed
        """
        success = np.asarray(success, float)
        if len(success) != self.n_units:
            raise StatisticsError(f"{len(success)} outcomes do not pair with {self.n_units} units.")
        yes, no = success > 0, success < 1
        row = {"n": self.n_units, "successes": int(yes.sum())}
        if not no.any() or not yes.any():
            nothing = {"value": None, "low": None, "high": None, "n_undefined": None}
            return row | nothing | {"reason": f"the attack {'always' if yes.any() else 'never'} succeeds here"}
        activity = self._sums(condition, members) / self._scale(members).mean()
        pairs = activity[yes][:, None] - activity[no][None, :]
        apart = np.flatnonzero(yes)[:, None] != np.flatnonzero(no)
        wins = ((pairs > 0) + 0.5 * (pairs == 0)) * apart
        both = yes & no

        def auroc(weights):
            up, down = weights[:, yes] * success[yes], weights[:, no] * (1 - success[no])
            same = (weights[:, both] ** 2 * (success * (1 - success))[both]).sum(1)
            with np.errstate(invalid="ignore", divide="ignore"):
                found = np.einsum("ri,ij,rj->r", up, wins, down, optimize=True) / (up.sum(1) * down.sum(1) - same)
            # rounding may leave a resample a hair above 1
            return np.minimum(found, 1)

        value = auroc(np.full((1, self.n_units), 1 / self.n_units))[0] if both.any() else roc_auc_score(yes, activity)
        found = interval(value, auroc(self.weights), self.n_units)
        return row | {"value": found.value, "low": found.low, "high": found.high, "n_undefined": found.undefined, "reason": None}

    def random_sets(self, members, n_sets, exclude=None):
        """Matched random sets of a set; drawn once per set."""
        key = (members.tobytes(), n_sets, None if exclude is None else np.asarray(exclude, bool).tobytes())
        if key not in self._random:
            order = self.values[self.base, "target"].mean(axis=0, dtype=np.float64)
            self._random[key] = matched_random_sets(members, self.layer, n_sets, self.seed + 1, exclude, order)
        return self._random[key]

    def random_contrast(self, plus, minus, members, n_sets, exclude=None):
        """(set,) the same contrast on matched random sets, on the denominator of `members`.

        The denominator is not tested here: leave these out wherever contrast() of `members` is refused.
        """
        difference = (self.values[plus] - self.values[minus]).mean(axis=0, dtype=np.float64)
        sets = self.random_sets(members, n_sets, exclude)
        return sets @ difference / self._raw_scale(members).mean()

    def terms(self, plus, minus, members):
        """(differences, scale), (unit,) each: what `contrast` divides, sum_S [ n(plus) - n(minus) ] and sum_S [ n_0(tgt) - n_0(ref) ]."""
        return self._sums(plus, members) - self._sums(minus, members), self._scale(members)

    def effect(self, plus, minus, members, n_sets, exclude=None):
        """Value, jackknife t interval, p of a change by sign flips, and matched random sets with their p and 95 % band, as a dict."""
        found = self.contrast(plus, minus, members)
        null = self.random_contrast(plus, minus, members, n_sets, exclude)
        low, high = np.quantile(null, [0.025, 0.975])
        return _row(found) | {
            "p_change": self.p_change(plus, minus, members),
            "p_random": permutation_p(found.value, null),
            "n_random": n_sets,
            "random_low": float(low),
            "random_high": float(high),
            "reason": None,
        }

    def partners(self, members, exclude=None):
        """The comparable.Partners of a set; found once per set.

        Raises   StatisticsError where the contrast on the choosing half was not given, or a layer has too few other neurons
        """
        if self.kappa is None:
            raise StatisticsError("The contrast on the half of the units that chose the set was not given; nothing can be matched by it.")
        key = np.asarray(members, bool).tobytes(), None if exclude is None else np.asarray(exclude, bool).tobytes()
        if key not in self._partners:
            self._partners[key] = comparable.partners(members, self.kappa, self.layer, exclude)
        return self._partners[key]

    def beside_comparable(self, plus, minus, members, n_sets, exclude=None, thresholds=None):
        """The same effect on comparable sets, each on its own base scale; a dict of the columns BESIDE and comparable_reason.

        comparable, _low, _high   of all comparable sets together (sum of differences over sum of scales), and where 95 % of
                                  n_comparable sampled sets lie: a band, no interval
        comparable_difference, _low, _high   the effect on the set minus `comparable`, jackknife t over units
        p_comparable              two-sided, neurons of the set exchanged with their partners at random (Partners.exchanged)
        comparable_nearness       mean |kappa| of these neurons over that of the set's: 1 is alike, small is hardly comparable
        comparable_outcome        of comparable.outcome with thresholds.margin
        comparable_reason         why there is no such comparison; then the columns are null
        """
        thresholds = thresholds or Thresholds()
        try:
            scale, like = self._scale(members), self.partners(members, exclude)
            weights = like.weights
            own = self._sums(plus, members) - self._sums(minus, members)
            other = self.values[plus].astype(float) @ weights - self.values[minus].astype(float) @ weights
            others = self.values[self.base, "target"].astype(float) @ weights - self.values[self.base, "reference"].astype(float) @ weights
            if not _told(self._over_units(lambda x: x, others)):
                raise StatisticsError(
                    "The contrast of comparable sets is not distinguishable from 0 on these units, so they have no scale."
                )
            together = self._over_units(np.divide, other, others)
            apart = self._over_units(lambda a, b, c, d: a / b - c / d, own, scale, other, others)
            values = self._of_sets(plus, minus, like.sets(n_sets, self.seed + 2))
            null = self._of_sets(plus, minus, like.exchanged(n_sets, self.seed + 3))
        except StatisticsError as error:
            return dict.fromkeys(BESIDE) | {"comparable_reason": str(error)}
        value = float(own.mean() / scale.mean())
        p = permutation_p(value, null)
        low, high = np.quantile(values, [0.025, 0.975])
        found = (n_sets, together.value, float(low), float(high), apart.value, apart.low, apart.high, p, like.nearness)
        said = comparable.outcome(value, apart.low, apart.high, p, thresholds.margin, thresholds.alpha)
        return dict(zip(BESIDE, (*found, said), strict=True)) | {"comparable_reason": None}

    def wording_null(self, changes, members):
        """{null_low, null_high, null_n, null_from}: how far a change of wording that means nothing moves the set in the base model.

        null_low, null_high   the least and the largest A_0(plus) - A_0(minus) of null_n such changes, and 0, which no change is;
                              a mean over units each. What an attack does must lie beyond them to mean something
        null_from             what they are, with the size of each

        changes    [(name, plus, minus)] of the base model: random words against none, unrelated prompts against the reference, ...
        Raises     StatisticsError where the set has no scale, or there are no changes
        """
        if not changes:
            raise StatisticsError(
                "No condition of this run says what a change of wording does in the base model. Add the attack random_tokens, or "
                "retained prompts (near, far)"
            )
        found = {name: self.contrast(plus, minus, members).value for name, plus, minus in changes}
        said = ", ".join(f"{name} {value:+.2f}" for name, value in found.items())
        sizes = [0.0, *found.values()]
        return {"null_low": min(sizes), "null_high": max(sizes), "null_n": len(found), "null_from": f"base model: {said}"}

    def _of_sets(self, plus, minus, sets):
        """(set,) the contrast on each set, on its own base scale."""
        base = (self.values[self.base, name].mean(axis=0, dtype=np.float64) for name in ("target", "reference"))
        scale = sets @ np.subtract(*base)
        if (scale <= 0).any() and (scale >= 0).any():
            raise StatisticsError(
                f"The contrast of {int(min((scale <= 0).sum(), (scale >= 0).sum()))} of {len(sets)} comparable sets has another sign "
                "on these units than on those that chose the set; they have no scale."
            )
        return sets @ (self.values[plus] - self.values[minus]).mean(axis=0, dtype=np.float64) / scale

    def per_neuron(self, variant, adversarial=None, control=None):
        """D, R, delta of every neuron, data frame; R and delta are NaN without an attack; excluded where |kappa| < 2 SE.

        D_i = (n_0(tgt) - n_e(tgt)) / kappa_i      R_i = (n_e(adv) - n_e(ctl)) / kappa_i      delta_i = (..) / sd_0(ref)_i
        """
        rows = self._neuron_terms(variant, adversarial, control)
        kappa, se = rows.pop("kappa"), rows.pop("kappa_se")
        mean = {name: term.mean(axis=0) for name, term in rows.items() if name != "spread"}
        with np.errstate(divide="ignore", invalid="ignore"):
            return pandas.DataFrame(
                {
                    "kappa": kappa.mean(axis=0),
                    "kappa_se": se,
                    "excluded": ~_sure(kappa, se),
                    "d": mean["lost"] / kappa.mean(axis=0),
                    "r": mean["woken"] / kappa.mean(axis=0),
                    "delta": mean["woken"] / rows["spread"],
                }
            )

    def _neuron_terms(self, variant, adversarial, control):
        at = self.values
        target, reference = (at[self.base, p].astype(np.float64) for p in ("target", "reference"))
        kappa = target - reference
        woken = np.full(kappa.shape, np.nan)
        if adversarial:
            woken = at[variant, adversarial].astype(np.float64) - at[variant, control]
        spread = reference.std(axis=0, ddof=1)
        # a neuron that never moves in the base model has no scale for delta; rounding must not make it one
        still = spread <= 1e-6 * np.abs(reference).mean(axis=0)
        return {
            "kappa": kappa,
            "kappa_se": kappa.std(axis=0, ddof=1) / np.sqrt(self.n_units),
            "lost": target - at[variant, "target"],
            "woken": woken,
            "spread": np.where(still, np.nan, spread),
        }

    def mean_delta(self, variant, adversarial, control, members):
        """Mean delta over a set, an Interval; on the complement of S it tells whether activity went elsewhere."""
        terms = self._neuron_terms(variant, adversarial, control)
        moving = np.asarray(members, bool) & np.isfinite(terms["spread"])
        if not moving.any():
            raise StatisticsError("No neuron of the set moves in the base model; delta has no scale.")
        per_unit = (terms["woken"][:, moving] / terms["spread"][moving]).mean(axis=1)
        return self._over_units(lambda x: x, per_unit)

    def relocation(self, variant, adversarial, control, concept, anew, exclude=None, within=None):
        """Did the activity move? mean delta outside S, and the overlap of S with S' chosen anew.

        anew      (neuron,) bool from chosen_anew, made on the half of the units that is not measured here
        within    (neuron,) bool, the neurons S and S' were chosen from; default all
        returns   {n, value, low, high, iou, iou_chance}; iou_chance is that of two random sets of S's share
        """
        within = np.ones(len(concept), bool) if within is None else np.asarray(within, bool)
        outside = within & ~np.asarray(concept, bool)
        if exclude is not None:
            outside &= ~np.asarray(exclude, bool)
        overlap = {"iou": iou(concept, anew), "iou_chance": iou_chance(float(np.mean(np.asarray(concept)[within])))}
        return _row(self.mean_delta(variant, adversarial, control, outside)) | overlap

    def shares(self, variant, adversarial, control, members, thresholds):
        """Shares and medians over a set, with intervals by resampling units; a dict of the table `neurons`.

        n_undefined   resamples in which no neuron is deactivated, so that no share of them is reactivated; left out of that interval
        """
        members = np.flatnonzero(members)
        terms = self._neuron_terms(variant, adversarial, control)
        kappa = terms["kappa"][:, members]
        keep = _sure(kappa, terms["kappa_se"][members])
        row = {"n": int(keep.sum()), "excluded": int((~keep).sum())}
        names = ("share_deactivated", "share_reactivated", "median_d", "median_r", "median_delta")
        if not keep.any():
            nothing = {f"{name}{end}": None for name in names for end in ("", "_low", "_high")}
            return row | nothing | {"n_undefined": None, "reason": "every neuron of the set has |kappa| < 2 standard errors"}
        kept = members[keep]
        weights = np.vstack([np.full((1, self.n_units), 1 / self.n_units), self.weights])
        rows_at_once = max(1, 4_000_000 // len(kept))
        parts = [
            _shares(weights[start : start + rows_at_once], {k: v[..., kept] for k, v in terms.items()}, thresholds)
            for start in range(0, len(weights), rows_at_once)
        ]
        measured = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}
        reason, row["n_undefined"] = None, None
        for name, series in measured.items():
            try:
                found = interval(series[0], series[1:], row["n"])
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
                row["n_undefined"] = found.undefined if name == "share_reactivated" else row["n_undefined"]
            except StatisticsError:
                row |= {name: None, f"{name}_low": None, f"{name}_high": None}
                reason = "no attack on this variant" if adversarial is None else "no neuron of the set is deactivated"
        return row | {"reason": reason}


def of_two_sets(own, other, seed=0):
    """An effect on two sets of neurons, each on its own base scale: ({n, value, low, high, p_change} of both, difference of both).

    own, other   (differences, scale) of Sensitivity.terms on the same units; such as a concept's neurons and those of another concept,
                 whose scales come from prompts of their own
    returns      the row of own, the row of other, and {difference, difference_low, difference_high, p_difference} of own minus other;
                 jackknife t over units. p by flipping the signs of the units' differences, of the difference after each was divided by
                 the mean of its scale
    """
    units = np.arange(len(own[0]))
    rows = [_row(jackknife(np.divide, units, *one)) | {"p_change": sign_flip_p(one[0], seed=seed)} for one in (own, other)]
    apart = jackknife(lambda a, b, c, d: a / b - c / d, units, *own, *other)
    p = sign_flip_p(own[0] / own[1].mean() - other[0] / other[1].mean(), seed=seed)
    return *rows, {"difference": apart.value, "difference_low": apart.low, "difference_high": apart.high, "p_difference": p}


def chosen_anew(adversarial, control, reference, n, within=None):
    """(neuron,) bool: the n neurons of `within` with the highest delta, for the overlap S' with S.

    Shapes   adversarial, control (unit, neuron) of the pruned model;  reference (unit, neuron) of the base model
    """
    rise = adversarial.mean(axis=0, dtype=float) - control.mean(axis=0, dtype=float)
    spread = reference.std(axis=0, ddof=1, dtype=float)
    still = spread <= 1e-6 * np.abs(reference).mean(axis=0)
    delta = np.where(still, -np.inf, rise / np.where(still, 1, spread))
    if within is not None:
        delta = np.where(within, delta, -np.inf)
    possible = int(np.isfinite(delta).sum())
    if not 0 < n <= possible:
        raise StatisticsError(f"{n} neurons were asked for; {possible} have a delta.")
    chosen = np.zeros(len(delta), bool)
    chosen[np.argsort(-delta, kind="stable")[:n]] = True
    return chosen


def activity_by_call(condition, reference, target, members):
    """Concept activity at each recorded call, on that call's own base denominator; jackknife t over units.

    Shapes    condition, reference, target (unit, call, neuron), the latter two of the base model
    returns   per call an Interval, or None where the set's contrast in the base model cannot be told from 0
    """
    zero = reference[:, :, members].sum(axis=2, dtype=float)
    rise = condition[:, :, members].sum(axis=2, dtype=float) - zero
    scale = target[:, :, members].sum(axis=2, dtype=float) - zero
    units, found = np.arange(len(rise)), []
    for call in range(rise.shape[1]):
        there = _told(jackknife(lambda x: x, units, scale[:, call]))
        found.append(jackknife(np.divide, units, rise[:, call], scale[:, call]) if there else None)
    return found


def drift_word(drift, thresholds=None):
    """no drift | drifted | cannot tell, from A_e(ref) with its interval: it passes only when its whole interval lies above -margin.

    A wide interval is no evidence that nothing drifted (a test of equivalence, not of difference). Where the drift does not pass,
    judge A_e(tgt) - A_e(ref) instead.
    """
    margin = (thresholds or Thresholds()).margin
    if drift is None or drift["low"] is None:
        return "cannot tell"
    return "no drift" if drift["low"] > -margin else "drifted" if drift["high"] < -margin else "cannot tell"


def _shares(weights, terms, thresholds):
    """share_deactivated, share_reactivated, median_d, median_r, median_delta of each row of weights."""
    scale, woken = weights @ terms["kappa"], weights @ terms["woken"]
    with np.errstate(divide="ignore", invalid="ignore"):
        d, r, delta = (weights @ terms["lost"]) / scale, woken / scale, woken / terms["spread"]
    silent = d > thresholds.deactivated
    back = np.full(len(weights), np.nan)
    some = silent.any(axis=1) & np.isfinite(r).all(axis=1)
    back[some] = (silent & (r > thresholds.reactivated))[some].sum(axis=1) / silent[some].sum(axis=1)
    moving = np.isfinite(terms["spread"])
    middle = np.median(delta[:, moving], axis=1) if moving.any() else np.full(len(weights), np.nan)
    return silent.mean(axis=1), back, np.median(d, axis=1), np.median(r, axis=1), middle


def _sure(kappa, se):
    """|kappa| is at least FEWEST_SE SE and not 0: a dead neuron has kappa = SE = 0 and must not pass."""
    middle = np.abs(kappa.mean(axis=0))
    return (middle >= FEWEST_SE * se) & (middle > 0)


def _told(scale: Interval):
    """Whether a contrast can be told from 0, by the rule for single neurons; words take more (selection.valid)."""
    return abs(scale.value) >= FEWEST_SE * scale.se and scale.value != 0


def _row(found: Interval):
    return {"n": found.n, "value": found.value, "low": found.low, "high": found.high}


def adjust(family):
    """Fill p_change_adjusted (Benjamini-Hochberg) and n_family of the rows of one family of effects, in place.

    A row in which no unit changes at all tests nothing and is not counted, so that an attack that does nothing changes no other row.
    """
    tested = [row for row in family if not row["value"] == row["low"] == row["high"] == 0]
    for row in family:
        row |= {"p_change_adjusted": row["p_change"], "n_family": len(tested)}
    for row, p in zip(tested, false_discovery([row["p_change"] for row in tested]).tolist() if tested else [], strict=True):
        row["p_change_adjusted"] = p
