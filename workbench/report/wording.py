"""Picks and words: the headline numbers of a document, names of conditions, numbers as text.

Nothing is computed here: a card shows a row of a table, chosen by a rule its caption states.
"""

from workbench.analysis import headline
from workbench.analysis.findings import ALARMING, OPEN

DASH = "—"
MODEL_NOTE = "The bundled emoji model demonstrates the mechanism. What it shows is no evidence about Stable Diffusion or any other model."

PROMPTS = {
    "target": "prompts with the concept",
    "reference": "prompts without it",
    "retained": "prompts for other things",
    "adversarial": "attacked prompts",
    "control": "control prompts",
}
PROVENANCE = {
    "static": "fixed prompts",
    "transferred": "transferred",
    "optimised": "optimised on it",
}
DEFINITIONS = {
    "success_rate": "shows the concept",
    "ceiling": "base model, the ceiling",
    "false_positive": "false positives of the detector",
    "pre_asr": "before the attack (pre-ASR)",
    "asr": "with the attack (ASR)",
    "asr_fail": "new successes (ASR_fail)",
}
EFFECTS = {
    "deactivation": "Deactivation: activity lost by erasing",
    "deactivation_beyond_sham": "Deactivation beyond that of the sham",
    "drift": "Drift: activity of prompts without the concept",
    "target_over_reference": "What is left: prompts with the concept minus prompts without",
    "reactivation": "Reactivation: attack minus its control",
    "gross_reactivation": "Gross reactivation: attack minus no attack",
    "base_reactivation": "The same attack in the base model",
    "pruning_effect_adversarial": "Effect of pruning under attack",
    "pruning_effect_target": "Effect of pruning without attack",
}
WITHOUT_ATTACK = ("deactivation", "these neurons", "another concept", "beyond the sham", "erasure", None)
NEURON_SETS = {
    "concept": "concept neurons",
    "watch": "watched, not pruned",
    "pruned": "pruned",
    "suppressed": "concept-suppressed",
    "complement": "all other neurons",
    "random": "matched random sets",
    "other": "neurons of another concept",
}
TRAJECTORIES = {
    "target": "on latents that contain the concept",
    "reference": "on latents without the concept",
}


def model_note(study):
    """What must be said about the model of the study; None when there is nothing to say."""
    note = study.get("model_note")
    return note if isinstance(note, str) else MODEL_NOTE if note else None


def thresholds(study):
    """(D above which a neuron counts as deactivated, R above which as reactivated): a study may set them."""
    return tuple(study.get("thresholds", (0.5, 0.25)))


def score_unit(study):
    """What the values of the choosing score count, as the score declares it; reports older than that declaration do not say."""
    return (study.get("score") or {}).get("unit") or "the score's own unit"


def percent(value, digits=1):
    """A fraction in [0, 1] as per cent; null is a dash."""
    return DASH if value is None else f"{100 * value:.{digits}f} %".replace("-", "−")


