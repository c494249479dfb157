"""The stage `measure`: from detections and recordings to the tables of the report."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from workbench.analysis import expectations, headline
from workbench.analysis.sensitivity import BESIDE, Sensitivity, Thresholds, activity_by_call, adjust, chosen_anew
from workbench.analysis.verdict import verdict
from workbench.errors import StatisticsError
from workbench.execution import by_neuron, stages
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables, attacks, choice, other_concept, over_runs, quality
from workbench.execution.rows import rates as rate_rows
from workbench.execution.rows.rates import found_by_judge, generated
from workbench.execution.stages import named_sets, score
from workbench.execution.variant_files import removed_caveats, watched_caveats
from workbench.execution.workspace import Workspace
from workbench.statistics import unit_means
from workbench.storage import plain_json, read_table, write_json, write_table
from workbench.study import seeds
from workbench.study.parts import RETAINED
from workbench.study.prompt_set_name import CONTROL, control_of, name_of
from workbench.study.study import BASE, OTHER, Study
from workbench.study.variants import VariantTable

Groups = dict[tuple[str, str], np.ndarray]  # {(neuron set, site): (neuron,) bool}
Change = tuple[str, tuple[str, str], tuple[str, str]]  # name, plus, minus
Values = dict[tuple[str, str], np.ndarray]  # {(variant, prompt set): (unit, ..., neuron)}
VERSION = 17
SECONDS = 8
READS_STUDY = True
BY_TRAJECTORY = ("activity", "activity_by_call", "effects", "set_validity", "neurons", "waking", "relocation")
PRUNED_REASON = "pruned neurons are no evidence about themselves; see the watched neurons"
NOTHING = {"n": None, "value": None, "low": None, "high": None, "p_random": None, "n_random": None, "random_low": None, "random_high": None}
NOTHING |= {"p_change": None}
WAKING = ("reactivation", "gross_reactivation", "base_reactivation")
NO_NULL = dict.fromkeys(("null_low", "null_high", "null_n", "null_from"))


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """measure: reads every result that is measured, in one fixed order."""
    images, recordings = graph.of_stage("detect"), graph.of_stage("record")
    base = (images[:2], recordings[:2], graph.of_stage("score"))
    others = (images[2:], graph.of_stage("clip", "again"), recordings[2:])
    used = {"generate", "detect", "record", "score", "erase", "attack", "clip", "again"}
    rest = graph.of_stage(*(name for name in stages.names() if name not in used))
    # what the [[sets]] are is in the keys of their nodes; where their files lie is in none
    said = {name: value for name, value in study.model_dump(mode="json").items() if name != "sets"}
    said["concept"].pop("sensitive", None)  # it says how images are shown
    inputs = tuple(spec.id for specs in (*base, *others, rest) for spec in specs)
    n_conditions = len(study.record.trajectories) * sum(by_neuron.is_laid_out(name) for _, name in graph.recorded)
    laid_out = 2 * n_conditions * graph.n_prompts * len(graph.calls) * graph.n_neurons
    yield NodeSpec("measure", "measure", {"study": said} | graph.halves, inputs, bytes=laid_out)


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """Write tables.json, neurons.parquet, neurons_by_call.parquet and the folder `by_neuron`."""
    study = workspace.study
    table, by_call = score.with_erased(
        workspace, *(read_table(workspace.result("score") / f"{name}.parquet") for name in ("neurons", "neurons_by_call"))
    )
    other = other_concept.pair(workspace, table)
    table = other_concept.with_column(table, other)
    tables: dict[str, Any] = {
        "detectors": rate_rows.detector_rows(workspace),
        "rates": rate_rows.rate_rows(workspace),
        "sweep": rate_rows.sweep_rows(workspace),
        "attacks": attacks.settings_rows(workspace),
        "budget": attacks.budget_rows(workspace),
        "retention": rate_rows.retention_rows(workspace),
        "quality": quality.quality_rows(workspace),
        "clip": quality.clip_rows(workspace),
        "comparisons": rate_rows.comparison_rows(workspace),
        "against_control": rate_rows.control_rows(workspace),
    }
    tables["rates_by_label"] = rate_rows.label_rows(workspace)
    tables |= {name: [] for name in BY_TRAJECTORY} | ({} if other is None else {other_concept.TABLE: []})
    runs, of_other = over_runs.Runs(study), []
    repeated: Tables = {"activity": [], "effects": []}
    for trajectory in study.record.trajectories:
        found, table = trajectory_tables(workspace, trajectory, table, other, tables["rates"])
        of_other += found.pop("validity of the other concept", [])
        for name, rows in found.pop("over_runs").items():
            repeated[name] += rows
        for name, rows in found.items():
            tables[name] += rows
    tables["set_validity"] = choice.with_validity(workspace, table, tables["set_validity"], Thresholds()) + of_other
    tables["scores"] = score.agreement(workspace, table)
    chosen, columns = choice.tables(workspace, table)
    tables |= chosen
    table = table.assign(**columns)
    roles = {variant.name: variant.role for variant in study.variants}
    watched = {runs.written(variant.name): _watched(variant) for variant in study.variants}
    judged = over_runs.merged(runs, tables, repeated | over_runs.images(workspace, runs, tables), lambda rows: with_adjusted(rows, watched))
    tables |= {"over_runs": over_runs.flat(judged)} if runs else {}
    best = "reference" if "reference" in study.record.trajectories else "target"
    moved = [
        row
        for row in tables["relocation"]
        if row["trajectory"] == best
        and row["provenance"] == "optimised"
        and row["value"] is not None
        and roles[row["variant"]] == "pruned"
        and not runs.has(row)
    ]
    known = expectations.check(study.expect or [], judged["rates"])
    variants = list(dict.fromkeys((runs.written(name), role) for name, role in roles.items()))
    n_choosing = int(workspace.units_in_half_a().sum())
    said = verdict(variants, judged, study.concept.name, best, relocations=moved, n_choosing=n_choosing)
    tables["verdict"] = expectations.applied(over_runs.said(said, study), known)
    for stage in stages.names():
        tables |= stages.stage(stage).rows(workspace, table)
    unsure = [f"Clusters: {row['reason']}." for row in tables["cluster_choice"] if row["chosen"] and row["reason"]]
    tables["verdict"]["caveats"] = [
        *tables["verdict"]["caveats"],
        *watched_caveats(workspace, table),
        *removed_caveats(workspace, table),
        *other_concept.caveats(other),
        *unsure,
        *named_sets.caveats(tables),
    ]
    table = with_columns(workspace, with_headline(table, tables, study, best))
    write_json(out / "tables.json", plain_json(tables))
    write_table(out / "neurons.parquet", table)
    write_table(out / "neurons_by_call.parquet", by_call)
    by_neuron.write(workspace, out)


def with_columns(workspace: Workspace, table: pandas.DataFrame) -> pandas.DataFrame:
    """The neuron table with the columns of the stages, NaN outside the site ff.

    attribution, attribution_b, _b_low, _b_high     base x target by the first method, on both halves; the interval of the second
    attribution_<method>_<variant>_<set>_<half>     every method and condition
    cluster, cluster_kept, cluster_x, cluster_y     NaN where it was not clustered, -1 where it is in no cluster
    set_<name>                                      whether it is in one of the [[sets]]; at every site
    """
    new: dict[str, np.ndarray] = {}
    for stage in stages.names():
        new |= stages.stage(stage).columns(workspace)
    return pandas.concat([table, pandas.DataFrame(new, index=table.index)], axis=1) if new else table


def with_headline(table: pandas.DataFrame, tables: dict[str, Any], study: Study, trajectory: str) -> pandas.DataFrame:
    """The neuron table with the columns a reader looks at first.

    score, score_b      the choosing score on the selection half, and on the evaluation half
    kappa, kappa_se     base contrast on the trajectory of the headline numbers, and its standard error
    d_<variant>, r_<variant>, delta_<variant>   there too, NaN where |kappa| < 2 SE; R and delta under the attack that is shown first
                        by the rule of analysis/headline.py, as in the headline and on the report's card
    """
    sure, new = ~table[f"excluded_{trajectory}"].astype(bool), {}
    new["score"], new["score_b"] = (table[f"{study.choose.score}_{half}"] for half in "ab")
    new["kappa"], new["kappa_se"] = table[f"kappa_{trajectory}"], table[f"kappa_se_{trajectory}"]
    for variant in study.variants:
        new[f"d_{variant.name}"] = table[f"d_{variant.name}_{trajectory}"].where(sure)
        first = headline.first_attack(
            tables["effects"], tables["rates"], variant.name, variant.role, trajectory, tables.get("set_validity", ())
        )
        if first and f"r_{variant.name}_{trajectory}_{_set_of(first)}" in table:
            for key in ("r", "delta"):
                new[f"{key}_{variant.name}"] = table[f"{key}_{variant.name}_{trajectory}_{_set_of(first)}"].where(sure)
    return pandas.concat([table, pandas.DataFrame(new)], axis=1)


def _set_of(made: Row) -> str:
    """The prompt set of an attack, by its labels."""
    return name_of(made["attack"], made["against"])


def neuron_groups(table: pandas.DataFrame) -> Groups:
    """{(neuron set, site): boolean array}; prune and watch are halves of the concept set of the site ff."""
    site = table["site"].to_numpy()
    groups = {}
    for name in dict.fromkeys(site):
        here = site == name
        groups["concept", name] = table["in_concept"].to_numpy() & here
        groups["suppressed", name] = table["in_suppressed"].to_numpy() & here
    groups["pruned", "ff"], groups["watch", "ff"] = (table[c].to_numpy() for c in ("in_prune", "in_watch"))
    groups["complement", "ff"] = ~(table["in_concept"] | table["in_suppressed"]).to_numpy() & (site == "ff")
    return {key: members for key, members in groups.items() if members.any()}


def trajectory_tables(
    workspace: Workspace, trajectory: str, table: pandas.DataFrame, other: other_concept.Pair | None = None, rates: Sequence[Row] = ()
) -> tuple[dict[str, Any], pandas.DataFrame]:
    """The tables BY_TRAJECTORY of one trajectory, and the neuron table with D, R, delta.

    rates   of the table of that name: they decide which attack is shown first where the neuron set is not valid
    other   other_concept.Pair where the study names another concept; its table is among them then
    """
    study, thresholds = workspace.study, Thresholds()
    recorded = [node.condition for node in workspace.plan.of_stage("record") if node.prompt_set not in OTHER]
    half_b = ~workspace.units_in_half_a()
    by_call: Values = {(v, name): workspace.unit_means(name, workspace.mean_abs(v, name, trajectory))[half_b] for v, name in recorded}
    values: Values = {condition: array.mean(axis=1) for condition, array in by_call.items()}
    layer = table["layer"].to_numpy()
    kappa = choice.kappa_of_half_a(workspace)
    measured = Sensitivity(values, layer, study.choose.n_resamples, study.choose.seed, kappa=kappa)
    groups, own = neuron_groups(table), {"trajectory": trajectory}
    concept = groups["concept", "ff"]
    taken = concept | table["in_suppressed"].to_numpy()
    pruned = {variant.name for variant in study.variants if variant.role == "pruned"}
    made_here = {variant.name for variant in study.variants}
    rows: dict[str, Any] = {name: [] for name in BY_TRAJECTORY}
    for (group, site), members in groups.items():
        for condition in recorded:
            keys = condition.keys(workspace) | {"neuron_set": group, "site": site, "regime": "shared"} | own
            rows["activity"].append(keys | _activity(measured, condition, members, group, concept, taken))
    for condition in recorded:
        null = measured.random_contrast(condition, (BASE, "reference"), concept, study.choose.n_random, taken)
        low, middle, high = np.quantile(null, [0.025, 0.5, 0.975])
        keys = condition.keys(workspace) | {"neuron_set": "random", "site": "ff", "regime": "shared"} | own
        rows["activity"].append(keys | {"n": study.choose.n_random, "value": middle, "low": low, "high": high, "reason": None})
    rows["activity_by_call"] = _by_call(workspace, by_call, concept, trajectory)
    for (group, site), members in groups.items():
        if group == "complement":
            continue
        name = group if site == "ff" else f"{group} ({site})"
        null = _wording_null(measured, wording_changes(workspace, recorded), members)
        for keys, plus, minus in _contrasts(workspace):
            wanted = keys | {"neuron_set": name} | own | NO_NULL | (null if keys["effect"] in WAKING else {})
            if keys["variant"] in pruned and group in ("concept", "pruned", "suppressed") and site == "ff":
                rows["effects"].append(wanted | NOTHING | dict.fromkeys((*BESIDE, "comparable_reason")) | {"reason": PRUNED_REASON})
                continue
            try:
                found = measured.effect(plus, minus, members, study.choose.n_random, taken)
                found |= measured.beside_comparable(plus, minus, members, study.choose.n_random, taken, thresholds)
            except StatisticsError as error:
                found = NOTHING | dict.fromkeys((*BESIDE, "comparable_reason")) | {"reason": str(error)}
            rows["effects"].append(wanted | found)
    rows["over_runs"] = _over_runs(workspace, measured, recorded, groups, pruned, taken, own)
    rows["effects"] = with_adjusted(rows["effects"], {variant.name: _watched(variant) for variant in study.variants})
    if other is not None:
        also = [node.condition for node in workspace.plan.of_stage("record") if node.prompt_set in OTHER]
        all_of = values | {c: workspace.unit_means(c[1], workspace.mean_abs(*c, trajectory))[half_b].mean(axis=1) for c in also}
        rows[other_concept.TABLE] = other_concept.rows(workspace, other, measured, all_of, table, trajectory)
        valid = other_concept.validity(workspace, other, all_of, table, trajectory, thresholds)
        rows["validity of the other concept"] = [valid] if valid else []
    scaled = [name for name in ("concept", "watch") if (name, "ff") in groups]
    rows["set_validity"] = [own | {"neuron_set": name, "site": "ff"} | measured.scale(groups[name, "ff"]) for name in scaled]
    rows["waking"] = waking_rows(workspace, measured, groups, half_b, trajectory)
    rows["relocation"] = relocation_rows(workspace, measured, table, trajectory)
    table = table.copy()
    for variant in study.variants:
        table = _with_neuron_numbers(measured, variant.name, None, None, table, trajectory)
        shown = [headline.first_attack(rows["effects"], [], variant.name, variant.role, trajectory)]
        shown.append(headline.first_attack([], rates, variant.name, variant.role, trajectory))
        for met in [None, *_attacks_met(workspace, variant.name)]:
            control = control_of(met) if met else None
            keys = {"variant": variant.name, "attack": None, "provenance": None, "against": None}
            if met:
                full = Condition(variant.name, met).keys(workspace)
                keys = {key: full[key] for key in keys}
                first = any(one is not None and headline.same(full, one) for one in shown)
                if full["provenance"] == "optimised" or full["against"] not in made_here or first:
                    table = _with_neuron_numbers(measured, variant.name, met, control, table, trajectory)
            for group in ("concept", "watch", "complement"):
                own_set = groups.get((group, "ff"))
                if own_set is not None:
                    rows["neurons"].append(
                        keys | {"neuron_set": group} | own | measured.shares(variant.name, met, control, own_set, thresholds)
                    )
            rows["neurons"].append(
                keys
                | {"neuron_set": "random"}
                | own
                | _random_shares(measured, variant.name, met, control, concept, study.choose.n_random, taken)
            )
    return rows, table


def _over_runs(
    workspace: Workspace,
    measured: Sensitivity,
    recorded: list[Condition],
    groups: Groups,
    pruned: Collection[str],
    taken: np.ndarray,
    own: Row,
) -> Tables:
    """The rows of activity and effects over runs of a trajectory, see over_runs.neurons."""
    study, runs = workspace.study, over_runs.Runs(workspace.study)
    if not runs:
        return {"activity": [], "effects": []}
    written, changes = {runs.written(name) for name in pruned}, wording_changes(workspace, recorded)
    null = {key: _wording_null(measured, changes, members) for key, members in groups.items() if key[0] != "complement"}

    def about(keys: Row, group: str, site: str) -> Row:
        more = own | NO_NULL | (null[group, site] if keys["effect"] in WAKING else {}) | dict.fromkeys((*BESIDE, "comparable_reason"))
        silent = keys["variant"] in written and group in ("concept", "pruned", "suppressed") and site == "ff"
        return more | ({"reason": PRUNED_REASON} if silent else {})

    activity = [(condition.keys(workspace) | {"regime": "shared"} | own, condition) for condition in recorded]
    effect = lambda pairs, members: measured.effect_over_runs(pairs, members, study.choose.n_random, taken, Thresholds())  # noqa: E731
    return over_runs.neurons(runs, measured, activity, list(_contrasts(workspace)), groups, effect, about)


def _watched(variant: VariantTable) -> str:
    """The set that words about a variant rest on: pruned neurons say nothing about themselves."""
    return "watch" if variant.role == "pruned" else "concept"


def with_adjusted(rows: Iterable[Row], watched: Mapping[str, str]) -> list[Row]:
    """The rows of `effects` with p_change_adjusted and n_family: Benjamini-Hochberg over the rows of one effect and trajectory, each
    variant by the set that words about it rest on. Null in all other rows. A row in which no unit changes at all tests nothing and is
    not counted, so that an attack that does nothing changes no other row.

    watched   {variant: neuron set}; the base model's set is the concept set
    """
    rows = [row | {"p_change_adjusted": None, "n_family": None} for row in rows]
    families: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["p_change"] is not None and row["neuron_set"] == watched.get(row["variant"], "concept"):
            families.setdefault((row["effect"], row["trajectory"]), []).append(row)
    for family in families.values():
        adjust(family)
    return rows


def wording_changes(workspace: Workspace, recorded: Iterable[Condition]) -> list[Change]:
    """[(name, plus, minus)] of the base model: what a change of wording does there that was not searched for.

    random words     the attack random_tokens, and the control of every attack with words or vectors of its own, against no attack
    other prompts    the retained sets against the prompts without the concept
    """
    methods, found = {part.label: part.method for part in workspace.study.attacks}, []
    for variant, name in recorded:
        planned = workspace.plan.sets[name]
        if variant != BASE:
            continue
        if name in RETAINED:
            found.append((f"prompts of {name} against the reference", (BASE, name), (BASE, "reference")))
        elif planned.attack and planned.control == (methods[planned.attack] != "random_tokens") and not _as_target(workspace, name):
            found.append((f"{name.replace(CONTROL, ', control')} against the prompt without attack", (BASE, name), (BASE, "target")))
    return found


def _as_target(workspace: Workspace, name: str) -> bool:
    """Whether a set says what the target set says, so that on the base model's latents nothing is changed."""
    target, made = workspace.prompt_set("target"), workspace.prompt_set(name)
    return made.prefix is None and workspace.in_units(name, np.array(made.prompts, object)).tolist() == target.prompts


