"""The [[sets]] of a study: where they come from, how far they are the study's own concept neurons, what erasing and attacks do to them.

sets            what a set is: how it came (file, union, intersection, difference; `of` which sets), in which study, for which concept, by
                which score, on which half and day, as far as it says; n_seen: how many of the units it is described on here it was
                chosen on there (null = it does not say); digest: of model and neurons
set_layers      its neurons in each layer; share of the set; expected: the layer's share of all recorded neurons; n_concept: those
                that are in the study's own concept set too
set_overlaps    iou of every pair of sets, the study's own concept set first, beside random sets with the same count in every layer
set_effects     as cluster_effects
"""

from workbench.report import looks
from workbench.report.content import Report, arranged
from workbench.report.section import Drawing, Figure, Section
from workbench.report.sections.clusters import EFFECT_ON_A_GROUP, groups_alt, groups_figure
from workbench.report.table import NEW, REASON, Column, Table, interval
from workbench.report.wording import digits

SET = Column("neuron_set", "text", "Set")
SETS = Table(
    "sets",
    "The sets, and where they come from",
    (
        SET,
        Column("how", "text", "Came as"),
        Column("of", "list", "Of"),
        Column("made", "text?", "Made"),
        Column("study", "text?", "Study"),
        Column("concept", "text?", "Concept"),
        Column("score", "text?", "Score"),
        Column("half", "text?", "Half"),
        Column("date", "text?", "Day"),
        Column("digest", "text?", "SHA-256", lambda digest: digest[:12]),
        Column("file", "text?", "Neuron set"),
        Column("n_neurons", "count?", "Neurons", needed=True),
        Column("n_layers", "count?", "Layers"),
        Column("n_seen", "count?", "Units seen before", after="date"),
        REASON,
    ),
    first=("neuron_set", "how", "of", "n_neurons", "n_layers"),
    about=lambda row: (row["neuron_set"], "set"),
    since=NEW,
)
SET_OVERLAPS = Table(
    "set_overlaps",
    "How far they are the same neurons, beside random sets with as many in every layer",
    (
        Column("first", "text", "Set"),
        Column("second", "text", "And"),
        Column("n_first", "count", "Neurons"),
        Column("n_second", "count", "Neurons of the other"),
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


def _by_set(report: Report):
    places = {row["neuron_set"]: place for place, row in enumerate(report["sets"])}
    return sorted(report.arranged("set_effects"), key=lambda row: places.get(row["neuron_set"], len(places)))


SET_EFFECTS = Table(
    "set_effects",
    "What erasing and attacks do to each set, on half B of the units",
    (SET, *EFFECT_ON_A_GROUP),
    rows=_by_set,
    fold="The effects as a table, with sensitivity δ",
    about=lambda row: (row["variant"], row["effect"].replace("_", " ")),
    since=NEW,
)
SET_LAYERS = Table(
    "set_layers",
    "Where the neurons of each set are",
    (
        SET,
        Column("layer", "text", "Layer"),
        Column("n", "count", "Neurons"),
        Column("share", "share", "Share of the set", after="n_concept"),
        Column("expected", "share", "The layer's share of all neurons", after="share"),
        Column("n_concept", "count", "Of the concept set"),
    ),
    fold="In which layers they are",
    since=NEW,
)


def set_effects_figure(rows, variants=()):
    """Deactivation and reactivation of each set, in shares of its own base contrast, beside matched random sets."""
    rows = arranged(rows, variants)
    names = list(dict.fromkeys(row["neuron_set"] for row in rows if row["effect"] != "sensitivity"))
    rows = sorted((row for row in rows if row["neuron_set"] in names), key=lambda row: names.index(row["neuron_set"]))
    return groups_figure(rows, _name, lambda row: looks.cluster(names.index(row["neuron_set"])), "set")


def set_effects_alt(rows, variants=()):
    """Deactivation and reactivation of each set."""
    return groups_alt(arranged(rows, variants), _name, "set")


def _name(row):
    return row["neuron_set"]


def _drawn(report):
    if any(row["effect"] != "sensitivity" for row in report["set_effects"]):
        yield Drawing("What erasing and attacks do to each set", (report["set_effects"], report.variants))


EFFECTS_FIGURE = Figure(set_effects_figure, set_effects_alt, _drawn, forest=True)

SECTION = Section(
    order=120,
    title="Neuron sets",
    short="Neuron sets",
    lead=(
        "Sets by name, from other runs or made of other sets: how far they are this study’s own concept neurons, and what erasing and "
        "attacks do to them."
    ),
    parts=(SETS, SET_OVERLAPS, EFFECTS_FIGURE, SET_EFFECTS, SET_LAYERS),
)
