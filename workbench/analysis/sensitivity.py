"""Deactivation, reactivation and the effect of pruning on concept neurons (SCIENCE 2.5).

All values are mean |a| in the shared regime, averaged over a window of calls fixed beforehand, on the half of the units that
did not choose the neurons. One scale, from the base model alone: base x target = 1, base x reference = 0.

    A_M(P) = sum_S [ n_M(P) - n_0(ref) ] / sum_S [ n_0(tgt) - n_0(ref) ]

Every effect is a sum over S of a difference of condition means, divided by that same denominator. Matched random sets are
put on the concept set's denominator, not their own: theirs is near zero, which would blow up any null.
"""

from dataclasses import dataclass

import numpy as np
import pandas

from workbench.errors import StatisticsError
from workbench.statistics import Interval, interval, matched_random_sets, permutation_p, unit_weights


@dataclass(frozen=True)
class Thresholds:
    """When a neuron or a set counts as silenced or woken; shares of the base model's contrast."""

    deactivated: float = 0.5
    reactivated: float = 0.25
    silenced: float = 0.5
    woken: float = 0.1
    alpha: float = 0.05


class Sensitivity:
    """Quantities of one trajectory.

    values      {(variant, prompt set): (unit, neuron) array}; all on the same units in the same order
    layer       (neuron,) layer names, for matched random sets
    Raises      StatisticsError when conditions differ in shape or the base conditions are missing
    """

    def __init__(self, values, layer, n_resamples=1000, seed=0, base="base"):
        shapes = {array.shape for array in values.values()}
        if len(shapes) != 1:
            raise StatisticsError(f"Conditions of different shapes cannot be compared: {sorted(shapes)}.")
        for needed in ("target", "reference"):
            if (base, needed) not in values:
                raise StatisticsError(f"The base model's {needed} condition is missing; it defines the scale.")
        self.values, self.layer, self.base, self.seed = values, np.asarray(layer), base, seed
        self.n_units = next(iter(shapes))[0]
        self.weights = unit_weights(self.n_units, n_resamples, seed)
        self._random = {}

    def _sums(self, condition, members):
        """(unit,) sum over a set of neurons."""
        return self.values[condition][:, members].sum(axis=1, dtype=np.float64)

    def _scale(self, members):
        target, reference = (self._sums((self.base, p), members) for p in ("target", "reference"))
        return target - reference

    def contrast(self, plus, minus, members):
        """sum_S [ n(plus) - n(minus) ] / sum_S [ n_0(tgt) - n_0(ref) ] as an Interval, pairs kept."""
        difference = self._sums(plus, members) - self._sums(minus, members)
        scale = self._scale(members)
        if scale.mean() == 0:
            raise StatisticsError("The set has no contrast in the base model on these units; it defines no scale.")
        return interval(difference.mean() / scale.mean(), (self.weights @ difference) / (self.weights @ scale), self.n_units)

    def activity(self, condition, members):
        """Concept activity A of a condition."""
        return self.contrast(condition, (self.base, "reference"), members)

    def random_sets(self, members, n_sets, exclude=None):
        """Matched random sets of a set; drawn once per set."""
        key = (members.tobytes(), n_sets)
        if key not in self._random:
            self._random[key] = matched_random_sets(members, self.layer, n_sets, self.seed + 1, exclude)
        return self._random[key]

    def random_contrast(self, plus, minus, members, n_sets, exclude=None):
        """(set,) the same contrast on matched random sets, on the denominator of `members`."""
        difference = (self.values[plus] - self.values[minus]).mean(axis=0, dtype=np.float64)
        sets = self.random_sets(members, n_sets, exclude)
        return sets @ difference / self._scale(members).mean()

    def effect(self, plus, minus, members, n_sets, exclude=None):
        """Value, interval, p against matched random sets, and the random sets' 95 % band, as a dict."""
        found = self.contrast(plus, minus, members)
        null = self.random_contrast(plus, minus, members, n_sets, exclude)
        low, high = np.quantile(null, [0.025, 0.975])
        return _row(found) | {
            "p_random": permutation_p(found.value, null),
            "n_random": n_sets,
            "random_low": float(low),
            "random_high": float(high),
            "reason": None,
        }

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
                    "excluded": np.abs(kappa.mean(axis=0)) < 2 * se,
                    "d": mean["lost"] / kappa.mean(axis=0),
                    "r": mean["woken"] / kappa.mean(axis=0),
                    "delta": mean["woken"] / rows["spread"],
                }
            )

    def _neuron_terms(self, variant, adversarial, control):
        at = self.values
        target, reference = at[self.base, "target"], at[self.base, "reference"]
        kappa = (target - reference).astype(np.float64)
        woken = at[variant, adversarial] - at[variant, control] if adversarial else np.full(kappa.shape, np.nan)
        return {
            "kappa": kappa,
            "kappa_se": kappa.std(axis=0, ddof=1) / np.sqrt(self.n_units),
            "lost": (target - at[variant, "target"]).astype(np.float64),
            "woken": np.asarray(woken, np.float64),
            "spread": reference.std(axis=0, ddof=1, dtype=np.float64),
        }

    def shares(self, variant, adversarial, control, members, thresholds):
        """Shares and medians over a set, with intervals by resampling units; a dict of the table `neurons`."""
        members = np.flatnonzero(members)
        terms = self._neuron_terms(variant, adversarial, control)
        kappa = terms["kappa"][:, members]
        keep = np.abs(kappa.mean(axis=0)) >= 2 * terms["kappa_se"][members]
        row = {"n": int(keep.sum()), "excluded": int((~keep).sum())}
        names = ("share_deactivated", "share_reactivated", "median_d", "median_r", "median_delta")
        if not keep.any():
            nothing = {f"{name}{end}": None for name in names for end in ("", "_low", "_high")}
            return row | nothing | {"reason": "every neuron of the set has |kappa| < 2 standard errors"}
        lost, woken = terms["lost"][:, members[keep]], terms["woken"][:, members[keep]]
        kappa, spread = kappa[:, keep], terms["spread"][members[keep]]
        weights = np.vstack([np.full((1, self.n_units), 1 / self.n_units), self.weights])
        scale = weights @ kappa
        with np.errstate(divide="ignore", invalid="ignore"):
            d, r = (weights @ lost) / scale, (weights @ woken) / scale
            delta = (weights @ woken) / spread
        silent = d > thresholds.deactivated
        back = np.where(silent.sum(axis=1) > 0, (silent & (r > thresholds.reactivated)).sum(1) / np.maximum(silent.sum(1), 1), np.nan)
        measured = dict(zip(names, (silent.mean(1), back, *(np.median(x, axis=1) for x in (d, r, delta))), strict=True))
        reason = None
        for name, series in measured.items():
            try:
                found = interval(series[0], series[1:], row["n"])
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            except StatisticsError:
                row |= {name: None, f"{name}_low": None, f"{name}_high": None}
                reason = "no attack on this variant" if adversarial is None else "no neuron of the set is deactivated"
        return row | {"reason": reason}


def _row(found: Interval):
    return {"n": found.n, "value": found.value, "low": found.low, "high": found.high}
