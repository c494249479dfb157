"""Draws of small studies from the recorded pool, and what is said of each: the numbers and words of the stage `measure`.

Pool      everything that was recorded, in memory
draw      one study of 2 n units: neurons are chosen on half of them by the study's score; validity, effects and findings on the other
kept      all draws, kept on disk as they are made

A draw calls the public functions that the stage `measure` calls (Sensitivity, selection.confirm and valid, rates, rules.found); it
leaves out what no word rests on. Each eraser, and each attack on it, is a study of its own, so that no correction over a table of other
studies makes the test milder than a study's own would be.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.nulls import pool as null_pool
from workbench.analysis import rates, rules, selection
from workbench.analysis.sensitivity import Sensitivity, Thresholds
from workbench.errors import StatisticsError
from workbench.execution.neuron_choice import positive
from workbench.execution.stages.measure import with_adjusted
from workbench.methods.scores.contrast import score as contrast
from workbench.statistics import split_halves
from workbench.storage import read_json, write_json
from workbench.study.prompt_set_name import control_of
from workbench.study.study import BASE

SIZES = (8, 16, 40)
N_DRAWS = 200
N_RANDOM = 199
PER_UNIT = ("tokens", "vectors")
SHARED = "shared"
ABOUT_NONE = {"attack": None, "provenance": None, "against": None}
TRAJECTORY = {"neuron_set": "concept", "trajectory": "reference"}


@dataclass
class Pool:
    """What was recorded of every unit.

    values    {(variant, prompt set): (unit, neuron)} mean |a| over the recorded calls
    layer     (neuron,) names;  share   of the neurons that are chosen
    seen      {variant: (unit,) bool} the concept in the image without attack, by the judge; of some variants of the first units only
    kept      {variant: (unit,) bool} the unrelated concept drawn right, of the first units
    """

    values: dict
    layer: np.ndarray
    share: float
    seen: dict
    kept: dict

    @classmethod
    def of(cls, workspace):
        """Everything in the run folder of `null_pool.record`."""
        attacks = [f"{kind}-{seed}" for kind in (*PER_UNIT, SHARED) for seed in range(null_pool.DRAWS)]
        variants = [BASE, "esd", "sham", *null_pool.null_erasers()]
        values = {}
        for node in workspace.plan.of_stage("record"):
            wanted = node.variant in variants and node.prompt_set in ("target", "reference", *null_pool.RETAINED, *attacks)
            if wanted and workspace.there(node):
                values[node.variant, node.prompt_set] = workspace.mean_abs(node.variant, node.prompt_set, "reference").mean(axis=1)
        seen = {variant: workspace.detections(variant, "target")["judge"].to_numpy() for variant in (BASE, "esd", "sham")}
        kept = {}
        for node in null_pool.pictured(workspace.plan):
            if node.stage == "detect":
                where, column = (kept, "judge_expected") if node.prompt_set == "far" else (seen, "judge")
                where[node.variant] = np.concatenate([_column(workspace, shard, column) for shard in node.shards])
        return cls(values, workspace.neurons["layer"].to_numpy(), workspace.study.choose.share, seen, kept)

    @property
    def n_units(self):
        """How many units there are to draw from."""
        return len(self.values[BASE, "target"])


def _column(workspace, shard, name):
    from workbench.storage import read_table

    return read_table(workspace.store.path("detect", shard.key) / "detections.parquet")[name].to_numpy()


class _Drawn:
    """One draw of 2 n units: the chosen set, whether it is valid, and the measuring half."""

    def __init__(self, pool, n, seed):
        self.pool, self.n, self.rng = pool, n, np.random.default_rng([n, seed])
        self.units = self.rng.choice(pool.n_units, 2 * n, replace=False)
        half = split_halves(self.units.tolist(), seed)
        self.a, self.b = self.units[half], self.units[~half]
        target, reference = (pool.values[BASE, name] for name in ("target", "reference"))
        everywhere = np.ones(len(pool.layer), bool)
        score = contrast(target[self.a], reference[self.a], layer=pool.layer)
        self.concept = positive(score, pool.share, everywhere)
        self.taken = self.concept | positive(-score, pool.share, everywhere)
        self.kappa = (target[self.a] - reference[self.a]).mean(axis=0)
        self.seed, self.thresholds = seed, Thresholds()

    def measured(self, *conditions):
        """The Sensitivity of the base conditions and others: (variant, name), or ((variant, name), its (unit, neuron) on the half)."""
        values = {(BASE, name): self.pool.values[BASE, name][self.b] for name in ("target", "reference", *null_pool.RETAINED)}
        for one in conditions:
            key, array = one if isinstance(one[0], tuple) else (one, self.pool.values[one][self.b])
            values[key] = array
        return Sensitivity(values, self.pool.layer, 100, self.seed, kappa=self.kappa)

    @cached_property
    def validity(self):
        """The row of set_validity of the chosen set."""
        scale, confirmed, why = self.measured().scale(self.concept), None, None
        target, reference = (self.pool.values[BASE, name][self.b] for name in ("target", "reference"))
        how = {"n_random": N_RANDOM, "exclude": self.taken, "seed": self.seed}
        try:
            confirmed = selection.confirm(self.concept, self.kappa, target, reference, self.pool.layer, **how)[1]
        except StatisticsError as error:
            why = str(error)
        valid, reason = selection.valid(scale, confirmed, self.thresholds, why)
        return TRAJECTORY | {"site": "ff"} | scale | {"valid": valid, "reason": reason}


def _activity(measured, concept, variant, name):
    row = {"variant": variant, "prompt_set": name, "control": False} | TRAJECTORY | ABOUT_NONE
    try:
        return row | vars(measured.activity((variant, name), concept)) | {"reason": None}
    except StatisticsError as error:
        return row | {"n": measured.n_units, "value": None, "low": None, "high": None, "reason": str(error)}


def _effect(measured, drawn, name, variant, plus, minus, about=ABOUT_NONE, null=None):
    row = {"variant": variant, "effect": name, "compared_with": None} | TRAJECTORY | about | (null or {})
    try:
        return row | measured.effect(plus, minus, drawn.concept, 19, drawn.taken)
    except StatisticsError as error:
        nothing = dict.fromkeys(("value", "low", "high", "p_change", "p_random"))
        return row | nothing | {"n": measured.n_units, "reason": str(error)}


def _unattacked(drawn, variant):
    """Rows of activity, effects, rates and retention without attack."""
    pool, measured = drawn.pool, drawn.measured((variant, "target"), (variant, "reference"))
    activity = [_activity(measured, drawn.concept, variant, name) for name in ("target", "reference")]
    pairs = {"deactivation": ((BASE, "target"), (variant, "target")), "drift": ((variant, "reference"), (BASE, "reference"))}
    pairs["target_over_reference"] = ((variant, "target"), (variant, "reference"))
    effects = [_effect(measured, drawn, name, variant, *pair) for name, pair in pairs.items()]
    found, some = [], _some(drawn, pool.seen[variant])
    for one, definition in ((BASE, "ceiling"), (variant, "success_rate")):
        about = {"variant": one, "prompt_set": "target", "control": False} | ABOUT_NONE
        found.append(rates.success_rate(pool.seen[one][some], definition, **about))
    some = _some(drawn, pool.kept[variant])
    retention = [{"variant": one, "kind": "far"} | rates.share(pool.kept[one][some]) for one in (BASE, variant)]
    return activity, effects, found, retention


def _some(drawn, outcomes):
    """As many units as the draw has, or all there are images of."""
    return drawn.rng.choice(len(outcomes), min(2 * drawn.n, len(outcomes)), replace=False)


def _pair(drawn, kind):
    """(attack, control) as choices of a null attack's draws for each unit of the pool: two second draws, never the same.

    Words and vectors are drawn anew for every prompt, so that each unit's may be any of the recorded ones; a shared vector is one for all.
    """
    order = [drawn.rng.permutation(null_pool.DRAWS)[:2] for _ in range(drawn.pool.n_units if kind != SHARED else 1)]
    return np.broadcast_to(order, (drawn.pool.n_units, 2)).T


def _under(drawn, variant, kind, choice):
    """(unit, neuron) of the measuring half under the chosen draws of an attack."""
    values = np.stack([drawn.pool.values[variant, f"{kind}-{seed}"][drawn.b] for seed in range(null_pool.DRAWS)])
    return values[choice[drawn.b], np.arange(len(drawn.b))]


def _attacked(drawn, variant, kind):
    """(rows of activity, rows of effects) under a null attack: its control is a second draw of it."""
    choice = _pair(drawn, kind)
    about = {"attack": kind, "provenance": "static", "against": None}
    names = (kind, control_of(kind))
    made = [((one, name), _under(drawn, one, kind, which)) for one in (BASE, variant) for name, which in zip(names, choice, strict=True)]
    measured = drawn.measured((variant, "target"), *made)
    words = names if kind == "tokens" else names[1:]
    changes = [(name, (BASE, name), (BASE, "target")) for name in words]
    changes += [(name, (BASE, name), (BASE, "reference")) for name in null_pool.RETAINED]
    try:
        null = measured.wording_null(changes, drawn.concept)
    except StatisticsError as error:
        null = {"null_low": None, "null_high": None, "null_n": None, "null_from": f"none: {error}"}
    activity = [_activity(measured, drawn.concept, variant, kind) | about]
    return activity, [_effect(measured, drawn, "reactivation", variant, *((variant, name) for name in names), about, null)]


def draw(pool, n, seed):
    """{valid, and of each eraser and null attack what was said}: one draw of a study of 2 n units.

    returns   {"valid", "scale_over_se", "variants": {name: {outcome, activity, drift_low, damaged, rate}},
              "attacks": [{variant, kind, outcome, p, value, low, high, null_high}]}
    """
    drawn = _Drawn(pool, n, seed)
    result = {"valid": bool(drawn.validity["valid"]), "scale_over_se": drawn.validity["scale_over_se"], "variants": {}, "attacks": []}
    for variant in pool.seen:
        if variant == BASE:
            continue
        role = "sham" if variant == "sham" else "erased"
        activity, effects, found, retention = _unattacked(drawn, variant)
        tables = {"activity": activity, "effects": with_adjusted(effects, {variant: "concept"}), "rates": found, "retention": retention}
        tables |= {"set_validity": [drawn.validity], "comparisons": [], "against_control": [], "relocation": []}
        said = _said(tables, variant, role, n)
        by_name = {row["effect"]: row for row in effects}
        result["variants"][variant] = {
            "outcome": said.get("deactivation"),
            "activity": activity[0]["value"],
            "activity_reference": activity[1]["value"],
            "drift_low": by_name["drift"]["low"],
            "broken": bool(rules.broken(retention[1], retention[0])),
            "rate": found[1]["rate"],
        }
        for kind in (*PER_UNIT, SHARED):
            if (variant, f"{kind}-0") not in pool.values:
                continue
            more, attacked = _attacked(drawn, variant, kind)
            under = with_adjusted(effects + attacked, {variant: "concept"})
            said = _said(tables | {"activity": activity + more, "effects": under}, variant, role, n)
            row = {key: attacked[0][key] for key in ("p_change", "value", "low", "high", "null_high")}
            result["attacks"].append({"variant": variant, "kind": kind, "outcome": said.get("reactivation")} | row)
    return result


def _said(tables, variant, role, n):
    """{kind of finding: its outcome} of one eraser."""
    return {one.kind: one.outcome for one in rules.found([(variant, role)], tables, "reference", n_choosing=n) if one.variant == variant}


def kept(path, pool, n_draws=N_DRAWS, sizes=SIZES, say=lambda n, done: None, every=10):
    """{n: [draws]}; kept in the file `path` after every 10, so that a stopped run goes on. `pool` is a function that gives the Pool."""
    known = read_json(path) if path.exists() else {}
    loaded = None
    for n in sizes:
        draws = known.setdefault(str(n), [])
        while len(draws) < n_draws:
            loaded = loaded or pool()
            draws.append(draw(loaded, n, len(draws)))
            if len(draws) % every == 0 or len(draws) == n_draws:
                write_json(path, known)
                say(n, len(draws))
    return {n: known[str(n)][:n_draws] for n in sizes}
