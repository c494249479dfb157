"""How often the concept appears: detectors, rates, other thresholds, comparisons, success against budget.

detectors   who looked; successes of n are false positives on the base model's images of prompts without the concept
rates       labels and thresholds of the judge, and its false positives (false_positive_n images) stand in every row; named: prompts of
            named_of of the attack that say a name of the concept, or a word forbidden to attacks
sweep       of the images of a condition, the share in which the judge would see the concept at a threshold; own: the judge's
against_control   the ASR of an attack beside that of its control on the same prompts, paired (McNemar)
comparisons success_rate without attack, asr under an attack; prompt_set_b: that of variant b, where it is another one;
            provenance_a, provenance_b: how the attack was made for each; pair: parent (b was made from a), control, peer
detectable  of a comparison: the reduction of a's rate, against a control the rise, that is found with power 0.8 on so many units
over_runs   a number over the runs of a variant or an attack with seeds: mean over n_runs runs (each the mean over up to n_inner attacks
            on it) and n_units units, interval over both. quantity: rate, retained, activity, effect, difference between variants
            (variant minus beside), attack minus control; name: the definition or the effect; variants, attacks: the runs it is of
budget      the share of prompts on which the attack-visible detector had seen the concept within a budget of UNet evaluations per
            prompt; looks: the most detector queries of any prompt; ended: the search had stopped, the rate only stays

n counts images, n_units the units they are of. Where these differ, intervals are by whole units (a rate's is Wilson's for n_effective
images), and a comparison has p_permutation (sides of whole units swapped) in place of p_mcnemar; p is the one that there is, p_adjusted
Benjamini-Hochberg over the n_family comparisons of the table.
"""

from collections.abc import Iterator, Sequence

from workbench.report import looks, wording
from workbench.report.charts import forest, lines
from workbench.report.charts.style import COLOURS, Plot
from workbench.report.content import Report, Row, arranged
from workbench.report.section import Drawing, Figure, Section, Text
from workbench.report.table import (
    CONDITION,
    CONTROL,
    DECIDED,
    MEASURED_ON,
    NAMED_ATTACK,
    NEURON_SET,
    NEW,
    RATE,
    REASON,
    SIZE,
    TESTED,
    VARIANT,
    Column,
    Table,
    View,
    changed,
    hidden,
    interval,
    view,
    words_of,
)
from workbench.report.wording import integer, number, percent

COUNTED = (
    "Success here is counted by the attack-visible detector, on the noise of the search; all rates above are counted by the judge, on new "
    "noise."
)
MARKERS = "Large marker: detector queries were made. Small marker: all queries were used up."
ROLES = {"steer": "attack-visible", "judge": "judge"}
AS_SHARES = ("rate", "retained", "difference between variants", "attack minus control")


def decided(rows: list[Row]) -> str:
    """Which detector decided all these rows, with its false alarms where they say them, as a sentence; "" when they differ."""
    said = {wording.decider(row) for row in rows}
    words = next(iter(said)) if len(said) == 1 else None
    if words is None:
        return ""
    row = rows[0]
    if row.get("false_positive_rate") is None:
        return f"Decided by {words}."
    span = wording.span(row["false_positive_low"], row["false_positive_high"], percent)
    return (
        f"Decided by {words}; false positives: {percent(row['false_positive_rate'])} ({span}) of "
        f"{integer(row['false_positive_n'])} images of the base model on prompts without the concept."
    )


def _rates_seen(report: Report) -> list[Row]:
    """All rates; without the detector where a sentence above the table says it of all."""
    rows = report.arranged("rates")
    return [row | {"detector": None, "threshold": None} for row in rows] if decided(rows) else rows


def _sweep(report: Report) -> View:
    """The rates of the judge at other thresholds, one row per condition."""
    rows = report.arranged("sweep")
    own = {row["threshold"] for row in rows if row["own"]}
    thresholds = sorted({row["threshold"] for row in rows})
    conditions: dict[tuple[str, ...], dict[float, str]] = {}
    for row in rows:
        key = (row["variant"], wording.condition(row), wording.provenance(row), wording.size(row))
        conditions.setdefault(key, {})[row["threshold"]] = wording.with_interval(row, "rate", percent)
    heads = [("Variant", False), ("Prompts", False), ("Provenance", False), ("Images", True)]
    return view(
        "Share of the images in which the judge would see the concept at other thresholds, with 95 % intervals",
        [*heads, *((f"{threshold:g}{' (used)' if threshold in own else ''}", True) for threshold in thresholds)],
        [(*key, *(found.get(threshold) for threshold in thresholds)) for key, found in conditions.items()],
    )


