"""Is the choice of neurons stable? Part of the stage `measure`: the report's tables `selection` and `stability`.

tables        both tables, and columns of the neuron table
selection     does what was chosen on the selection half hold on the evaluation half, neuron by neuron and beside matched random sets?
stability     overlap of the choice at the site ff with that on other halves, seeds, triggers and by other scores, beside chance
Recordings of the base model only; activity is averaged over calls and trajectories first, so that tests count neurons.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas

from workbench.analysis import selection
from workbench.analysis.sensitivity import Thresholds
from workbench.errors import StatisticsError
from workbench.execution import neuron_choice
from workbench.execution.rows import Row, Tables
from workbench.execution.stages import score
from workbench.execution.workspace import Workspace
from workbench.methods import scores
from workbench.neurons import sites
from workbench.report.table import CONFIRMED, names
from workbench.statistics import unit_means
from workbench.study.neuron_choice import in_words
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE

N_SPLITS, N_SPLITS_OF_WEIGHTS = 100, 20
MOST_GROUPS = 5
FEWEST_UNITS = 2
NO_SELECTION = dict.fromkeys(
    ("n", "n_chosen", "m", "alpha", "test", "confirmed", "same_sign", "low", "high", "random", "random_low", "random_high")
    + ("n_random", "p_random", *names(CONFIRMED))
)
OVERLAP = ("n", "n_first", "n_second", "iou", "low", "high", "n_splits", "chance", "chance_low", "chance_high", "n_random", "p_random")


def tables(workspace: Workspace, table: pandas.DataFrame) -> tuple[Tables, dict[str, Any]]:
    """({selection: rows, stability: rows}, {column of the neuron table: (neuron,)}).

    p_adjusted, confirmed   of the chosen neurons, concept and suppressed set; null for all others
    frequency               in what share of random halves of the units a neuron of the site ff is in the concept set; NaN elsewhere
    """
    means = base_means(workspace)
    confirmed, columns = selection_rows(workspace, table, means)
    found, columns["frequency"] = stability_rows(workspace, table, means)
    return {"selection": confirmed, "stability": found}, columns


def base_means(workspace: Workspace) -> dict[str, np.ndarray]:
    """{target, reference: (prompt, neuron)} mean |a| of the base model over trajectories and calls, in float64."""
    return {name: mean_over_calls(workspace, name) for name in ("target", "reference")}


def kappa_of_half_a(workspace: Workspace, means: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """(neuron,) contrast of the base model on the choosing half, over trajectories and calls: comparable sets are matched by it."""
    means = means or base_means(workspace)
    target, reference = (workspace.unit_means(name, means[name]) for name in ("target", "reference"))
    return (target - reference)[workspace.units_in_half_a()].mean(axis=0)


def with_validity(workspace: Workspace, table: pandas.DataFrame, scales: list[Row], thresholds: Thresholds) -> list[Row]:
    """Rows of set_validity: the concept set and the watched half of it at the site ff, and why words may not rest on them.

    scales   rows of trajectory, neuron_set, site and `Sensitivity.scale` of the set on the evaluation half
    """
    choose, half, means = workspace.study.choose, workspace.units_in_half_a(), base_means(workspace)
    target, reference = (workspace.unit_means(name, means[name])[~half] for name in ("target", "reference"))
    ff, kappa = (table["site"] == "ff").to_numpy(), kappa_of_half_a(workspace, means)
    found: dict[str, tuple[Row | None, str | None]] = {}
    how = {"n_random": choose.n_random, "exclude": (table["in_concept"] | table["in_suppressed"]).to_numpy(), "seed": choose.seed}
    for name in dict.fromkeys(row["neuron_set"] for row in scales):
        members = table[f"in_{name}"].to_numpy() & ff
        try:
            found[name] = selection.confirm(members, kappa, target, reference, table["layer"].to_numpy(), **how)[1], None
        except StatisticsError as error:
            found[name] = None, str(error)
    rows = []
    for scale in scales:
        confirmed, why = found[scale["neuron_set"]]
        flag, reason = selection.valid(scale, confirmed, thresholds, why)
        rows.append(scale | {key: (confirmed or {}).get(key) for key in names(CONFIRMED)} | {"valid": flag, "reason": reason})
    return rows


def selection_rows(workspace: Workspace, table: pandas.DataFrame, means: Mapping[str, np.ndarray]) -> tuple[list[Row], dict[str, Any]]:
    """(rows of the table, {p_adjusted, confirmed}): `selection.confirm` of every chosen set on the evaluation half."""
    choose, half = workspace.study.choose, workspace.units_in_half_a()
    target, reference = (workspace.unit_means(name, means[name]) for name in ("target", "reference"))
    kappa = kappa_of_half_a(workspace, means)
    layer, taken = table["layer"].to_numpy(), (table["in_concept"] | table["in_suppressed"]).to_numpy()
    how = {"n_resamples": choose.n_resamples, "n_random": choose.n_random, "exclude": taken, "seed": choose.seed}
    p_adjusted = np.full(len(table), np.nan)
    confirmed, rows = pandas.array([None] * len(table), dtype="boolean"), []
    for name in ("concept", "suppressed"):
        for site in workspace.study.record.sites:
            members = (table[f"in_{name}"] & (table["site"] == site)).to_numpy()
            row = {"neuron_set": name, "site": site, "chosen_by": in_words(choose), "share": choose.share} | NO_SELECTION
            row |= {"n_chosen": int(members.sum()), "reason": None}
            rows.append(row)
            try:
                of_each, summary = selection.confirm(members, kappa, target[~half], reference[~half], layer, **how)
            except StatisticsError as error:
                row["reason"] = str(error)
                continue
            row |= {key: value for key, value in summary.items() if key != "chosen"}
            p_adjusted[of_each["position"]] = of_each["p_adjusted"]
            confirmed[of_each["position"]] = of_each["confirmed"]
    return rows, {"p_adjusted": p_adjusted, "confirmed": confirmed}


def stability_rows(workspace: Workspace, table: pandas.DataFrame, means: Mapping[str, np.ndarray]) -> tuple[list[Row], np.ndarray]:
    """(rows of the table, (neuron,) frequency), all of the concept set of the site ff."""
    ff, choose, half = (table["site"] == "ff").to_numpy(), workspace.study.choose, workspace.units_in_half_a()
    by = _Compared(_numbered(table["layer"])[ff], choose.seed)
    a, b = (one[ff] for one in score.on_halves(choose, table, ff))
    by.add("halves", "selection half", a, "evaluation half", b, n=int(half.sum()))
    rule = Rule(workspace, ff, means)
    frequency = np.full(len(table), np.nan)
    try:
        n_splits = N_SPLITS_OF_WEIGHTS if rule.reads("weights") else N_SPLITS
        whole = rule.on(rule.units(rule.rows("target", "reference")))
        found, frequency[ff] = selection.over_halves(whole, workspace.units, by.layer, n_splits=n_splits, seed=choose.seed)
        by.add_splits(found)
    except StatisticsError as error:
        by.missing("repeated halves", "one half", "the other half", str(error))
    _add_groups(workspace, by, rule)
    _add_attacks(workspace, by, rule, a, half)
    others = {name: method for name, method in scores.listed(choose).items() if choose.agree or name != choose.score}
    for name, method in others.items():
        value = table[f"{name}_a"].to_numpy()[ff] - method.neutral
        other = neuron_choice.positive(value, choose.share, np.ones(len(value), bool))
        by.add("scores", in_words(choose), a, name, other, n=int(half.sum()))
    if not others:
        by.missing("scores", in_words(choose), "other scores", "the study lists no other score; see choose.compare")
    return by.rows, frequency


def _add_groups(workspace: Workspace, by: "_Compared", rule: "Rule") -> None:
    """Choices on parts of the selection half: rows of one seed or wording, and prompts that name the concept by one of its names."""
    rows, chosen_on = workspace.prompt_set("target"), workspace.half_a()
    over, labels, mixed = _places(rows)
    groups = {over: labels} if over else {}
    named = _named(rows.prompts, workspace.study.concept.names)
    if "triggers" not in groups and len(set(named) - {None}) > 1:
        groups["triggers"] = named
    for over, labels in groups.items():
        _add_parts(by, rule, over, np.array([label if mine else None for label, mine in zip(labels, chosen_on, strict=True)], object))
    if "seeds" not in groups:
        by.missing("seeds", "one seed", "another", "every unit has one seed; give each unit several rows with different seeds")
    if "triggers" not in groups:
        why = "rows of a unit differ in seed and wording together" if mixed else "the prompts use only one name of the concept, or none"
        by.missing("triggers", "one wording", "another", why)


def _add_parts(by: "_Compared", rule: "Rule", over: str, labels: np.ndarray) -> None:
    """Pairs of the choices on rows of one label each; None is no label."""
    units = np.array(rule.workspace.prompt_set("target").units, object)
    sizes = {label: len(set(units[labels == label])) for label in dict.fromkeys(labels) if label is not None}
    large = sorted((label for label, n in sizes.items() if n >= FEWEST_UNITS), key=lambda label: -sizes[label])
    compared = large[:MOST_GROUPS]
    for label, n in sizes.items():
        if label not in compared:
            why = f"only the {MOST_GROUPS} with most units are compared" if label in large else f"a choice needs {FEWEST_UNITS} units"
            by.missing(over, label, "the others", f"{why}; the selection half has {n}")
    if len(compared) < 2:
        by.missing(over, "one", "another", f"fewer than two of them have {FEWEST_UNITS} units in the selection half")
        return
    kept = np.array([label in compared for label in labels])
    choose = rule.on(rule.rows("target", "reference"))
    chosen = selection.over_groups(lambda rows: choose(_spread(rows, kept)), labels[kept].astype(str))
    for place, first in enumerate(compared):
        for second in compared[place + 1 :]:
            by.add(over, first, chosen[first], second, chosen[second], n=min(sizes[first], sizes[second]))


def _add_attacks(workspace: Workspace, by: "_Compared", rule: "Rule", a: np.ndarray, half: np.ndarray) -> None:
    """The choice by each attack's prompts in place of the study's, against the same prompts without the concept."""
    names = [name for name, planned in workspace.plan.sets.items() if planned.attack and not planned.control]
    for name in names:
        try:
            if rule.reads("norm") or rule.reads("row_norm"):
                raise StatisticsError("the choosing score reads norms, which are recorded without attack only")
            of_units = rule.units(rule.rows(name, "reference"))
            by.add("triggers", "prompts of the study", a, f"attack {name}", rule.on(of_units)(half), n=int(half.sum()))
        except StatisticsError as error:
            by.missing("triggers", "prompts of the study", f"attack {name}", str(error))
    if not names:
        by.missing("triggers", "prompts of the study", "attacks", "the study has no attack")


class Rule:
    """The study's rule at the site ff, on any rows of the base model's recordings."""

    def __init__(self, workspace: Workspace, ff: np.ndarray, means: Mapping[str, np.ndarray]) -> None:
        self.workspace, self.ff, self.means, self.choose = workspace, ff, means, workspace.study.choose
        self.methods = {name: method for name, method in scores.listed(self.choose).items() if name in self.choose.choosing}
        weighed, layer = self.reads("weights"), workspace.neurons["layer"]
        # numbers are compared many times faster than names, but weights go by name
        self.layer = (layer.to_numpy() if weighed else _numbered(layer))[ff]
        self.weights = sites.reading_weights(workspace.layers, workspace.model.unet, workspace.model.text_encoder) if weighed else {}

    def reads(self, what: str) -> bool:
        """Whether a choosing score needs it."""
        return any(what in method.needs for method in self.methods.values())

    def rows(self, target: str, reference: str) -> dict[str, scores.Evidence]:
        """{quantity: Evidence} of two sets, row by row of the target set."""
        found = {}
        for quantity in {method.quantity for method in self.methods.values()}:
            with_concept, without = (self._rows(name, quantity) for name in (target, reference))
            found[quantity] = scores.Evidence(with_concept, without, layer=self.layer, weights=self.weights)
        return found

    def units(self, rows: dict[str, scores.Evidence]) -> dict[str, scores.Evidence]:
        """The same, averaged over the rows of each unit; norms by their squares."""
        names = self.workspace.prompt_set("target").units
        if len(set(names)) == len(names):
            return rows

        def averaged(quantity: str, one: scores.Evidence) -> scores.Evidence:
            def mean(values: np.ndarray) -> np.ndarray:
                return unit_means(names, values) if quantity == "mean_abs" else np.sqrt(unit_means(names, np.square(values)))

            assert one.reference is not None, "`rows` gives both sets"
            return scores.Evidence(mean(one.target), mean(one.reference), layer=one.layer, weights=one.weights)

        return {quantity: averaged(quantity, one) for quantity, one in rows.items()}

    def on(self, evidence: Mapping[str, scores.Evidence]) -> Callable[[np.ndarray], np.ndarray]:
        """boolean (row,) -> (neuron of ff,) bool: what the rule chooses on some rows."""
        here = np.ones(len(self.layer), bool)

        def choose(rows: np.ndarray) -> np.ndarray:
            values = {}
            for name, method in self.methods.items():
                given = self.choose.parameters if name == self.choose.score else None
                found = scores.evaluate(method, evidence[method.quantity], rows, parameters=given)
                values[name] = found - method.neutral
            return neuron_choice.chosen(self.choose, values, here)

        return choose

    def _rows(self, name: str, quantity: str) -> np.ndarray:
        """(row, call or 1, neuron of ff); averaged over calls where no choosing score looks at single calls."""
        if quantity == "mean_abs" and not self.reads("calls"):
            values = (self.means[name] if name in self.means else mean_over_calls(self.workspace, name))[:, None]
        else:
            values = score.pooled(self.workspace, (BASE, name), quantity)
        return self.workspace.in_units(name, values[:, :, self.ff])


class _Compared:
    """Collects rows of the table `stability`."""

    def __init__(self, layer: np.ndarray, seed: int) -> None:
        self.layer, self.seed = layer, seed
        self.rows: list[Row] = []

    def add(self, over: str, first: str, a: np.ndarray, second: str, b: np.ndarray, n: int) -> None:
        """Two sets (neuron of ff,) side by side, beside random sets."""
        try:
            found = selection.stability({first: a, second: b}, self.layer, seed=self.seed).iloc[0].to_dict()
        except StatisticsError as error:
            self.missing(over, first, second, str(error))
            return
        self._row(over, first, second, found | {"n": n})

    def add_splits(self, found: Row) -> None:
        """What `selection.over_halves` found."""
        more = {"n": found["n"] // 2, "iou": found["value"], "n_first": found["n_chosen"], "n_second": found["n_chosen"]}
        self._row("repeated halves", "one half", "the other half", found | more)

    def missing(self, over: str, first: str, second: str, reason: str) -> None:
        """A comparison that cannot be made, and why."""
        self._row(over, first, second, {"reason": reason})

    def _row(self, over: str, first: str, second: str, found: Row) -> None:
        about = {"over": over, "site": "ff", "first": first, "second": second}
        self.rows.append(about | {key: found.get(key) for key in OVERLAP} | {"reason": found.get("reason")})


def mean_over_calls(workspace: Workspace, name: str) -> np.ndarray:
    """(prompt, neuron) mean |a| of the base model on a prompt set, over trajectories and calls, in float64."""
    return score.pooled(workspace, (BASE, name), "mean_abs").mean(axis=1, dtype=float)


def _numbered(layer: pandas.Series) -> np.ndarray:
    return pandas.factorize(layer)[0]


def _places(rows: PromptSet) -> tuple[str | None, list[str | None], bool]:
    """(seeds | triggers | None, label of each row, whether both differ): what tells the rows of a unit apart.

    Rows of one prompt are seeds, rows of one seed are wordings; where both differ the rows count as seeds.
    """
    table = rows.table
    if "place" not in table:
        return None, [], False
    several = table.groupby("unit")[["prompt", "seed"]].nunique().max() > 1
    mixed = bool(several.all())
    over = "seeds" if several["seed"] or not several["prompt"] else "triggers"
    word = "seed and wording" if mixed else over.removesuffix("s").replace("trigger", "wording")
    return over, [f"{word} {place + 1} of each unit" for place in table["place"]], mixed


def _named(prompts: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """(row,) which of the concept's names each prompt has, the longest that fits; None without any."""
    longest = sorted(names, key=len, reverse=True)
    found = [next((n for n in longest if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", prompt, re.IGNORECASE)), None) for prompt in prompts]
    return [name and f'"{name}"' for name in found]


def _spread(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Boolean (row,) of all rows from one of the kept rows."""
    everyone = np.zeros(len(kept), bool)
    everyone[np.flatnonzero(kept)[rows]] = True
    return everyone
