"""Single neurons: how many were deactivated and reactivated, the top concept neurons, does reactivation predict success, relocation.

n_undefined   resamples in which the share reactivated, or the AUROC, does not exist; left out of its interval
"""

from collections.abc import Iterator, Sequence
from html import escape

from workbench.report import looks, wording
from workbench.report.charts import forest, scatter
from workbench.report.charts.style import COLOURS, Plot
from workbench.report.content import Report, Row, arranged, drawn_neurons, shown
from workbench.report.section import Drawing, Figure, Section
from workbench.report.table import (
    MEASURED_ON,
    NAMED_ATTACK,
    NEURON_SET,
    NEW,
    REASON,
    TRAJECTORY,
    VARIANT,
    Column,
    Table,
    View,
    value,
    view,
    with_band,
)
from workbench.report.wording import digits, integer, number, percent

FRAME = (-0.6, 1.6)
TOP = 20


def _with_ends(name: str, kind: str, title: str, form: wording.Form = number) -> tuple[Column, ...]:
    """A column of the table neurons with the ends of its interval in the same cell."""
    ends = (Column(f"{name}_{end}", "share?" if kind == "share?" else "number?", needed=True) for end in ("low", "high"))
    return (Column(name, kind, title, cell=with_band(name, form), needed=True), *ends)


NEURONS = Table(
    "neurons",
    "Single neurons",
    (
        VARIANT,
        *NAMED_ATTACK,
        NEURON_SET,
        TRAJECTORY,
        Column("n", "count?", "n"),
        Column("excluded", "count?", "Excluded"),
        *_with_ends("share_deactivated", "share?", "Deactivated", percent),
        *_with_ends("share_reactivated", "share?", "Reactivated", percent),
        *_with_ends("median_d", "number?", "Median D"),
        *_with_ends("median_r", "number?", "Median R"),
        *_with_ends("median_delta", "number?", "Median δ"),
        Column("n_undefined", "count?", since=NEW),
        REASON,
    ),
    rows=lambda report: report.arranged("neurons"),
    fold="Table of these numbers",
)
WAKING = Table(
    "waking",
    "Does reactivation predict success? AUROC of the activity under attack for success in the images (0.5 is chance)",
    (
        VARIANT,
        *NAMED_ATTACK,
        NEURON_SET,
        MEASURED_ON,
        Column("n", "count?"),
        Column("successes", "count?", "Successes of n", cell=lambda row: f"{integer(row['successes'])} of {integer(row['n'])}"),
        *value("AUROC"),
        Column("n_undefined", "count?", since=NEW),
        REASON,
    ),
    fold="Does reactivation predict success in the images?",
)
RELOCATION = Table(
    "relocation",
    "Relocation: mean change outside the concept set under attack, in standard deviations of the base model",
    (
        VARIANT,
        *NAMED_ATTACK,
        MEASURED_ON,
        Column("n", "count?", "n"),
        *value("Mean δ outside the set"),
        Column("iou", "share?", "Overlap with the set chosen on the variant (IoU)", digits(3)),
        Column("iou_chance", "share?", "By chance", digits(3)),
        REASON,
    ),
    fold="Relocation: did the activity move to other neurons?",
)


def top_neurons(report: Report, limit: int = TOP) -> View | None:
    """The top concept neurons, by what chose them on the selection half: a score, or the agreement of several; with the evaluation half."""
    if not report.neurons:
        return None
    agreed = any(neuron.get("agreement_a") is not None for neuron in report.neurons)
    by = "agreement_a" if agreed else "score"
    ranked = [neuron for neuron in report.neurons if neuron.get(by) is not None and neuron.get("score") is not None]
    ranked.sort(key=lambda n: (-n[by], str(n["layer"]), n["index"]))
    variants = [name for name in report.subjects if any(f"d_{name}" in n for n in ranked[:1])]
    what = f"{min(limit, len(ranked))} of {integer(len(ranked))} neurons by {'agreement of scores' if agreed else 'score'}"
    heads = [
        ("Layer", False),
        ("Neuron", True),
        ("Agreement, selection half", True),
        ("Agreement, evaluation half", True),
        ("Score, selection half", True),
    ]
    heads += [("Score, evaluation half", True), ("Confirmed", False), ("κ", True), ("Role", False)]
    return view(
        f"Top {what} on the selection half; D and R on the evaluation half",
        [*heads, *((f"{symbol} {name}", True) for name in variants for symbol in ("D", "R"))],
        (
            (
                neuron["layer"],
                neuron["index"],
                number(neuron.get("agreement_a"), 3),
                number(neuron.get("agreement_b"), 3),
                number(neuron["score"]),
                number(neuron.get("score_b")),
                wording.YES[neuron.get("confirmed")],
                number(neuron.get("kappa"), 3),
                role(neuron),
                *(number(neuron.get(f"{key}_{name}")) for name in variants for key in ("d", "r")),
            )
            for neuron in ranked[:limit]
        ),
        f"Scores in {report.score_unit}.",
    )