def _budget_seen(report: Report) -> list[Row]:
    return arranged((row for row in report["budget"] if not row["ended"] or row["rate"] is None), report.variants)


def _paired(row: Row) -> str:
    """McNemar's p; where units have several images, that of swapping whole units."""
    return wording.p_value(row["p_permutation"] if row["p_mcnemar"] is None else row["p_mcnemar"])


def _form(row: Row) -> wording.Form:
    return percent if row["quantity"] in AS_SHARES else number


PAIRS = (SIZE[0].but(title="Pairs"), SIZE[1])
DIFFERENCE = (
    Column("difference", "number?", "Difference", percent, needed=True),
    Column("low", "number?", "95 % interval", cell=interval(percent), needed=True),
    Column("high", "number?", needed=True),
)
PAIRED_P = (
    Column("p_mcnemar", "p?", "p (McNemar, or permutation of units)", cell=_paired),
    Column("p_permutation", "p?", since=NEW),
    *TESTED,
)
DETECTORS = Table(
    "detectors",
    "Detectors and their false positives on the base model's images of prompts without the concept",
    (
        Column("role", "text", "Role", words_of(ROLES)),
        Column("method", "text", "Method"),
        Column("version", "text", "Version"),
        Column("labels", "list", "Labels"),
        Column("thresholds", "list", "Threshold", lambda values: ", ".join(map(number, dict.fromkeys(values))), right=True),
        *changed(RATE, successes="False positives"),
    ),
    fold="Detectors, thresholds and false positives",
    about=lambda row: (row["role"], row["method"]),
    since=NEW,
)
RATES = Table(
    "rates",
    "Rates with 95 % intervals",
    (
        *CONDITION,
        Column("definition", "text", "Rate", words_of(wording.DEFINITIONS), after="named"),
        Column("detector", "text?", "Detector", after="low"),
        Column("threshold", "number?", "Threshold", after="detector"),
        *DECIDED,
        Column("false_positive_rate", "share?", since=NEW),
        Column("false_positive_low", "number?", since=NEW),
        Column("false_positive_high", "number?", since=NEW),
        Column("false_positive_n", "count?", since=NEW),
        Column("named", "count?", "Prompts that name the concept", cell=lambda row: wording.of(row["named"], row["named_of"]), since=NEW),
        Column("named_of", "count?", since=NEW),
        Column("adaptive", "flag?", since=NEW, rare=True),
        *changed(RATE, rate="Value"),
    ),
    rows=_rates_seen,
    note=lambda report, rows: decided(report["rates"]),
    fold="Table of these numbers",
)
CORRECTIONS = Table(
    "corrections",
    "Images that a corrector changed while they were sampled; on prompts without the concept these are false interventions",
    (
        *CONDITION,
        Column("without_concept", "flag", "Prompts without the concept"),
        *changed(RATE, successes="Corrected"),
    ),
    fold="How often a corrector intervened",
    since=NEW,
    rare=True,
)
SWEEP = Table(
    "sweep",
    columns=(
        *CONDITION,
        Column("detector", "text"),
        DECIDED[0],
        Column("threshold", "number"),
        Column("own", "flag"),
        *RATE,
    ),
    by_hand=_sweep,
    fold="Rates at other thresholds of the judge",
    since=NEW,
)
RATES_BY_LABEL = Table(
    "rates_by_label",
    "Rates of each label of the concept, on the prompts that ask for it",
    (
        *CONDITION,
        Column("label", "text", "Label"),
        Column("detector", "text?", since=NEW),
        Column("threshold", "number?", since=NEW),
        *hidden(RATE[:3]),
        RATE[3].but(title="Detected in", cell=lambda row: f"{integer(row['successes'])} of {wording.size(row)}"),
        *RATE[4:],
    ),
    fold="Rates of each label",
)
AGAINST_CONTROL = Table(
    "against_control",
    "Attack against control, paired by prompt",
    (
        VARIANT,
        Column("prompt_set", "text"),
        *NAMED_ATTACK,
        *PAIRS,
        Column("both", "count?", "Both"),
        Column("only_control", "count?", "Control only"),
        Column("only_attack", "count?", "Attack only"),
        Column("neither", "count?", "Neither"),
        *DIFFERENCE,
        *PAIRED_P,
        Column("detectable", "share?", "Increase detectable with power 0.8", since=NEW),
        REASON,
    ),
    fold="Each attack against its control, paired by prompt",
    since=NEW,
)
COMPARISONS = Table(
    "comparisons",
    "Paired comparisons of variants, B minus A: rate without attack, ASR under an attack",
    (
        Column("variant_a", "text", "Variant A"),
        Column("variant_b", "text", "Variant B"),
        Column("prompt_set", "text", "Prompts", words_of(wording.PROMPTS)),
        Column("prompt_set_b", "text?", "Prompts of B", since=NEW),
        Column("attack", "text?", "Attack"),
        Column("provenance_a", "text?", since=NEW),
        Column("provenance_b", "text?", since=NEW),
        Column("control", "flag?", since=NEW),
        Column("pair", "text?", since=NEW),
        Column("definition", "text?", since=NEW),
        *PAIRS,
        Column("both", "count?", "Both"),
        Column("only_a", "count?", "A only"),
        Column("only_b", "count?", "B only"),
        Column("neither", "count?", "Neither"),
        *DIFFERENCE,
        Column("relative_difference", "number?", "Relative difference", percent),
        Column(
            "relative_low",
            "number?",
            "95 % interval of the relative difference",
            cell=interval(percent, "relative_low", "relative_high"),
            since=NEW,
        ),
        Column("relative_high", "number?", since=NEW),
        *PAIRED_P,
        Column("power", "share?", "Power for a reduction by 40 %", number),
        Column("detectable", "share?", "Reduction detectable with power 0.8", since=NEW),
        REASON,
    ),
    fold="Paired comparisons of variants",
    about=lambda row: (f"{row['variant_a']} against {row['variant_b']}", wording.condition(row)),
)
OVER_RUNS = Table(
    "over_runs",
    "Over repeated runs (seeds): mean over runs and units, interval over both",
    (
        Column("quantity", "text", "Quantity"),
        VARIANT.but(after="name"),
        Column("name", "text?", "Of", words_of(wording.EFFECTS | wording.DEFINITIONS)),
        Column("beside", "text?", "Compared with", after="variant"),
        Column("prompt_set", "text?", "Prompts", cell=lambda row: wording.condition(row) if row["attack"] or row["prompt_set"] else None),
        *NAMED_ATTACK,
        CONTROL,
        NEURON_SET.but(kind="text?"),
        MEASURED_ON.but(kind="text?", title="Trajectory"),
        Column("n_units", "count?", "Units"),
        Column("n_runs", "count", "Runs"),
        Column("n_inner", "count", "Attacks per run"),
        Column("value", "number?", "Value", cell=lambda row: _form(row)(row["value"]), needed=True),
        Column("low", "number?", "95 % interval", cell=lambda row: wording.span(row["low"], row["high"], _form(row)), needed=True),
        Column("high", "number?", needed=True),
        Column("p", "p?", "p", cell=lambda row: wording.p_value(row["p"] if row["p_adjusted"] is None else row["p_adjusted"])),
        Column("p_adjusted", "p?"),
        Column("variants", "list"),
        Column("attacks", "list"),
        REASON,
    ),
    note=lambda report, rows: "p is adjusted (Benjamini-Hochberg) where the verdict rests on it.",
    fold="Over repeated runs (seeds) of variants and attacks",
    about=lambda row: (
        row["variant"],
        f"{row['quantity']} over runs: {row['name'] or row['beside'] or row['attack'] or row['prompt_set']}".replace("_", " "),
    ),
    since=NEW,
)
BUDGET = Table(
    "budget",
    "Success within a budget, counted by the attack-visible detector, up to the last query of each search; 95 % intervals",
    (
        *CONDITION,
        Column("detector", "text"),
        *DECIDED,
        Column("budget", "number", "UNet evaluations (NFE) per prompt", lambda passes: integer(round(passes))),
        Column("looks", "count", "Detector queries, at most"),
        Column("ended", "flag"),
        *changed(RATE, n="Prompts", successes="Succeeded"),
    ),
    rows=_budget_seen,
    note=lambda report, rows: decided(rows),
    fold="Table of these numbers",
    since=NEW,
)


