"""What the study cannot say, and every number that could not be measured with the reason."""

from workbench.report.content import Report
from workbench.report.section import Section, Template, found
from workbench.report.table import Table, View, view


def missing(report: Report) -> View:
    """Every null of the tables in words, each once."""
    rows = [row for section in found().values() for table in section.tables for row in table.missing(report)]
    heads = ("Table", "Variant", "What", "Reason")
    return view("Not measured", [(head, False) for head in heads], list(dict.fromkeys(rows)))


def _markdown(report: Report) -> str:
    from workbench.report.renderers.marks import bullets

    return bullets(report["verdict"]["caveats"])


def _context(report: Report) -> dict[str, bool]:
    return {"nothing": not report["verdict"]["caveats"] and not missing(report).rows}


NOT_MEASURED = Table("missing", derived=True, by_hand=missing, fold="{n} numbers that could not be measured, and the reasons")
SECTION = Section(
    order=900,
    title="Caveats and missing numbers",
    short="Caveats",
    lead="What this study cannot say, and what could not be measured.",
    parts=(Template("caveats.html.j2", _markdown, _context), NOT_MEASURED),
    always=True,
)
