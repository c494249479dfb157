"""Is the choice of neurons stable? One sentence and two tables, shared by both reports and the page Neurons."""

from workbench.report import wording
from workbench.report.views import view
from workbench.report.wording import integer, number, percent

OVER = {
    "halves": "the study's two halves of the units",
    "repeated halves": "other halves of the units, many splits",
    "seeds": "seeds",
    "triggers": "triggers: other words for the concept",
    "scores": "scores",
}
STABLE = 0.5
SURE = 0.05


def sentence(document):
    """What the two tables say of the concept neurons of the site ff; None when there is nothing to say.

    not beyond chance   matched random sets keep their sign as often (p > 0.05), or the overlap of halves lies within that of random sets
    stable              at least half of the neurons are confirmed, and halves overlap by at least 0.5 on average
    in part             beyond chance, but not stable
    """
    held = next((row for row in document["selection"] if (row["neuron_set"], row["site"]) == ("concept", "ff")), None)
    if held is None:
        return None
    if held["same_sign"] is None:
        return f"Whether the choice holds on the other half of the units could not be told: {held['reason']}"
    parts = [
        f"Of {integer(held['n_chosen'])} concept neurons, {integer(held['confirmed'])} are confirmed on the other half of the units "
        f"(n = {integer(held['n'])}, false discovery rate {percent(held['alpha'], 0)} over {integer(held['m'])} tests); "
        f"{percent(held['same_sign'], 0)} ({wording.span(held['low'], held['high'], lambda value: percent(value, 0))}) keep their sign, "
        f"{percent(held['random'], 0)} of random neurons do."
    ]
    again = next((row for row in document["stability"] if row["over"] == "repeated halves" and row["iou"] is not None), None)
    if again:
        splits = f"{wording.span(again['low'], again['high'])} in 95 % of {integer(again['n_splits'])} splits"
        overlap = f"{number(again['iou'])} ({splits}; by chance {number(again['chance'])})"
        parts.append(f"Chosen anew on halves of the units, two choices overlap by {overlap}.")
    return " ".join([_word(held, again), *parts])


def _word(held, again):
    if held["p_random"] > SURE or (again and again["low"] <= again["chance_high"]):
        return "No: the choice is not beyond chance, so whatever is said of these neurons may be said of any."
    if 2 * held["confirmed"] >= held["n_chosen"] and again and again["iou"] >= STABLE:
        return "Yes: the choice is stable."
    return "In part: the choice is beyond chance, but other units would choose other neurons."


def selection(document):
    """Whether what was chosen on one half holds on the other."""
    return view(
        "Does the choice hold on the other half of the units?",
        ("Neurons", "Site", "Chosen by", "Units", "Chosen", "Confirmed", "Tests", "Same sign", "95 % interval")
        + ("Random sets", "Number of sets", "p", "If missing, why"),
        [
            (
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                row["site"],
                row["chosen_by"],
                integer(row["n"]),
                integer(row["n_chosen"]),
                integer(row["confirmed"]),
                integer(row["m"]),
                percent(row["same_sign"]),
                wording.span(row["low"], row["high"], percent),
                wording.span(row["random_low"], row["random_high"], percent),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                row["reason"],
            )
            for row in document["selection"]
        ],
        numeric=tuple(range(3, 12)),
    )


def stability(document):
    """How much two choices have in common."""
    return view(
        "How much do two choices have in common?",
        ("Over", "First", "Second", "Units", "Neurons", "Overlap (IoU)", "95 % of the splits", "By chance", "95 % of random sets")
        + ("p", "If missing, why"),
        [
            (
                OVER.get(row["over"], row["over"]),
                row["first"],
                row["second"],
                integer(row["n"]),
                _both(row),
                number(row["iou"]),
                wording.span(row["low"], row["high"]),
                number(row["chance"], 3),
                wording.span(row["chance_low"], row["chance_high"], lambda value: number(value, 3)),
                wording.p_value(row["p_random"]),
                row["reason"],
            )
            for row in document["stability"]
        ],
        numeric=tuple(range(3, 10)),
    )


def _both(row):
    first, second = row["n_first"], row["n_second"]
    return integer(first) if first == second else f"{integer(first)} and {integer(second)}"
