"""Rows of report.json as plotly figures: numbers are arranged here, never computed.

rates_figure, retention_figure, activity_figure, effects_figure, shares_figure   forest plots
activity_by_call_figure, budget_figure   panels of lines: activity along the sampling run, success against budget
plane_figures.py, neuron_figures.py, attribution_figures.py, cluster_figures.py, set_figures.py, ablation_figures.py   the rest, by topic
Every row given is in the figure: as a marker, or, when it is null, as "not measured" in words.
"""

from workbench.report import wording
from workbench.report.ablation_figures import ablation_figure, set_effects_figure
from workbench.report.attribution_figures import attribution_figure
from workbench.report.charts import forest
from workbench.report.charts.forest import COLOURS, KINDS, SETS
from workbench.report.charts.lines import activity_by_call_figure, budget_figure, neuron_by_call_figure
from workbench.report.cluster_figures import cluster_effects_figure, cluster_map_figure, cluster_profiles_figure
from workbench.report.neuron_figures import neurons_figure, waking_figure
from workbench.report.plane_figures import plane_figure
from workbench.report.set_figures import named_effects_figure

__all__ = [
    "CONFIG",
    "ablation_figure",
    "activity_by_call_figure",
    "activity_figure",
    "attribution_figure",
    "budget_figure",
    "cluster_effects_figure",
    "cluster_map_figure",
    "cluster_profiles_figure",
    "effects_figure",
    "named_effects_figure",
    "neuron_by_call_figure",
    "neurons_figure",
    "plane_figure",
    "rates_figure",
    "retention_figure",
    "set_effects_figure",
    "shares_figure",
    "waking_figure",
]
CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


def rates_figure(rows, variants=()):
    """How often each variant shows the concept, with Wilson interval, attack beside its control."""
    rows = wording.arranged(rows, variants)
    return forest.figure(
        rows,
        group=lambda row: row["variant"],
        label=lambda row: [
            *_condition(row),
            None if row["definition"] in ("success_rate", "asr") else wording.DEFINITIONS.get(row["definition"], row["definition"]),
        ],
        style=lambda row: KINDS["false" if row["definition"] == "false_positive" else wording.kind(row)],
        value="rate",
        form=wording.percent,
        scale=100,
        title="images that show the concept (per cent, 95 % interval)",
        x_range=(-2, 102),
    )


def retention_figure(rows, variants=()):
    """How often each variant still draws other things right, near and far from the concept."""
    names = {"near": "neighbours of the concept", "far": "things far from it"}
    styles = {
        "near": {"colour": COLOURS["green"], "symbol": "circle", "name": names["near"]},
        "far": {"colour": COLOURS["sky"], "symbol": "square", "name": names["far"]},
    }
    order = {name: place for place, name in enumerate(variants)}
    rows = sorted(rows, key=lambda row: (order.get(row["variant"], len(order)), row["kind"] != "near"))
    return forest.figure(
        rows,
        group=lambda row: row["variant"],
        label=lambda row: [names.get(row["kind"], row["kind"])],
        style=lambda row: styles.get(row["kind"], KINDS["other"]),
        value="rate",
        form=wording.percent,
        scale=100,
        title="images drawn right (per cent, 95 % interval)",
        x_range=(-2, 102),
    )


def activity_figure(rows, variants=(), trajectory=None):
    """Concept activity A of each condition; base x reference = 0 and base x target = 1.

    A neuron set is a marker; the "random" rows are the grey band behind the other sets of the same
    condition (median and 2.5 to 97.5 % of the matched random sets).
    """
    rows = [row for row in rows if trajectory in (None, row["trajectory"])]
    several = len({row["trajectory"] for row in rows}) > 1
    places = {name: place for place, name in enumerate(SETS)}
    rows = wording.arranged(rows, variants)
    rows.sort(key=lambda row: (_place(row["variant"], variants), row["trajectory"] != "target"))
    seen = {}
    for row in rows:
        seen.setdefault(_same(row), len(seen))
    rows.sort(key=lambda row: (seen[_same(row)], places.get(row["neuron_set"], len(places))))
    return forest.figure(
        rows,
        group=lambda row: row["variant"] + (f" ({row['trajectory']} latents)" if several else ""),
        label=_condition,
        style=lambda row: SETS.get(row["neuron_set"], KINDS["other"] | {"name": row["neuron_set"]}),
        same=_same,
        band=lambda row: row["neuron_set"] == "random",
        guides=((0, "base, without<br>concept = 0"), (1, "base, with<br>concept = 1")),
        title="concept activity A (95 % interval)",
    )


def effects_figure(rows, variants=()):
    """Each effect with its interval and the p of "there is a change", beside the band of the same effect in comparable sets.

    An older report has neither: there the band is that of matched random sets, which is no test, and no p is written.
    """
    places = {name: place for place, name in enumerate(wording.EFFECTS)}
    rows = wording.arranged(rows, variants)
    band, sets = wording.beside(rows)
    rows.sort(key=lambda row: places.get(row["effect"], len(places)))
    several = len({row["trajectory"] for row in rows}) > 1

    def label(row):
        first = row["variant"] + (f", {row['attack']}" if row["attack"] else "")
        return [first, wording.provenance(row), several and f"{row['trajectory']} latents"]

    return forest.figure(
        rows,
        group=lambda row: wording.EFFECTS.get(row["effect"], row["effect"]),
        label=label,
        style=lambda row: SETS.get(row["neuron_set"], KINDS["other"]),
        guides=((0, "no effect"),),
        row_band=band,
        band_name=f"range of {sets}",
        note=lambda row: wording.p_words(wording.p_of_change(row)),
        title=f"difference in concept activity (95 % interval; grey: {sets})",
    )


def shares_figure(rows, variants=()):
    """Share of concept neurons that erasing silenced, and share of those that an attack woke."""
    parts = (
        ("share_deactivated", "silenced by erasing", COLOURS["blue"], "circle"),
        ("share_reactivated", "woken by the attack", COLOURS["vermillion"], "diamond"),
    )
    rows = wording.arranged(rows, variants)
    several = len({row["trajectory"] for row in rows}) > 1
    halves = [
        row
        | {
            "part": (name, colour, symbol),
            "share": row[field],
            "low": row[f"{field}_low"],
            "high": row[f"{field}_high"],
        }
        for row in rows
        for field, name, colour, symbol in parts
    ]

    def group(row):
        words = [
            row["variant"],
            row["attack"] and f"attack {row['attack']}",
            wording.provenance(row),
        ]
        return ", ".join(filter(None, (*words, several and f"{row['trajectory']} latents")))

    def style(row):
        name, colour, symbol = row["part"]
        if row["neuron_set"] == "random":
            colour, symbol, name = COLOURS["grey"], f"{symbol}-open", f"{name}, random sets"
        return {"colour": colour, "symbol": symbol, "name": name}

    return forest.figure(
        halves,
        group=group,
        label=lambda row: [wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"])],
        style=style,
        same=lambda row: row["neuron_set"],
        value="share",
        form=wording.percent,
        scale=100,
        title="neurons (per cent, 95 % interval)",
        x_range=(-2, 102),
    )


def _condition(row):
    return [wording.condition(row), wording.provenance(row)]


def _same(row):
    keys = (
        "variant",
        "prompt_set",
        "attack",
        "provenance",
        "against",
        "control",
        "trajectory",
        "site",
    )
    return tuple(row.get(key) for key in keys)


def _place(variant, variants):
    return list(variants).index(variant) if variant in variants else len(variants)
