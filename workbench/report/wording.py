"""The one dictionary of words and number formats a reader of reports and pages meets.

Codes of report.json in words: PROMPTS, PROVENANCE, DEFINITIONS, EFFECTS, NEURON_SETS, TRAJECTORIES, RETAINED, GROUPS, MODES, ...;
`named` looks one up, `condition`, `provenance` and `decider` put several columns of a row together.
Numbers as text: percent, number, integer, p_value, span, seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

DASH = "—"
Form = Callable[[Any], str]
Row = Mapping[str, Any]
MODEL_NOTE = "The bundled emoji model demonstrates the mechanism. What it shows is no evidence about Stable Diffusion or any other model."

PROMPTS = {
    "target": "prompts with the concept",
    "reference": "prompts without the concept",
    "retained": "retained concepts",
    "near": "related concepts",
    "far": "unrelated concepts",
    "adversarial": "adversarial prompts",
    "control": "control prompts",
    "other-target": "prompts with the other concept",
}
PROVENANCE = {
    "static": "static",
    "transferred": "transferred",
    "optimised": "optimised against it",
}
DEFINITIONS = {
    "success_rate": "shows the concept",
    "ceiling": "base model (ceiling)",
    "false_positive": "false positives",
    "pre_asr": "without attack (pre-ASR)",
    "asr": "with attack (ASR)",
    "asr_fail": "new successes (ASR_fail)",
}
EFFECTS = {
    "deactivation": "Deactivation: activity lost by erasing",
    "deactivation_beyond_sham": "Deactivation minus that of the sham",
    "drift": "Drift: change on prompts without the concept",
    "target_over_reference": "Remaining contrast: prompts with the concept minus prompts without it",
    "reactivation": "Reactivation: attack minus its control",
    "gross_reactivation": "Gross reactivation: with attack minus without",
    "base_reactivation": "The same attack on the base model",
    "pruning_effect_adversarial": "Effect of pruning under attack",
    "pruning_effect_target": "Effect of pruning without attack",
}
NEURON_SETS = {
    "concept": "concept neurons",
    "watch": "watched neurons",
    "pruned": "pruned neurons",
    "suppressed": "suppressed neurons",
    "complement": "all other neurons",
    "random": "matched random sets",
    "other": "neurons of another concept",
}
TRAJECTORIES = {
    "target": "target (base latents with the concept)",
    "reference": "reference (base latents without the concept)",
}
# prompts that an erased model must still draw
RETAINED = {name: PROMPTS[name] for name in ("near", "far")}
# whose change by an ablation is measured
GROUPS = {"target": "prompts with the concept"} | RETAINED
MODES = {"one_step": "one step", "images": "images"}
# columns of the neuron table that say what a neuron is, the first that holds counts
NEURON_ROLES = {"in_prune": "pruned", "in_watch": "watched", "in_concept": "chosen", "in_suppressed": "suppressed"}
# outcomes of findings (analysis/findings.py) that do not speak for themselves
OUTCOMES = {
    "valid set": "these neurons respond to the concept",
    "no valid set": "no valid set of neurons",
    "not tested": "set of neurons not tested",
    "deactivated while drawn": "deactivated, but the images show the concept",
    "changed at large": "more than the concept changed",
    "below the base model": "concept in fewer images than in the base model",
    "as in the base model": "concept in as many images as in the base model",
    "not reactivated by these attacks": "not reactivated by this attack",
    "nothing to reactivate": "not erased, so nothing to reactivate",
    "more than comparable ones": "more than in comparable neurons",
    "no more than comparable ones": "no more than in comparable neurons",
    "cannot tell": "undecided",
    "not those of another concept": "neurons of another concept hardly change",
    "also those of another concept": "neurons of another concept change too",
    "more than the sham": "more than in the sham",
    "no more than the sham": "no more than in the sham",
    "concept returns": "concept returns in images",
    "concept does not return by this attack": "concept does not return in images",
    "less active": "pruning lowers the activity",
    "more active": "pruning raises the activity",
    "unchanged": "pruning does not change the activity",
    "transferred attack": "undecided: the attack was made against another variant",
    "fewer images": "concept in fewer images",
    "more images": "concept in more images",
    "relocated": "other neurons took over",
    "not relocated": "no other neurons took over",
    "set-up is off": "the check of the set-up failed",
}
YES = {True: "yes", False: "no", None: None}
SCORE_UNIT = "the score's own unit"
NO_PART = "not part of this study"


def named(words: Mapping[str, str], code: str) -> str:
    """A code of report.json in words; a code without words stands for itself."""
    return words.get(code, code)


def outcome(word: Row) -> str:
    """The outcome of a finding in plain words; what an older report says where it has no code."""
    return named(OUTCOMES, word["word"])


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in [0, 1] as per cent; null is a dash.

    It is rounded as a fraction: 0.075 is 0.07 in a sentence, so it is 7 % here, not 8 %.
    """
    return DASH if value is None else f"{100 * float(f'{value:.{digits + 2}f}'):.{digits}f} %".replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    """A signed number with a true minus sign; null is a dash."""
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def digits(n: int, form: Callable[..., str] = number) -> Form:
    """The form `number` or `percent` with n decimals."""
    return partial(form, digits=n)


