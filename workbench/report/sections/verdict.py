"""The verdict: the answer in one sentence, a board for each variant with its number cards, the reasons.

words   findings, a sentence each, beside the finding as data (analysis/findings.py): kind, variant, outcome, attack, provenance, against,
        beside (the other variant of a comparison). An older report has the outcome alone, and the variant where the subject is one
"""

from typing import Any

from workbench.report import wording
from workbench.report.content import Document, Report, Row
from workbench.report.headline import CARDS, cards, mood, own_words
from workbench.report.section import Section, Template
from workbench.report.table import Column, Object, View, view
from workbench.report.wording import integer, number

DATA = ("kind", "variant", "outcome", "attack", "provenance", "against", "beside")
# outcomes in the words of reports that were written before these keys
OLD_WORDS = {
    "quieter": "less active",
    "louder": "more active",
    **{
        word: word
        for word in ("deactivated", "not deactivated", "reactivated", "not reactivated by these attacks", "undecided", "unchanged")
    },
    **{
        word: word for word in ("relocated", "not relocated", "fewer images", "more images", "as expected", "set-up is off", "not measured")
    },
}
EVIDENCE = (
    Column("name", "text", "Evidence"),
    Column("value", "number?", "Value"),
    Column("low", "number?", "95 % interval"),
    Column("high", "number?"),
    Column("n", "count?", "n"),
)
VERDICT = Object(
    "verdict",
    (
        Column("headline", "text"),
        Column(
            "words",
            "list",
            of=(
                *(Column(name, "text") for name in ("subject", "word", "sentence")),
                Column("evidence", "list", of=EVIDENCE),
                *(Column(name, "text?") for name in DATA),
            ),
        ),
        Column("reasons", "list"),
        Column("caveats", "list"),
    ),
    open=False,
)


def upgrade(document: Document) -> Document:
    """A document whose verdict says what each word is about as data; of an older one as far as its word and subject are such data."""
    verdict = document.get("verdict")
    if not isinstance(verdict, dict) or not isinstance(verdict.get("words"), list):
        return document
    return document | {"verdict": verdict | {"words": [_with_data(word, document) for word in verdict["words"]]}}


def _with_data(word: Any, document: Document) -> Any:
    if not isinstance(word, dict) or "kind" in word:
        return word
    models = document.get("models")
    variants = [row.get("variant") for row in models if isinstance(row, dict)] if isinstance(models, list) else []
    subject, said = word.get("subject"), word.get("word")
    outcome = OLD_WORDS.get(said.replace("silenced", "deactivated")) if isinstance(said, str) else None
    known = {"outcome": outcome, "variant": subject if subject in variants else None}
    return dict.fromkeys(DATA) | known | word


def evidence(word: Row) -> View:
    """The numbers behind one sentence of the verdict."""
    return view(
        "",
        [(str(column.title), column.name != "name") for column in EVIDENCE if column.title],
        (
            (
                item["name"],
                wording.p_value(item["value"]) if item["low"] is None and 0 < (item["value"] or 0) < 0.001 else number(item["value"], 3),
                wording.span(item["low"], item["high"]),
                integer(item["n"]),
            )
            for item in word["evidence"]
        ),
    )


def boards(report: Report) -> list[dict[str, Any]]:
    """The number cards of each variant, and the words of the verdict about it without attack."""
    rows = {row["variant"]: row for row in report["models"]}
    found = []
    for variant in report.subjects:
        picked = cards(report, variant)
        gauges = {name: _gauge(picked[name], picked.get(f"{name}_base")) for name in ("erasure", "retention", "reactivation")}
        about = {key: rows[variant][key] for key in ("role", "parent", "method")}
        found.append({"variant": variant, **about, "words": own_words(report, variant), **picked, "gauges": gauges})
    return found


def _gauge(row: Row | None, base: Row | None) -> dict[str, Any] | None:
    """Where value, interval and the base model's mark stand on a bar, in per cent of its width."""
    field = "rate" if row and "rate" in row else "value"
    least, most = (0, 1) if field == "rate" else (-0.25, 1.25)
    words = ("0", "100 %") if field == "rate" else ("0, none", "1, base")
    if row is None or row[field] is None:
        return None

    def at(value: float) -> float:
        return round(100 * (min(max(value, least), most) - least) / (most - least), 2)

    low, high = (row[field] if row[name] is None else row[name] for name in ("low", "high"))
    return {
        "at": at(row[field]),
        "low": at(low),
        "width": round(at(high) - at(low), 2),
        "base": at(base[field]) if base and base[field] is not None else None,
        "zero": at(0) if least < 0 else None,
        "ends": ((at(0), words[0]), (at(1), words[1])),
    }


def _context(report: Report) -> dict[str, Any]:
    found = boards(report)
    shown = {id(word) for board in found for word in board["words"]}
    words = report["verdict"]["words"]
    return {
        "boards": found,
        "other_words": [word for word in words if id(word) not in shown],
        "evidence": evidence,
        "mood": mood,
    }


def _in_short(report: Report) -> View:
    """The number cards as a table."""
    heads = {
        "erasure": "Erasure: rate without attack",
        "retention": "Retention: drawn as asked",
        "reactivation": "Reactivation of activity",
        "attack": "ASR of that attack",
        "control": "ASR of its control",
    }
    forms = {card.name: (card.column, card.form) for card in CARDS} | {"control": ("rate", wording.percent)}

    def cell(row: Row | None, name: str) -> str:
        return f"{wording.DASH} {wording.NO_PART}" if row is None else wording.with_n(row, *forms[name])

    rows = [(variant, cards(report, variant)) for variant in report.subjects]
    return view(
        "Headline numbers",
        [("Variant", False), *((head, False) for head in heads.values())],
        ((variant, *(cell(picked[name], name) for name in heads)) for variant, picked in rows),
    )


def _markdown(report: Report) -> str:
    from workbench.report.renderers.marks import bullets, table, text

    verdict = report["verdict"]
    words = [f"**{text(word['subject'])}: {text(word['word'])}.** {text(word['sentence'])}" for word in verdict["words"]]
    parts = [
        f"**{text(verdict['headline'])}**",
        *map(text, verdict["caveats"][:1]),
        "\n".join(f"- {word}" for word in words),
        table(_in_short(report)),
    ]
    return "\n\n".join(filter(None, [*parts, bullets(verdict["reasons"])]))


SECTION = Section(
    order=10,
    title="Verdict",
    short="Verdict",
    lead=lambda report: f"The answer of this study about “{report.concept}” in one sentence, then three headline numbers for each variant.",
    parts=(Template("verdict.html.j2", _markdown, _context),),
    always=True,
    objects=(VERDICT,),
    upgrade=upgrade,
)
