"""What report.json holds: tables, columns, kinds; written down once, for the checks, the CSV files and the guides.

TABLES    {table: {column: kind}};  kinds: text, flag, count, number, list; "?" = may be null
VALUES    the number a row exists for, with its interval: null needs a reason, a value needs an interval
OBJECTS, LISTS, EVIDENCE   the parts that are no tables, and the lists inside them
SHARES    columns that are fractions in [0, 1]
ADDED, ADDED_COLUMNS   tables and columns that came after the first reports of this schema version; in an older report they
          are empty, or null

budget      the share of prompts on which the steering detector had seen the concept within a budget of UNet row passes per
            prompt; looks: the most looks any prompt had had; ended: the search had stopped, the rate only stays
detectors   who looked; successes of n are false alarms on the base model's images of prompts without the concept
sweep       of the images of a condition, the share in which the judge would see the concept at a threshold; own: the judge's
rates       labels and thresholds of the judge, and its false alarms (false_positive_n images) stand in every row; named: prompts of
            named_of of the attack that say a name of the concept, or a word forbidden to attacks
against_control   the ASR of an attack beside that of its control on the same prompts, paired (McNemar)
rates and their kin   n counts images, n_units the units they are of. Where these differ, intervals are by whole units, and a
            comparison has p_permutation (sides of whole units swapped) in place of p_mcnemar. Activity counts units
attacks     what each attack is under the name all tables call it; passes, seconds and looks are means per prompt; named: as in
            rates, named_as_asked: where the target prompt says one too
detectable  of a comparison: the cut of a's rate, against a control the rise, that is found with power 0.8 on so many units
comparisons     success_rate on plain prompts, asr under an attack; prompt_set_b: that of variant b, where it is another one
quality     kid: distance of a variant's images of retained concepts to the base model's; kid_floor: of the base to itself, half
            against half; kid_floor_seed, kid_floor_dtype: made again from other noise, in another number format;
            image_difference: of the latter pair, pixel by pixel
training    how a mask was learned: the erasing loss on the drawn batch, the change on retained prompts, and the share of the gates
            expected to be cut, all before the step's update; what was cut in the end stands in models. Of a relearned concept the
            denoising loss on the drawn images of it; it has no retention term and no gates, so both are missing
clip        mean CLIP score of images of retained concepts; change: from the base model's, prompt by prompt; n_cut: prompts that
            lost words to the model's context
"""

from workbench.report import analysis_fields, choice_fields

ATTACK = {"attack": "text?", "provenance": "text?", "against": "text?"}
DECIDED = {"labels": "list?", "thresholds": "list?"}
RATE = {
    "n": "count?",
    "n_units": "count?",
    "successes": "count?",
    "rate": "number?",
    "low": "number?",
    "high": "number?",
    "reason": "text?",
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
        "reason": "text?",
    },
    "comparisons": {
        "variant_a": "text",
        "variant_b": "text",
        "prompt_set": "text",
        "prompt_set_b": "text?",
        "attack": "text?",
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
        "detectable": "number?",
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
    **choice_fields.TABLES,
    **analysis_fields.TABLES,
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
    "activity": ("value", "low", "high"),
    "effects": ("value", "low", "high"),
    "waking": ("value", "low", "high"),
    "relocation": ("value", "low", "high"),
    "comparisons": ("difference", "low", "high"),
    "against_control": ("difference", "low", "high"),
    "neurons": tuple(c for c in TABLES["neurons"] if c.startswith(("share_", "median_"))),
    **choice_fields.VALUES,
    **analysis_fields.VALUES,
}

ADDED = ("budget", "detectors", "sweep", "quality", "against_control", "attacks", "clip", "training")
ADDED += (*choice_fields.TABLES, *analysis_fields.TABLES)
ADDED_COLUMNS = {
    "rates": ("n_units", *DECIDED, *(c for c in TABLES["rates"] if c.startswith(("false_positive_", "named")))),
    "attacks": ("named", "named_as_asked"),
    "budget": ("n_units", *DECIDED),
    "detectors": ("n_units",),
    "sweep": ("n_units", "labels"),
    "rates_by_label": ("n_units", "detector", "threshold"),
    "retention": ("n_units", "detector"),
    "comparisons": ("prompt_set_b", "definition", "relative_low", "relative_high", "n_units", "p_permutation", "detectable"),
    "against_control": ("n_units", "p_permutation", "detectable"),
    "activity_by_call": ("against", "control"),
    "images": ("id",),
    "cluster_regions": tuple(analysis_fields.REGION_PICTURES),
}

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
LISTS = {
    ("models", "largest_changes"): {"module": "text", "relative_change": "number?"},
    ("verdict", "words"): {
        "subject": "text",
        "word": "text",
        "sentence": "text",
        "evidence": "list",
    },
    ("reproduce", "prompts"): {"set": "text", "n": "count", "digest": "text?"},
    ("reproduce", "models"): {"variant": "text", "digest": "text?"},
}
EVIDENCE = {"name": "text", "value": "number?", "low": "number?", "high": "number?", "n": "count?"}
SHARES = {"rate", "expected_share", "iou", "iou_halves", "iou_chance", "share_changed", "p_random", "p_mcnemar", "p_permutation", "power"}
SHARES |= {"false_positive_rate", "detectable"} | choice_fields.SHARES | analysis_fields.SHARES
SHARES |= {c for c in TABLES["neurons"] if c.startswith("share_")}
