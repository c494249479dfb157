"""The tables of report.json about the choice of neurons; `fields` puts them with the others.

selection   a set chosen on half A, on half B: of n_chosen neurons, confirmed have the same sign and p <= alpha after
            Benjamini-Hochberg over m tests; same_sign is the share with the same sign, random the same share of matched random sets.
            n counts units of half B; activity is averaged over calls and trajectories first
            confirmed_share = confirmed / n_chosen; random_share, comparable_share: the same of sets drawn at random, and of sets like the
            chosen one (same layers, same sign of kappa, nearest in |kappa|), low to high holds 95 % of them; random_over,
            comparable_over: confirmed_share minus those, with its interval over units and sets
stability   overlap (iou) of two choices at the site ff, beside that of random sets with as many neurons per layer. over says what differs:
            halves (the study's), repeated halves (many splits; low to high holds 95 % of them, it is no interval), seeds, triggers
            (wordings, names, attacks' prompts, each against the prompts without the concept), scores. n counts units of the smaller side
"""

_BESIDE = ("share", "share_low", "share_high", "over", "over_low", "over_high")
CONFIRMED = {
    "confirmed_share": "number?",
    **{f"{name}_{key}": "number?" for name in ("random", "comparable") for key in _BESIDE},
    "n_comparable": "count?",
    "comparable_reason": "text?",
}

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
        **CONFIRMED,
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
SHARES = {"same_sign", "random", "alpha", "chance", "confirmed_share"} | {f"{name}_share" for name in ("random", "comparable")}
