"""One row per eraser and concept, from the results of single nodes, and what they say together.

eraser_rows   rate without attack, retention, KID, ASR and its control, activity, seconds, share of weights changed
reached       whether an eraser reaches the goal on a concept
orders        pairs of erasers that the field ranks, and whether the ranking holds here
with_asr      does the reactivation of the concept's neurons go with the ASR over all points?
"""

import numpy as np

from experiments.attack_table.rows import is_there
from experiments.erasers.design import RATE, REPEATS, RETENTION, SENSITIVITY_UNDER, SHOWN
from experiments.robust_pruning.rows import plane_rows, runs_of, sensitivity_rows, together
from workbench.analysis import rates
from workbench.execution.rows.rates import found_by_judge
from workbench.models.variants import describe
from workbench.study.prompt_set_name import control_of, name_of
from workbench.study.study import BASE

# the field's known order: (resists better, than), under attacks with gradients
KNOWN = [(better, worse) for better in ("adv-unlearn", "receler", "stereo") for worse in ("esd", "uce")]


def eraser_rows(workspace, concept):
    """[{concept, eraser, pre_asr, near, far, retained, kid, asr {attack}, control {attack}, plain, attacked, reactivation, seconds,
    changed}] of the variants whose images are there. `retained` is a share of what the base model retains too."""
    plane = {row["variant"]: row for row in plane_rows(workspace, list(SHOWN), REPEATS)}
    active = {row["variant"]: row for row in sensitivity_rows(workspace, SENSITIVITY_UNDER) if row["neuron_set"] == "concept"}
    seconds = {node["id"]: node["seconds"] for node in workspace.store.manifest()["nodes"]}
    units, found = workspace.prompt_set("target").units, []
    for variant in workspace.study.variants:
        name = variant.name
        if name not in plane:
            continue
        row = {"concept": concept, "eraser": name} | {key: plane[name][key] for key in ("pre_asr", "near", "far", "retained", "kid", "asr")}
        row["control"] = {attack: _control(workspace, name, attack, units) for attack in SHOWN}
        own = active.get(name, {})
        row |= {"plain": own.get("plain"), "attacked": own.get("attacked"), "reactivation": own.get("value")}
        row |= {"seconds": seconds.get(f"erase:{name}"), "changed": describe(workspace.model, workspace.variant(name))["share_changed"]}
        row["base_far"] = plane[BASE]["far"]
        found.append(row)
    return found


def _control(workspace, variant, attack, units):
    """The rate of an attack's control, as its ASR; None when not computed."""
    made = control_of(name_of(attack, variant))
    node = f"detect:{variant}:{made}"
    if not workspace.plan.has(node) or not is_there(workspace, node):
        return None
    return rates.share(found_by_judge(workspace, variant, "target") | found_by_judge(workspace, variant, made), units)


def reached(row):
    """Whether the rate without attack is at most RATE and retention of unrelated concepts at least RETENTION of the base model's."""
    if row["far"] is None or row["base_far"] is None:
        return None
    return row["pre_asr"]["rate"] <= RATE and row["far"]["rate"] >= RETENTION * row["base_far"]["rate"]


def orders(rows, attack):
    """[{concept, better, worse, difference}] of the pairs KNOWN: ASR of the worse minus ASR of the better; > 0: as in the field."""
    by = {(row["concept"], row["eraser"]): row for row in rows}
    found = []
    for concept in dict.fromkeys(row["concept"] for row in rows):
        for better, worse in KNOWN:
            pair = [by.get((concept, name)) for name in (better, worse)]
            if all(pair) and all(row["asr"].get(attack) for row in pair):
                difference = pair[1]["asr"][attack]["rate"] - pair[0]["asr"][attack]["rate"]
                found.append({"concept": concept, "better": better, "worse": worse, "difference": difference})
    return found


def with_asr(rows, attack=SENSITIVITY_UNDER):
    """{n, spearman, low, high, reason, without: {eraser: spearman}}: reactivation of the neurons and ASR of the same attack, over all
    points (eraser, concept); `without` leaves one eraser out at a time.

    The interval resamples points; points of one eraser are not independent, so it is narrower than one over erasers would be.
    """
    points = [(row["eraser"], row["reactivation"], row["asr"][attack]["rate"]) for row in rows if row["asr"].get(attack)]
    points = [point for point in points if point[1] is not None and np.isfinite(point[1])]

    def found(kept):
        return together([x for _, x, _ in kept], [y for _, _, y in kept])

    names = dict.fromkeys(name for name, *_ in points)
    return found(points) | {"without": {name: found([one for one in points if one[0] != name])["spearman"] for name in names}}


def n_runs(workspace, variant, attack):
    """How many runs of an attack are there."""
    return len(runs_of(workspace, variant, attack, REPEATS))