def _wording_null(measured: Sensitivity, changes: list[Change], members: np.ndarray) -> Row:
    try:
        return measured.wording_null(changes, members)
    except StatisticsError as error:
        return NO_NULL | {"null_from": f"none: {error}"}


def attacked(workspace: Workspace) -> Iterator[tuple[VariantTable, str, Row]]:
    """(variant, attack's set, labels) of every changed variant that is not a sham under every attack, controls left out."""
    for variant in workspace.study.variants:
        for name in _attacks_met(workspace, variant.name) if variant.role != "sham" else []:
            full = Condition(variant.name, name).keys(workspace)
            yield variant, name, {key: full[key] for key in ("variant", "attack", "provenance", "against")}


def _attacks_met(workspace: Workspace, variant: str) -> list[str]:
    """Prompt sets of the attacks that a variant was recorded under, controls left out."""
    sets = workspace.plan.sets
    met = [node.prompt_set for node in workspace.plan.of_stage("record") if node.variant == variant]
    return [name for name in sets if name in met and sets[name].attack and not sets[name].control]


def waking_rows(workspace: Workspace, measured: Sensitivity, groups: Groups, half_b: np.ndarray, trajectory: str) -> list[Row]:
    """AUROC of the activity under attack for success in the images, where images were made; both averaged over each unit."""
    have, rows = set(generated(workspace)), []
    for variant, name, keys in attacked(workspace):
        group = _watched(variant)
        if (variant.name, name) not in have or (group, "ff") not in groups:
            continue
        success = unit_means(workspace.prompt_set("target").units, found_by_judge(workspace, variant.name, name))[half_b]
        try:
            found = measured.waking_auroc((variant.name, name), success, groups[group, "ff"])
        except StatisticsError as error:
            found = {"n": len(success), "successes": int((success > 0).sum()), "value": None, "low": None, "high": None}
            found["n_undefined"] = None
            found["reason"] = str(error)
        rows.append(keys | {"neuron_set": group, "trajectory": trajectory} | found)
    return rows


