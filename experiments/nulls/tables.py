"""The tables of docs/results/nulls.md: what was said of draws in which nothing was done, and of planted effects.

attacks    second draws of their controls: p below 0.05, and the words, by kind of attack and units per half
erasers    noise, rotated changes, the sham and ESD: numbers and words, by eraser and units per half
clusters   data without groups, and planted groups
power      planted cuts, beside the printed power
document   all of it
"""

from collections import Counter

import numpy as np

from experiments.attack_table.tables import markdown
from experiments.nulls import pool
from workbench.statistics import wilson

CAME_BACK = ("reactivated", "reactivated in part")
KINDS = {"tokens": "random words, drawn for each prompt", "vectors": "random vectors, drawn for each prompt"}
KINDS |= {"shared": "random vectors, one draw for all prompts"}


def share(k, n):
    """'4.8 % (3.9 to 5.9)'."""
    found = wilson(k, n)
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def attacks(draws):
    """[[kind, units per half, tests, p < 0.05, reactivated or in part, not reactivated, undecided, no words]]."""
    lines = []
    for kind, name in KINDS.items():
        for n, some in draws.items():
            rows = [row for one in some for row in one["attacks"] if row["kind"] == kind]
            if not rows:
                continue
            tested = [row["p_change"] for row in rows if row["p_change"] is not None]
            words = Counter("no words" if row["outcome"] is None else row["outcome"] for row in rows)
            back = sum(words[word] for word in CAME_BACK)
            others = [words["not reactivated by these attacks"], words["undecided"], words["nothing to reactivate"], words["no words"]]
            lines.append([name, n, len(rows), share(sum(p < 0.05 for p in tested), len(tested)), share(back, len(rows)), *others])
    return lines


def group(variant):
    """The name under which an eraser's draws are counted."""
    if variant in ("esd", "sham"):
        return {"esd": "ESD itself", "sham": "sham: ESD of another style"}[variant]
    kind, scale, _ = pool.null_erasers()[variant]
    return f"noise of {scale} times ESD's norm" if kind == "noise" else "ESD's change, rotated"


def erasers(draws):
    """[[eraser, models, units per half, draws, activity, activity without the concept, images, broken, the words]]."""
    lines, names = [], list(next(iter(draws.values()))[0]["variants"])
    for name in dict.fromkeys(map(group, ["esd", "sham", *sorted(names)])):
        mine = [variant for variant in names if group(variant) == name]
        if not mine:
            continue
        for n, some in draws.items():
            rows = [one["variants"][variant] for one in some for variant in mine]
            words = Counter("no words" if row["outcome"] is None else row["outcome"] for row in rows)
            about = [_middle(rows, key) for key in ("activity", "activity_reference", "rate")]
            broken = f"{np.mean([row['broken'] for row in rows]):.0%}"
            said = [words[word] for word in ("not deactivated", "deactivated while drawn", "changed at large", "undecided", "no words")]
            lines.append([name, len(mine), n, len(rows), *about, broken, share(words["deactivated"], len(rows)), *said])
    return lines


def _middle(rows, key):
    """Median and the 95 % of draws about it."""
    values = [row[key] for row in rows if row[key] is not None]
    if not values:
        return "-"
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def clusters(rows):
    """[[data, size, draws, called stable and grouped, the planted number of groups chosen]]."""
    return [
        [row["kind"], row["size"], row["n"], share(row["said"], row["n"]), "" if row["right"] is None else share(row["right"], row["n"])]
        for row in rows
    ]


def power(rows):
    """[[cut, correlation, pairs, found, printed power, the same formula at this correlation]]."""
    return [
        [f"{row['true_cut']:.0%}", f"{row['correlation']:.2f}", row["n"], share(row["found"], row["n_draws"])]
        + [f"{row['printed']:.2f}", f"{row['at_correlation']:.2f}"]
        for row in rows
    ]


def validity(draws):
    """[[units per half, draws, valid set, scale over its standard error]]."""
    return [
        [n, len(some), share(sum(one["valid"] for one in some), len(some)), _middle(some, "scale_over_se")] for n, some in draws.items()
    ]


ABOUT = """\
One pool of {units} units (distinct prompts, none that ESD trained on) was recorded once. Each of {draws} draws of a size takes two
halves of {sizes} units, chooses neurons on one and measures on the other, by the functions that make a study's report.
Each eraser and attack is a study of its own. Brackets of shares: 95 % Wilson, as if draws were independent; they share the pool."""
ABOUT_ATTACKS = """On ESD and on one null eraser of every kind and size. Wanted: p below 0.05 in 3 to 7 %, "reactivated" in at most 5 %."""
ABOUT_SHARED = """\
One random vector for all prompts is no null for a single run: two such vectors differ, and p says so. This is why an attack that learns
one vector counts as one run, and why "reactivated" needs more than a change."""
ABOUT_ERASERS = """\
Noise has, parameter by parameter, a multiple of the norm of ESD's change; a rotated change is ESD's change in random
directions. Activity: 1 is the base model with the concept, 0 without it; medians, and where 95 % of draws lie. Broken: unrelated concepts
are drawn as asked at less than 0.8 of the base model's rate. Wanted: "deactivated" in at most 5 %, never of a broken model."""
ABOUT_CLUSTERS = """Data without groups were called stable and grouped in {said} of {of} draws, over all kinds; wanted: at most 5 %."""
ABOUT_POWER = """\
A trigger is planted in the tiny planted model at two strengths; the second lowers the rate of success by a known cut. Found: McNemar's
p below 0.05 and a fall. The printed power assumes a correlation of 0.3 between the two outcomes of a prompt; beside it the same formula at
the correlation that the outcomes have."""
ATTACKS = ["attack", "units per half", "tests", "p < 0.05", "reactivated, in whole or part", "not reactivated", "undecided"]
ATTACKS += ["nothing to reactivate", "no words"]
ERASERS = [
    "eraser",
    "models",
    "units per half",
    "draws",
    "activity",
    "without the concept",
    "images with the concept",
    "broken",
    "deactivated",
]
ERASERS += ["not deactivated", "while drawn", "changed at large", "undecided", "no words"]


def document(draws, cluster_rows, power_rows, made):
    """docs/results/nulls.md; `made` says when and where."""
    without = [row for row in cluster_rows if row["right"] is None]
    said, of = sum(row["said"] for row in without), sum(row["n"] for row in without)
    sizes = ", ".join(map(str, draws))
    parts = [
        "# Where nothing was done",
        f"Made by `make nulls`, {made}. Emoji model, style ink; no evidence about Stable Diffusion.",
        ABOUT.format(units=pool.N_UNITS, draws=len(next(iter(draws.values()))), sizes=sizes),
        "## Is the chosen set valid?",
        markdown(["units per half", "draws", "valid", "scale over its SE (95 % of draws)"], validity(draws)),
        "## Attacks that are second draws of their controls",
        ABOUT_ATTACKS,
        markdown(ATTACKS, attacks(draws)),
        ABOUT_SHARED,
        "## Erasers that erase nothing by intention",
        ABOUT_ERASERS,
        markdown(ERASERS, erasers(draws)),
        "## Clusters",
        ABOUT_CLUSTERS.format(said=share(said, of), of=of),
        markdown(["data", "size", "draws", "stable and grouped", "planted number chosen"], clusters(cluster_rows)),
        "## Power",
        ABOUT_POWER,
        markdown(["true cut", "correlation", "pairs", "found", "printed power", "at this correlation"], power(power_rows)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"
