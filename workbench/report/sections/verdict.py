"""The verdict on one screen: the answer in plain words, the story figure, a table, caveats; the evidence is folded below.

words   findings, a sentence each, beside the finding as data (analysis/findings.py): kind, variant, outcome, attack, provenance, against,
        beside (the other variant of a comparison). An older report has the outcome alone, and the variant where the subject is one
"""

from typing import Any

from workbench.analysis.findings import OPEN
from workbench.report import answer, wording
from workbench.report.content import Document, Report, Row
from workbench.report.headline import cards, mood
from workbench.report.section import Section, Template, Text
from workbench.report.story import NO_SET, STORY_FIGURE, Step, Story, chains, story, story_caption
from workbench.report.table import Column, Object, Table, View, view
from workbench.report.wording import integer, number, percent

FEW_CAVEATS = 2

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


def _told(report: Report) -> list[Story]:
    return [story(report, chain) for chain in chains(report).values()]


def _answers(report: Report) -> list[str]:
    """What is said first: the sentences of the first story; without one the headline."""
    told = _told(report)
    return answer.answer(report, told[0]) if told else [report["verdict"]["headline"]]


def at_a_glance(report: Report) -> View:
    """Rate, activity, retention and outcome of every variant without attack and under the attack that is shown first."""
    found = {(step.variant, step.made): step for told in _told(report) for step in told.steps}
    steps = [step for step in found.values() if not step.attack or step.rate]
    sizes = {row["n"] for step in steps for row in (step.rate, step.rate_of_control) if row and row["n"] is not None}
    units = {step.activity["n"] for step in steps if step.activity and step.activity["n"] is not None}
    same = len(sizes) < 2 and len(units) < 2
    share = wording.digits(0, percent)

    def cell(row: Row | None, name: str, form: wording.Form, why: str = "") -> str:
        if row is None:
            return f"{wording.DASH} {why}" if why else ""
        return wording.with_interval(row, name, form) if same else wording.with_n(row, name, form)

    def cells(step: Step) -> tuple[str, ...]:
        said = "; ".join(dict.fromkeys(wording.outcome(word) for word in answer.outcomes(report, step)))
        kept = None if step.attack else cards(report, step.variant)["retention"]
        return (
            step.variant,
            wording.condition(step.attack) if step.attack else "without attack",
            cell(step.rate, "rate", share, wording.NO_PART),
            cell(step.rate_of_control, "rate", share),
            cell(step.activity, "value", number, NO_SET if step.why else ""),
            wording.with_interval(kept, "rate", share) if kept else "",
            said,
        )

    n = ", ".join([*(f"{integer(size)} images" for size in sizes), *(f"{integer(unit)} units" for unit in units)])
    heads = ("Variant", "Condition", f"Images with {report.concept}", "Control", "Activity", "Retention", "Outcome")
    note = "95 % intervals in brackets. Control: of the attack. Activity: 1 = base model. Retention: other concepts drawn as asked."
    return view("At a glance", [(head, False) for head in heads], map(cells, steps), f"{note} n = {n}." if same and n else note)


def _context(report: Report) -> dict[str, Any]:
    return {"answers": _answers(report)}


def _evidence_context(report: Report) -> dict[str, Any]:
    return {"words": decided_first(report), "evidence": evidence, "mood": mood, "outcome": wording.outcome, "limits": FEW_CAVEATS}


def decided_first(report: Report) -> list[Row]:
    """The findings, decided ones before undecided ones."""
    return sorted(report["verdict"]["words"], key=lambda word: word["outcome"] in OPEN)


def _markdown(report: Report) -> str:
    from workbench.report.renderers.marks import text

    first, *more = _answers(report)
    return "\n\n".join([f"**{text(first)}**", *map(text, more)])


def _evidence_in_markdown(report: Report) -> str:
    from workbench.report.renderers.marks import bullets, text

    verdict = report["verdict"]
    words = [f"**{text(word['subject'])}: {text(wording.outcome(word))}.** {text(word['sentence'])}" for word in decided_first(report)]
    parts = [
        bullets(verdict["caveats"][:FEW_CAVEATS]),
        "### In full",
        text(verdict["headline"]),
        "\n".join(f"- {word}" for word in words),
        bullets(verdict["reasons"]),
    ]
    return "\n\n".join(filter(None, parts))


GLANCE = Table("at_a_glance", derived=True, by_hand=at_a_glance)
SECTION = Section(
    order=10,
    title="Verdict",
    short="Verdict",
    lead="",
    parts=(
        Template("verdict.html.j2", _markdown, _context),
        STORY_FIGURE,
        Text(lambda report: story_caption(told[0]) if (told := _told(report)) else "", about_figure=True),
        GLANCE,
        Template("evidence.html.j2", _evidence_in_markdown, _evidence_context),
    ),
    always=True,
    objects=(VERDICT,),
    upgrade=upgrade,
)
