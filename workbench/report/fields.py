"""What report.json holds: tables, columns, kinds; written down once, for the checks, the CSV files and the guides.

TABLES    {table: {column: kind}};  kinds: text, flag, count, number, list; "?" = may be null
VALUES    the number a row exists for, with its interval: null needs a reason, a value needs an interval
OBJECTS, LISTS, EVIDENCE   the parts that are no tables, and the lists inside them
SHARES    columns that are fractions in [0, 1]
ADDED, ADDED_COLUMNS, ADDED_KEYS   tables, columns and keys of objects that came after the first reports of this schema version; in
          an older report they are empty, or null
verdict.words   a sentence each, beside the finding as data (analysis/findings.py): kind, variant, outcome, attack, provenance, against,
          beside (the other variant of a comparison). An older report has the outcome alone, and the variant where the subject is one
study.score   what chose the concept neurons: {rule in words, name of the score whose values are shown, its unit, what it is}

effects     value, low, high: jackknife t over units. p_change: is there a change? the signs of units' differences flipped;
            p_change_adjusted: Benjamini-Hochberg over the n_family rows of the effect that words rest on. comparable: the same effect on
            sets of other neurons that are like this one, each on its own base scale (low, high: where 95 % of the n_comparable sets lie;
            comparable_nearness: their mean |kappa| over that of the set);
            comparable_difference: the set minus them, over units; comparable_outcome: more | no more | cannot tell. null_low, null_high:
            the least and the largest of null_n changes of wording in the base model, and 0; null_from says which. compared_with: the
            sham. p_random and the random band answer none of these questions
neurons, waking   n_undefined: resamples in which the share reactivated, or the AUROC, does not exist; left out of its interval
set_validity   is the set about the concept at all? its scale and standard error on half B, and the share of its neurons confirmed there
            beside that of random and comparable sets (over: the difference); only with a valid set may words be said of its neurons

training    how a mask was learned: the erasing loss on the drawn batch, the change on retained prompts, and the share of the gates
            expected to be cut, all before the step's update; what was cut in the end stands in models. Of a relearned concept the
            denoising loss on the drawn images of it; it has no retention term and no gates, so both are missing
"""

from workbench.report import analysis_fields, choice_fields, other_fields, rate_fields
from workbench.report.choice_fields import CONFIRMED
from workbench.report.rate_fields import ATTACK, DECIDED, TESTED

BESIDE = ("comparable", "comparable_low", "comparable_high", "comparable_difference", "comparable_difference_low")
EFFECT = {
    "compared_with": "text?",
    "p_change": "number?",
    "p_change_adjusted": "number?",
    "n_family": "count?",
    "n_comparable": "count?",
    **dict.fromkeys((*BESIDE, "comparable_difference_high", "p_comparable", "comparable_nearness"), "number?"),
    "comparable_outcome": "text?",
    "comparable_reason": "text?",
    "null_low": "number?",
    "null_high": "number?",
    "null_n": "count?",
    "null_from": "text?",
}

TABLES = {
    "models": {
        "variant": "text",
        "role": "text",
        "method": "text?",
        "parent": "text?",
        "digest": "text?",
        "what": "text?",
        "parameters_changed": "count?",
        "share_changed": "number?",
        "seconds": "number?",
        "largest_changes": "list",
        "reason": "text?",
    },
    **rate_fields.TABLES,
    "activity": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "neuron_set": "text",
        "site": "text",
        "regime": "text",
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "activity_by_call": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag?",
        "neuron_set": "text",
        "trajectory": "text",
        "call": "count",
        "timestep": "number",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
    },
    "effects": {
        "effect": "text",
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "p_random": "number?",
        "n_random": "count?",
        "random_low": "number?",
        "random_high": "number?",
        **EFFECT,
        "reason": "text?",
    },
    "set_validity": {
        "trajectory": "text",
        "neuron_set": "text",
        "site": "text",
        "n": "count?",
        "n_neurons": "count",
        **dict.fromkeys(("scale", "scale_se", "scale_over_se"), "number?"),
        "scale_bounded": "flag?",
        **CONFIRMED,
        "valid": "flag",
        "reason": "text?",
    },
    "neurons": {
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "excluded": "count?",
        **{
            f"{name}{end}": "number?"
            for name in ("share_deactivated", "share_reactivated", "median_d", "median_r") + ("median_delta",)
            for end in ("", "_low", "_high")
        },
        "n_undefined": "count?",
        "reason": "text?",
    },
    "waking": {
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "successes": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "n_undefined": "count?",
        "reason": "text?",
    },
    "relocation": {
        "variant": "text",
        **ATTACK,
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "iou": "number?",
        "iou_chance": "number?",
        "reason": "text?",
    },
    "scores": {
        "score": "text",
        "n_chosen": "count?",
        "iou_halves": "number?",
        "iou_chance": "number?",
        "note": "text?",
    },
    "images": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "unit": "text",
        "id": "text?",
        "prompt": "text",
        "seed": "count",
        "path": "text",
        "blurred": "flag",
        "success": "flag?",
        "score": "number?",
    },
    "timings": {"stage": "text", "seconds": "number?", "nodes": "count?"},
    "training": {
        "variant": "text",
        "method": "text",
        "step": "count",
        "loss": "number",
        "retention": "number?",
        "expected_share": "number?",
    },
    **other_fields.TABLES,
    **choice_fields.TABLES,
    **analysis_fields.TABLES,
}