def relocation_rows(workspace: Workspace, measured: Sensitivity, table: pandas.DataFrame, trajectory: str) -> list[Row]:
    """Mean delta outside the concept set under attack, and the overlap with the set of highest delta on the choosing half."""
    half_a, ff = workspace.units_in_half_a(), (table["site"] == "ff").to_numpy()
    concept, suppressed = (table[column].to_numpy() & ff for column in ("in_concept", "in_suppressed"))

    def choosing(variant: str, name: str) -> np.ndarray:
        return workspace.unit_means(name, workspace.mean_abs(variant, name, trajectory))[half_a].mean(axis=1)

    reference, rows = choosing(BASE, "reference"), []
    for variant, name, keys in attacked(workspace):
        control = control_of(name)
        try:
            anew = chosen_anew(choosing(variant.name, name), choosing(variant.name, control), reference, int(concept.sum()), ff)
            found = measured.relocation(variant.name, name, control, concept, anew, suppressed, ff) | {"reason": None}
        except StatisticsError as error:
            found = {key: None for key in ("value", "low", "high", "iou", "iou_chance")} | {"n": measured.n_units, "reason": str(error)}
        rows.append(keys | {"trajectory": trajectory} | found)
    return rows


def _activity(measured: Sensitivity, condition: Condition, members: np.ndarray, group: str, concept: np.ndarray, taken: np.ndarray) -> Row:
    """Activity of a set; the complement is measured on the scale of the concept set, because its scale is near 0."""
    try:
        if group == "complement":
            found = measured.complement_contrast(condition, (BASE, "reference"), concept, taken)
        else:
            found = measured.activity(condition, members)
        return {"n": found.n, "value": found.value, "low": found.low, "high": found.high, "reason": None}
    except StatisticsError as error:
        return {"n": measured.n_units, "value": None, "low": None, "high": None, "reason": str(error)}


