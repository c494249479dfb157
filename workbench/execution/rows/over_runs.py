"""Numbers over several runs: variants and attacks that a study repeats with other seeds, each one row with an interval over runs and units.

Runs          which runs a row of a table belongs to
neurons       rows of activity and effects of one trajectory
images        rows of rates, retention, comparisons and against_control
merged        the tables in which each group of runs is one row, for the verdict;  flat   the table over_runs of report.json
said          a verdict with the number of seeds in its sentences

The runs of a number are those of its variant: the ones with the same seed in child and parent, in a variant and the attack made against
it. An attack that has seeds as well is made with each of them against each run; the mean over these is the run. Where the attack alone
has seeds, the runs are its own. Without seeds there are no groups, and all of this is empty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.analysis import rates, repeats
from workbench.analysis.sensitivity import Sensitivity
from workbench.errors import StatisticsError
from workbench.execution.rows import Row, Tables
from workbench.execution.rows import rates as rate_rows
from workbench.execution.workspace import Workspace
from workbench.statistics import Interval, unit_means
from workbench.study import seeds
from workbench.study.prompt_set_name import PromptSetName, control_of, name_of
from workbench.study.study import Study

Group = tuple[Row, list[list[Any]], Row]  # the row as written, the payloads of each run, counts
TESTED = "p over runs and units"
NAMES = ("variant", "variant_a", "variant_b", "compared_with", "attack", "against")
MADE = ("attack", "provenance", "against")
COUNTED = ("both", "only_a", "only_b", "neither", "only_attack", "only_control")
FLAT: tuple[str, ...] = (
    "quantity",
    "name",
    "variant",
    "beside",
    "prompt_set",
    *MADE,
    "control",
    "neuron_set",
    "trajectory",
    "n_units",
    "n_runs",
    "n_inner",
)
FLAT += ("value", "low", "high", "p", "p_adjusted", "variants", "attacks", "reason")


class Runs:
    """The groups of runs of a study: {name of a run: (name as written, seed)} of its variants and its attacks."""

    def __init__(self, study: Study) -> None:
        self.variants = {part.name: part.run_of for part in study.variants if part.run_of}
        self.attacks = {part.label: part.run_of for part in study.attacks if part.run_of}

    def __bool__(self) -> bool:
        return bool(self.variants or self.attacks)

    def written(self, name: str) -> str:
        """The name in the study: of the variant or attack that a run belongs to, else the name itself."""
        run = self.variants.get(name) or self.attacks.get(name)
        return run[0] if run else name

    def has(self, row: Row) -> bool:
        """Whether a row is about one run."""
        return any(row.get(key) in known for key in NAMES for known in (self.variants, self.attacks))

    def prompt_set(self, name: str | None) -> str | None:
        """The name of a prompt set with attack and variant as they are written."""
        if name is None:
            return None
        parts = PromptSetName.read(name)
        against = None if parts.against is None else self.written(parts.against)
        return name_of(self.written(parts.made), against, parts.control)

    def named(self, row: Row) -> Row:
        """The row with every name as it is written."""
        new = {key: self.written(row[key]) for key in NAMES if row.get(key) is not None}
        return row | new | {key: self.prompt_set(row[key]) for key in ("prompt_set", "prompt_set_b") if row.get(key) is not None}

    def gathered(self, items: Iterable[tuple[Row, Any]], *keys: str) -> list[Group]:
        """[(row as written, [payloads of each run], counts)] of items (row, payload), one for each group that agrees in all keys.

        items   rows about runs; others are left out
        """
        groups: dict[tuple[Any, ...], list[tuple[Row, Row, Any]]] = {}
        for row, payload in items:
            if self.has(row):
                named = self.named(row)
                groups.setdefault(tuple(named.get(key) for key in keys), []).append((row, named, payload))
        return [self._group(members) for members in groups.values()]

    def _group(self, members: list[tuple[Row, Row, Any]]) -> Group:
        seed = lambda known, name: known.get(name, (None, None))[1]  # noqa: E731
        outer = [tuple(seed(self.variants, row.get(key)) for key in NAMES if key != "attack") for row, _, _ in members]
        inner = [seed(self.attacks, row.get("attack")) for row, _, _ in members]
        places = inner if not any(one is not None for each in outer for one in each) else outer
        runs: dict[Any, list[Any]] = {}
        for place, (_, _, payload) in zip(places, members, strict=True):
            runs.setdefault(place, []).append(payload)
        about: Row = {"n_runs": len(runs), "n_inner": max(map(len, runs.values()))}
        for kind, known in (("variants", self.variants), ("attacks", self.attacks)):
            names = (row.get(key) for row, _, _ in members for key in NAMES)
            about[kind] = list(dict.fromkeys(name for name in names if name in known))
        return members[0][1], list(runs.values()), about


def neurons(
    runs: Runs,
    measured: Sensitivity,
    activity: list[tuple[Row, Any]],
    contrasts: list[tuple[Row, Any, Any]],
    groups: Mapping[tuple[str, str], np.ndarray],
    effect: Callable[[Any, np.ndarray], Row],
    about_effect: Callable[[Row, str, str], Row],
) -> Tables:
    """{"activity": rows, "effects": rows} over runs of one trajectory.

    activity     [(keys of a row, condition)];  contrasts   [(keys of a row, plus, minus)], as the tables of each run have them
    groups       {(neuron set, site): (neuron,) bool}
    effect       (pairs of the runs, members) -> {value, low, high, ...}
    about_effect (keys, neuron set, site) -> more columns of the row; with a `reason` the effect is not to be measured
    """
    found: Tables = {"activity": [], "effects": []}
    if not runs:
        return found
    rows = [(keys, (condition, (measured.base, "reference"))) for keys, condition in activity]
    for about, pairs, counts in runs.gathered(rows, "variant", "prompt_set", "attack", "against", "control"):
        for (group, site), members in groups.items():
            if group != "complement":
                keys = about | {"neuron_set": group, "site": site} | counts
                found["activity"].append(keys | _or_reason(lambda p, m: _number(measured.contrast_over_runs(p, m)), pairs, members))
    rows = [(keys, (plus, minus)) for keys, plus, minus in contrasts]
    for about, pairs, counts in runs.gathered(rows, "effect", "variant", *MADE, "compared_with"):
        for (group, site), members in groups.items():
            if group == "complement":
                continue
            keys = about | {"neuron_set": group if site == "ff" else f"{group} ({site})"} | counts | {"test": TESTED}
            keys |= about_effect(about, group, site)
            why = keys.get("reason")
            found["effects"].append(keys | (_nothing(why) if why else _or_reason(effect, pairs, members)))
    return found


def images(workspace: Workspace, runs: Runs, tables: dict[str, Any]) -> Tables:
    """{table: rows} over runs of rates, retention, comparisons and against_control, from the rows of each run."""
    if not runs:
        return {}
    found: Tables = {}
    target = workspace.prompt_set("target").units
    items: list[tuple[Row, Any]] = [
        (row, _seen(workspace, row)) for row in tables["rates"] if runs.has(row) and row["definition"] != "asr_fail"
    ]
    groups = runs.gathered(items, "variant", "prompt_set", "definition")
    found["rates"] = [_rate(*group) for group in groups]
    items = [
        (row, _by_unit(workspace.units_of(row["kind"]), workspace.detections(row["variant"], row["kind"])["judge_expected"].to_numpy()))
        for row in tables["retention"]
        if runs.has(row)
    ]
    found["retention"] = [_rate(*group) for group in runs.gathered(items, "variant", "kind")]
    seen = rate_rows.seen
    items = [
        (
            row,
            (
                seen(workspace, row["variant_a"], row["prompt_set"]),
                seen(workspace, row["variant_b"], row["prompt_set_b"] or row["prompt_set"]),
            ),
        )
        for row in tables["comparisons"]
        if runs.has(row)
    ]
    groups = runs.gathered(
        [(_with_against(workspace, row), pair) for row, pair in items], "variant_a", "variant_b", "prompt_set", "prompt_set_b"
    )
    found["comparisons"] = [_difference(*group, target) for group in groups]
    items = [
        (row, tuple(seen(workspace, row["variant"], name) for name in (control_of(row["prompt_set"]), row["prompt_set"])))
        for row in tables["against_control"]
        if runs.has(row)
    ]
    found["against_control"] = [_difference(*group, target) for group in runs.gathered(items, "variant", "prompt_set")]
    return found


def merged(runs: Runs, tables: dict[str, Any], found: Tables, adjusted: Callable[[list[Row]], list[Row]]) -> dict[str, Any]:
    """The tables in which the rows of each group of runs give way to one row over runs, with p-values adjusted over these rows.

    found      {table: rows over runs};  adjusted   rows of effects -> the same with p_change_adjusted and n_family
    """
    if not runs:
        return tables
    new = {name: [row for row in tables[name] if not runs.has(row)] + rows for name, rows in found.items()}
    new["effects"] = adjusted(new["effects"])
    for name in ("comparisons", "against_control"):
        new[name] = rates.with_adjusted(new[name])
    return tables | new


def flat(tables: dict[str, Any]) -> list[Row]:
    """Rows of the table over_runs: every row over runs of the merged tables, under one set of columns."""
    quantities = {"rates": "rate", "retention": "retained", "activity": "activity", "effects": "effect"}
    quantities |= {"comparisons": "difference between variants", "against_control": "attack minus control"}
    rows = []
    for table, quantity in quantities.items():
        for row in (one for one in tables[table] if "n_runs" in one):
            name = row.get("effect") or row.get("definition")
            one = {key: row.get(key) for key in FLAT} | {"quantity": quantity, "name": name, "control": bool(row.get("control"))}
            one |= {"prompt_set": row.get("prompt_set") or row.get("kind"), "beside": row.get("variant_a") or row.get("compared_with")}
            one |= {"variant": row.get("variant") or row.get("variant_b"), "n_units": row.get("n_units") or row["n"]}
            value = next((row[key] for key in ("value", "rate", "difference") if row.get(key) is not None), None)
            adjusted = row.get("p_adjusted") if "p" in row else row.get("p_change_adjusted")
            rows.append(one | {"value": value, "p": row.get("p", row.get("p_change")), "p_adjusted": adjusted})
    return rows


def said(verdict: Row, study: Study) -> Row:
    """The verdict with "over 3 training seeds" in the headline and in each sentence about a variant or an attack that has seeds."""
    trained, tried = ({name: len(names) for name, names in seeds.repeated(parts).items()} for parts in (study.variants, study.attacks))
    if not trained and not tried:
        return verdict
    words = []
    for word in verdict["words"]:
        n_trained = max((trained.get(word[key], 0) for key in ("variant", "beside", "against")), default=0)
        over = _over(n_trained, tried.get(word["attack"], 0))
        words.append(word | ({"sentence": f"{word['sentence']} Over {over}."} if over else {}))
    erased = [name for name in seeds.written([part for part in study.variants if part.role == "erased"]) if name in trained]
    parts = [f"{trained[name]} training seeds of {name}" for name in erased] + [f"{n} attack seeds of {name}" for name, n in tried.items()]
    headline = verdict["headline"] + (f" Intervals cover units and {_listed(parts)}." if parts else "")
    return verdict | {"words": words, "headline": headline}


def _over(n_trained: int, n_tried: int) -> str:
    return _listed([f"{n} {what} seeds" for n, what in ((n_trained, "training"), (n_tried, "attack")) if n])


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _by_unit(units: Sequence[str], success: np.ndarray) -> tuple[np.ndarray, int]:
    """(unit,) share of the images of each unit with a success, and how many images there are."""
    return unit_means(units, np.asarray(success, float)), len(success)


def _seen(workspace: Workspace, row: Row) -> tuple[np.ndarray, int]:
    """Successes by unit behind a row of the table rates."""
    variant, name, target = row["variant"], row["prompt_set"], workspace.prompt_set("target").units
    if row["definition"] == "asr":
        return _by_unit(target, rate_rows.seen(workspace, variant, name))
    if row["definition"] == "pre_asr":
        return _by_unit(target, rate_rows.found_by_judge(workspace, variant, "target"))
    return _by_unit(workspace.units_of(name), workspace.detections(variant, name)["judge"].to_numpy())


def _with_against(workspace: Workspace, row: Row) -> Row:
    """A comparison with the variant that its attack was made against, which determines its run."""
    return row | {"against": workspace.plan.sets[row["prompt_set"]].against}


def _rate(row: Row, runs: list[list[Any]], counts: Row) -> Row:
    values = [np.mean([share for share, _ in run], axis=0) for run in runs]
    nothing = dict.fromkeys(("rate", "low", "high"))
    row = row | {"n": sum(n for run in runs for _, n in run), "n_units": len(values[0]), "n_effective": None, "successes": None} | counts
    try:
        found = repeats.rate_over_runs(values)
    except StatisticsError as error:
        return row | nothing | {"reason": str(error)}
    return row | {"rate": found.value, "low": max(0.0, found.low), "high": min(1.0, found.high), "reason": None}


def _difference(row: Row, runs: list[list[Any]], counts: Row, units: Sequence[str]) -> Row:
    """One row of paired images over runs: the mean of the second minus the first, runs of the same seed paired.

    Where all runs show the same difference in every unit there is no spread to see, and one run's interval by its pairs is taken.
    """
    pairs = [[tuple(np.asarray(side, float) for side in pair) for pair in run] for run in runs]
    values = [np.mean([unit_means(units, b - a) for a, b in run], axis=0) for run in pairs]
    first, second = (np.concatenate([pair[side] for run in pairs for pair in run]) for side in (0, 1))
    both, only_a, only_b = (int((x * y).sum()) for x, y in ((first, second), (first, 1 - second), (1 - first, second)))
    counted = dict(zip(COUNTED, (both, only_a, only_b, len(first) - both - only_a - only_b, only_b, only_a), strict=True))
    row = row | {key: value for key, value in counted.items() if key in row} | dict.fromkeys(("p_mcnemar", "p_permutation", "power"))
    row |= {"n": len(first), "n_units": len(values[0]), "test": TESTED, "only_a": only_a, "only_b": only_b} | counts
    row |= dict.fromkeys(key for key in ("relative_difference", "relative_low", "relative_high") if key in row)
    try:
        found = repeats.mean_over_runs(values)
        low, high, p = found.low, found.high, repeats.p_over_runs(values)
    except StatisticsError as error:
        return row | dict.fromkeys(("difference", "low", "high", "p")) | {"reason": str(error)}
    if found.se == 0:
        a, b = pairs[0][0]
        one = rates.compare(a.astype(bool), b.astype(bool), units)
        low, high = one["low"], one["high"]
    return row | {"difference": found.value, "low": low, "high": high, "p": p, "reason": None}


def _number(found: Interval) -> Row:
    return {"n": found.n, "value": found.value, "low": found.low, "high": found.high, "reason": None}


def _nothing(reason: str) -> Row:
    return dict.fromkeys(("n", "value", "low", "high", "p_change")) | {"reason": reason}


def _or_reason(compute: Callable[..., Row], *arguments: Any) -> Row:
    try:
        return compute(*arguments)
    except StatisticsError as error:
        return _nothing(str(error))
