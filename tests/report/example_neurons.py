"""Invented tables of the example report about neurons."""

import math

from tests.report.example_tables import ATTACKS, NOT_RUN, VARIANTS

CONFIRMED = {"confirmed_share": 0.875, "n_comparable": 199, "comparable_reason": None}
for _name, _share in (("random", 0.48), ("comparable", 0.55)):
    CONFIRMED |= {f"{_name}_share": _share, f"{_name}_share_low": _share - 0.08, f"{_name}_share_high": _share + 0.08}
    CONFIRMED |= {f"{_name}_over": 0.875 - _share, f"{_name}_over_low": 0.775 - _share, f"{_name}_over_high": 0.975 - _share}

LEVELS = {
    "base": {"target": 1.0, "reference": 0.0, "unlearndiffatk": 0.97, "ring_a_bell": 0.84},
    "esd": {"target": 0.19, "reference": 0.03, "unlearndiffatk": 0.71, "ring_a_bell": 0.46},
    "uce": {"target": 0.31, "reference": 0.01, "unlearndiffatk": 0.62, "ring_a_bell": 0.44},
    "esd-pruned": {"target": 0.12, "reference": 0.02, "unlearndiffatk": 0.27, "ring_a_bell": 0.18},
}


def _conditions(variant):
    yield "target", (None, None, None), False, LEVELS[variant]["target"]
    yield "reference", (None, None, None), False, LEVELS[variant]["reference"]
    for attack in ATTACKS:
        yield "adversarial", attack, False, LEVELS[variant][attack[0]]
        yield "control", attack, True, LEVELS[variant]["target"] * 0.8 + 0.02


def activity():
    rows = []
    for variant in VARIANTS:
        for prompt_set, (attack, provenance, against), control, level in _conditions(variant):
            for trajectory in ("target", "reference"):
                value = level + (0.06 if trajectory == "target" and 0.05 < level < 0.9 else 0)
                base_fixed = variant == "base" and attack is None
                sets = [
                    ("concept", value, 0.0 if base_fixed else 0.06),
                    ("random", level * 0.1, 0.05),
                ]
                if variant == "esd-pruned":
                    sets.insert(1, ("watch", value + 0.05, 0.08))
                for neuron_set, middle, half in sets:
                    numbers = {
                        "n": 60,
                        "value": middle,
                        "low": middle - half,
                        "high": middle + half,
                        "reason": None,
                    }
                    if (variant, attack, control) == ("uce", "ring_a_bell", True):
                        numbers = {
                            "n": None,
                            "value": None,
                            "low": None,
                            "high": None,
                            "reason": "the control was not recorded: " + NOT_RUN,
                        }
                    rows.append(
                        {
                            "variant": variant,
                            "prompt_set": prompt_set,
                            "attack": attack,
                            "provenance": provenance,
                            "against": against,
                            "control": control,
                            "neuron_set": neuron_set,
                            "site": "ff",
                            "regime": "shared",
                            "trajectory": trajectory,
                            **numbers,
                        }
                    )
    return rows


def by_call():
    rows = []
    for variant in VARIANTS:
        for prompt_set, (attack, provenance, _), control, level in _conditions(variant):
            if control or attack == "ring_a_bell":
                continue
            for call in range(20):
                shape = 0.55 + 0.45 * math.sin(math.pi * (call + 2) / 23)
                value = level * (1 if variant == "base" and attack is None else shape * 1.1)
                rows.append(
                    {
                        "variant": variant,
                        "prompt_set": prompt_set,
                        "attack": attack,
                        "provenance": provenance,
                        "neuron_set": "concept",
                        "trajectory": "reference",
                        "call": call,
                        "timestep": 951 - 50 * call,
                        "n": 60,
                        "value": value,
                        "low": value - 0.05,
                        "high": value + 0.05,
                    }
                )
    return rows


