"""The numbers of the overview: rows of report.json picked and put into words. Nothing is computed; needs no Streamlit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.analysis import headline
from workbench.analysis.findings import OPEN
from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.headline import CARDS, Card, cards, own_words
from workbench.report.story import Step
from workbench.ui.text import plain

PRUNING = ("effect of pruning", "comparison")
COMPARED = {"more": "more than comparable neurons", "no more": "no more than comparable neurons"}


class Number(NamedTuple):
    """A headline number: its card, the number as text, and words with interval and n, or the reason why it is missing."""

    key: str
    label: str
    value: str
    words: str
    help: str


def headline_numbers(report: Report, variant: str) -> list[Number]:
    """The number cards of a variant."""
    picked = cards(report, variant)
    return [
        Number(card.name, _label(card, picked[card.name]), _value(card, picked[card.name]), _words(card, picked), card.help)
        for card in CARDS
    ]


def _label(card: Card, row: Row | None) -> str:
    if card.name != "retention":
        return card.title
    return f"{card.title} of {wording.RETAINED.get((row or {}).get('kind') or 'near', wording.RETAINED['near'])}"


def _value(card: Card, row: Row | None) -> str:
    return wording.DASH if row is None else card.form(row[card.column])


def _words(card: Card, picked: dict[str, Row | None]) -> str:
    row = picked[card.name]
    if row is None:
        return f"{wording.NO_PART.capitalize()}."
    if row[card.column] is None:
        return f"{'' if row.get('no_set') else 'Not measured: '}{row['reason']}."
    parts = [f"95 % interval {wording.span(row['low'], row['high'], card.form)}, n = {row['n']}"]
    if (p := wording.p_of_change(row)) is not None:
        over = f", Benjamini-Hochberg over {row['n_family']} tests" if row.get("n_family") else ""
        parts.append(f"{wording.p_words(p)} by flipping the signs of units{over}")
    if row.get("comparable_outcome"):
        parts.append(COMPARED.get(row["comparable_outcome"], "undecided whether more than comparable neurons"))
    if card.beside:
        name, other = card.beside
        parts.append(f"{name}: {_rate(picked[other])}")
    if row.get("attack"):
        parts.append(", ".join(filter(None, (f"attack {row['attack']}", wording.provenance(row)))))
    return " · ".join(parts)


def _rate(row: Row | None) -> str:
    if row is None:
        return wording.NO_PART
    return f"not measured ({row['reason']})" if row["rate"] is None else wording.with_n(row, "rate", wording.percent)


def pruned_variants(report: Report) -> list[tuple[str, str]]:
    """[(pruned variant, the erased variant it was made from)]."""
    return [(row["variant"], row["parent"]) for row in report["models"] if row["role"] == "pruned"]


def pruning_changes(report: Report, variant: str, parent: str) -> list[dict[str, str]]:
    """Rows {What, before, after} of a pruned variant: rates under every attack, without attack, of retained concepts."""
    changes: dict[str, dict[str, str]] = {}

    def add(what: str, before: Row | None, after: Row) -> None:
        row = {"What": what, f"{parent}, before pruning": _rate(before), f"{variant}, after": _rate(after)}
        changes.setdefault(what, row)

    rates = [row for row in report["rates"] if not row["control"] and row["definition"] == ("asr" if row["attack"] else "success_rate")]
    for row in (row for row in rates if row["variant"] == variant and row["prompt_set"] != "reference"):
        same = [r for r in rates if r["variant"] == parent and r["attack"] == row["attack"]]
        # the very same prompts, else those the same attack made for the parent
        same = [r for r in same if r["prompt_set"] == row["prompt_set"]] or [r for r in same if r["provenance"] == row["provenance"]]
        same.sort(key=lambda r: (r["provenance"] != row["provenance"], r["against"] != row["against"]))
        add(f"Concept in images, {wording.condition_made(row)}", same[0] if same else None, row)
    for row in (row for row in report["retention"] if row["variant"] == variant):
        same = [r for r in report["retention"] if (r["variant"], r["kind"]) == (parent, row["kind"])]
        add(f"Drawn as asked, {wording.named(wording.RETAINED, row['kind'])}", same[0] if same else None, row)
    return list(changes.values())


def pruning_sentences(report: Report, variant: str) -> list[str]:
    """What the verdict says about pruning: its effect on neurons, its images beside others, decided before undecided; where it says
    nothing of that, what it says about the pruned variant without attack."""
    about = [word for word in report["verdict"]["words"] if word["variant"] == variant and word["kind"] in PRUNING]
    about.sort(key=lambda word: word["outcome"] in OPEN)
    return [word["sentence"] for word in about or own_words(report, variant)]


def n_of(rows: list[Row]) -> str:
    """'n = 60', or 'n = 58 to 60', of measured rows that are no random sets; 'n unknown' when none says."""
    counts = sorted({row["n"] for row in rows if row["n"] is not None and row.get("neuron_set") != "random"})
    return "n unknown" if not counts else f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")


def pictures(listed: list[Row], steps: Sequence[Step]) -> dict[tuple[str, Any], list[Row | None]]:
    """{(unit, seed): its picture, or None, in each column of the story figure}.

    Units with most pictures come first, of these the ones on which the first attack succeeded.
    """
    units: dict[tuple[str, Any], dict[int, Row]] = {}
    for place, step in enumerate(steps):
        for row in listed:
            if row["variant"] == step.variant and not row["control"] and _in_column(row, step):
                units.setdefault((row["unit"], row["seed"]), {}).setdefault(place, row)
    full = {key: rows for key, rows in units.items() if 0 in rows}
    attacked = next((place for place, step in enumerate(steps) if step.attack), 0)
    order = sorted(full, key=lambda key: (-len(full[key]), not (full[key].get(attacked) or {}).get("success")))
    return {key: [full[key].get(place) for place in range(len(steps))] for key in order}


def _in_column(row: Row, step: Step) -> bool:
    if step.attack is None:
        return row["attack"] is None and row["prompt_set"] == "target"
    return row["attack"] is not None and headline.same(row, step.attack)


def finding(word: Row) -> str:
    """A finding in a line of Markdown."""
    return f"**{plain(word['subject'])}: {plain(wording.outcome(word))}.** {plain(word['sentence'])}"
