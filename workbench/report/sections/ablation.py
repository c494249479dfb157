"""Neurons ablated, beside matched random sets.

ablation        dose-response: value is the mean change by ablating a share of the neurons; random_*: matched random sets
leave_one_out   what a cluster adds to ablating all;  greedy   all clusters added so far
shapley         what a cluster adds, averaged over the orders of ablating them: whole is the change by ablating all of them, summed the
                sum of the values, delta = summed - whole; n_sets combinations were measured, in n_orders drawn orders (null = all orders)
necessity       attacked prompts, the set held at its values without the attack;  sufficiency   prompts without attack, the set given
                the base model's values
set_ablation    value is the mean change by ablating one of the [[sets]]
"""

from collections.abc import Iterator

from workbench.report import wording
from workbench.report.charts import forest, lines
from workbench.report.charts.style import COLOURS, Plot
from workbench.report.content import Report, Row
from workbench.report.section import Drawing, Figure, Section
from workbench.report.table import ATTACK, NEW, REASON, Column, Table, random_sets, value, words_of
from workbench.report.wording import digits, integer, percent


def outcome(row: Row) -> str:
    """'pixel change', 'T2 J_lin': columns in words, targets by their name."""
    name = row["outcome"]
    return name.replace("_", " ") if name.islower() else name


def reading(row: Row) -> str:
    """'T2 J_lin of prompts with the concept (one step, zero)'."""
    group = wording.named(wording.GROUPS, row["group"])
    return f"{outcome(row)} of {group} ({wording.named(wording.MODES, row['mode'])}, {row['kind']})"


def which(row: Row) -> str:
    """What a row ablated, in words."""
    if row.get("step"):
        return f"{row['step']}. {row['added']}"
    if row.get("cluster"):
        return row["cluster"]
    if row["kind"] != "held" and row.get("neuron_set"):
        return row["neuron_set"]
    return f"{row['variant']}, {row['attack']}" if row["attack"] else row["variant"]


def _orders(row: Row) -> str:
    return "all" if row["n_sets"] and row["n_orders"] is None else integer(row["n_orders"])


def _table(name: str, title: str, fold: str, what: str, *own: Column) -> Table:
    """One of the tables of ablations; own   its own columns;  what   the one of them that says what was ablated."""
    return Table(
        name,
        title,
        (
            Column("mode", "text", "Measured", words_of(wording.MODES)),
            Column("kind", "text", "Replacement value", after="outcome"),
            Column("variant", "text"),
            *ATTACK,
            Column("group", "text", "Prompts", words_of(wording.GROUPS)),
            Column("outcome", "text", "Outcome", cell=outcome),
            *own,
            Column("n_neurons", "count?", "Neurons"),
            Column("n", "count?", "Units"),
            Column("intact", "number?", "Intact", digits(3)),
            *value("Change", digits(3)),
            Column("random_mean", "number?"),
            *random_sets(digits(3)),
            REASON,
        ),
        first=(what, "provenance"),
        fold=fold,
        about=lambda row: (row["variant"], row["kind"].replace("_", " ")),
        since=NEW,
    )


TABLES = (
    _table(
        "ablation",
        "Dose-response: the highest ranked neurons ablated",
        "Table: dose-response",
        "share",
        Column("share", "share?", "Share of the neurons"),
    ),
    _table(
        "leave_one_out",
        "Leave-one-out: what each cluster adds to ablating all",
        "Table: leave-one-out",
        "cluster",
        Column("cluster", "text?", "Cluster", cell=which),
    ),
    _table(
        "greedy",
        "Greedy order of clusters: chosen on half of these units, measured on the other half",
        "Table: greedy order",
        "added",
        Column("step", "count?"),
        Column("added", "text?", "Added", cell=which),
    ),
    _table(
        "shapley",
        "Shapley values: share of each cluster in the change by ablating all of them",
        "Table: Shapley values and their sum",
        "cluster",
        Column("cluster", "text?", "Cluster", cell=which),
        Column("whole", "number?", "All ablated", digits(3), after="p_random"),
        Column("summed", "number?", "Sum of the values", digits(3), after="whole"),
        Column("delta", "number?", "Convergence delta", digits(3), after="summed"),
        Column("n_sets", "count?", "Combinations", after="delta"),
        Column("n_orders", "count?", "Orders", cell=_orders, after="n_sets"),
    ),
    _table(
        "necessity",
        "Necessity: adversarial prompts, concept neurons held at their values without attack",
        "Table: necessity",
        "neuron_set",
        Column("neuron_set", "text", "Variant and attack", cell=which),
    ),
    _table(
        "sufficiency",
        "Sufficiency: prompts without attack, concept neurons set to their values in the base model",
        "Table: sufficiency",
        "neuron_set",
        Column("neuron_set", "text", "Variant", cell=which),
    ),
    _table(
        "set_ablation",
        "Named sets, each ablated in the base model",
        "Table: named sets",
        "neuron_set",
        Column("neuron_set", "text", "Set", cell=which),
    ),
)
TITLES = {
    "leave_one_out": "Leave-one-out: what each cluster adds",
    "greedy": "Greedy order of clusters",
    "shapley": "Shapley values of the clusters",
    "necessity": "Necessity: concept neurons held as without attack",
    "sufficiency": "Sufficiency: concept neurons set as in the base model",
    "set_ablation": "Named sets ablated",
}


