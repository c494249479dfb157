"""How much of a target goes through the concept neurons, by attribution."""

from workbench.report import wording
from workbench.report.charts import forest
from workbench.report.charts.forest import KINDS


def credit_rows(rows):
    """Rows of the table `attribution` with the credit of the concept set as their value."""
    return [row | {"value": row["credit"], "low": row["credit_low"], "high": row["credit_high"]} for row in rows]


def attribution_figure(rows, variants=()):
    """Summed attribution of the concept set in every condition, beside matched random sets; one target, one or more methods."""
    rows = wording.arranged(credit_rows(rows), variants)
    several = len({row["method"] for row in rows}) > 1
    targets = ", ".join(dict.fromkeys(row["target"] for row in rows))
    return forest.figure(
        rows,
        group=lambda row: row["variant"],
        label=lambda row: [wording.condition(row), wording.provenance(row), several and row["method"]],
        style=lambda row: KINDS[wording.kind(row)],
        guides=((0, "adds nothing"),),
        row_band=("random_low", "random_high"),
        note=lambda row: "" if row["p_random"] is None else f"p = {wording.p_value(row['p_random'])}".replace("= <", "<"),
        title=f"credit of the concept neurons, in units of {targets} (95 % interval; grey: matched random sets)",
    )
