"""The tables of report.json about the choice of neurons; `fields` puts them with the others.

selection   a set chosen on half A, on half B: of n_chosen neurons, confirmed have the same sign and p <= alpha after
            Benjamini-Hochberg over m tests; same_sign is the share with the same sign, random the same share of matched random sets.
            n counts units of half B; activity is averaged over calls and trajectories first
stability   overlap (iou) of two choices at the site ff, beside that of random sets with as many neurons per layer. over says what differs:
            halves (the study's), repeated halves (many splits; low to high holds 95 % of them, it is no interval), seeds, triggers
            (wordings, names, attacks' prompts, each against the prompts without the concept), scores. n counts units of the smaller side
"""

TABLES = {
    "selection": {
        "neuron_set": "text",
        "site": "text",
        "chosen_by": "text",
        "share": "number",
        "n": "count?",
        "n_chosen": "count",
        "m": "count?",
        "alpha": "number?",
        "test": "text?",
        "confirmed": "count?",
        **dict.fromkeys(("same_sign", "low", "high", "random", "random_low", "random_high"), "number?"),
        "n_random": "count?",
        "p_random": "number?",
        "reason": "text?",
    },
    "stability": {
        "over": "text",
        "site": "text",
        "first": "text",
        "second": "text",
        "n": "count?",
        "n_first": "count?",
        "n_second": "count?",
        **dict.fromkeys(("iou", "low", "high"), "number?"),
        "n_splits": "count?",
        **dict.fromkeys(("chance", "chance_low", "chance_high"), "number?"),
        "n_random": "count?",
        "p_random": "number?",
        "reason": "text?",
    },
}
VALUES = {"selection": ("same_sign", "low", "high"), "stability": ("iou", "chance", "chance_low", "chance_high")}
SHARES = {"same_sign", "random", "alpha", "chance"}