def effects():
    rows = []

    def add(effect, variant, value, half=0.07, attack=(None, None, None), neurons="concept", p=0.005):
        name, provenance, against = attack
        tested = {"compared_with": None, "p_change": p / 2, "p_change_adjusted": p, "n_family": 6, "n_comparable": 199}
        tested |= {"comparable": value * 0.9, "comparable_low": value * 0.9 - 0.1, "comparable_high": value * 0.9 + 0.1}
        tested |= {"comparable_difference": value * 0.1, "comparable_difference_low": value * 0.1 - 0.05}
        tested |= {
            "comparable_difference_high": value * 0.1 + 0.05,
            "p_comparable": 0.4,
            "comparable_nearness": 0.7,
            "comparable_reason": None,
        }
        tested |= {"comparable_outcome": "no more" if value < 0.5 else "cannot tell"}
        said = "base model: random_tokens against the prompt without attack +0.16"
        null = {"null_low": -0.1, "null_high": 0.16, "null_n": 3, "null_from": said}
        rows.append(
            {
                "effect": effect,
                "variant": variant,
                "attack": name,
                "provenance": provenance,
                "against": against,
                "neuron_set": neurons,
                "trajectory": "reference",
                "n": 60,
                "value": value,
                "low": value - half,
                "high": value + half,
                "p_random": p,
                "n_random": 199,
                "random_low": -0.06,
                "random_high": 0.09,
                "reason": None,
                **tested,
                **(null if effect.endswith("reactivation") else dict.fromkeys(null)),
            }
        )

    add("deactivation", "esd", 0.81)
    add("deactivation", "uce", 0.69)
    add("drift", "esd", 0.03, 0.04, p=0.41)
    add("drift", "uce", 0.01, 0.04, p=0.73)
    for variant, first, second in (("esd", 0.54, 0.29), ("uce", 0.35, 0.17)):
        add("reactivation", variant, first, attack=ATTACKS[0])
        add("reactivation", variant, second, attack=ATTACKS[1])
    add("reactivation", "esd-pruned", 0.15, 0.09, ATTACKS[0], "watch", 0.04)
    add("base_reactivation", "base", 0.16, 0.08, ATTACKS[0], p=0.02)
    add("pruning_effect_adversarial", "esd-pruned", -0.44, 0.10, ATTACKS[0], "watch")
    add("pruning_effect_target", "esd-pruned", -0.07, 0.08, neurons="watch", p=0.12)
    rows.append(
        rows[-1]
        | {
            "effect": "pruning_effect_adversarial",
            "attack": "ring_a_bell",
            "provenance": "static",
            "n": None,
            "value": None,
            "low": None,
            "high": None,
            "p_random": None,
            "n_random": None,
            "random_low": None,
            "random_high": None,
            **dict.fromkeys(column for column in rows[-1] if column.startswith(("p_", "comparable", "n_"))),
            "reason": "too few units with both recordings (7, at least 10 are needed)",
        }
    )
    return rows


def set_validity():
    row = {"trajectory": "reference", "neuron_set": "concept", "site": "ff", "n": 60, "n_neurons": 160}
    row |= {"scale": 9.2, "scale_se": 0.6, "scale_over_se": 15.3, "scale_bounded": True} | CONFIRMED
    weak = {"scale": 1.1, "scale_se": 0.5, "scale_over_se": 2.2, "valid": False}
    said = "the base model's contrast of the set is 2.2 standard errors from 0 on the evaluation half, but a scale needs 5"
    return [
        row | {"valid": True, "reason": None},
        row | weak | {"neuron_set": "watch", "n_neurons": 80, "reason": f"No valid set: {said}. Use more units or another score"},
    ]


def other_concept():
    about = {"concept": "noto", "trajectory": "reference", "n_neurons": 140, "n_own": 150, "n_shared": 10, "n": 60}
    rows = []
    for effect, prompts, value, own, (attack, provenance, against) in (
        ("deactivation", "other-target", 0.05, 0.81, (None, None, None)),
        ("deactivation", "target", 0.12, 0.81, (None, None, None)),
        ("reactivation", "target", 0.22, 0.54, ATTACKS[0]),
    ):
        row = about | {
            "effect": effect,
            "variant": "esd",
            "attack": attack,
            "provenance": provenance,
            "against": against,
            "prompts": prompts,
        }
        for name, number in (("", value), ("own", own), ("difference", own - value)):
            row |= {name or "value": number, f"{name}_low".lstrip("_"): number - 0.06, f"{name}_high".lstrip("_"): number + 0.06}
        rows.append(row | {"p_change": 0.004, "p_change_adjusted": 0.008, "n_family": 2, "own_p_change": 0.001, "p_difference": 0.001})
    nothing = dict.fromkeys(rows[0]) | {key: rows[0][key] for key in ("concept", "effect", "prompts", "trajectory", "n_shared")}
    return [row | {"reason": None} for row in rows] + [
        nothing | {"variant": "uce", "reason": "noto: The rule chooses the same neurons for both concepts, so it cannot distinguish them."}
    ]


