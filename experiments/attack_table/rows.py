"""Rows of an attack table, from the results of single nodes; a run needs neither recordings nor a report for them.

attack_of     which attack a node belongs to
attack_rows   each attack beside its control, ceiling and false alarms, with what it spent
"""

from workbench.analysis import budget, rates
from workbench.execution.condition import Condition
from workbench.execution.rows.rates import found_by_judge
from workbench.statistics import detectable
from workbench.storage import read_table
from workbench.study.prompt_set_name import control_of
from workbench.study.study import BASE


def attack_of(plan, node):
    """The attack by which a node is made, as every table calls it; None for nodes that need no attack."""
    if node.stage == "attack":
        return next(planned.attack for planned in plan.sets.values() if planned.node == node.id)
    return plan.sets[node.prompt_set].attack if node.prompt_set in plan.sets else None


def is_there(workspace, node_id):
    """Whether all of a node has been computed."""
    return workspace.there(workspace.plan.node(node_id))


def attack_rows(workspace, variant):
    """One row per attack whose images of `variant`, and its control's, have been judged; in the study's order.

    The judge decides, on noise the search has never seen. b prompts show the concept without attack, k only under it:
    pre_asr, asr, control_asr   b / N; (b + k) / N; the same as asr for the control. Each as in `rates.rate`
    difference, low, high, p_mcnemar or p_permutation   asr - control_asr, paired by prompt, as in `rates.compare`
    detectable                         the rise over the control's ASR that is found with power 0.8; None when none is
    detector, labels, thresholds       who judged
    ceiling, false_positive            rates of the base model's images with and without the concept in the prompt
    passes, seconds, looks, most_looks of `spent`
    """
    before, ids = found_by_judge(workspace, variant, "target"), workspace.prompt_set("target").table["id"].tolist()
    units = workspace.prompt_set("target").units
    judge, wanted = workspace.detector("judge"), list(workspace.study.detectors.labels)
    about = {
        "detector": judge.version,
        "labels": wanted,
        "thresholds": [judge.thresholds[label] for label in wanted],
        "ceiling": rates.success_rate(found_by_judge(workspace, BASE, "target"), units=units),
        "false_positive": rates.success_rate(found_by_judge(workspace, BASE, "reference"), units=units),
        "pre_asr": rates.success_rate(before, units=units),
    }
    rows = []
    for name, control in _pairs(workspace, variant):
        after, drawn = (before | found_by_judge(workspace, variant, which) for which in (name, control))
        found = rates.compare(drawn, after, units)
        keys = {key: value for key, value in Condition(variant, name).keys(workspace).items() if key != "control"}
        row = keys | about | {key: rates.success_rate(x, units=units) for key, x in (("asr", after), ("control_asr", drawn))}
        row |= {key: found[key] for key in ("n", "n_units", "difference", "low", "high", "p_mcnemar", "p_permutation")}
        row["detectable"] = detectable(float(drawn.mean()), found["n_units"], rise=True, power=rates.POWER)
        rows.append(row | budget.spent(*_logs(workspace, name), ids))
    return rows


def _pairs(workspace, variant):
    """(set, its control's set) of every attack whose images have been judged on both."""
    made = {node.prompt_set for node in workspace.plan.of_stage("detect") if node.variant == variant}
    for name, planned in workspace.plan.sets.items():
        pair = name, control_of(name)
        if planned.attack and {*pair} <= made and all(is_there(workspace, f"detect:{variant}:{which}") for which in pair):
            yield pair


def _logs(workspace, name):
    """The log of the attack that made a set, and its clock."""
    node = workspace.plan.node(workspace.plan.sets[name].node)
    folder = workspace.store.result(node.stage, node.shards[0].key)
    return read_table(folder / "log.parquet"), read_table(folder / "seconds.parquet")
