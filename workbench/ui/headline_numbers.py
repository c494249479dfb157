"""The numbers of the overview: rows of report.json picked and put into words. Nothing is computed."""

import re

from workbench.analysis.findings import OPEN
from workbench.report import wording

PRUNING = ("effect of pruning", "comparison")
EXPLAINED = {
    "erasure": "How often images of prompts that ask for the concept show it. Lower is better; the base model is the ceiling.",
    "reactivation": "Concept activity under the attack minus that under its control: A(adv) − A(control), where the base model is 0 "
    "without and 1 with the concept.",
    "attack": "How often the attack's images show the concept (ASR). Read it beside its control: the same effort without the search.",
    "retention": "How often related concepts still come out right. Higher is better.",
}


def plain(text):
    """Text for a place that reads Markdown, so that every character stands for itself."""
    return re.sub(r"([\\`*_{}\[\]<>#$:|~!+-])", r"\\\1", str(text)).replace("\n", " ")


def short(text, most=80):
    """Text of at most so many letters; of a longer one the beginning, and how long it is."""
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} letters)"


def headline_numbers(document, variant):
    """[{key, label, value, words, help}] of a variant: value as text, words with interval and n or the reason it is missing."""
    picked = wording.cards(document, variant)
    effect, attack = picked["reactivation"], picked["attack"]
    kind = {"far": "unrelated concepts"}.get((picked["retention"] or {}).get("kind"), "related concepts")
    cells = (
        ("erasure", "Concept without attack", picked["erasure"], "rate", [("base", picked["erasure_base"])]),
        ("reactivation", "Neurons under attack: reactivation", effect, "value", []),
        ("attack", "Images under attack: ASR", attack, "rate", [("control", picked["control"])]),
        ("retention", f"Retention of {kind}", picked["retention"], "rate", [("base", picked["retention_base"])]),
    )
    return [
        {"key": key, "label": label, "value": _value(row, field), "words": _words(row, field, beside), "help": EXPLAINED[key]}
        for key, label, row, field, beside in cells
    ]


def _value(row, field):
    if row is None:
        return wording.DASH
    return (wording.percent if field == "rate" else wording.number)(row[field])


def _words(row, field, beside):
    if row is None:
        return "Not part of this study."
    if row[field] is None:
        return f"{'' if row.get('no_set') else 'Not measured: '}{row['reason']}."
    form = wording.percent if field == "rate" else wording.number
    parts = [f"95 % interval {wording.span(row['low'], row['high'], form)}, n = {row['n']}"]
    if (p := wording.p_of_change(row)) is not None:
        over = f", Benjamini-Hochberg over {row['n_family']} tests" if row.get("n_family") else ""
        parts.append(f"{wording.p_words(p)} by flipping the signs of units{over}")
    if row.get("comparable_outcome"):
        parts.append(
            {"more": "more than comparable neurons", "no more": "no more than comparable neurons"}.get(
                row["comparable_outcome"], "comparable neurons: cannot tell"
            )
        )
    for name, other in beside:
        parts.append(f"{name}: {_with_n(other, 'rate', wording.percent)}")
    if row.get("attack"):
        parts.append(f"attack {row['attack']}" + (f", {wording.provenance(row)}" if wording.provenance(row) else ""))
    return " · ".join(parts)


def _with_n(row, field, form):
    if row is None:
        return "not part of this study"
    if row[field] is None:
        return f"not measured ({row['reason']})"
    return f"{wording.with_interval(row, field, form)}, n = {row['n']}"


def pruned_variants(document):
    """[(pruned variant, the erased variant it was made from)]."""
    return [(row["variant"], row["parent"]) for row in document["models"] if row["role"] == "pruned"]


def pruning_changes(document, variant, parent):
    """Rows {What, before, after} of a pruned variant: rates under every attack, without attack, of retained concepts."""
    before, after = f"{parent}, before pruning", f"{variant}, after"
    changes = []
    rates = [row for row in document["rates"] if not row["control"] and row["definition"] == ("asr" if row["attack"] else "success_rate")]
    for row in (row for row in rates if row["variant"] == variant and row["prompt_set"] != "reference"):
        same = [r for r in rates if r["variant"] == parent and r["attack"] == row["attack"]]
        # the very same prompts, else those the same attack made for the parent
        same = [r for r in same if r["prompt_set"] == row["prompt_set"]] or [r for r in same if r["provenance"] == row["provenance"]]
        same.sort(key=lambda r: (r["provenance"] != row["provenance"], r["against"] != row["against"]))
        made = wording.provenance(row)
        changes.append(
            {
                "What": f"Concept in images, {wording.condition(row)}" + (f" ({made})" if made else ""),
                before: _with_n(same[0] if same else None, "rate", wording.percent),
                after: _with_n(row, "rate", wording.percent),
            }
        )
    for row in (row for row in document["retention"] if row["variant"] == variant):
        same = [r for r in document["retention"] if (r["variant"], r["kind"]) == (parent, row["kind"])]
        kind = {"near": "related concepts", "far": "unrelated concepts"}.get(row["kind"], row["kind"])
        changes.append(
            {
                "What": f"Drawn right, {kind}",
                before: _with_n(same[0] if same else None, "rate", wording.percent),
                after: _with_n(row, "rate", wording.percent),
            }
        )
    return list({change["What"]: change for change in reversed(changes)}.values())[::-1]


def pruning_sentences(document, variant):
    """What the verdict says about pruning: its effect on neurons, its images beside others, decided before undecided; where it says
    nothing of that, what it says about the pruned variant without attack."""
    about = [word for word in document["verdict"]["words"] if word["variant"] == variant and word["kind"] in PRUNING]
    about.sort(key=lambda word: word["outcome"] in OPEN)
    return [word["sentence"] for word in about or wording.own_words(document, variant)]


def n_of(rows):
    """'n = 60', or 'n = 58 to 60', of measured rows that are no random sets; 'n unknown' when none says."""
    counts = sorted({row["n"] for row in rows if row["n"] is not None and row.get("neuron_set") != "random"})
    return "n unknown" if not counts else f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")


def four(document, listed, erased):
    """[(title, row or None)] lists by unit: base, erased, erased under attack, pruned under attack.

    Units where the attack on the erased variant succeeded come first; the attack is the one of the headline number, made the same
    way: an attack made against each of two variants has two sets of prompts.
    """
    pruned = next((name for name, parent in pruned_variants(document) if parent == erased), None)
    base = next((row["variant"] for row in document["models"] if row["role"] == "base"), None)
    picked = wording.cards(document, erased)
    named = picked["attack"] or picked["reactivation"]
    attack, against = (named["attack"], named["against"]) if named else (None, None)
    wanted = [("Base", base, None), ("Erased", erased, None)]
    wanted += [("Erased, under attack", erased, attack)] if attack else []
    wanted += [("Pruned, under attack", pruned, attack)] if attack and pruned else []
    units = {}
    for place, (_, variant, name) in enumerate(wanted):
        for row in listed:
            same = row["against"] == against if name else row["prompt_set"] == "target"
            if (row["variant"], row["attack"], row["control"]) == (variant, name, False) and same:
                units.setdefault((row["unit"], row["seed"]), {}).setdefault(place, row)
    full = {key: rows for key, rows in units.items() if 0 in rows}
    order = sorted(full, key=lambda key: (-len(full[key]), not (full[key].get(2) or {}).get("success")))
    return {key: [(title, full[key].get(place)) for place, (title, *_) in enumerate(wanted)] for key in order}
