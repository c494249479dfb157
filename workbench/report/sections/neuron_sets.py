"""The [[sets]] of a study: where they come from, their overlap with the concept neurons of the study, effects of erasing and attacks.

sets            what a set is: how it came (file, union, intersection, difference; `of` which sets), in which study, for which concept, by
                which score, on which half and day, as far as it says; n_seen: how many of the units it is described on here it was
                chosen on there (null = it does not say); digest: of model and neurons
set_layers      its neurons in each layer; share of the set; expected: the layer's share of all recorded neurons; n_concept: those
                that are in the study's own concept set too
set_overlaps    iou of every pair of sets, the study's own concept set first, beside random sets with the same count in every layer
set_effects     as cluster_effects
"""

from collections.abc import Iterator, Sequence

from workbench.report import looks
from workbench.report.charts.style import Plot
from workbench.report.content import Report, Row, arranged
from workbench.report.section import Drawing, Figure, Section
from workbench.report.sections.clusters import EFFECT_ON_A_GROUP, groups_alt, groups_figure
from workbench.report.table import NEW, REASON, Column, Table, interval
from workbench.report.wording import digits

SET = Column("neuron_set", "text", "Set")
SETS = Table(
    "sets",
    "Sets and their origin",
    (
        SET,
        Column("how", "text", "Origin"),
        Column("of", "list", "Made from"),
        Column("made", "text?", "Description"),
        Column("study", "text?", "Study"),
        Column("concept", "text?", "Concept"),
        Column("score", "text?", "Score"),
        Column("half", "text?", "Half"),
        Column("date", "text?", "Date"),
        Column("digest", "text?", "SHA-256", lambda digest: digest[:12]),
        Column("file", "text?", "File"),
        Column("n_neurons", "count?", "Neurons", needed=True),
        Column("n_layers", "count?", "Layers"),
        Column("n_seen", "count?", "Units that also chose it", after="date"),
        REASON,
    ),
    first=("neuron_set", "how", "of", "n_neurons", "n_layers"),
    about=lambda row: (row["neuron_set"], "set"),
    since=NEW,
)
SET_OVERLAPS = Table(
    "set_overlaps",
    "Overlap of sets, beside random sets with as many neurons in every layer",
    (
        Column("first", "text", "Set"),
        Column("second", "text", "Other set"),
        Column("n_first", "count", "Neurons"),
        Column("n_second", "count", "Neurons of the other set"),
        Column("both", "count", "In both"),
        Column("iou", "share?", "Overlap (IoU)", digits(3), needed=True),
        Column("chance", "share?", "By chance", digits(3), needed=True),
        Column("chance_low", "number?", "Random sets", cell=interval(digits(3), "chance_low", "chance_high"), needed=True),
        Column("chance_high", "number?", needed=True),
        Column("p_random", "p?", "p", after="n_random"),
        Column("n_random", "count?", "Number of sets"),
        REASON,
    ),
    about=lambda row: (f"{row['first']} and {row['second']}", "overlap"),
    since=NEW,
)


def _by_set(report: Report) -> list[Row]:
    places = {row["neuron_set"]: place for place, row in enumerate(report["sets"])}
    return sorted(report.arranged("set_effects"), key=lambda row: places.get(row["neuron_set"], len(places)))


SET_EFFECTS = Table(
    "set_effects",
    "Effects of erasing and attacks on each set, on the evaluation half",
    (SET, *EFFECT_ON_A_GROUP),
    rows=_by_set,
    fold="Table of effects, with sensitivity δ",
    about=lambda row: (row["variant"], row["effect"].replace("_", " ")),
    since=NEW,
)
SET_LAYERS = Table(
    "set_layers",
    "Layers of the neurons of each set",
    (
        SET,
        Column("layer", "text", "Layer"),
        Column("n", "count", "Neurons"),
        Column("share", "share", "Share of the set", after="n_concept"),
        Column("expected", "share", "Share of all neurons", after="share"),
        Column("n_concept", "count", "Concept neurons"),
    ),
    fold="Layers",
    since=NEW,
)


def set_effects_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Deactivation and reactivation of each set, in shares of its own base contrast, beside matched random sets."""
    rows = arranged(rows, variants)
    names = list(dict.fromkeys(row["neuron_set"] for row in rows if row["effect"] != "sensitivity"))
    rows = sorted((row for row in rows if row["neuron_set"] in names), key=lambda row: names.index(row["neuron_set"]))
    return groups_figure(rows, _name, lambda row: looks.cluster(names.index(row["neuron_set"])), "set")


def set_effects_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Deactivation and reactivation of each set."""
    return groups_alt(arranged(rows, variants), _name, "set")


def _name(row: Row) -> str:
    return row["neuron_set"]


def _drawn(report: Report) -> Iterator[Drawing]:
    if any(row["effect"] != "sensitivity" for row in report["set_effects"]):
        yield Drawing("Effects of erasing and attacks on each set", (report["set_effects"], report.variants))


EFFECTS_FIGURE = Figure(set_effects_figure, set_effects_alt, _drawn, forest=True)

SECTION = Section(
    order=120,
    title="Neuron sets",
    short="Neuron sets",
    lead=(
        "Named sets, from other runs or made from other sets: their overlap with the concept neurons of this study, and the effects of "
        "erasing and attacks on them."
    ),
    parts=(SETS, SET_OVERLAPS, EFFECTS_FIGURE, SET_EFFECTS, SET_LAYERS),
)
