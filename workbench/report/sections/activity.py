"""Activity of the concept neurons: of every condition, differences of it, the same on the neurons of another concept.

effects     value, low, high: jackknife t over units. p_change: is there a change? the signs of units' differences flipped;
            p_change_adjusted: Benjamini-Hochberg over the n_family rows of the effect that words rest on. comparable: the same effect on
            sets of other neurons that are like this one, each on its own base scale (low, high: where 95 % of the n_comparable sets lie;
            comparable_nearness: their mean |kappa| over that of the set);
            comparable_difference: the set minus them, over units; comparable_outcome: more | no more | cannot tell. null_low, null_high:
            the least and the largest of null_n changes of wording in the base model, and 0; null_from says which. compared_with: the
            sham. p_random and the random band answer none of these questions
set_validity   is the set about the concept at all? its scale and standard error on the evaluation half, and the share of its neurons
            confirmed there beside that of random and comparable sets (over: the difference); the verdict speaks of its neurons only when
            it is valid
other_concept   an effect on the n_neurons of another concept, beside the same effect on the n_own of the study's concept; n_shared neurons
                were chosen for both and are in neither. n counts units
                effect        deactivation (base model minus variant) or reactivation (attack minus its control)
                prompts       those it is measured on: target (the study's own; an attack is made of them) or other-target (those that
                              ask for the other concept)
                value, low, high   on the other concept's neurons, on the base scale of the other concept's prompts; jackknife t over units
                p_change      the signs of the units' differences flipped; p_change_adjusted: Benjamini-Hochberg over the n_family rows of
                              the effect on the same prompts, shams left out
                own, own_low, own_high, own_p_change   the same effect on the study's neurons, always on its own prompts and on their own
                              scale
                difference, _low, _high, p_difference  own minus value, over the same units
"""

from collections.abc import Iterator, Sequence
from typing import Any

from workbench.report import looks, wording
from workbench.report.charts import forest
from workbench.report.charts.style import Plot
from workbench.report.content import Report, Row, arranged, by_effect, shown, values
from workbench.report.section import Drawing, Figure, Section
from workbench.report.table import (
    ATTACK,
    CONDITION,
    CONFIRMED,
    NAMED_ATTACK,
    NEURON_SET,
    NEW,
    REASON,
    TRAJECTORY,
    UNITS,
    VARIANT,
    Column,
    Table,
    interval,
    random_sets,
    value,
    with_band,
)

EFFECTS_ON_ANOTHER = ("deactivation", "reactivation")
ACTIVITY = Table(
    "activity",
    "Concept activity A",
    (*CONDITION, NEURON_SET, Column("site", "text", "Site"), Column("regime", "text"), TRAJECTORY, UNITS, *value("A"), REASON),
    rows=lambda report: report.arranged("activity"),
    fold="Table of these numbers",
)
EFFECTS = Table(
    "effects",
    "Effects",
    (
        Column("effect", "text", "Effect", lambda effect: effect.replace("_", " ")),
        VARIANT,
        *NAMED_ATTACK,
        NEURON_SET,
        TRAJECTORY,
        UNITS,
        *value(),
        Column("p_random", "p?"),
        *random_sets(after="comparable_outcome")[1:],
        Column("compared_with", "text?", since=NEW),
        Column("p_change", "p?", "p (change)", cell=lambda row: wording.p_value(wording.p_of_change(row)), after="low", since=NEW),
        Column("p_change_adjusted", "p?", since=NEW),
        Column("n_family", "count?", since=NEW),
        Column("n_comparable", "count?", since=NEW),
        Column("comparable", "number?", "Comparable sets", cell=with_band("comparable"), after="p_change", since=NEW),
        Column("comparable_low", "number?", since=NEW),
        Column("comparable_high", "number?", since=NEW),
        Column("comparable_difference", "number?", since=NEW),
        Column("comparable_difference_low", "number?", since=NEW),
        Column("comparable_difference_high", "number?", since=NEW),
        Column("p_comparable", "p?", since=NEW),
        Column("comparable_nearness", "number?", since=NEW),
        Column("comparable_outcome", "text?", "Against comparable sets", after="comparable", since=NEW),
        Column("comparable_reason", "text?", since=NEW),
        Column("null_low", "number?", since=NEW),
        Column("null_high", "number?", since=NEW),
        Column("null_n", "count?", since=NEW),
        Column("null_from", "text?", since=NEW),
        REASON,
    ),
    rows=lambda report: by_effect(report.arranged("effects")),
    fold="Table of these numbers",
    about=lambda row: (row["variant"], row["effect"].replace("_", " ")),
)
SET_VALIDITY = Table(
    "set_validity",
    columns=(
        Column("trajectory", "text"),
        Column("neuron_set", "text"),
        Column("site", "text"),
        Column("n", "count?"),
        Column("n_neurons", "count"),
        Column("scale", "number?"),
        Column("scale_se", "number?"),
        Column("scale_over_se", "number?"),
        Column("scale_bounded", "flag?"),
        *(column.but(since=None) for column in CONFIRMED),
        Column("valid", "flag"),
        REASON,
    ),
    hidden=True,
    remarks=True,
    since=NEW,
)


