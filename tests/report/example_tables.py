"""Invented tables of the example report about attacks and images."""

import math

NOT_RUN = "the attack ran out of its time budget before this set"


VARIANTS = ("base", "esd", "uce", "esd-pruned")


ATTACKS = (("unlearndiffatk", "optimised", None), ("ring_a_bell", "static", None))


def _rate(successes, n):
    low, high = wilson(successes, n)
    return {
        "n": n,
        "n_units": n,
        "successes": successes,
        "rate": successes / n,
        "low": low,
        "high": high,
        "reason": None,
    }


def rates():
    rows = []

    def add(variant, prompt_set, definition, numbers, attack=(None, None, None), control=False):
        name, provenance, against = attack
        rows.append(
            {
                "variant": variant,
                "prompt_set": prompt_set,
                "attack": name,
                "provenance": provenance,
                "against": against,
                "control": control,
                "definition": definition,
                "detector": "emoji-classifier",
                "threshold": 0.5,
                **numbers,
            }
        )

    for variant, target, reference in (
        ("base", 174, 3),
        ("esd", 7, 2),
        ("uce", 12, 4),
        ("esd-pruned", 4, 3),
    ):
        add(variant, "target", "success_rate", _rate(target, 180))
        add(variant, "reference", "false_positive", _rate(reference, 180))
    for variant, counts in (
        ("esd", (118, 9, 61, 8)),
        ("uce", (92, 14, 48, 15)),
        ("esd-pruned", (38, 8, 17, 6)),
    ):
        for place, attack in enumerate(ATTACKS):
            for prompt_set, successes, control in (
                ("adversarial", counts[2 * place], False),
                ("control", counts[2 * place + 1], True),
            ):
                # in the order a run writes them, so that whoever takes the first row of an attack is found out
                add(variant, prompt_set, "pre_asr", _rate(3, 180), attack, control)
                add(variant, prompt_set, "asr", _rate(successes, 180), attack, control)
                add(variant, prompt_set, "asr_fail", _rate(successes - 3, 177), attack, control)
    add("esd-pruned", "adversarial", "asr", _rate(29, 180), ("unlearndiffatk", "transferred", "esd"))
    add(
        "uce",
        "adversarial",
        "asr",
        {"n": None, "successes": None, "rate": None, "low": None, "high": None, "reason": NOT_RUN},
        ("unlearndiffatk", "transferred", "esd"),
    )
    return rows


def retention():
    rows = []
    for variant, near, far in (
        ("base", 171, 352),
        ("esd", 149, 343),
        ("uce", 158, 349),
        ("esd-pruned", 141, None),
    ):
        rows.append(
            {
                "variant": variant,
                "kind": "near",
                "definition": "top-1 of the classifier",
                **_rate(near, 180),
            }
        )
        numbers = (
            _rate(far, 360)
            if far
            else {
                "n": None,
                "successes": None,
                "rate": None,
                "low": None,
                "high": None,
                "reason": "far concepts are not part of the short study",
            }
        )
        rows.append({"variant": variant, "kind": "far", "definition": "top-1 of the classifier", **numbers})
    return rows


def over_runs():
    """As if "esd" had been trained three times, and attacked twice each time."""
    made = {"attack": "unlearndiffatk", "provenance": "optimised", "against": "esd", "control": False}
    nothing = dict.fromkeys(("beside", "prompt_set", "neuron_set", "trajectory", "p", "p_adjusted", "reason"))
    row = nothing | made | {"variant": "esd", "n_units": 90, "n_runs": 3, "n_inner": 2}
    row |= {"variants": [f"esd-seed{s}" for s in range(3)], "attacks": ["unlearndiffatk-seed0", "unlearndiffatk-seed1"]}
    rate = {"quantity": "rate", "name": "asr", "prompt_set": "unlearndiffatk@esd", "value": 0.61, "low": 0.4, "high": 0.78}
    effect = {"quantity": "effect", "name": "reactivation", "neuron_set": "concept", "trajectory": "reference", "value": 0.31}
    effect |= {"low": 0.12, "high": 0.5, "p": 0.004, "p_adjusted": 0.008}
    missing = {"quantity": "effect", "name": "drift", "neuron_set": "watch", "trajectory": "reference", "n_units": None}
    missing |= dict.fromkeys(("value", "low", "high", "attack", "provenance", "against")) | {"reason": "the set defines no scale"}
    return [row | rate, row | effect, row | missing]


def comparisons():
    row = {
        "variant_a": "esd",
        "variant_b": "esd-pruned",
        "prompt_set": "adversarial",
        "prompt_set_b": None,
        "attack": "unlearndiffatk",
        "definition": "asr",
        "n": 180,
        "both": 31,
        "only_a": 87,
        "only_b": 7,
        "neither": 55,
        "difference": -80 / 180,
        "low": -0.53,
        "high": -0.36,
        "relative_difference": -80 / 118,
        "relative_low": -0.75,
        "relative_high": -0.58,
        "p_mcnemar": 1.2e-18,
        "power": 0.99,
        "reason": None,
    }
    empty = {
        name: None
        for name in (
            "n",
            "both",
            "only_a",
            "only_b",
            "neither",
            "difference",
            "low",
            "high",
            "relative_difference",
            "relative_low",
            "relative_high",
            "p_mcnemar",
            "power",
        )
    }
    return [
        row,
        row
        | empty
        | {
            "variant_a": "esd",
            "variant_b": "uce",
            "attack": "ring_a_bell",
            "reason": "the two sets share no prompts",
        },
    ]