def p_value(value: float | None) -> str:
    """'0.012', or '< 0.001'; null is a dash."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_words(value: float | None) -> str:
    """'p = 0.012', or 'p < 0.001'; empty where there is none."""
    return "" if value is None else f"p = {p_value(value)}".replace("= <", "<")


def p_of_change(row: Row) -> float | None:
    """p of "there is a change", corrected for the number of tests where words rest on the row; None in a report that has none."""
    p = row.get("p_change_adjusted")
    return row.get("p_change") if p is None else p


def integer(value: int | None) -> str:
    """A count with thin spaces between thousands; null is a dash."""
    return DASH if value is None else f"{value:,}".replace(",", "\u202f")


def span(low: float | None, high: float | None, form: Form = number) -> str:
    """ "low to high" in the given form; empty when there is no interval."""
    if low is None or high is None:
        return ""
    return f"{form(low).removesuffix(' %')} to {form(high)}"


def with_interval(row: Row, name: str = "value", form: Form = number) -> str:
    """'0.61 (0.52 to 0.70)'; a null is a dash and the reason."""
    value, prefix = row[name], "" if name in ("value", "rate", "difference") else f"{name}_"
    if value is None:
        return f"{DASH} {row.get('reason') or ''}".strip()
    interval = span(row[f"{prefix}low"], row[f"{prefix}high"], form)
    if not interval:
        return f"{form(value)} (no interval: {row.get('reason')})"
    return f"{form(value)} ({interval})"


def with_n(row: Row, name: str = "value", form: Form = number) -> str:
    """'0.61 (0.52 to 0.70), n = 60'."""
    return with_interval(row, name, form) + ("" if row["n"] is None else f", n = {integer(row['n'])}")


def beside_random(row: Row) -> str:
    """' (random sets −0.04 to 0.05)'; empty where there are none."""
    random = span(row["random_low"], row["random_high"])
    return f" (random sets {random})" if random else ""


def seconds(value: float | None) -> str:
    """'2 h 05 min', '3 min 20 s' or '4.2 s'."""
    if value is None:
        return DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def of(count: int | None, total: int | None) -> str | None:
    """'12 of 40'; None where the count is unknown."""
    return None if count is None else f"{integer(count)} of {integer(total)}"


def size(row: Row) -> str:
    """'180', or '180 in 60 units' where units have several images."""
    units = "" if row["n_units"] in (None, row["n"]) else f" in {integer(row['n_units'])} units"
    return f"{integer(row['n'])}{units}"


def condition(row: Row) -> str:
    """What the variant was given: prompts without attack, an attack or the control of an attack."""
    if row.get("attack") is None:
        return named(PROMPTS, row.get("prompt_set") or "target")
    if row.get("control"):
        return f"control of {row['attack']}"
    return f"attack {row['attack']}"


ADAPTIVE = {True: "adaptive", False: "not adaptive"}


def provenance(row: Row) -> str:
    """How the attack was made: 'optimised against it', 'transferred from esd'; empty without an attack.

    On a variant with a defence at inference it also says whether the attack is adaptive.
    """
    if row.get("attack") is None or row.get("provenance") is None:
        return ""
    against = row.get("against")
    transferred = row["provenance"] == "transferred" and against
    made = f"transferred from {against}" if transferred else named(PROVENANCE, row["provenance"])
    return made if row.get("adaptive") is None else f"{made}, {ADAPTIVE[row['adaptive']]}"


def condition_made(row: Row) -> str:
    """'attack p4d (optimised against it)'."""
    made = provenance(row)
    return condition(row) + (f" ({made})" if made else "")


def decider(row: Row) -> str | None:
    """Which detector decided, for which labels and from which threshold on; None when the row does not say all of it."""
    if not (row.get("detector") and row.get("labels") and row.get("thresholds")):
        return None
    if len(set(row["thresholds"])) == 1:
        labels = f"label{'s' if len(row['labels']) > 1 else ''} {' or '.join(map(str, row['labels']))}"
        return f"{row['detector']}, {labels}, threshold {number(row['thresholds'][0])}"
    each = (f"{label} (threshold {number(at)})" for label, at in zip(row["labels"], row["thresholds"], strict=True))
    return f"{row['detector']}, labels {' or '.join(each)}"


def comparison_sets(rows: Sequence[Row]) -> tuple[str, str, str]:
    """(low, high) columns of the band beside effects, and what its sets are called: comparable sets, or random ones in an older report."""
    if any(row.get("comparable_low") is not None for row in rows):
        return "comparable_low", "comparable_high", "comparable sets of other neurons"
    return "random_low", "random_high", "matched random sets"