def _another(report: Report) -> str:
    """The name of the other concept."""
    return next((row["concept"] for row in report["other_concept"]), "")


def _effects_on_another(report: Report) -> list[Row]:
    places = {name: place for place, name in enumerate(EFFECTS_ON_ANOTHER)}
    rows = report.arranged("other_concept")
    rows = [row | {"prompts": f"with {row['concept']}" if row["prompts"] == "other-target" else "of the study"} for row in rows]
    return sorted(rows, key=lambda row: (places.get(row["effect"], len(places)), row["trajectory"]))


OTHER_CONCEPT = Table(
    "other_concept",
    lambda report: f"The same effects on the neurons of another concept, {_another(report)}; each set on the base scale of its own concept",
    (
        Column("concept", "text"),
        Column("effect", "text", "Effect"),
        VARIANT,
        *NAMED_ATTACK,
        Column("prompts", "text", "Prompts"),
        TRAJECTORY,
        Column("n_neurons", "count?"),
        Column("n_own", "count?"),
        Column("n_shared", "count?"),
        UNITS,
        *value(lambda report: f"Neurons of {_another(report)}"),
        Column("p_change", "p?", "p", cell=lambda row: wording.p_value(wording.p_of_change(row))),
        Column("p_change_adjusted", "p?"),
        Column("n_family", "count?"),
        Column("own", "number?", "Concept neurons", needed=True),
        Column("own_low", "number?", "95 % interval", cell=interval(low="own_low", high="own_high")),
        Column("own_high", "number?"),
        Column("own_p_change", "p?"),
        Column("difference", "number?", "Difference", needed=True),
        Column("difference_low", "number?", "95 % interval", cell=interval(low="difference_low", high="difference_high")),
        Column("difference_high", "number?"),
        Column("p_difference", "p?", "p of the difference"),
        REASON,
    ),
    rows=_effects_on_another,
    fold="The same effects on the neurons of another concept",
    about=lambda row: (row["variant"], row["effect"]),
    since=NEW,
)


def activity_figure(rows: list[Row], variants: Sequence[str] = (), trajectory: str | None = None) -> Plot:
    """Concept activity A of each condition; base x reference = 0 and base x target = 1.

    A neuron set is a marker; the "random" rows are the grey band behind the other sets of the same
    condition (median and 2.5 to 97.5 % of the matched random sets).
    """
    rows = [row for row in rows if trajectory in (None, row["trajectory"])]
    several = len({row["trajectory"] for row in rows}) > 1
    sets, order = list(looks.SETS), {name: place for place, name in enumerate(variants)}
    rows = arranged(rows, variants)
    rows.sort(key=lambda row: (order.get(row["variant"], len(order)), row["trajectory"] != "target"))
    seen: dict[tuple, int] = {}
    for row in rows:
        seen.setdefault(_condition(row), len(seen))
    rows.sort(key=lambda row: (seen[_condition(row)], sets.index(row["neuron_set"]) if row["neuron_set"] in sets else len(sets)))
    return forest.figure(
        rows,
        group=lambda row: row["variant"] + (f" ({row['trajectory']} trajectory)" if several else ""),
        label=lambda row: [wording.condition(row), wording.provenance(row)],
        style=looks.neuron_set,
        same=_condition,
        band=lambda row: row["neuron_set"] == "random",
        guides=((0, "base, without<br>concept = 0"), (1, "base, with<br>concept = 1")),
        title="concept activity A (95 % interval)",
    )


