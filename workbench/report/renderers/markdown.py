"""report.md: the report as GitHub-flavoured Markdown: tables, words, and the pictures of regions, which lie in images/ beside it."""

from typing import Any

from workbench.report.content import Report
from workbench.report.renderers import marks
from workbench.report.renderers.options import Options
from workbench.report.section import Part, Section, Template, Text
from workbench.report.table import Table, in_words

EVERYTHING = Options()
PICTURES = ("drawn", "read_on", "overlay")


def render_markdown(document: dict[str, Any], options: Options = EVERYTHING) -> str:
    """The chosen sections of a document as Markdown text; every text of the study is escaped."""
    if options.images == "none":
        document = document | {"cluster_regions": [row | dict.fromkeys(PICTURES) for row in document["cluster_regions"]]}
    report = Report(document)
    parts = [f"# {marks.text(report.study['title'])}", marks.text(report.study["question"] or "")]
    if report.note:
        parts.append(f"> **Note.** {marks.text(report.note)}")
    for section in options.chosen.values():
        parts += _section(section, report)
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, report: Report) -> list[str]:
    """Heading, lead and parts of a section; nothing when it has no parts to show."""
    parts = [(part, words) for part in section.parts if (words := _part(part, report))]
    if not section.always and all(isinstance(part, Text) for part, _ in parts):
        return []
    return [f"## {marks.text(section.title)}", marks.text(in_words(section.lead, report)), *(words for _, words in parts)]


def _part(part: Part, report: Report) -> str:
    if isinstance(part, Table):
        view = part.view(report)
        heading = f"### {marks.text(view.title)}" if view.title else ""
        return "\n\n".join(filter(None, (heading, marks.text(view.note), marks.table(view)))) if view.rows else ""
    if isinstance(part, Text):
        return "" if part.about_figure else marks.text(in_words(part.words, report))
    if isinstance(part, Template) and part.markdown and part.context(report) is not None:
        return part.markdown(report)
    return ""