def rates_by_label():
    row = {"variant": "esd", "prompt_set": "target", "attack": None, "provenance": None, "against": None, "control": False}
    return [row | {"label": f"object:{name}"} | _rate(k, 30) for name, k in (("red heart", 2), ("broken heart", 5))]


def detectors():
    row = {"method": "emoji", "labels": ["object:red heart"], "thresholds": [0.5]}
    missing = {"n": 0, "successes": None, "rate": None, "low": None, "high": None, "reason": "no image without the concept was made"}
    return [
        row | {"role": "steer", "version": "emoji-steer 0123456789ab"} | missing,
        row | {"role": "judge", "version": "emoji-judge ba9876543210"} | _rate(3, 180),
    ]


def sweep():
    rows = []
    for variant, counts in (("base", (178, 174, 160)), ("esd", (21, 7, 1))):
        row = {"variant": variant, "prompt_set": "target", "attack": None, "provenance": None, "against": None, "control": False}
        row |= {"detector": "emoji-judge ba9876543210"}
        for threshold, successes in zip((0.1, 0.5, 0.9), counts, strict=True):
            rows.append(row | {"threshold": threshold, "own": threshold == 0.5} | _rate(successes, 180))
    return rows


def budget():
    rows = []
    for variant, ends in (("esd", (9, 70, 118)), ("uce", (6, 51, 92))):
        row = {"variant": variant, "attack": "unlearndiffatk", "provenance": "optimised", "against": variant, "detector": "emoji-steer 01"}
        for place, point in enumerate((124.0, 248.0, 1240.0)):
            attack = row | {"prompt_set": f"unlearndiffatk@{variant}", "control": False, "budget": point, "looks": place + 1}
            rows.append(attack | {"ended": False} | _rate(ends[place], 180))
            control = row | {"prompt_set": f"unlearndiffatk@{variant}~control", "control": True, "budget": point}
            never = {
                "n": 0,
                "successes": None,
                "rate": None,
                "low": None,
                "high": None,
                "reason": "this search never looked at the detector",
            }
            if variant == "uce":
                rows.append(control | {"looks": 0, "ended": True} | never)
            else:
                rows.append(control | {"looks": min(place + 1, 2), "ended": place == 2} | _rate((4, 11, 11)[place], 180))
    return rows


def quality():
    row = {"prompt_sets": "near and far", "features": "emoji-judge ba9876543210", "n": 540, "n_units": 180, "dropped": 0, "reason": None}
    row |= dict.fromkeys(("beyond", "beyond_low", "beyond_high", "outcome"))
    farther = {"beyond": 0.0188, "beyond_low": 0.0132, "beyond_high": 0.0251, "outcome": "farther"}
    broken = dict.fromkeys(("n", "n_units", "dropped", "value", "low", "high")) | {"reason": "Some features are not finite"}
    return [
        row | {"variant": "base", "definition": "kid_floor_seed", "value": 0.0004, "low": -0.0011, "high": 0.0023},
        row | {"variant": "esd", "definition": "kid", "value": 0.0192, "low": 0.0141, "high": 0.0250} | farther,
        row | {"variant": "uce", "definition": "kid"} | broken,
    ]


def training():
    """A learned mask and a relearned concept, step by step."""
    relearned = {"variant": "esd-relearned", "method": "relearn", "retention": None, "expected_share": None}
    return [relearned | {"step": step, "loss": 0.05 / step} for step in (1, 20)] + [
        {
            "variant": "esd-pruned",
            "method": "learned_mask",
            "step": step,
            "loss": 0.02 / step,
            "retention": 0.001 * step,
            "expected_share": 0.02 * step / 160,
        }
        for step in (1, 40, 80, 120, 160)
    ]


def attacks():
    row = {"method": "unlearn_diff_atk", "preset": "published", "settings": "iterations = 40, n_tokens = 5", "n": 180}
    row |= {"passes": 812.4, "seconds": 3.25, "looks": 6.4, "most_looks": 40}
    fixed = {"passes": 0.0, "seconds": None, "looks": 0.0, "most_looks": 0}
    return [
        row | {"attack": "unlearndiffatk", "against": "esd"},
        row | {"attack": "ring_a_bell", "method": "ring_a_bell", "preset": None, "against": None} | fixed,
    ]


def clip():
    row = {"prompt_set": "near", "model": "clip 0123456789ab", "n": 180, "n_units": 60, "n_cut": 3, "reason": None}
    none = dict.fromkeys(("n_units", "value", "low", "high", "change", "change_low", "change_high"))
    return [
        row | {"variant": "base", "value": 24.1, "low": 23.6, "high": 24.5, "change": None, "change_low": None, "change_high": None},
        row | {"variant": "esd", "value": 22.7, "low": 22.1, "high": 23.2, "change": -1.4, "change_low": -1.8, "change_high": -1.0},
        row | none | {"variant": "uce", "reason": "1 unit cannot be resampled; at least 2 are needed."},
    ]


def wilson(successes, n, z=1.96):
    """Wilson's interval, written out."""
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def against_control():
    row = {"variant": "esd", "prompt_set": "adversarial", "attack": "unlearndiffatk", "provenance": "optimised", "against": "esd"}
    counts = {"n": 180, "both": 9, "only_control": 2, "only_attack": 109, "neither": 60, "difference": 107 / 180}
    found = row | counts | {"low": 0.51, "high": 0.67, "p_mcnemar": 4.7e-30, "reason": None}
    nothing = dict.fromkeys((*counts, "low", "high", "p_mcnemar"))
    return [found, row | {"variant": "sham"} | nothing | {"reason": "no images of the control"}]