VALUES = {
    **rate_fields.VALUES,
    "activity": ("value", "low", "high"),
    "effects": ("value", "low", "high"),
    "waking": ("value", "low", "high"),
    "relocation": ("value", "low", "high"),
    "neurons": tuple(c for c in TABLES["neurons"] if c.startswith(("share_", "median_"))),
    **other_fields.VALUES,
    **choice_fields.VALUES,
    **analysis_fields.VALUES,
}

ADDED = ("budget", "detectors", "sweep", "quality", "against_control", "attacks", "clip", "training", "set_validity", "over_runs")
ADDED += (*other_fields.TABLES, *choice_fields.TABLES, *analysis_fields.TABLES)
ADDED_COLUMNS = {
    "rates": ("n_units", "n_effective", *DECIDED, *(c for c in TABLES["rates"] if c.startswith(("false_positive_", "named")))),
    "attacks": ("named", "named_as_asked"),
    "budget": ("n_units", "n_effective", *DECIDED),
    "detectors": ("n_units", "n_effective"),
    "sweep": ("n_units", "n_effective", "labels"),
    "rates_by_label": ("n_units", "n_effective", "detector", "threshold"),
    "retention": ("n_units", "n_effective", "detector"),
    "quality": ("beyond", "beyond_low", "beyond_high", "outcome"),
    "comparisons": ("prompt_set_b", "definition", "relative_low", "relative_high", "n_units", "p_permutation", "detectable", *TESTED),
    "against_control": ("n_units", "p_permutation", "detectable", *TESTED),
    "activity_by_call": ("against", "control"),
    "effects": tuple(EFFECT),
    "cluster_effects": ("p_change",),
    "set_effects": ("p_change",),
    "neurons": ("n_undefined",),
    "waking": ("n_undefined",),
    "selection": tuple(CONFIRMED),
    "images": ("id",),
    "cluster_regions": tuple(analysis_fields.REGION_PICTURES),
    "cluster_choice": ("p_stability", "n_tried"),
}
ADDED_COLUMNS["comparisons"] += ("provenance_a", "provenance_b", "control", "pair")

ADDED_KEYS = {"study": ("score",)}

OBJECTS = {
    "study": {
        "name": "text",
        "title": "text",
        "question": "text?",
        "concept": "object",
        "n_units": "count",
        "n_units_half_a": "count?",
        "n_units_half_b": "count?",
        "seeds": "list",
        "steps": "count",
        "guidance": "number",
        "scheduler": "text",
        "window": "list",
        "sites": "list",
        "text": "text",
        "score": "object?",
    },
    "verdict": {"headline": "text", "words": "list", "reasons": "list", "caveats": "list"},
    "reproduce": {
        "command": "text",
        "study_digest": "text?",
        "seeds": "list",
        "device": "text?",
        "threads": "count?",
        "dtype": "text?",
        "scheduler": "text?",
        "torch_deterministic": "flag?",
        "versions": "object",
        "git_commit": "text?",
        "git_dirty": "flag?",
        "prompts": "list",
        "models": "list",
        "wall_seconds": "number?",
        "peak_memory_mb": "number?",
        "started": "text?",
        "finished": "text?",
    },
}
WORD_DATA = ("kind", "variant", "outcome", "attack", "provenance", "against", "beside")
# outcomes that reports written before these keys say in other words
OLD_WORDS = {
    "silenced": "deactivated",
    "not silenced": "not deactivated",
    "quieter": "less active",
    "louder": "more active",
    **{word: word for word in ("reactivated", "not reactivated by these attacks", "undecided", "unchanged", "relocated", "not relocated")},
    **{word: word for word in ("fewer images", "more images", "as expected", "set-up is off", "not measured")},
}
SCORE = {"rule": "text", "name": "text", "unit": "text", "what": "text"}
LISTS = {
    ("models", "largest_changes"): {"module": "text", "relative_change": "number?"},
    ("verdict", "words"): {
        "subject": "text",
        "word": "text",
        "sentence": "text",
        "evidence": "list",
        **{key: "text?" for key in WORD_DATA},
    },
    ("reproduce", "prompts"): {"set": "text", "n": "count", "digest": "text?"},
    ("reproduce", "models"): {"variant": "text", "digest": "text?"},
}
EVIDENCE = {"name": "text", "value": "number?", "low": "number?", "high": "number?", "n": "count?"}
SHARES = {"rate", "expected_share", "iou", "iou_halves", "iou_chance", "share_changed", "p_random", "p_mcnemar", "p_permutation", "power"}
SHARES |= {"false_positive_rate", "detectable"} | choice_fields.SHARES | analysis_fields.SHARES | other_fields.SHARES
SHARES |= {c for c in TABLES["neurons"] if c.startswith("share_")} | {"p", "p_change", "p_change_adjusted", "p_comparable", "p_adjusted"}