def role(neuron: Row) -> str:
    """'pruned', 'watched' or 'chosen'; "" of a neuron in no set."""
    return next((word for column, word in wording.NEURON_ROLES.items() if neuron.get(column)), "")


TOP_NEURONS = Table("top", derived=True, by_hand=top_neurons, fold="Top concept neurons")


def shares_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Share of concept neurons that erasing deactivated, and share of those that an attack reactivated."""
    parts = (
        ("share_deactivated", "deactivated by erasing", COLOURS["blue"], "circle"),
        ("share_reactivated", "reactivated by the attack", COLOURS["vermillion"], "diamond"),
    )
    rows = arranged(rows, variants)
    several = len({row["trajectory"] for row in rows}) > 1
    both = [
        row | {"part": (name, colour, symbol), "value": row[field], "low": row[f"{field}_low"], "high": row[f"{field}_high"]}
        for row in rows
        for field, name, colour, symbol in parts
    ]

    def group(row: Row) -> str:
        words = [row["variant"], row["attack"] and f"attack {row['attack']}", wording.provenance(row)]
        words += [f"{row['trajectory']} trajectory"] if several else []
        return ", ".join(filter(None, words))

    def style(row: Row) -> dict[str, str]:
        name, colour, symbol = row["part"]
        if row["neuron_set"] == "random":
            colour, symbol, name = COLOURS["grey"], f"{symbol}-open", f"{name}, random sets"
        return {"colour": colour, "symbol": symbol, "name": name}

    return forest.figure(
        both,
        group=group,
        label=lambda row: [wording.named(wording.NEURON_SETS, row["neuron_set"])],
        style=style,
        same=lambda row: row["neuron_set"],
        shares=True,
        title="neurons (per cent, 95 % interval)",
    )


def shares_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Shares of deactivated and reactivated neurons of each row."""
    parts = [
        f"{row['variant']}, {wording.condition_made(row)}, {wording.named(wording.NEURON_SETS, row['neuron_set'])}: deactivated "
        f"{wording.with_interval(row, 'share_deactivated', percent)}, reactivated "
        f"{wording.with_interval(row, 'share_reactivated', percent)}, n = {row['n']}"
        for row in arranged(rows, variants)
    ]
    return f"Shares of neurons. {'; '.join(parts)}."


def neurons_figure(neurons: list[Row], variant: str, thresholds: tuple[float, float], webgl: bool | None = None) -> Plot:
    """Deactivation D against reactivation R of single neurons.

    neurons      rows of neurons.parquet (dicts); rows without D and R are left out by the caller
    thresholds   D above which a neuron counts as deactivated, R above which as reactivated
    """
    low, high = FRAME
    outside = sum(not all(low <= neuron[f"{key}_{variant}"] <= high for key in "dr") for neuron in neurons)
    drawn = scatter.figure(
        _by_role(neurons, f"d_{variant}", f"r_{variant}"),
        "%{customdata[0]}, neuron %{customdata[1]}<br>D = %{x:.2f}, R = %{y:.2f}",
        "deactivation D (1 = fully deactivated)" + (f"; {outside} outside this frame" if outside else ""),
        "reactivation R (1 = fully reactivated)",
        webgl=webgl,
    )
    scatter.lines_at(drawn, *thresholds)
    for x, y, text, anchor in (
        (0.995, 0.985, "deactivated,<br>then reactivated", "right"),
        (0.995, 0.02, "deactivated,<br>not reactivated", "right"),
        (0.01, 0.02, "not<br>deactivated", "left"),
    ):
        scatter.corner(drawn, x, y, text, anchor)
    drawn.update_layout(dragmode="zoom")
    for update in (drawn.update_xaxes, drawn.update_yaxes):
        update(zeroline=True, zerolinecolor="#c9c9c9", range=list(FRAME))
    return drawn


