"""The images, side by side: rows are units and seeds, columns conditions."""

from workbench.report.section import Section, Template
from workbench.report.table import CONDITION, NEW, Column, Table, hidden

IMAGES = Table(
    "images",
    columns=(
        *hidden(CONDITION),
        Column("unit", "text"),
        Column("id", "text?", since=NEW),
        Column("prompt", "text"),
        Column("seed", "count"),
        Column("path", "text"),
        Column("blurred", "flag"),
        Column("success", "flag?"),
        Column("score", "number?"),
    ),
    hidden=True,
)


SECTION = Section(
    order=30,
    title="Images",
    short="Images",
    lead=lambda report: (
        "Every row starts from the same noise: the base model, the changed variants without attack, then with each attack and its "
        f"control.{' Images that may show the concept are blurred.' if any(row['blurred'] for row in report['images']) else ''}"
    ),
    parts=(Template("images.html.j2", context=lambda report: {} if report["images"] else None), IMAGES),
)
