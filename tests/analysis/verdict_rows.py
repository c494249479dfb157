"""Rows of the result, written by hand, from which the verdict is made."""

ATTACK = {"attack": "erase_attack", "provenance": "optimised", "against": "esd"}
PLAIN = dict.fromkeys(ATTACK)


def number(low, high, **more):
    return {"value": (low + high) / 2, "low": low, "high": high, "n": 50, "reason": None} | more


def effect(low, high, p=0.005, name="reactivation", **more):
    """p is that of flipped signs; the base model's null is 0.1."""
    return number(low, high, effect=name, p_change=p, null_low=-0.1, null_high=0.1) | {
        "variant": "esd",
        "neuron_set": "concept",
        "trajectory": "reference",
        **ATTACK,
        **more,
    }


def rate(low, high, **more):
    return {
        "variant": "esd",
        "prompt_set": "adversarial",
        **ATTACK,
        "control": False,
        "definition": "asr",
        "n": 50,
        "successes": 25,
        "rate": (low + high) / 2,
        "low": low,
        "high": high,
        "reason": None,
        **more,
    }


def plain_rate(low, high, **more):
    """The images of the prompts with the concept, without attack."""
    return rate(low, high, prompt_set="target", definition="success_rate", **PLAIN) | more


def tables(
    variant="esd",
    activity=(0.0, 0.2),
    drift=(-0.05, 0.05),
    reactivation=(0.4, 0.6),
    p=0.005,
    asr=(0.6, 0.8),
    control=(0.0, 0.1),
    attacked=(0.55, 0.7),
):
    """The tables of a study with a valid set and one attack made against the one variant."""
    about = {"variant": variant, "neuron_set": "concept", "trajectory": "reference"}
    made = {"variant": variant, "against": variant}
    return {
        "activity": [
            number(*activity, prompt_set="target", control=False, **about, **PLAIN),
            number(*attacked, prompt_set="adversarial", control=False, **about, **ATTACK) | made,
        ],
        "set_validity": [validity(), validity(neuron_set="watch")],
        "effects": [effect(*drift, name="drift", **PLAIN) | about, effect(*reactivation, p=p, **made)],
        "rates": [rate(*asr, **made), rate(*control, control=True, prompt_set="control", **made)],
        "retention": [],
        "comparisons": [],
        "against_control": [],
    }


def validity(**more):
    """A set that is about the concept."""
    row = {"trajectory": "reference", "neuron_set": "concept", "site": "ff", "n": 50, "n_neurons": 160, "scale_over_se": 15.3}
    row |= {"confirmed_share": 0.88, "comparable_share": 0.55, "comparable_share_low": 0.47, "comparable_share_high": 0.63}
    return row | {"valid": True, "reason": None} | more


def other_row(low, high, own=(0.8, 0.9), p=0.001, effect="deactivation", prompts="other-target", **more):
    """An effect on the neurons of another concept, beside that on the study's own."""
    value, mine = (low + high) / 2, (own[0] + own[1]) / 2
    reach = (high - low + own[1] - own[0]) / 2
    row = {"concept": "noto", "effect": effect, "variant": "esd", "prompts": prompts, "trajectory": "reference", "n": 50, "value": value}
    row |= {"low": low, "high": high, "p_change": p, "own": mine, "own_low": own[0], "own_high": own[1], "difference": mine - value}
    row |= {"difference_low": mine - value - reach, "difference_high": mine - value + reach, "p_difference": 0.001, "reason": None}
    return row | PLAIN | (ATTACK if effect == "reactivation" else {}) | more


def together(*several):
    """The tables of several variants in one."""
    return {name: [row for one in several for row in one[name]] for name in several[0]}
