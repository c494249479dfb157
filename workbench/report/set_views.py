"""The tables a reader sees of the [[sets]] of a study."""

from workbench.report import wording
from workbench.report.analysis_views import effects_of
from workbench.report.views import view
from workbench.report.wording import integer, number, percent

NAMES = ("sets", "set_overlaps", "set_effects", "set_layers")


def sets(document):
    """What each set is and where it comes from."""
    return view(
        "The sets, and where they come from",
        ("Set", "Came as", "Of", "Neurons", "Layers", "Made", "Study", "Concept", "Score", "Half", "Day", "Units seen before")
        + ("SHA-256", "Neuron set", "If missing, why"),
        [
            (
                row["neuron_set"],
                row["how"],
                ", ".join(row["of"]),
                integer(row["n_neurons"]),
                integer(row["n_layers"]),
                row["made"],
                row["study"],
                row["concept"],
                row["score"],
                row["half"],
                row["date"],
                integer(row["n_seen"]),
                (row["digest"] or "")[:12],
                row["file"],
                row["reason"],
            )
            for row in document["sets"]
        ],
        numeric=(3, 4, 11),
    )


def set_overlaps(document):
    """How far the sets are the same."""
    return view(
        "How far they are the same neurons, beside random sets with as many in every layer",
        ("Set", "And", "Neurons", "Neurons of the other", "In both", "Overlap (IoU)", "By chance", "Random sets", "Number of sets", "p")
        + ("If missing, why",),
        [
            (
                row["first"],
                row["second"],
                integer(row["n_first"]),
                integer(row["n_second"]),
                integer(row["both"]),
                number(row["iou"], 3),
                number(row["chance"], 3),
                wording.span(row["chance_low"], row["chance_high"], lambda value: number(value, 3)),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                row["reason"],
            )
            for row in document["set_overlaps"]
        ],
        numeric=range(2, 10),
    )


def set_effects(document):
    """D, R and delta of each set."""
    rows = wording.arranged(document["set_effects"], wording.variant_names(document))
    places = {row["neuron_set"]: place for place, row in enumerate(document["sets"])}
    rows.sort(key=lambda row: places.get(row["neuron_set"], len(places)))
    return effects_of("What erasing and attacks do to each set, on half B of the units", "Set", "neuron_set", rows)


def set_layers(document):
    """In which layers each set's neurons are."""
    return view(
        "Where the neurons of each set are",
        ("Set", "Layer", "Neurons", "Of the concept set", "Share of the set", "The layer's share of all neurons"),
        [
            (row["neuron_set"], row["layer"], integer(row["n"]), integer(row["n_concept"]), percent(row["share"]), percent(row["expected"]))
            for row in document["set_layers"]
        ],
        numeric=(2, 3, 4, 5),
    )