def rates_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """How often each variant shows the concept, with Wilson interval, attack beside its control."""
    return forest.figure(
        arranged(rows, variants),
        group=lambda row: row["variant"],
        label=lambda row: [
            wording.condition(row),
            wording.provenance(row),
            None if row["definition"] in ("success_rate", "asr") else wording.named(wording.DEFINITIONS, row["definition"]),
        ],
        style=lambda row: looks.KINDS["false"] if row["definition"] == "false_positive" else looks.kind(row),
        value="rate",
        shares=True,
        title="images that show the concept (per cent, 95 % interval)",
    )


def rates_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Each rate with its interval and n, in the order of the figure."""
    parts = [
        f"{row['variant']}, {wording.condition_made(row)}, {wording.named(wording.DEFINITIONS, row['definition'])}: "
        f"{wording.with_n(row, 'rate', percent)}"
        for row in arranged(rows, variants)
    ]
    return f"Rates of images that show the concept. {'; '.join(parts)}."


def budget_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Share of prompts on which the attack-visible detector had seen the concept, against UNet evaluations (NFE) per prompt.

    One panel per attack and variant, the attack beside its control, with Wilson interval. A large marker is a budget at which
    queries were made; small ones follow where a search had used up its queries and nothing more was tried.
    """
    rows = arranged(rows, variants)
    panels = list(dict.fromkeys(_searched(row) for row in rows))
    searches: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        searches.setdefault((_searched(row), row["control"]), []).append(row)
    drawn, missing = [], []
    for (panel, control), points in searches.items():
        look = looks.KINDS["control" if control else "attack"]
        known = sorted((point for point in points if point["rate"] is not None), key=lambda row: row["budget"])
        if not known:
            missing.append((panel, f"{look['name']}: {points[0]['reason']}", 0.3 if control else 0.7))
            continue
        drawn.append(
            lines.Line(
                panel,
                look["name"],
                [point["budget"] for point in known],
                [100 * point["rate"] for point in known],
                look["colour"],
                look["symbol"],
                "dash" if control else "solid",
                steps=True,
                size=[4 if point["ended"] else 9 for point in known],
                band=([100 * point["low"] for point in known], [100 * point["high"] for point in known]),
                band_colour=COLOURS["grey" if control else "vermillion"],
                data=[[point["looks"], point["n"]] for point in known],
                hover="%{x:.0f} NFE, up to %{customdata[0]} queries: %{y:.1f} %, n = %{customdata[1]}"
                f"<extra>{look['name']}</extra>",
            )
        )
    figure = lines.figure(drawn, panels, "UNet evaluations (NFE) per prompt", "prompts (per cent)", missing=missing)
    figure.update_xaxes(type="log", dtick="D2", exponentformat="none")
    figure.update_yaxes(range=[-3, 103])
    return figure


