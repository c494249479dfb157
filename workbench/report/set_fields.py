"""The tables of report.json about the [[sets]] of a study; `analysis_fields` puts them with the others.

sets            what a set is: how it came (file, union, intersection, difference; `of` which sets), in which study, for which concept, by
                which score, on which half and day, as far as it says; n_seen: how many of the units it is described on here it was
                chosen on there (null = it does not say); digest: of model and neurons
set_layers      its neurons in each layer; share of the set; expected: the layer's share of all recorded neurons; n_concept: those
                that are in the study's own concept set too
set_overlaps    iou of every pair of sets, the study's own concept set first, beside random sets with the same count in every layer
set_effects     as cluster_effects
set_ablation    (analysis_fields) value is the mean change by taking out one set
"""

TABLES = {
    "sets": {
        "neuron_set": "text",
        "how": "text",
        "of": "list",
        **dict.fromkeys(("made", "study", "concept", "score", "half", "date", "digest", "file"), "text?"),
        "n_neurons": "count?",
        "n_layers": "count?",
        "n_seen": "count?",
        "reason": "text?",
    },
    "set_layers": {
        "neuron_set": "text",
        "layer": "text",
        "n": "count",
        "share": "number",
        "expected": "number",
        "n_concept": "count",
    },
    "set_overlaps": {
        "first": "text",
        "second": "text",
        "n_first": "count",
        "n_second": "count",
        "both": "count",
        **dict.fromkeys(("iou", "chance", "chance_low", "chance_high", "p_random"), "number?"),
        "n_random": "count?",
        "reason": "text?",
    },
}
VALUES = {"sets": ("n_neurons",), "set_overlaps": ("iou", "chance", "chance_low", "chance_high")}
SHARES = {"iou", "chance", "p_random"}
