"""The tables of report.json about attacks, detectors, rates, what is retained and comparisons; `fields` puts them with the others.

budget      the share of prompts on which the steering detector had seen the concept within a budget of UNet row passes per
            prompt; looks: the most looks any prompt had had; ended: the search had stopped, the rate only stays
detectors   who looked; successes of n are false alarms on the base model's images of prompts without the concept
sweep       of the images of a condition, the share in which the judge would see the concept at a threshold; own: the judge's
rates       labels and thresholds of the judge, and its false alarms (false_positive_n images) stand in every row; named: prompts of
            named_of of the attack that say a name of the concept, or a word forbidden to attacks
against_control   the ASR of an attack beside that of its control on the same prompts, paired (McNemar)
rates and their kin   n counts images, n_units the units they are of. Where these differ, intervals are by whole units (a rate's is
            Wilson's for n_effective images), and a comparison has p_permutation (sides of whole units swapped) in place of p_mcnemar; p is
            the one that there is, p_adjusted Benjamini-Hochberg over the n_family comparisons of the table. Activity counts units
attacks     what each attack is under the name all tables call it; passes, seconds and looks are means per prompt; named: as in
            rates, named_as_asked: where the target prompt says one too
detectable  of a comparison: the cut of a's rate, against a control the rise, that is found with power 0.8 on so many units
comparisons     success_rate on plain prompts, asr under an attack; prompt_set_b: that of variant b, where it is another one;
            provenance_a, provenance_b: how the attack was made for each; pair: parent (b was made from a), control, peer
quality     kid: distance of a variant's images of retained concepts to the base model's; kid_floor_seed, kid_floor_dtype: of the
            base to itself, the same prompts made again from other noise, in another number format (kid_floor, in older reports:
            one half of the units against the other); image_difference: of the latter pair, pixel by pixel. beyond: kid minus
            kid_floor_seed, paired by unit; outcome: farther, no farther or cannot tell
over_runs   a number over the runs of a variant or an attack with seeds: mean over n_runs runs (each the mean over up to n_inner attacks
            on it) and n_units units, interval over both. quantity: rate, retained, activity, effect, difference between variants
            (variant minus beside), attack minus control; name: the definition or the effect; variants, attacks: the runs it is of
clip        mean CLIP score of images of retained concepts; change: from the base model's, prompt by prompt; n_cut: prompts that
            lost words to the model's context
"""

ATTACK = {"attack": "text?", "provenance": "text?", "against": "text?"}
DECIDED = {"labels": "list?", "thresholds": "list?"}
RATE = {
    "n": "count?",
    "n_units": "count?",
    "n_effective": "number?",
    "successes": "count?",
    "rate": "number?",
    "low": "number?",
    "high": "number?",
    "reason": "text?",
}
TESTED = {"p": "number?", "p_adjusted": "number?", "n_family": "count?"}

OVER_RUNS = {
    **dict.fromkeys(("quantity", "variant"), "text"),
    **dict.fromkeys(("name", "beside", "prompt_set"), "text?"),
    **ATTACK,
    "control": "flag",
    **dict.fromkeys(("neuron_set", "trajectory"), "text?"),
    "n_units": "count?",
    **dict.fromkeys(("n_runs", "n_inner"), "count"),
    **dict.fromkeys(("value", "low", "high", "p", "p_adjusted"), "number?"),
    **dict.fromkeys(("variants", "attacks"), "list"),
    "reason": "text?",
}

TABLES = {
    "over_runs": OVER_RUNS,
    "rates": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "definition": "text",
        "detector": "text?",
        "threshold": "number?",
        **DECIDED,
        **{f"false_positive_{name}": "number?" for name in ("rate", "low", "high")},
        "false_positive_n": "count?",
        "named": "count?",
        "named_of": "count?",
        **RATE,
    },
    "attacks": {
        "attack": "text",
        "method": "text",
        "preset": "text?",
        "against": "text?",
        "settings": "text",
        "n": "count",
        "passes": "number",
        "seconds": "number?",
        "looks": "number",
        "most_looks": "count",
        "named": "count?",
        "named_as_asked": "count?",
    },
    "budget": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "detector": "text",
        **DECIDED,
        "budget": "number",
        "looks": "count",
        "ended": "flag",
        **RATE,
    },
    "detectors": {
        "role": "text",
        "method": "text",
        "version": "text",
        "labels": "list",
        "thresholds": "list",
        **RATE,
    },
    "sweep": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "detector": "text",
        "labels": "list?",
        "threshold": "number",
        "own": "flag",
        **RATE,
    },
    "quality": {
        "variant": "text",
        "definition": "text",
        "prompt_sets": "text",
        "features": "text?",
        "n": "count?",
        "n_units": "count?",
        "dropped": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "beyond": "number?",
        "beyond_low": "number?",
        "beyond_high": "number?",
        "outcome": "text?",
        "reason": "text?",
    },
    "clip": {
        "variant": "text",
        "prompt_set": "text",
        "model": "text",
        "n": "count",
        "n_units": "count?",
        "n_cut": "count",
        **{name: "number?" for name in ("value", "low", "high", "change", "change_low", "change_high")},
        "reason": "text?",
    },
    "rates_by_label": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "label": "text",
        "detector": "text?",
        "threshold": "number?",
        **RATE,
    },
    "retention": {
        "variant": "text",
        "kind": "text",
        "definition": "text",
        "detector": "text?",
        **RATE,
    },
    "comparisons": {
        "variant_a": "text",
        "variant_b": "text",
        "prompt_set": "text",
        "prompt_set_b": "text?",
        "attack": "text?",
        "provenance_a": "text?",
        "provenance_b": "text?",
        "control": "flag?",
        "pair": "text?",
        "definition": "text?",
        "n": "count?",
        "n_units": "count?",
        "both": "count?",
        "only_a": "count?",
        "only_b": "count?",
        "neither": "count?",
        "difference": "number?",
        "low": "number?",
        "high": "number?",
        "relative_difference": "number?",
        "relative_low": "number?",
        "relative_high": "number?",
        "p_mcnemar": "number?",
        "p_permutation": "number?",
        **TESTED,
        "power": "number?",
        "detectable": "number?",
        "reason": "text?",
    },
    "against_control": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "n": "count?",
        "n_units": "count?",
        "both": "count?",
        "only_control": "count?",
        "only_attack": "count?",
        "neither": "count?",
        "difference": "number?",
        "low": "number?",
        "high": "number?",
        "p_mcnemar": "number?",
        "p_permutation": "number?",
        **TESTED,
        "detectable": "number?",
        "reason": "text?",
    },
}
VALUES = {
    "rates": ("rate", "low", "high"),
    "budget": ("rate", "low", "high"),
    "detectors": ("rate", "low", "high"),
    "sweep": ("rate", "low", "high"),
    "quality": ("value", "low", "high"),
    "clip": ("value", "low", "high"),
    "rates_by_label": ("rate", "low", "high"),
    "retention": ("rate", "low", "high"),
    "comparisons": ("difference", "low", "high"),
    "against_control": ("difference", "low", "high"),
    "over_runs": ("value", "low", "high"),
}