def number(value, digits=2):
    """A signed number with a true minus sign; null is a dash."""
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def p_value(value):
    """'0.012', or '< 0.001'; null is a dash."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_words(value):
    """'p = 0.012', or 'p < 0.001'; empty where there is none."""
    return "" if value is None else f"p = {p_value(value)}".replace("= <", "<")


def p_of_change(row):
    """p of "there is a change", corrected for the number of tests where words rest on the row; None in a report that has none."""
    p = row.get("p_change_adjusted")
    return row.get("p_change") if p is None else p


def beside(rows):
    """((low, high) columns, what the sets are called) of the band beside effects: comparable sets, or in an older report random ones."""
    if any(row.get("comparable_low") is not None for row in rows):
        return ("comparable_low", "comparable_high"), "comparable sets of other neurons"
    return ("random_low", "random_high"), "matched random sets"


def integer(value):
    """A count with thin spaces between thousands; null is a dash."""
    return DASH if value is None else f"{value:,}".replace(",", "\u202f")


def span(low, high, form=number):
    """ "low to high" in the given form; empty when there is no interval."""
    if low is None or high is None:
        return ""
    return f"{form(low).removesuffix(' %') if form is percent else form(low)} to {form(high)}"


def with_interval(row, name="value", form=number):
    """'0.61 (0.52 to 0.70)'; a null is a dash and the reason."""
    value, prefix = row[name], "" if name in ("value", "rate", "difference") else f"{name}_"
    if value is None:
        return f"{DASH} {row.get('reason') or ''}".strip()
    interval = span(row[f"{prefix}low"], row[f"{prefix}high"], form)
    if not interval:
        return f"{form(value)} (no interval: {row.get('reason')})"
    return f"{form(value)} ({interval})"


def seconds(value):
    """'2 h 05 min', '3 min 20 s' or '4.2 s'."""
    if value is None:
        return DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def condition(row):
    """What the variant was given: prompts without attack, an attack or the control of an attack."""
    if row.get("attack") is None:
        name = row.get("prompt_set", "target")
        return PROMPTS.get(name, name)
    if row.get("control"):
        return f"control of {row['attack']}"
    return f"attack {row['attack']}"


def provenance(row):
    """How the attack was made: 'optimised on it', 'transferred from esd'; empty without an attack."""
    if row.get("attack") is None or row.get("provenance") is None:
        return ""
    against = row.get("against")
    if row["provenance"] == "transferred" and against:
        return f"transferred from {against}"
    return PROVENANCE.get(row["provenance"], row["provenance"])


def decider(row):
    """Which detector decided, for which labels and from which threshold on; None when the row does not say all of it."""
    if not (row.get("detector") and row.get("labels") and row.get("thresholds")):
        return None
    if len(set(row["thresholds"])) == 1:
        labels = f"label{'s' if len(row['labels']) > 1 else ''} {' or '.join(map(str, row['labels']))}"
        return f"{row['detector']}, {labels}, threshold {number(row['thresholds'][0])}"
    each = (f"{label} (threshold {number(at)})" for label, at in zip(row["labels"], row["thresholds"], strict=True))
    return f"{row['detector']}, labels {' or '.join(each)}"


def kind(row):
    """The visual kind of a row: attack, control, target, reference or other."""
    if row.get("control"):
        return "control"
    if row.get("attack") is not None:
        return "attack"
    name = row.get("prompt_set") or ""
    return name if name in ("target", "reference") else "other"


def arranged(rows, variants):
    """Rows by variant, prompts without attack first, then each attack and definition beside its own control (stable)."""
    definitions = list(DEFINITIONS)
    order = {name: place for place, name in enumerate(variants)}
    names, attacks, sets = {}, {}, {"target": 0, "reference": 1}
    for row in rows:
        names.setdefault(row.get("attack"), len(names))
        attacks.setdefault(_made(row), len(attacks))
        sets.setdefault(row.get("prompt_set"), len(sets))

    def place(row):
        return (
            order.get(row["variant"], len(order)),
            row.get("attack") is not None,
            names[row.get("attack")],
            attacks[_made(row)],
            definitions.index(row["definition"]) if row.get("definition") in definitions else -1,
            bool(row.get("control")),
            0 if row.get("attack") else sets[row.get("prompt_set")],
        )

    return sorted(rows, key=place)


def variant_names(document):
    """Variants in the order of the models table."""
    return [row["variant"] for row in document["models"]]


def subjects(document):
    """The variants a verdict is about: everything but the base model."""
    return [row["variant"] for row in document["models"] if row["role"] != "base"]


def own_words(document, variant):
    """What the verdict says of a variant without attack: its neurons, its images. A report that is older than the kinds of findings
    has there what its verdict says of the variant as a whole."""
    own = [word for word in document["verdict"]["words"] if word["variant"] == variant and word["attack"] is None]
    return [word for word in own if word["kind"] in WITHOUT_ATTACK]


def mood(word):
    """How a word of the verdict looks: bad, open (it decides nothing), or "" for the rest."""
    return "bad" if word["outcome"] in ALARMING else "open" if word["outcome"] in OPEN else ""


def cards(document, variant):
    """The three headline numbers of a variant, each a row of the document or None.

    erasure       rate of images that show the concept without attack, beside the base model's
    retention     rate of right images of related concepts (else unrelated ones)
    reactivation  concept activity under an attack minus its control, beside that attack's ASR and its control's; the attack that
                  is shown first by the rule of analysis/headline.py. Without a valid set it has no value, and the reason why
    """
    base = next((row["variant"] for row in document["models"] if row["role"] == "base"), None)
    return {
        "erasure": _plain_rate(document, variant),
        "erasure_base": _plain_rate(document, base),
        "retention": _retention(document, variant),
        "retention_base": _retention(document, base),
        **_reactivation(document, variant),
    }


def _plain_rate(document, variant):
    rows = [
        row
        for row in document["rates"]
        if row["variant"] == variant
        and row["attack"] is None
        and not row["control"]
        and row["prompt_set"] != "reference"
        and row["definition"] in ("success_rate", "pre_asr", "ceiling")
    ]
    order = ("success_rate", "pre_asr", "ceiling")
    rows.sort(key=lambda row: (row["prompt_set"] != "target", order.index(row["definition"])))
    return rows[0] if rows else None


def _retention(document, variant):
    rows = [row for row in document["retention"] if row["variant"] == variant]
    rows.sort(key=lambda row: (row["rate"] is None, row["kind"] != "near"))
    return rows[0] if rows else None


def _reactivation(document, variant):
    """The effect, the ASR and the control's of the attack shown first; where no effect was measured, an effect with its reason."""
    role, where = _roles(document).get(variant), headline.trajectory(document["effects"])
    validity = document.get("set_validity") or ()
    first = headline.first_attack(document["effects"], document["rates"], variant, role, where, validity)
    effects = [row for row in document["effects"] if row["variant"] == variant and row["effect"] == "reactivation"]
    effects.sort(
        key=lambda row: (
            first is None or not headline.same(row, first),
            row["neuron_set"] != headline.own_set(role),
            row["trajectory"] != where,
        )
    )
    if not headline.valid_set(validity, role, where):
        row = headline.validity_row(validity, role, where)
        reason = row["reason"] if row else "Whether these neurons are about the concept was not tested"
        effects = [one | dict.fromkeys(("value", "low", "high")) | {"reason": reason, "no_set": True} for one in effects]
    if first is None:
        return {"reactivation": next(iter(effects), None), "attack": None, "control": None}
    effect = next((row for row in effects if headline.same(row, first)), None)
    rates = [row for row in document["rates"] if row["variant"] == variant and row["definition"] == "asr" and row["attack"]]
    rates = [row for row in rates if headline.same(row, first)]
    attack = next((row for row in rates if not row["control"]), None)
    control = next((row for row in rates if row["control"]), None) if attack else None
    return {"reactivation": effect, "attack": attack, "control": control}