def activity_alt(rows: list[Row], variants: Sequence[str] = (), trajectory: str | None = None) -> str:
    """Each activity with its interval and n."""
    parts = [
        f"{row['variant']}, {wording.condition_made(row)}, {_set(row)}: {wording.with_n(row)}"
        for row in arranged([row for row in rows if trajectory in (None, row["trajectory"])], variants)
    ]
    return f"Concept activity, where the base model is 0 without and 1 with the concept. {'; '.join(parts)}."


def effects_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Each effect with its interval and the p of "there is a change", beside the band of the same effect in comparable sets.

    An older report has neither: there the band is that of matched random sets, which is no test, and no p is written.
    """
    rows = by_effect(arranged(rows, variants))
    low, high, sets = wording.comparison_sets(rows)
    several = len({row["trajectory"] for row in rows}) > 1

    def label(row: Row) -> list[Any]:
        first = row["variant"] + (f", {row['attack']}" if row["attack"] else "")
        return [first, wording.provenance(row), several and f"{row['trajectory']} trajectory"]

    return forest.figure(
        rows,
        group=lambda row: wording.named(wording.EFFECTS, row["effect"]),
        label=label,
        style=lambda row: looks.SETS.get(row["neuron_set"], looks.KINDS["other"]),
        guides=((0, "no effect"),),
        behind=(low, high, f"range of {sets}"),
        note=lambda row: wording.p_words(wording.p_of_change(row)),
        title=f"difference in concept activity (95 % interval; grey: {sets})",
    )


def effects_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Each effect with its interval, the p of "there is a change", and the range of the comparable sets."""
    low, high, sets = wording.comparison_sets(rows)
    parts = []
    for row in by_effect(arranged(rows, variants)):
        said = [wording.p_words(wording.p_of_change(row)), f"{sets} {wording.span(row[low], row[high])}" * (row[low] is not None)]
        condition = f", {wording.condition_made(row)}" if row["attack"] else ""
        name = f"{wording.named(wording.EFFECTS, row['effect'])}, {row['variant']}{condition}, {_set(row)}"
        beside = f" ({', '.join(filter(None, said))})" if any(said) else ""
        parts.append(f"{name}{beside}: {wording.with_n(row)}")
    return f"Effects in units of concept activity. {'; '.join(parts)}."


def _condition(row: Row) -> tuple[Any, ...]:
    keys = ("variant", "prompt_set", *(column.name for column in ATTACK), "control", "trajectory", "site")
    return tuple(row.get(key) for key in keys)


def _set(row: Row) -> str:
    return wording.named(wording.NEURON_SETS, row["neuron_set"])


def _activity_drawn(report: Report) -> Iterator[Drawing]:
    rows = shown(report, "activity")
    for trajectory in values(rows, "trajectory"):
        place = wording.named(wording.TRAJECTORIES, trajectory)
        yield Drawing(f"Concept activity, {place}", (rows, report.variants, trajectory))


def _effects_drawn(report: Report) -> Iterator[Drawing]:
    rows = shown(report, "effects")
    if rows:
        yield Drawing("Effects of erasing, attack and pruning", (rows, report.variants))


ACTIVITY_FIGURE = Figure(activity_figure, activity_alt, _activity_drawn, more="The same on another trajectory", forest=True)
EFFECTS_FIGURE = Figure(effects_figure, effects_alt, _effects_drawn, forest=True)

SECTION = Section(
    order=60,
    title="Activity of the concept neurons",
    short="Activity",
    lead=lambda report: (
        f"How active are the concept neurons of {report.concept}? 1 is the base model with the concept in the prompt, 0 the base model "
        "without it. Grey bands: matched random sets of neurons."
    ),
    parts=(ACTIVITY_FIGURE, ACTIVITY, EFFECTS_FIGURE, EFFECTS, OTHER_CONCEPT, SET_VALIDITY),
)
