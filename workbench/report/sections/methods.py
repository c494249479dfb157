"""Each word and number of the report in plain words and as a formula, and the methods as a text for a paper."""

from typing import Any

from workbench.report.content import Report
from workbench.report.methods_text import bibliography, paragraph
from workbench.report.section import Section, Template


def _text(report: Report) -> dict[str, Any]:
    return {"sentences": paragraph(report), "bibtex": bibliography(report).strip()}


def _text_in_markdown(report: Report) -> str:
    from workbench.report.renderers.marks import code, text

    said = [text(sentence) for sentence in paragraph(report)]
    bibtex = bibliography(report).strip()
    references = ["### References as BibTeX", code(bibtex, "bibtex")] if bibtex else []
    return "\n\n".join(["### Methods as a text for a paper", *said, *references])


SECTION = Section(
    order=910,
    title="Methods",
    short="Methods",
    lead="The methods of this study as a text for a paper, and definitions of every term and number of this report.",
    parts=(
        Template("methods_text.html.j2", _text_in_markdown, _text),
        Template(
            "definitions.html.j2",
            lambda report: (
                "Definitions and figures: `report.html`. All columns at full precision: `tables/*.csv`. Fingerprint of every file: "
                "`manifest.json`."
            ),
            lambda report: {"thresholds": report.thresholds},
        ),
    ),
    always=True,
)
