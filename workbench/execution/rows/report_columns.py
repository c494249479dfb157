"""Columns and caveats added when the report is written, from results that are there.

with_stated   the tables of the stage `measure` with
    who decided     detector, labels, thresholds and false positives in the rates and similar tables
    detectable      the change that a paired comparison on so many units would have found
    named           how many prompts of an attack say a name of the concept
    adaptive        whether an attack's gradients pass through what a variant does while images are sampled
    corrections     a table of its own: how often a corrector intervened
    against, control   of activity by call, so that no line of its figure stands for two sets
and with the caveats that follow from them. The caveat on seeds comes first: it is shown under the headline.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench import registry
from workbench.analysis import rates
from workbench.execution.rows import Row, Tables, defences
from workbench.execution.workspace import Workspace
from workbench.study import published, seeds
from workbench.study.study import Study
from workbench.study.words import saying

FEW = 100


def with_stated(workspace: Workspace, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with the columns above; tables that do not exist yet are skipped."""
    named, roles = named_rows(workspace), {row["role"]: row for row in tables["detectors"]}
    tables = tables | decided(tables, roles.get("judge"), roles.get("steer"))
    tables["comparisons"] = [rates.with_detectable(row, "only_a", rise=False) for row in tables["comparisons"]]
    tables["against_control"] = [rates.with_detectable(row, "only_control", rise=True) for row in tables["against_control"]]
    by_attack = {(row["attack"], row["against"]): row for row in named.values()}
    of = lambda row: by_attack.get((row["attack"], row["against"]), {})  # noqa: E731
    tables["attacks"] = [row | {key: of(row).get(key) for key in ("named", "named_as_asked")} for row in tables["attacks"]]
    of = lambda row: named.get(row["prompt_set"], {})  # noqa: E731
    tables["rates"] = [row | {"named": of(row).get("named"), "named_of": of(row).get("n")} for row in tables["rates"]]
    tables["rates"] = defences.with_adaptive(workspace.study, tables["rates"])
    tables["corrections"] = defences.correction_rows(workspace)
    sets = workspace.plan.sets
    made = lambda row: {key: getattr(sets[row["prompt_set"]], key) for key in ("against", "control")}  # noqa: E731
    tables["activity_by_call"] = [row | made(row) for row in tables["activity_by_call"]]
    caveats = [*filter(None, [seeds.caveat(workspace.study)]), *tables["verdict"]["caveats"]]
    caveats += [*named_caveats(workspace, named), *shared_caveats(workspace.study), *few_caveats(tables)]
    caveats += defences.caveats(tables["corrections"])
    caveats += published.sentences(workspace.study, deviating=True)
    tables["verdict"] = tables["verdict"] | {"caveats": caveats}
    return tables


def decided(tables: dict[str, Any], judge: Row | None, steer: Row | None) -> Tables:
    """{table: rows} of what detectors decided, each row with who did."""
    if judge is None or steer is None:
        return {}
    false = {f"false_positive_{key}": judge[key] for key in ("rate", "low", "high", "n")}
    threshold = dict(zip(judge["labels"], judge["thresholds"], strict=True))
    by = {"labels": judge["labels"], "thresholds": judge["thresholds"]}
    looked = {"labels": steer["labels"], "thresholds": steer["thresholds"]}
    return {
        "rates": [row | by | false for row in tables["rates"]],
        "sweep": [row | {"labels": judge["labels"]} for row in tables["sweep"]],
        "budget": [row | looked for row in tables["budget"]],
        "rates_by_label": [row | {"detector": judge["version"], "threshold": threshold[row["label"]]} for row in tables["rates_by_label"]],
        "retention": [row | {"detector": judge["version"]} for row in tables["retention"]],
    }


def named_rows(workspace: Workspace) -> dict[str, Row]:
    """{prompt set: {attack, provenance, against, n, named, named_as_asked}} of every attack, without its control.

    named            prompts of n that say a name of the concept, or a word forbidden to attacks
    named_as_asked   those of them whose target prompt says one as well
    """
    names, rows = workspace.study.concept.not_for_attacks, {}
    asked = saying(workspace.prompt_set("target").prompts, names)
    for name, planned in workspace.plan.sets.items():
        if planned.attack is None or planned.control:
            continue
        made = workspace.prompt_set(name)
        said = workspace.in_units(name, np.asarray(saying(made.prompts, names)))
        row = {"attack": planned.attack, "against": planned.against, "n": len(made), "named": int(said.sum())}
        rows[name] = row | {"named_as_asked": int((said & np.asarray(asked)).sum())}
    return rows


def named_caveats(workspace: Workspace, named: Mapping[str, Row]) -> list[str]:
    """A sentence for each attack made from a file whose prompts, not its vectors, may say the name by themselves."""
    methods, concept, found = {part.label: part.method for part in workspace.study.attacks}, workspace.study.concept, []
    what = "the concept's name" + (" or a forbidden word" if concept.forbidden else "") + f" ({', '.join(concept.not_for_attacks)})"
    for name, row in named.items():
        imported = registry.method("attacks", methods[row["attack"]]).reads_files
        if not imported or not row["named"] or workspace.prompt_set(name).prefix is not None:
            continue
        too = f", {row['named_as_asked']} of them where the target prompt says it too" if row["named_as_asked"] else ""
        made = f" (made against {row['against']})" if row["against"] else ""
        found.append(
            f"{row['named']} of the {row['n']} imported prompts of {row['attack']}{made} say {what}{too}: a success of these is no "
            "evidence that an attack found another way to the concept."
        )
    return found


def shared_caveats(study: Study) -> list[str]:
    """A sentence for each method that searches once for all prompts: what its intervals leave out (decision 0011)."""
    found = []
    for method in dict.fromkeys(part.method for part in study.attacks):
        if not registry.method("attacks", method).shared:
            continue
        labels = [part.label for part in study.attacks if part.method == method]
        end = (
            "Repeat it with other seeds (`seeds` under [[attacks]]) before you compare variants by it."
            if len(labels) == 1
            else f"Its runs here, {', '.join(labels)}, show how much the rates differ."
        )
        found.append(
            f"{method} learns one vector for each half of the prompts, from images of the other half. Its intervals and p-values are over "
            f"prompts: they hold for these two vectors only; another run learns others. {end}"
        )
    return found


def few_caveats(tables: dict[str, Any]) -> list[str]:
    """What could have been found, where the units are fewer than FEW; rates that cannot rise, or fall, are left out."""
    found = []
    for table, can, what, most in (
        ("against_control", ("only_attack", "neither"), "an attack's ASR must exceed its control's by {}", "even a rise to 100 %"),
        ("comparisons", ("both", "only_a"), "a variant must reduce another one's rate by {}", "even a reduction to 0"),
    ):
        rows = [row for row in tables[table] if row["difference"] is not None and row["n_units"] < FEW and any(row[key] for key in can)]
        if not rows:
            continue
        sizes = sorted(row["detectable"] for row in rows if row["detectable"] is not None)
        span = " to ".join(dict.fromkeys(f"{size:.2f}" for size in sizes[:1] + sizes[-1:]))
        missed, units = len(rows) - len(sizes), min(row["n_units"] for row in rows)
        said = [f"{what.format(span)} to be detected with power {rates.POWER}"] if sizes else []
        said += [f"{most} would be detected with less power than {rates.POWER} in {missed} of {len(rows)} comparisons"] if missed else []
        found.append(f"With {units} units, {'; '.join(said)}.")
    return found
