"""report.md: the report as GitHub-flavoured Markdown: tables, words, and the pictures of regions, which lie in images/ beside it."""

import re
from urllib.parse import quote

from workbench.report import analysis_views, choice_views, image_views, region_views, set_views, views, wording

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def render_markdown(document):
    """The document as Markdown text; every text of the study is escaped."""
    study, verdict = document["study"], document["verdict"]
    parts = [f"# {_text(study['title'])}", _text(study["question"] or "")]
    if note := wording.model_note(study):
        parts.append(f"> **Note.** {_text(note)}")
    parts += ["## Verdict", f"**{_text(verdict['headline'])}**"]
    parts.append(
        "\n".join(f"- **{_text(word['subject'])}: {_text(word['word'])}.** {_text(word['sentence'])}" for word in verdict["words"])
    )
    parts.append(_table(_cards(document)))
    parts.append("\n".join(f"- {_text(reason)}" for reason in verdict["reasons"]))
    for heading, intro, tables in _sections(document):
        filled = [table for table in tables if table["rows"]]
        if filled:
            parts += [f"## {heading}", intro]
            for table in filled:
                parts += [f"### {_text(table['title'])}", _text(table["note"]), _table(table)]
        if heading == "Clusters":
            parts += _regions(document)
    missing = views.missing(document)
    if verdict["caveats"] or missing["rows"]:
        parts.append("## Failures and caveats")
        parts.append("\n".join(f"- {_text(caveat)}" for caveat in verdict["caveats"]))
        if missing["rows"]:
            parts += ["### Not measured", _table(missing)]
    parts += ["## Reproduce", _code(document["reproduce"]["command"], "sh")]
    parts += [_table(views.reproduce(document)), _table(views.digests(document))]
    if document["timings"]:
        parts.append(_table(views.timings(document)))
    parts += ["### The study file", _code(study["text"], "toml")]
    parts.append(
        "Definitions and figures: `report.html`. All columns at full precision: `tables/*.csv`. Fingerprint of every file: `manifest.json`."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _cards(document):
    rows = []
    for variant in wording.subjects(document):
        picked = wording.cards(document, variant)
        rows.append(
            (
                variant,
                *(
                    _number(picked[name], field, form)
                    for name, field, form in (
                        ("erasure", "rate", wording.percent),
                        ("retention", "rate", wording.percent),
                        ("reactivation", "value", wording.number),
                        ("attack", "rate", wording.percent),
                        ("control", "rate", wording.percent),
                    )
                ),
            )
        )
    head = ("Variant", "Erasure: still shows the concept", "Retention: other things right")
    head += ("Reactivation of activity", "Images under that attack", "Images under its control")
    return views.view("The numbers in short", head, rows)


def _number(row, field, form):
    if row is None:
        return f"{wording.DASH} not part of this study"
    n = "" if row["n"] is None else f", n = {wording.integer(row['n'])}"
    return wording.with_interval(row, field, form) + n


def _sections(document):
    name = _text(document["study"]["concept"].get("name", "the concept"))
    return (
        (
            "What was compared",
            "The original (base) model beside the changed ones.",
            (views.models(document), views.changes(document), views.training(document), image_views.attacks(document)),
        ),
        (
            "Rates",
            f"How often images show the concept ({name}), without attack and under attack.",
            (
                image_views.detectors(document),
                image_views.rates(document),
                image_views.sweep(document),
                image_views.rates_by_label(document),
                image_views.against_control(document),
                image_views.comparisons(document),
                views.over_runs(document),
            ),
        ),
        (
            "Success against budget",
            "How far a search had to go before the detector it looks at saw the concept, beside its control.",
            (image_views.budget(document),),
        ),
        (
            "Retention",
            "What else the changed models can still draw.",
            (image_views.retention(document), image_views.quality(document), image_views.clip(document)),
        ),
        (
            "Activity of the concept neurons",
            "The base model is 1 when the concept is asked for and 0 when it is not.",
            (views.activity(document), views.effects(document), views.other_concept(document)),
        ),
        (
            "Single neurons",
            "How many neurons fell silent, and how many an attack woke.",
            (views.shares(document), views.waking(document), views.relocation(document), views.scores(document)),
        ),
        (
            "Is the choice of neurons stable?",
            _text(choice_views.sentence(document) or ""),
            (choice_views.selection(document), choice_views.stability(document)),
        ),
        (
            "What carries the concept",
            "What the network's prediction would lose without the concept neurons, beside matched random sets.",
            (analysis_views.attribution(document), analysis_views.fidelity(document), analysis_views.tokens(document)),
        ),
        (
            "Clusters",
            "Groups of neurons that answer alike; made on one half of the units, described on the other.",
            tuple(
                getattr(analysis_views, name)(document)
                for name in ("cluster_choice", "clusters", "cluster_effects", "cluster_layers", "cluster_prompts", "cluster_regions")
            ),
        ),
        (
            "Neuron sets",
            "Sets by name, from other runs or made of other sets, beside the concept neurons of this study.",
            tuple(getattr(set_views, name)(document) for name in set_views.NAMES),
        ),
        (
            "Ablation",
            "Neurons taken out, beside matched random sets.",
            tuple(analysis_views.ablation(document, name) for name in analysis_views.ABLATIONS),
        ),
    )


def _regions(document):
    """Pictures of where in the image clusters are active, each with its words."""
    parts = []
    for card in region_views.cards(document):
        if card["shots"]:
            pictures = " ".join(f"![{_text(shot['alt'])}]({quote(shot['path'])})" for shot in card["shots"])
            parts += [pictures, f"**{_text(card['title'])}** — {_text(card['prompt'])}. {_text(card['words'])}"]
    return ["### Where in the image they are active", *parts] if parts else []


def _table(table):
    if not table["rows"]:
        return ""
    rule = ["---:" if right else ":---" for right in table["numeric"]]
    lines = [map(_text, table["head"]), rule, *(map(_text, row) for row in table["rows"])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value):
    """One line of text in which nothing is markup."""
    return " ".join(str(value).split()).translate(SPECIAL)


def _code(text, language):
    """A fenced block whose fence is longer than any run of backticks inside."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
