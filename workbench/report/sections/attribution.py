"""Which neurons carry the concept: the target's value and the credit of the concept neurons, fidelity, words of the prompt.

attribution     the target's value under a condition, how far scores add up (explained against value - off; delta is the gap), and the
                summed score of the concept set, credit, beside matched random sets; on the evaluation half. n counts units. Of the method
                conductance off is the value at the prompt it starts from, explained the same integral over the text; its credit counts
                a path in every layer it goes through
fidelity        scores against exact ablation: where = sample (random single neurons), top (of the list) or sets (random sets of a share)
tokens          mean credit of the words of a prompt for a neuron's signed activation: part = concept, plain (its other words), added
                (by the attack); words: those with most credit
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape

from workbench.report import looks, wording
from workbench.report.charts import bars, forest
from workbench.report.charts.style import Plot
from workbench.report.content import Report, Row, arranged
from workbench.report.section import Drawing, Figure, Section, Text
from workbench.report.table import (
    CONDITION,
    NEW,
    REASON,
    UNITS,
    Column,
    Table,
    View,
    hidden,
    interval,
    random_sets,
    value,
    view,
    with_band,
    words_of,
)
from workbench.report.wording import digits, integer, number

METHODS = {"conductance": "conductance (path integral over the text)"}
WHERE = {"sample": "single neurons, random sample", "top": "single neurons, top of the ranking", "sets": "random sets"}
PARTS = {"concept": "words of the concept", "plain": "other words of the prompt", "added": "added by the attack"}
TOP = 20
ATTRIBUTION = Table(
    "attribution",
    "Attribution: value of the target and credit of the concept neurons",
    (
        *CONDITION,
        Column("method", "text", "Method", words_of(METHODS)),
        Column("target", "text", "Target"),
        Column("calls", "list"),
        Column("n_prompts", "count?"),
        UNITS,
        Column("value", "number?", "Value of the target", digits(3), needed=True),
        Column("low", "number?", "95 % interval", cell=interval(), needed=True),
        Column("high", "number?", needed=True),
        Column("off", "number?", "Value at the baseline", digits(3)),
        Column("explained", "number?", "Sum of all scores", digits(3)),
        Column("delta", "number?", "Convergence delta", digits(3)),
        Column("complete", "flag"),
        Column("n_neurons", "count?"),
        Column("credit", "number?", "Credit of the concept neurons", digits(3), needed=True),
        Column("credit_low", "number?", "95 % interval", cell=interval(digits(3), "credit_low", "credit_high"), needed=True),
        Column("credit_high", "number?", needed=True),
        *random_sets(digits(3)),
        Column("passes", "number?", "UNet evaluations (NFE)", digits(1)),
        REASON,
    ),
    rows=lambda report: report.arranged("attribution"),
    fold="Table: value of the target, credit, completeness",
    about=lambda row: (row["variant"], row["method"].replace("_", " ")),
    since=NEW,
)


def top_attributed(report: Report, limit: int = TOP) -> View | None:
    """The neurons with the largest attribution on the selection half, beside the evaluation half; None when nothing was attributed."""
    ranked = [neuron for neuron in report.neurons if neuron.get("attribution") is not None]
    if not ranked:
        return None
    ranked.sort(key=lambda n: (-n["attribution"], str(n["layer"]), n["index"]))
    heads = (
        "Layer",
        "Neuron",
        "Attribution, selection half",
        "Evaluation half",
        "95 % interval",
        "Score, selection half",
        "Concept neuron",
        "Cluster",
    )
    return view(
        f"Top {min(limit, len(ranked))} of {integer(len(ranked))} neurons by attribution on the selection half",
        [(head, 1 <= place <= 5) for place, head in enumerate(heads)],
        (
            (
                neuron["layer"],
                neuron["index"],
                number(neuron["attribution"], 4),
                number(neuron.get("attribution_b"), 4),
                wording.span(neuron.get("attribution_b_low"), neuron.get("attribution_b_high"), digits(4)),
                number(neuron.get("score")),
                "yes" if neuron.get("in_concept") else "",
                None if neuron.get("cluster") is None or neuron["cluster"] < 0 else f"{neuron['cluster']:.0f}",
            )
            for neuron in ranked[:limit]
        ),
    )


TOP_ATTRIBUTED = Table("attributed", derived=True, by_hand=top_attributed, fold="Top neurons by attribution")


def _correlation(name: str, title: str) -> tuple[Column, ...]:
    """A correlation with the ends of its interval in the same cell."""
    ends = (Column(f"{name}_{end}", "number?", needed=True) for end in ("low", "high"))
    return (Column(name, "number?", title, cell=with_band(name), needed=True), *ends)


FIDELITY = Table(
    "fidelity",
    "Fidelity: correlation of scores with exact ablation, with 95 % intervals",
    (
        *hidden(CONDITION),
        Column("method", "text", "Method"),
        Column("target", "text", "Target"),
        Column("where", "text", "Compared on", words_of(WHERE)),
        Column("share", "share?", "Share in each set"),
        Column("n_units", "count?", "Units"),
        Column("n", "count?", "Neurons or sets"),
        *_correlation("spearman", "Spearman"),
        *_correlation("pearson", "Pearson"),
        Column("passes", "number?", "UNet evaluations (NFE)", digits(1)),
        REASON,
    ),
    fold="Fidelity: do scores agree with exact ablation?",
    about=lambda row: (row["variant"], row["method"].replace("_", " ")),
    since=NEW,
)
TOKENS = Table(
    "tokens",
    "Which words drive the top neurons: mean credit for the neuron's signed activation",
    (
        *CONDITION,
        Column("rank", "count", "Rank"),
        Column("layer", "text", "Layer"),
        Column("index", "count", "Neuron", str),
        Column("part", "text", "Part of the prompt", words_of(PARTS)),
        Column("words", "text", "Words with most credit"),
        UNITS,
        *value("Credit", digits(4)),
        REASON,
    ),
    first=("rank", "layer", "index"),
    rows=lambda report: sorted(report.arranged("tokens"), key=lambda row: row["rank"]),
    fold="Which words drive the top neurons, without and with attack",
    since=NEW,
)


def credit_rows(rows: list[Row]) -> list[Row]:
    """Rows of the table `attribution` with the credit of the concept set as their value."""
    return [row | {"value": row["credit"], "low": row["credit_low"], "high": row["credit_high"]} for row in rows]


def attribution_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Summed attribution of the concept set in every condition, beside matched random sets; one target, one or more methods."""
    rows = arranged(credit_rows(rows), variants)
    several = len({row["method"] for row in rows}) > 1
    targets = ", ".join(dict.fromkeys(row["target"] for row in rows))
    return forest.figure(
        rows,
        group=lambda row: row["variant"],
        label=lambda row: [wording.condition(row), wording.provenance(row), several and row["method"]],
        style=looks.kind,
        guides=((0, "no credit"),),
        behind=("random_low", "random_high", forest.MATCHED),
        note=lambda row: wording.p_words(row["p_random"]),
        title=f"credit of the concept neurons, in units of {targets} (95 % interval; grey: matched random sets)",
    )


