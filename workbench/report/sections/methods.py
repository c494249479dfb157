"""Each word and number of the report, in plain words and as a formula."""

from workbench.report.section import Section, Template

SECTION = Section(
    order=910,
    title="Methods",
    short="Methods",
    lead="Definitions of every term and number of this report.",
    parts=(
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