def _random_shares(
    measured: Sensitivity, variant: str, adversarial: str | None, control: str | None, concept: np.ndarray, n_sets: int, taken: np.ndarray
) -> Row:
    """The shares on matched random sets: median and 95 % band over sets, with the same rules."""
    terms = measured.per_neuron(variant, adversarial, control)
    # as arrays, for there are some hundred sets
    of: dict[str, np.ndarray] = {name: terms[name].to_numpy() for name in ("excluded", "d", "r", "delta") if name in terms}
    out = of["excluded"].astype(bool)
    names = ("share_deactivated", "share_reactivated", "median_d", "median_r", "median_delta")
    found: dict[str, list[float]] = {name: [] for name in names}
    thresholds = Thresholds()
    excluded = []
    for members in measured.random_sets(concept, n_sets, taken):
        excluded.append(int(out[members].sum()))
        rows = np.flatnonzero(members & ~out)
        silent = of["d"][rows] > thresholds.deactivated
        if len(rows):
            found["share_deactivated"].append(silent.mean())
            found["median_d"].append(_median(of["d"][rows]))
            if adversarial:
                found["median_r"].append(_median(of["r"][rows]))
                found["median_delta"].append(_median(of["delta"][rows]))
                if silent.any():
                    found["share_reactivated"].append((of["r"][rows][silent] > thresholds.reactivated).mean())
    reason: str | None = None
    row: Row = {"n": int(concept.sum()), "excluded": int(np.median(excluded)), "n_undefined": None}
    for name, series in found.items():
        if series:
            low, middle, high = np.quantile(series, [0.025, 0.5, 0.975])
            row |= {name: float(middle), f"{name}_low": float(low), f"{name}_high": float(high)}
        else:
            row |= {name: None, f"{name}_low": None, f"{name}_high": None}
            reason = "no attack on this variant" if not adversarial else "no neuron of any random set qualifies"
    return row | {"reason": reason}