def attribution_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Each credit with its interval and the range of random sets."""
    parts = [
        f"{row['variant']}, {wording.condition(row)}, {row['method']}: {wording.with_n(row)}{wording.beside_random(row)}"
        for row in arranged(credit_rows(rows), variants)
    ]
    return f"Summed attribution of the concept neurons, in units of the target. {'; '.join(parts)}."


def _drawn(report: Report) -> Iterator[Drawing]:
    if report["attribution"]:
        yield Drawing("Credit of the concept neurons", (report["attribution"], report.variants))


ATTRIBUTION_FIGURE = Figure(attribution_figure, attribution_alt, _drawn, forest=True)


def _series(rows: list[Row], names: list[str]) -> list[bars.Series]:
    """A series of bars for each condition of rows with name, condition, value, low, high, n and, where they have one, id."""
    found = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        own = {row["name"]: row for row in rows if row["condition"] == condition}
        here = [own.get(name, dict.fromkeys(("value", "low", "high", "n", "id"))) for name in names]
        ids = [row.get("id") or "" for row in here]
        ends = {f"{key}s": [row[key] for row in here] for key in ("value", "low", "high")}
        found.append(bars.Series(condition, **ends, n=[row["n"] for row in here], ids=ids if any(ids) else ()))
    return found


def bars_figure(rows: list[Row], what: str) -> Plot:
    """Signed attribution of single neurons or whole layers, a bar per condition.

    rows   name, condition, value, low, high, n; ends are None where no interval is stored
    what   the words under the axis
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    return bars.figure(_series(rows, names), [escape(name) for name in names], escape(what, quote=False))


