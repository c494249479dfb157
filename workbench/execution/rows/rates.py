"""Rows of report.json that come from images.

detectors         who looked, and how often each of them errs
rates, by label   how often the judge sees the concept; sweep: at other thresholds
retention         what else still comes out right
comparisons       variants side by side; against_control: an attack beside its control
"""

import numpy as np

from workbench import registry
from workbench.analysis import rates
from workbench.execution.condition import Condition
from workbench.study.parts import RETAINED
from workbench.study.prompt_set_name import control_of, name_of
from workbench.study.study import BASE

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def generated(workspace):
    """(variant, prompt set) pairs that have images."""
    return [(node.variant, node.prompt_set) for node in workspace.plan.of_stage("detect")]


def found_by_judge(workspace, variant, name):
    """(prompt,) bool of the judge, in the order of the target's rows."""
    return workspace.in_units(name, workspace.detections(variant, name)["judge"].to_numpy())


def detector_rows(workspace):
    """Each detector with its false alarms on the base model's images of prompts without the concept."""
    wanted, rows = workspace.study.detectors.labels, []
    for role in ("steer", "judge"):
        detector = workspace.detector(role)
        about = {"role": role, "method": getattr(workspace.study.detectors, role)["method"], "version": detector.version}
        about |= {"labels": list(wanted), "thresholds": [detector.thresholds[label] for label in wanted]}
        seen, units = {role: []}, []
        if (BASE, "reference") in generated(workspace):
            seen, units = workspace.detections(BASE, "reference"), workspace.units_of("reference")
        missing = "the base model made no images of prompts without the concept"
        rows.append(about | rates.share(seen[role], units, reason=missing))
    return rows


def sweep_rows(workspace):
    """The share of each condition's images in which the judge would see the concept at other thresholds, and at its own.

    `own` marks the judge's threshold; labels with several thresholds have no such row. A judge that answers by more than its
    threshold looks at the images again.
    """
    judge, wanted, rows = workspace.detector("judge"), workspace.study.detectors.labels, []
    own = {judge.thresholds[label] for label in wanted}
    own = own if len(own) == 1 else set()
    grid = sorted({threshold for threshold in THRESHOLDS if threshold >= judge.floor} | own)
    for variant, name in generated(workspace):
        keys = Condition(variant, name).keys(workspace) | {"detector": judge.version}
        judged = workspace.detections(variant, name)
        if judge.rule is None:
            found = rates.sweep(judged["judge_score"].to_numpy(), grid, workspace.units_of(name))
        else:
            images = workspace.images(variant, name).float() / 255
            seen = workspace.detector("judge", remembering=True).present_at(images, wanted, grid)
            found = [{"threshold": t} | rates.share(one.numpy(), workspace.units_of(name)) for t, one in zip(grid, seen, strict=True)]
        rows += [keys | {"own": row["threshold"] in own} | row for row in found]
    return rows


def rate_rows(workspace):
    """ceiling, false_positive and success_rate of plain sets; pre_asr, asr, asr_fail of attacks and controls."""
    judge, rows = workspace.detector("judge"), []
    about = {"detector": judge.version, "threshold": max(judge.thresholds[x] for x in workspace.study.detectors.labels)}
    about |= {"units": workspace.prompt_set("target").units}
    for variant, name in generated(workspace):
        keys = Condition(variant, name).keys(workspace) | about
        if keys["attack"]:
            rows += rates.attack_rates(found_by_judge(workspace, variant, "target"), found_by_judge(workspace, variant, name), **keys)
        elif name in ("target", "reference"):
            definition = {("target", True): "ceiling", ("reference", True): "false_positive"}
            keys["units"] = workspace.units_of(name)
            found = workspace.detections(variant, name)["judge"].to_numpy()
            rows.append(rates.success_rate(found, definition.get((name, variant == BASE), "success_rate"), **keys))
    return rows


def label_rows(workspace):
    """For a concept of several labels: how often the prompts that ask for one label show that label; empty for other concepts."""
    wanted, rows = workspace.study.detectors.labels, []
    if len(wanted) < 2:
        return rows
    asked, units = workspace.prompt_set("target").table["expect"].to_numpy(), np.asarray(workspace.prompt_set("target").units)
    for variant, name in generated(workspace):
        if workspace.plan.sets[name].kind == "retained" or name == "reference":
            continue
        found = workspace.detections(variant, name)
        for label in wanted:
            seen, mine = workspace.in_units(name, found[f"judge|{label}"].to_numpy()), asked == label
            rows.append(Condition(variant, name).keys(workspace) | {"label": label} | rates.share(seen[mine], units[mine]))
    return rows