def dose_figure(rows: list[Row]) -> Plot:
    """Change of each outcome by ablating a share of the neurons, the band of matched random sets behind it; a panel per outcome."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(reading(row), []).append(row)
    drawn, missing = [], []
    for name, points in parts.items():
        known = sorted((row for row in points if row["value"] is not None), key=lambda row: row["share"])
        if not known:
            missing.append((name, points[0]["reason"], 0.5))
            continue
        data = [[row["n_neurons"], row["n"], row["n_random"]] for row in known]
        error = {"array": [r["high"] - r["value"] for r in known], "arrayminus": [r["value"] - r["low"] for r in known], "thickness": 1}
        for key, label, colour, dash, symbol in (
            ("random_mean", "matched random sets: mean and range", COLOURS["grey"], "dash", "line-ew-open"),
            ("value", "the highest ranked", COLOURS["vermillion"], "solid", "diamond"),
        ):
            drawn.append(
                lines.Line(
                    name,
                    label,
                    [100 * row["share"] for row in known],
                    [row[key] for row in known],
                    colour,
                    symbol,
                    dash,
                    size=7,
                    band=([r["random_low"] for r in known], [r["random_high"] for r in known]) if key == "random_mean" else None,
                    data=data,
                    hover="%{x:.3g} %, %{customdata[0]} neurons: %{y:.3g}, n = %{customdata[1]}, "
                    "%{customdata[2]} random sets<extra></extra>",
                    more={"error_y": error} if key == "value" else {},
                )
            )
    x_title = "share of neurons ablated (per cent)"
    figure = lines.figure(drawn, list(parts), x_title, "change", shared_y=False, missing=missing)
    shares = sorted({row["share"] for row in rows if row["share"] is not None})
    figure.update_xaxes(type="log", tickvals=[100 * share for share in shares], ticktext=[f"{100 * share:g}" for share in shares])
    return figure


def dose_alt(rows: list[Row]) -> str:
    """Each change with its interval and the range of random sets."""
    parts = [f"{reading(row)}, {percent(row['share'])} of the neurons: {wording.with_n(row)}{wording.beside_random(row)}" for row in rows]
    return f"Change by ablating the highest ranked neurons. {'; '.join(parts)}."


def sets_figure(rows: list[Row]) -> Plot:
    """Leave-one-out, greedy order, necessity or sufficiency: the change of each outcome, beside matched random sets."""
    groups = list(wording.GROUPS)
    return forest.figure(
        sorted(rows, key=lambda row: (row["mode"], row["kind"], groups.index(row["group"]) if row["group"] in groups else len(groups))),
        group=reading,
        label=lambda row: [which(row), wording.provenance(row)],
        style=lambda row: {"colour": COLOURS["vermillion"], "symbol": "diamond", "name": "the set"},
        guides=((0, "no change"),),
        behind=("random_low", "random_high", forest.MATCHED),
        note=lambda row: wording.p_words(row["p_random"]),
        title="change by the ablation (95 % interval; grey: matched random sets)",
    )


def sets_alt(rows: list[Row]) -> str:
    """Each change with its interval and the range of random sets."""
    parts = [f"{reading(row)}, {which(row)}: {wording.with_n(row)}{wording.beside_random(row)}" for row in rows]
    return f"Change by the ablation of sets. {'; '.join(parts)}."


def _dose_drawn(report: Report) -> Iterator[Drawing]:
    if report["ablation"]:
        yield Drawing("Dose-response", (report["ablation"],))


def _sets_drawn(report: Report) -> Iterator[Drawing]:
    for table, title in TITLES.items():
        if report[table]:
            yield Drawing(title, (report[table],))


DOSE_FIGURE = Figure(dose_figure, dose_alt, _dose_drawn)
SETS_FIGURE = Figure(sets_figure, sets_alt, _sets_drawn, forest=True)

SECTION = Section(
    order=130,
    title="Ablation",
    short="Ablation",
    lead=(
        "Exact ablation of neurons, beside as many random neurons of the same layers. Only a change outside the grey band is specific to "
        "these neurons; a change on related or unrelated concepts is damage."
    ),
    parts=(DOSE_FIGURE, SETS_FIGURE, *TABLES),
)