def _roles(document):
    return {row["variant"]: row["role"] for row in document["models"]}


def _made(row):
    return row.get("attack"), row.get("provenance"), row.get("against")


def shown(document, table):
    """The rows a figure shows: the concept set of the site ff (the watched half where neurons were pruned) beside its random
    sets, without retained prompts and nulls; with several trajectories the reference one for effects and shares.

    The other sets, sites and trajectories stand in the tables beside the report.
    """
    roles = _roles(document)
    trajectories = {row["trajectory"] for row in document[table]}
    only = "reference" if "reference" in trajectories and table in ("effects", "neurons") else None

    def wanted(row):
        return (
            row["neuron_set"] in (headline.own_set(roles.get(row["variant"])), "random")
            and row.get("site", "ff") == "ff"
            and row.get("prompt_set") not in ("near", "far")
            and only in (None, row["trajectory"])
            and (row.get("value", row.get("median_d")) is not None)
        )

    return [row for row in document[table] if wanted(row)]


def drawn_neurons(neurons, variant, limit=400):
    """The neurons (rows as dicts, None where unknown) with both D and R in a variant; of very many, the chosen ones and then
    those with the highest score.
    """
    d, r = f"d_{variant}", f"r_{variant}"
    points = [n for n in neurons if n.get(d) is not None and n.get(r) is not None]
    points.sort(key=lambda n: (not n.get("in_concept"), -(n.get("score") or 0), str(n["layer"]), n["index"]))
    return points[:limit]