def neurons():
    rows = []
    for variant, silenced, woken in (
        ("esd", 0.91, 0.78),
        ("uce", 0.74, 0.52),
        ("esd-pruned", 0.93, None),
    ):
        for neuron_set, factor in (("concept", 1.0), ("random", 0.15)):
            row = {
                "variant": variant,
                "attack": "unlearndiffatk",
                "provenance": "optimised",
                "against": None,
                "neuron_set": neuron_set,
                "trajectory": "reference",
                "n": 148,
                "excluded": 12,
                "reason": None,
            }
            for name, value in (
                ("share_deactivated", silenced),
                ("share_reactivated", woken),
                ("median_d", silenced * 0.9),
                ("median_r", woken),
                ("median_delta", woken and woken * 2),
            ):
                value = None if value is None else value * factor
                row |= {
                    name: value,
                    f"{name}_low": None if value is None else max(value - 0.06, 0),
                    f"{name}_high": None if value is None else min(value + 0.06, 3),
                }
            for name in ("share_deactivated_high", "share_reactivated_high"):
                row[name] = None if row[name] is None else min(row[name], 1.0)
            if woken is None:
                row["reason"] = "half of these neurons are cut; see the watch set"
            rows.append(row)
    return rows


def waking():
    row = {"variant": "esd", "attack": "unlearndiffatk", "provenance": "optimised", "against": None, "neuron_set": "concept"}
    row |= {"trajectory": "reference", "n": 90, "successes": 43, "value": 0.74, "low": 0.63, "high": 0.84, "reason": None}
    never = {"attack": "ring_a_bell", "provenance": "static", "successes": 0, "reason": "the attack never succeeds here"}
    return [row, row | never | dict.fromkeys(("value", "low", "high"))]


def relocation():
    row = {"variant": "esd-pruned", "attack": "unlearndiffatk", "provenance": "optimised", "against": None, "trajectory": "reference"}
    return [row | {"n": 90, "value": 0.04, "low": -0.02, "high": 0.1, "iou": 0.21, "iou_chance": 0.026, "reason": None}]


def scores():
    return [
        {
            "score": "contrast",
            "n_chosen": 160,
            "iou_halves": 0.71,
            "iou_chance": 0.026,
            "note": "base model only; the sets of this report",
        },
        {
            "score": "correlation",
            "n_chosen": 160,
            "iou_halves": 0.64,
            "iou_chance": 0.026,
            "note": "reading of the paper; uses the erased model, so D and R are biased for it",
        },
    ]


def selection():
    row = {"neuron_set": "concept", "site": "ff", "chosen_by": "contrast", "share": 0.04, "n": 60, "n_chosen": 160, "m": 160}
    row |= {"alpha": 0.05, "test": "sign_flip", "confirmed": 140, "same_sign": 0.95, "low": 0.93, "high": 0.98}
    row |= {"random": 0.56, "random_low": 0.49, "random_high": 0.64, "n_random": 199, "p_random": 0.005, "reason": None}
    row |= CONFIRMED
    without = dict.fromkeys(set(row) - {"neuron_set", "site", "chosen_by", "share"})
    return [
        row,
        row | without | {"neuron_set": "suppressed", "n_chosen": 0, "reason": "The chosen set is empty; there is nothing to confirm."},
    ]


def stability():
    row = {"over": "halves", "site": "ff", "first": "selection half", "second": "evaluation half"}
    row |= {"n": 60, "n_first": 160, "n_second": 160, "iou": 0.71}
    row |= {"low": None, "high": None, "n_splits": None, "chance": 0.021, "chance_low": 0.01, "chance_high": 0.04}
    row |= {"n_random": 999, "p_random": 0.001, "reason": None}
    splits = {"over": "repeated halves", "first": "one half", "second": "the other half", "iou": 0.68, "low": 0.61, "high": 0.75}
    splits |= {"n": 60, "n_splits": 100, "n_random": None, "p_random": None}
    attack = {"over": "triggers", "first": "prompts of the study", "second": "attack ring_a_bell", "iou": 0.44}
    score = {"over": "scores", "first": "contrast", "second": "auroc", "n_second": 155, "iou": 0.52}
    nothing = dict.fromkeys(set(row) - {"over", "site", "first", "second"})
    seeds = {"over": "seeds", "first": "one seed", "second": "another", "reason": "every unit has one seed"}
    return [row, row | splits, row | attack, row | score, row | nothing | seeds]
