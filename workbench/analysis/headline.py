"""Which attack is shown first: one rule for the headline, the number cards, the pictures and the columns of the neuron table.

own_set        the neuron set that speaks for a variant
trajectory     the trajectory of the headline numbers
made, same     how the attack of a row was made; whether two rows are about the same attack
valid_set      whether that set is about the concept, so that its numbers may speak
first_attack   the attack of a variant that is shown first
"""

LABELS = ("attack", "provenance", "against")


def own_set(role):
    """Pruned neurons say nothing about themselves: a pruned variant is read on the neurons that were watched, not pruned."""
    return "watch" if role == "pruned" else "concept"


def trajectory(rows):
    """Latents without the concept where activity was measured there: those with it contain the concept at low noise."""
    known = {row["trajectory"] for row in rows}
    return "reference" if "reference" in known or not known else min(known)


def made(row):
    """{attack, provenance, against} of a row."""
    return {key: row.get(key) for key in LABELS}


def same(a, b):
    """Whether two rows are about one attack, made the same way; what a row leaves out fits everything."""
    pairs = ((a.get(key), b.get(key)) for key in LABELS[1:])
    return a["attack"] == b["attack"] and all(x is None or y is None or x == y for x, y in pairs)


def valid_set(validity, role, where):
    """Whether the numbers of a variant's own neuron set may speak: its row of set_validity says so.

    True where there are no rows at all: a result older than that table does not say
    """
    row = validity_row(validity, role, where)
    return not validity or (row is not None and row["valid"])


def validity_row(validity, role, where):
    """The row of set_validity of a variant's own neuron set; None where there is none."""
    wanted = {"neuron_set": own_set(role), "trajectory": where}
    return next((row for row in validity if wanted.items() <= row.items() and row.get("site", "ff") == "ff"), None)


def first_attack(effects, rates, variant, role, where=None, validity=()):
    """{attack, provenance, against} of the attack that is shown first of a variant; None when no number of any attack is known.

    Of the attacks whose reactivation was measured on the variant's own neuron set: one optimised against the variant itself before
    others, then the largest reactivation. Where the set is not valid or no reactivation was measured: one optimised against it, then the
    highest ASR; where no images were made either, one optimised against it. A tie falls to the row that comes first.

    effects, rates, validity   rows of the tables effects, rates, set_validity
    where                      the trajectory, default that of the headline numbers
    """
    where = where or trajectory(effects)
    wanted = {"variant": variant, "effect": "reactivation", "neuron_set": own_set(role), "trajectory": where}
    measured = [(row, row["value"]) for row in effects if wanted.items() <= row.items() and row["value"] is not None]
    asr = [row for row in rates if (row["variant"], row["definition"], row["control"]) == (variant, "asr", False)]
    seen = [(row, row["rate"]) for row in asr if row["attack"] and row["rate"] is not None]
    if not valid_set(validity, role, where):
        measured = seen or [(row, 0.0) for row, _ in measured]
    met = measured or seen
    if not met:
        return None
    return made(min(met, key=lambda one: (one[0]["provenance"] != "optimised", -one[1]))[0])