def neurons_alt(neurons: list[Row], variant: str, thresholds: tuple[float, float]) -> str:
    """How many of the points lie in each corner."""
    deactivated, reactivated = thresholds
    deactivated_ones = [neuron for neuron in neurons if neuron[f"d_{variant}"] > deactivated]
    again = [neuron for neuron in deactivated_ones if neuron[f"r_{variant}"] > reactivated]
    return (
        f"{len(neurons)} neurons of {variant}, deactivation D against reactivation R: "
        f"{len(deactivated_ones)} have D above {deactivated}, {len(again)} of these have R above {reactivated}."
    )


def reactivation_figure(neurons: list[Row], variant: str, unit: str = wording.SCORE_UNIT, webgl: bool | None = None) -> Plot:
    """What the concept does to a neuron in the base model, against what the attack does to it in a variant.

    neurons   rows of neurons.parquet with score_b, in the unit of the choosing score, and delta_<variant>, in the base model's
              standard deviations; points carry the neuron's id, layer:number
    unit      what the score counts, from Report.score_unit
    """
    drawn = scatter.figure(
        _by_role(neurons, "score_b", f"delta_{variant}"),
        "%{customdata[0]}, neuron %{customdata[1]}<br>score %{x:.2f}, δ = %{y:.2f}",
        f"score in the base model, evaluation half ({escape(unit, quote=False)})",
        f"δ in {escape(variant)}: attack minus control",
        webgl=webgl,
    )
    scatter.corner(drawn, 0.995, 0.985, "encodes the concept,<br>reactivated by the attack", "right")
    scatter.corner(drawn, 0.995, 0.02, "encodes the concept,<br>not reactivated", "right")
    drawn.update_layout(dragmode="zoom")
    for update in (drawn.update_xaxes, drawn.update_yaxes):
        update(zeroline=True, zerolinecolor="#8a8a8a")
    return drawn


def reactivation_alt(neurons: list[Row], variant: str, unit: str = wording.SCORE_UNIT) -> str:
    """How many of the points lie on either side of zero."""
    encoding = [neuron for neuron in neurons if neuron["score_b"] > 0]
    above = [neuron for neuron in encoding if neuron[f"delta_{variant}"] > 0]
    return (
        f"{integer(len(neurons))} neurons, score in the base model (in {unit}) against δ of {variant} under attack: "
        f"{integer(len(encoding))} have a score above 0, {integer(len(above))} of these a δ above 0."
    )


def _by_role(neurons: list[Row], x: str, y: str) -> list[scatter.Group]:
    return [
        scatter.Group(
            look["name"],
            look["colour"],
            look["symbol"],
            [neuron[x] for neuron in part],
            [neuron[y] for neuron in part],
            [[escape(str(n.get("short") or n["layer"])), n["index"], f"{n['layer']}:{n['index']}"] for n in part],
        )
        for look, part in looks.by_role(neurons)
    ]


def _shares_drawn(report: Report) -> Iterator[Drawing]:
    rows = shown(report, "neurons")
    if rows:
        yield Drawing("Deactivated and reactivated neurons", (rows, report.variants))


def _neurons_drawn(report: Report) -> Iterator[Drawing]:
    for variant in report.subjects:
        points = drawn_neurons(report.neurons, variant)
        if points:
            yield Drawing(f"Single neurons of {variant}", (points, variant, report.thresholds))


SHARES_FIGURE = Figure(shares_figure, shares_alt, _shares_drawn, forest=True)
NEURONS_FIGURE = Figure(neurons_figure, neurons_alt, _neurons_drawn, beside=True, points=True)
REACTIVATION_FIGURE = Figure(reactivation_figure, reactivation_alt, points=True)

SECTION = Section(
    order=80,
    title="Single neurons",
    short="Neurons",
    lead=("Each concept neuron by itself: how many did erasing deactivate, and how many of these did an attack reactivate?"),
    parts=(SHARES_FIGURE, NEURONS_FIGURE, NEURONS, TOP_NEURONS, WAKING, RELOCATION),
)