def _median(values: np.ndarray) -> float:
    """The median of the values that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else np.nan


def _with_neuron_numbers(
    measured: Sensitivity, variant: str, adversarial: str | None, control: str | None, table: pandas.DataFrame, trajectory: str
) -> pandas.DataFrame:
    numbers = measured.per_neuron(variant, adversarial, control)
    end = f"{variant}_{trajectory}"
    if adversarial is None:
        new = {f"d_{end}": numbers["d"]}
        if f"kappa_{trajectory}" not in table:
            new |= {f"{c}_{trajectory}": numbers[c] for c in ("kappa", "kappa_se", "excluded")}
    else:
        new = {f"r_{end}_{adversarial}": numbers["r"], f"delta_{end}_{adversarial}": numbers["delta"]}
    return pandas.concat([table, pandas.DataFrame(new)], axis=1)


def _contrasts(workspace: Workspace) -> Iterator[tuple[Row, tuple[str, str], tuple[str, str]]]:
    """(labels, plus, minus) of every effect: value = A(plus) - A(minus)."""
    nothing = {"attack": None, "provenance": None, "against": None, "compared_with": None}

    def made(variant: str, name: str) -> Row:
        return {"compared_with": None} | {key: Condition(variant, name).keys(workspace)[key] for key in ("attack", "provenance", "against")}

    for variant in workspace.study.variants:
        v = variant.name
        yield {"effect": "deactivation", "variant": v} | nothing, (BASE, "target"), (v, "target")
        yield {"effect": "drift", "variant": v} | nothing, (v, "reference"), (BASE, "reference")
        yield {"effect": "target_over_reference", "variant": v} | nothing, (v, "target"), (v, "reference")
        for sham in workspace.study.variants if variant.role != "sham" else []:
            if sham.role == "sham" and seeds.meets(workspace.study, sham.name, v):
                yield (
                    {"effect": "deactivation_beyond_sham", "variant": v} | nothing | {"compared_with": sham.name},
                    (sham.name, "target"),
                    (v, "target"),
                )
        for name in _attacks_met(workspace, v):
            keys = made(v, name)
            yield {"effect": "reactivation", "variant": v} | keys, (v, name), (v, control_of(name))
            yield {"effect": "gross_reactivation", "variant": v} | keys, (v, name), (v, "target")
            if variant.role == "pruned" and (same := _same_attack(workspace, name, variant)) in _attacks_met(workspace, variant.parent):
                yield {"effect": "pruning_effect_adversarial", "variant": v} | keys, (v, name), (variant.parent, same)
        if variant.role == "pruned":
            yield {"effect": "pruning_effect_target", "variant": v} | nothing, (v, "target"), (variant.parent, "target")
    for name in _attacks_met(workspace, BASE):
        yield {"effect": "base_reactivation", "variant": BASE} | made(BASE, name), (BASE, name), (BASE, control_of(name))


def _same_attack(workspace: Workspace, name: str, pruned: VariantTable) -> str:
    """The prompt set of the same attack on the parent. An attack against the pruned variant has one of its own against the parent."""
    planned = workspace.plan.sets[name]
    if planned.attack is None or planned.against != pruned.name:
        return name
    other = name_of(planned.attack, pruned.parent)
    return other if other in workspace.plan.sets else name


def _by_call(workspace: Workspace, by_call: Values, concept: np.ndarray, trajectory: str) -> list[Row]:
    """Rows of activity_by_call; calls at which the set has no contrast in the base model have no row."""
    about, rows = workspace.trajectory(trajectory, workspace.prompt_set(trajectory)), []
    for condition, values in by_call.items():
        keys = {k: v for k, v in Condition(*condition).keys(workspace).items() if k not in ("against", "control")}
        found = activity_by_call(values, by_call[BASE, "reference"], by_call[BASE, "target"], concept)
        for call, timestep, one in zip(about.calls, about.timesteps, found, strict=True):
            if one is not None:
                where = {"neuron_set": "concept", "trajectory": trajectory, "call": call, "timestep": timestep}
                rows.append(keys | where | {"n": one.n, "value": one.value, "low": one.low, "high": one.high})
    return rows