def bars_alt(rows: list[Row], what: str) -> str:
    """Each bar with its interval."""
    parts = [
        f"{row['name']}, {row['condition']}: "
        + (wording.with_n(row, form=digits(4)) if row["low"] is not None else f"{number(row['value'], 4)}, n = {integer(row['n'])}")
        for row in rows
    ]
    return f"{what[:1].upper()}{what[1:]}. {'; '.join(parts)}."


def _ranked_alike(row: Row) -> Row:
    """The same row with the rank correlation as its value."""
    return row | {"value": row["spearman"], "low": row["spearman_low"], "high": row["spearman_high"]}


def fidelity_figure(rows: list[Row]) -> Plot:
    """Rank correlation of scores with exact ablation: one condition per heading, a line per method and where it was compared."""
    return forest.figure(
        [_ranked_alike(row) for row in rows],
        group=lambda row: f"{row['variant']}, {wording.condition_made(row)}",
        label=lambda row: [row["method"], _compared(row)],
        style=looks.kind,
        guides=((0, "none"), (1, "perfect")),
        title="Spearman correlation with exact ablation (95 % interval)",
    )


def fidelity_alt(rows: list[Row]) -> str:
    """Each correlation with its interval."""
    parts = [
        f"{row['variant']}, {wording.condition_made(row)}, {row['method']}, {_compared(row)}: {wording.with_n(_ranked_alike(row))}"
        for row in rows
    ]
    return f"Rank correlation of scores with exact ablation. {'; '.join(parts)}."


def _compared(row: Row) -> str:
    share = "" if row["share"] is None else f" of {wording.percent(row['share'])}"
    return wording.named(WHERE, row["where"]) + share


def tokens_figure(rows: list[Row], name: Callable[[Row], str]) -> Plot:
    """Credit of the parts of the prompt for the signed activation of the top neurons.

    name   row -> the neuron as readers see it
    """
    parts = list(PARTS)
    looks_of = {part: looks.cluster(place) | {"name": PARTS[part]} for place, part in enumerate(parts)}
    return forest.figure(
        sorted(rows, key=lambda row: (row["rank"], parts.index(row["part"]))),
        group=lambda row: f"{row['rank']}. {name(row)}",
        label=lambda row: [f"{row['variant']}, {wording.condition(row)}", f"{PARTS[row['part']]}: {row['words']}"],
        style=lambda row: looks_of[row["part"]],
        guides=((0, "no credit"),),
        title="credit for the neuron's activation (95 % interval)",
    )


def tokens_alt(rows: list[Row], name: Callable[[Row], str]) -> str:
    """Each credit with its interval and words."""
    parts = [
        f"{row['rank']}. {name(row)}, {row['variant']}, {wording.condition(row)}, {PARTS[row['part']]} ({row['words']}): "
        f"{wording.with_n(row, form=digits(4))}"
        for row in rows
    ]
    return f"Credit of the parts of the prompt for single neurons. {'; '.join(parts)}."


BARS_FIGURE = Figure(bars_figure, bars_alt)
FIDELITY_FIGURE = Figure(fidelity_figure, fidelity_alt, forest=True)
TOKENS_FIGURE = Figure(tokens_figure, tokens_alt, forest=True)


def _conductance(report: Report) -> str:
    return (
        "Conductance is the part of the target that flows from the text through a neuron, on the path from the baseline prompt (for T2 "
        "the prompt without the concept). A path counts in every layer it goes through: compare its credit with the random sets, which "
        "have as many neurons in each layer."
        if any(row["method"] == "conductance" for row in report["attribution"])
        else ""
    )


SECTION = Section(
    order=100,
    title="What carries the concept",
    short="Attribution",
    lead=lambda report: (
        f"How much would the network’s prediction of {report.concept} lose without a neuron? Each neuron’s effect on a stated target, to "
        "first order, by Captum on gates. The value of the target says how much of the concept is left in a variant. The credit of a set "
        "is the sum of its neurons’ effects; it is no share of that value."
    ),
    parts=(ATTRIBUTION_FIGURE, Text(_conductance), ATTRIBUTION, TOP_ATTRIBUTED, FIDELITY, TOKENS),
)
