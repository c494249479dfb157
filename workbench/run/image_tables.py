"""Rows of report.json that come from images: rates, rates by label, retention, paired comparisons; by the judging detector."""

from workbench.analysis import rates
from workbench.study.study import BASE


def labels(room, variant, name):
    """The keys that say which condition a row is about."""
    planned = room.plan.sets[name]
    return {
        "variant": variant,
        "prompt_set": name,
        "attack": planned.attack,
        "provenance": room.prompt_set(name).provenance(variant),
        "against": planned.against,
        "control": planned.control,
    }


def generated(room):
    """(variant, prompt set) pairs that have images."""
    return [(node.variant, node.prompt_set) for node in room.plan.of_stage("detect")]


def found_by_judge(room, variant, name):
    """(prompt,) bool of the judge, in the order of the target's units."""
    return room.in_units(name, room.detections(variant, name)["judge"].to_numpy())


def rate_rows(room):
    """ceiling, false_positive and success_rate of plain sets; pre_asr, asr, asr_fail of attacks and controls."""
    judge, rows = room.detector("judge"), []
    about = {"detector": judge.version, "threshold": max(judge.thresholds[x] for x in room.study.detectors.labels)}
    for variant, name in generated(room):
        keys = labels(room, variant, name) | about
        if keys["attack"]:
            rows += rates.attack_rates(found_by_judge(room, variant, "target"), found_by_judge(room, variant, name), **keys)
        elif name in ("target", "reference"):
            definition = {("target", True): "ceiling", ("reference", True): "false_positive"}
            rows.append(
                rates.success_rate(found_by_judge(room, variant, name), definition.get((name, variant == BASE), "success_rate"), **keys)
            )
    return rows


def label_rows(room):
    """For a concept of several labels: how often the units that ask for one label show that label; empty for other concepts."""
    wanted, rows = room.study.detectors.labels, []
    if len(wanted) < 2:
        return rows
    asked = room.prompt_set("target").table["expect"].to_numpy()
    for variant, name in generated(room):
        if room.plan.sets[name].kind == "retained" or name == "reference":
            continue
        found = room.detections(variant, name)
        for label in wanted:
            seen, mine = room.in_units(name, found[f"judge|{label}"].to_numpy()), asked == label
            rows.append(labels(room, variant, name) | {"label": label} | rates.rate(int(seen[mine].sum()), int(mine.sum())))
    return rows


def retention_rows(room):
    """How often a retained concept comes out as asked, by the judge."""
    rows = []
    for variant, name in generated(room):
        if name in ("near", "far"):
            right = room.detections(variant, name)["judge_expected"]
            rows.append(
                {"variant": variant, "kind": name, "definition": "the judge finds the label the prompt asks for"}
                | rates.rate(int(right.sum()), len(right))
            )
    return rows


def comparison_rows(room):
    """Each pruned variant against its parent, paired by prompt, without attack and under every attack they share."""
    rows, have = [], set(generated(room))
    for variant in room.study.variants:
        if variant.role != "pruned":
            continue
        for name in room.plan.sets:
            if (variant.name, name) in have and (variant.parent, name) in have and name not in ("near", "far"):
                rows.append(
                    rates.compare(
                        found_by_judge(room, variant.parent, name),
                        found_by_judge(room, variant.name, name),
                        variant_a=variant.parent,
                        variant_b=variant.name,
                        prompt_set=name,
                        attack=room.plan.sets[name].attack,
                    )
                )
    return rows