def budget_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """First and last point of each line, as far as its search went."""
    searches: dict[tuple[str, str], list[Row]] = {}
    for row in arranged(rows, variants):
        searches.setdefault((row["variant"], wording.condition_made(row)), []).append(row)
    parts = []
    for (variant, condition), points in searches.items():
        points = sorted((p for p in points if not p["ended"] or p["rate"] is None), key=lambda row: row["budget"])
        ends = [points[0], points[-1]] if len(points) > 1 and points[0]["rate"] is not None else points[:1]
        words = [
            f"{wording.with_interval(p, 'rate', percent)} within {p['budget']:.0f} NFE and {p['looks']} detector queries, n = {p['n']}"
            for p in ends
        ]
        parts.append(f"{variant}, {condition}: {', '.join(words)}")
    return (
        f"Prompts on which the attack-visible detector had seen the concept, against UNet evaluations (NFE) per prompt. {'; '.join(parts)}."
    )


def _searched(row: Row) -> str:
    return f"{row['attack']} on {row['variant']}"


def _rates_drawn(report: Report) -> Iterator[Drawing]:
    if report["rates"]:
        yield Drawing("How often the concept appears", (report["rates"], report.variants))


def _budget_drawn(report: Report) -> Iterator[Drawing]:
    if report["budget"]:
        yield Drawing("Success against budget: attack-visible detector", (report["budget"], report.variants))


RATES_FIGURE = Figure(rates_figure, rates_alt, _rates_drawn, forest=True)
BUDGET_FIGURE = Figure(budget_figure, budget_alt, _budget_drawn)

SECTION = Section(
    order=40,
    title="How often the concept appears",
    short="Rates",
    lead=lambda report: (
        f"Share of images in which the judge finds {report.concept}: without attack, with attack (full diamond) and with the attack’s "
        "control (open diamond). Only a difference between an attack and its control is evidence that the attack works."
    ),
    parts=(
        RATES_FIGURE,
        DETECTORS,
        RATES,
        CORRECTIONS,
        SWEEP,
        RATES_BY_LABEL,
        AGAINST_CONTROL,
        COMPARISONS,
        OVER_RUNS,
        BUDGET_FIGURE,
        Text(lambda report: COUNTED if report["budget"] else ""),
        Text(lambda report: MARKERS if report["budget"] else "", about_figure=True),
        BUDGET,
    ),
)
