"""Is the choice of neurons stable? One sentence and its tables.

selection   a set chosen on the selection half, measured on the evaluation half: of n_chosen neurons, confirmed have the same sign and
            p <= alpha after Benjamini-Hochberg over m tests; same_sign is the share with the same sign, random the same share of matched
            random sets. n counts units of the evaluation half; activity is averaged over calls and trajectories first
            confirmed_share = confirmed / n_chosen; random_share, comparable_share: the same of sets drawn at random, and of sets like the
            chosen one (same layers, same sign of kappa, nearest in |kappa|), low to high holds 95 % of them; random_over,
            comparable_over: confirmed_share minus those, with its interval over units and sets
stability   overlap (iou) of two choices at the site ff, beside that of random sets with as many neurons per layer. over says what differs:
            halves (the study's), repeated halves (many splits; low to high holds 95 % of them, it is no interval), seeds, triggers
            (wordings, names, attacks' prompts, each against the prompts without the concept), scores. n counts units of the smaller side
"""

from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.section import Section
from workbench.report.table import CONFIRMED, NEURON_SET, NEW, REASON, UNITS, Column, Table, interval, words_of
from workbench.report.wording import digits, integer, number, percent

OVER = {
    "halves": "selection and evaluation half",
    "repeated halves": "random halves, many splits",
    "seeds": "seeds",
    "triggers": "triggers (other words for the concept)",
    "scores": "scores",
}
STABLE = 0.5
SURE = 0.05


def sentence(report: Report) -> str | None:
    """What the two tables say of the concept neurons of the site ff; None when there is nothing to say.

    no better than chance   matched random sets keep their sign as often (p > 0.05), or the overlap of halves lies within that of
                            random sets
    stable                  at least half of the neurons are confirmed, and halves overlap by at least 0.5 on average
    in part                 better than chance, but not stable
    """
    held = next((row for row in report["selection"] if (row["neuron_set"], row["site"]) == ("concept", "ff")), None)
    if held is None:
        return None
    if held["same_sign"] is None:
        return f"It cannot be told whether the choice holds on the evaluation half: {held['reason']}"
    parts = [
        f"Of {integer(held['n_chosen'])} concept neurons, {integer(held['confirmed'])} are confirmed on the evaluation half "
        f"(n = {integer(held['n'])}, false discovery rate {percent(held['alpha'], 0)} over {integer(held['m'])} tests); "
        f"{percent(held['same_sign'], 0)} ({wording.span(held['low'], held['high'], digits(0, percent))}) keep their sign; "
        f"{percent(held['random'], 0)} of random neurons do."
    ]
    again = next((row for row in report["stability"] if row["over"] == "repeated halves" and row["iou"] is not None), None)
    if again:
        splits = f"{wording.span(again['low'], again['high'])} in 95 % of {integer(again['n_splits'])} splits"
        overlap = f"{number(again['iou'])} ({splits}; by chance {number(again['chance'])})"
        parts.append(f"Two choices on random halves of the units overlap by {overlap}.")
    return " ".join([_word(held, again), *parts])


def _word(held: Row, again: Row | None) -> str:
    if held["p_random"] > SURE or (again and again["low"] <= again["chance_high"]):
        return "No: the choice is no better than chance, so statements about these neurons may hold for any neurons."
    if 2 * held["confirmed"] >= held["n_chosen"] and again and again["iou"] >= STABLE:
        return "Yes: the choice is stable."
    return "In part: the choice is better than chance, but other units would choose other neurons."


def _both(row: Row) -> str:
    first, second = row["n_first"], row["n_second"]
    return integer(first) if first == second else f"{integer(first)} and {integer(second)}"


SELECTION = Table(
    "selection",
    "Confirmation on the evaluation half",
    (
        NEURON_SET,
        Column("site", "text", "Site"),
        Column("chosen_by", "text", "Chosen by"),
        Column("share", "share"),
        UNITS,
        Column("n_chosen", "count", "Chosen"),
        Column("m", "count?", "Tests", after="confirmed"),
        Column("alpha", "share?"),
        Column("test", "text?"),
        Column("confirmed", "count?", "Confirmed"),
        Column("same_sign", "share?", "Same sign", needed=True),
        Column("low", "number?", "95 % interval", cell=interval(percent), needed=True),
        Column("high", "number?", needed=True),
        Column("random", "share?"),
        Column("random_low", "number?", "Random sets", cell=interval(percent, "random_low", "random_high")),
        Column("random_high", "number?"),
        Column("n_random", "count?", "Number of sets"),
        Column("p_random", "p?", "p"),
        *CONFIRMED,
        REASON,
    ),
    fold="Confirmation on the evaluation half",
    about=lambda row: ("base", f"choice of {wording.named(wording.NEURON_SETS, row['neuron_set'])} at {row['site']}"),
    since=NEW,
)
STABILITY = Table(
    "stability",
    "Overlap of two choices",
    (
        Column("over", "text", "What differs", words_of(OVER)),
        Column("site", "text"),
        Column("first", "text", "First"),
        Column("second", "text", "Second"),
        UNITS,
        Column("n_first", "count?", "Neurons", cell=_both),
        Column("n_second", "count?"),
        Column("iou", "share?", "Overlap (IoU)", number, needed=True),
        Column("low", "number?", "95 % of splits", cell=interval()),
        Column("high", "number?"),
        Column("n_splits", "count?"),
        Column("chance", "share?", "By chance", digits(3), needed=True),
        Column("chance_low", "number?", "95 % of random sets", cell=interval(digits(3), "chance_low", "chance_high"), needed=True),
        Column("chance_high", "number?", needed=True),
        Column("n_random", "count?"),
        Column("p_random", "p?", "p"),
        REASON,
    ),
    fold="Overlap of two choices: halves, seeds, triggers, scores",
    about=lambda row: ("base", f"{row['over']}: {row['first']} and {row['second']}"),
    since=NEW,
)
SCORES = Table(
    "scores",
    "Scores that choose concept neurons",
    (
        Column("score", "text", "Score"),
        Column("n_chosen", "count?", "Chosen"),
        Column("iou_halves", "share?", "Overlap of the halves (IoU)", number),
        Column("iou_chance", "share?", "By chance", digits(3)),
        Column("note", "text?", "Note"),
    ),
    fold="Scores that choose concept neurons",
)
SECTION = Section(
    order=90,
    title="Is the choice of neurons stable?",
    short="Choice",
    lead=lambda report: sentence(report) or "",
    parts=(SELECTION, STABILITY, SCORES),
)