def retention_rows(workspace):
    """How often a retained concept comes out as asked, by the judge."""
    rows = []
    for variant, name in generated(workspace):
        if name in RETAINED:
            found, definition = workspace.detections(variant, name), "the judge finds the label the prompt asks for"
            rows.append(rates.success_rate(found["judge_expected"], definition, workspace.units_of(name), variant=variant, kind=name))
    return rows


def comparison_rows(workspace):
    """Variants side by side, paired by prompt: each against its parent, a mask against its controls of equal sparsity, and erased ones
    against erased and pruned ones of the same parent; of relearning the same over several parents.

    Without attack the share of images with the concept is compared, under an attack the ASR (definition). Where an attack was
    optimised on each of the two by itself, prompt_set is the one made against a, prompt_set_b the one made against b. provenance_a and
    provenance_b say how it was made for each, control whether the prompts are those of an attack's control, and pair what the two are
    to each other: parent (b was made from a), control (a is a control of b), peer.
    """
    rows, have, sets = [], set(generated(workspace)), workspace.plan.sets
    for a, b in _compared(workspace.study.variants):
        for name, planned in sets.items():
            anew = name_of(planned.attack, b, planned.control) if planned.attack and planned.against == a else name
            for other in dict.fromkeys((name, anew)):
                if planned.kind == "retained" or not {(a, name), (b, other)} <= have:
                    continue
                about = {"variant_a": a, "variant_b": b, "prompt_set": name, "prompt_set_b": None if other == name else other}
                about |= {"attack": planned.attack, "definition": "asr" if planned.attack else "success_rate"}
                made = {"provenance_a": workspace.prompt_set(name).provenance(a), "provenance_b": workspace.prompt_set(other).provenance(b)}
                about |= made | {"control": planned.control, "pair": _pair(workspace.study.variants, a, b)}
                rows.append(
                    rates.compare(seen(workspace, a, name), seen(workspace, b, other), workspace.prompt_set("target").units, **about)
                )
    return rates.with_adjusted(rows)


def _compared(variants):
    """(variant a, variant b) pairs; of variants with seeds the runs of the same seed."""
    stress = [one for one in variants if registry.method("erasers", one.method).over_other_parents]
    plain = [one for one in stress if one.parent not in {other.name for other in stress}]
    for place, variant in enumerate(variants):
        yield variant.parent, variant.name
        if variant.like and variant.like != variant.parent:
            yield variant.name, variant.like
        for other in variants[place + 1 :]:
            if variant.run_of and other.run_of and variant.run_of[1] != other.run_of[1]:
                continue
            beside = variant.role == "erased" and other.role != "sham" and variant.parent == other.parent
            if beside or (variant in plain and other in plain and _same_test(variant, other)):
                yield variant.name, other.name


def _pair(variants, a, b):
    """What two compared variants are to each other. A mask's controls: one of its sparsity, and more training of what it masks."""
    known = {variant.name: variant for variant in variants}
    if known[b].parent == a:
        return "parent"
    longer = known[a].role == "erased" and known[b].role == "pruned" and known[a].parent == known[b].parent
    return "control" if known[a].like == b or longer else "peer"


def _same_test(variant, other):
    """Whether two variants are one stress test with the same settings, over two parents."""
    if variant.method != other.method or variant.parent == other.parent or variant.pairs != other.pairs:
        return False
    method = registry.method("erasers", variant.method)
    return method.parameters(**variant.settings) == method.parameters(**other.settings)


def seen(workspace, variant, name):
    """(prompt,) bool: the concept in the images of a set; under an attack also in those without it, as in `asr`."""
    found = found_by_judge(workspace, variant, name)
    return found | found_by_judge(workspace, variant, "target") if workspace.plan.sets[name].attack else found


def control_rows(workspace):
    """Each attack's ASR beside its control's, paired by prompt: the concept seen without the attack or with it, as in `asr`."""
    rows, have = [], set(generated(workspace))
    for variant, name in have:
        control = control_of(name)
        if workspace.plan.sets[name].attack is None or (variant, control) not in have:
            continue
        found = rates.compare(seen(workspace, variant, control), seen(workspace, variant, name), workspace.prompt_set("target").units)
        about = {key: value for key, value in Condition(variant, name).keys(workspace).items() if key != "control"}
        about |= {"only_control": found["only_a"], "only_attack": found["only_b"]}
        rest = ("n", "n_units", "both", "neither", "difference", "low", "high", "p_mcnemar", "p_permutation", "p", "reason")
        rows.append(about | {key: found[key] for key in rest})
    return rates.with_adjusted(sorted(rows, key=lambda row: (row["variant"], row["prompt_set"])))
