"""The table of report.json about the neurons of another concept, where a study names one; `fields` puts it with the others.

other_concept   an effect on the n_neurons of another concept, beside the same effect on the n_own of the study's concept; n_shared neurons
                were chosen for both and are in neither. n counts units
                effect        deactivation (base model minus variant) or reactivation (attack minus its control)
                prompts       those it is measured on: target (the study's own; an attack is made of them) or other-target (those that
                              ask for the other concept)
                value, low, high   on the other concept's neurons, on the base scale of the other concept's prompts; jackknife t over units
                p_change      the signs of the units' differences flipped; p_change_adjusted: Benjamini-Hochberg over the n_family rows of
                              the effect on the same prompts, shams left out
                own, own_low, own_high, own_p_change   the same effect on the study's neurons, always on its own prompts and on their own
                              scale
                difference, _low, _high, p_difference  own minus value, over the same units
"""

EFFECTS = ("deactivation", "reactivation")
_NUMBERS = ("value", "low", "high", "p_change", "p_change_adjusted")
_BESIDE = ("own", "own_low", "own_high", "own_p_change", "difference", "difference_low", "difference_high", "p_difference")
TABLES = {
    "other_concept": {
        "concept": "text",
        "effect": "text",
        "variant": "text",
        "attack": "text?",
        "provenance": "text?",
        "against": "text?",
        "prompts": "text",
        "trajectory": "text",
        "n_neurons": "count?",
        "n_own": "count?",
        "n_shared": "count?",
        "n": "count?",
        **dict.fromkeys(_NUMBERS, "number?"),
        "n_family": "count?",
        **dict.fromkeys(_BESIDE, "number?"),
        "reason": "text?",
    }
}
VALUES = {"other_concept": ("value", "low", "high", "own", "difference")}
SHARES = {"own_p_change", "p_difference"}
