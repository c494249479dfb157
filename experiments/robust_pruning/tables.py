"""What `robust_pruning.py` prints and keeps: Markdown tables and pictures of as much as is there."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from experiments import pictures
from experiments.attack_table.rows import attack_rows, is_there
from experiments.attack_table.tables import chance, decided, markdown, number, rates_table, share
from experiments.robust_pruning.design import (
    ATTACKS,
    CANDIDATES,
    COMPARATORS,
    CORE,
    DEVELOPMENT,
    DIRECTIONS,
    EVERYWHERE,
    FROZEN,
    IN_THE_LOOP,
    MAPPED_WITH,
    MASK,
    N_SEARCH,
    NOT_ATTACKED,
    PEERS,
    RANDOM_OF_THE_MAP,
    REPEATS,
    RETENTION,
    SEARCHED_WITH,
    SEEDS_OF_THE_MAP,
    SENSITIVITY_UNDER,
    SOUGHT,
    N,
    picked,
    turn_of_map,
)
from experiments.robust_pruning.rows import against_rows, held_rows, plane_rows, sensitivity_rows, together
from workbench.registry import method
from workbench.study.prompt_set_name import name_of

CHANGES = ("reduction", "p", "retained", "rate without attack", "KID")
ABOUT_THE_MAP = (
    "Masks with one setting changed, learned without an attack in the loop, each beside the eraser that it prunes; controls first. They "
    "were looked at after the test, so they are no test."
)
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


def plane(workspace, attacks):
    """Markdown: every variant with everything the plane needs."""
    rows = plane_rows(workspace, attacks, REPEATS)
    cell = lambda found: "-" if found is None else share(found)  # noqa: E731
    kid = lambda found: "-" if found is None else f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"  # noqa: E731
    columns = ["variant", "without attack", *attacks, "near", "far", "KID"]
    lines = [
        [
            row["variant"],
            cell(row["pre_asr"]),
            *(cell(row["asr"][a]) for a in attacks),
            cell(row["near"]),
            cell(row["far"]),
            kid(row["kid"]),
        ]
        for row in rows
    ]
    return markdown(columns, lines)


def controlled(workspace):
    """Markdown: every attack on the core variants beside its control, and who judged; nothing when none is there."""
    rows = []
    for variant in CORE:
        if all(is_there(workspace, f"detect:{name}") for name in (f"{variant}:target", "base:target", "base:reference")):
            rows += [row | {"attack": f"{row['attack']} on {variant}"} for row in attack_rows(workspace, variant)]
    return f"{rates_table(rows)}\n{decided(rows)}" if rows else ""


def signed(value, low, high, digits=2):
    """+0.02 (-0.01 to +0.05)."""
    return "-" if value is None else f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def beside(rows, sought, in_the_loop=tuple(IN_THE_LOOP)):
    """Markdown: the learned masks beside each comparator; whether the target was met."""
    columns = ["beside", "attack", "its ASR (lowest, highest run)", "masks' ASR (lowest, highest)", *CHANGES, "target"]
    lines = []
    for row in rows:
        runs = f" ({row['x_lowest']:.2f}, {row['x_highest']:.2f}; {row['n_runs']} runs)" if row["n_runs"] > 1 else ""
        spread = f"{row['lowest']:.2f}, {row['highest']:.2f}" if row["n_masks"] > 1 else "one mask"
        masks = f"{row['masked']:.2f} ({spread})"
        before = [row["comparator"], row["attack"], f"{row['asr']:.2f}{runs}", masks]
        lines.append([*before, *changes_of(row), judged(row, sought, in_the_loop)])
    return markdown(columns, lines)


def changes_of(row):
    """The cells of a row of `against_rows` under CHANGES."""
    return [
        signed(row["cut"], row["cut_low"], row["cut_high"]),
        "-" if row["p"] is None else chance(row["p"]),
        signed(row["retained_difference"], row["retained_low"], row["retained_high"]),
        signed(row["plain_difference"], row["plain_low"], row["plain_high"]),
        signed(row["kid_difference"], row["kid_low"], row["kid_high"], 4),
    ]


def judged(row, sought, in_the_loop):
    """met | not met | undecided: a reduction of `sought` at no worse rate without attack, retention within RETENTION, KID within its noise.

    met: the reduction is as large as the target and its interval lies above 0. not met: its interval lies below the target, or the price
    is too high: retention falls by more than RETENTION, the interval of the change of the rate without attack lies above 0, or KID rises
    by more than the upper half of the comparator's own interval. The cell also says where a smaller rise of KID is established, and
    where the comparator retains less. Not scored: attacks that the masks were trained against, and one run of an attack that learns one
    vector for all prompts (decision 0011).
    """
    if row["attack"] in in_the_loop:
        return "not scored: the masks were trained against it"
    if row["n_runs"] == 1 and method("attacks", ATTACKS[row["attack"]]["method"]).shared:
        return "not scored: one learned vector beside another"
    if row["cut"] is None or row["retained_difference"] is None or row["kid_difference"] is None:
        return "undecided: the comparator never fails" if row["cut"] is None else "undecided"
    lost = row["retained_difference"] < -RETENTION or row["plain_low"] > 0 or row["kid_difference"] > row["kid_noise"]
    said = f"; KID {row['kid_difference']:+.4f}, interval above 0" if row["kid_low"] > 0 else ""
    if row["retained_difference"] > RETENTION:
        said += f"; the comparator retains {row['retained_difference']:.2f} less"
    if row["cut"] >= sought and row["cut_low"] > 0 and not lost:
        return f"met{said}"
    return ("not met" if lost or row["cut_high"] < sought else "undecided") + said


def sensitivity(rows):
    """Markdown: the watched neurons of every variant."""
    columns = ["variant", "neurons", "without attack", "under attack", "control", "reactivation", "p", "delta outside"]
    lines = []
    for row in rows:
        moved = "-" if row["relocated"] is None else signed(row["relocated"], row["relocated_low"], row["relocated_high"])
        p = "-" if row["p_random"] is None else chance(row["p_random"])
        woken = signed(row["value"], row["low"], row["high"])
        lines.append([row["variant"], row["neuron_set"], *(number(row[k], 2) for k in ("plain", "attacked", "control")), woken, p, moved])
    return markdown(columns, lines)


def held(workspace):
    """Markdown: is the concept set needed under attack, and enough without one, before and after pruning?"""
    columns = ["effect", "variant", "prompts", "n", "T2 intact", "change", "random sets", "p"]
    lines = []
    for row in held_rows(workspace):
        value = signed(row.get("value"), row.get("low"), row.get("high"))
        band = "-" if row.get("random_low") is None else f"{row['random_low']:+.2f} to {row['random_high']:+.2f}"
        p = "-" if row.get("p") is None else chance(row["p"])
        n = row["n"] if row.get("n") is not None else row.get("reason")
        lines.append([row["effect"], row["variant"], row["prompt_set"], n, number(row.get("intact"), 2), value, band, p])
    return markdown(columns, lines)


def mapped(workspace, map_room):
    """Markdown: masks that no attack was in the loop of, each beside the eraser it was put over: controls and peers of the test,
    then the map's directions. Without a verdict: many are looked at, after the test."""
    found = [(workspace, [name], "erased") for name in ("random", "smallest", *PEERS)]
    found += [(map_room, [name], parent) for name, (parent, _) in DIRECTIONS.items() if name not in PEERS]
    found += [(map_room, [name], "erased") for name in RANDOM_OF_THE_MAP]
    found += [(map_room, list(names), DIRECTIONS[names[0]][0]) for names in SEEDS_OF_THE_MAP.values()]
    said = {names: words for words, names in SEEDS_OF_THE_MAP.items()}
    lines = []
    for where, names, parent in found:
        for row in against_rows(where, names, parent, MAPPED_WITH):
            changes = DIRECTIONS.get(names[0], (parent, {}))[1]
            settings = f"`{changes}`" if changes else "-"
            name = said.get(tuple(names), names[0])
            lines.append([name, settings, parent, f"{row['asr']:.2f}", f"{row['masked']:.2f}", *changes_of(row)])
    columns = ["mask", "changed", "over", "ASR of that under pgd", "of the mask", *CHANGES]
    return markdown(columns, lines) if lines else ""


@cache
def watched(workspace):
    """`sensitivity_rows` of a workspace under the attack that sensitivity is read under."""
    return sensitivity_rows(workspace, SENSITIVITY_UNDER)


def beside_asr(workspaces, attack, key):
    """{variant: (number of its watched neurons, its ASR)} of the variants that have both; one that stands in several workspaces is the same
    in all."""
    points = {}
    for workspace in workspaces:
        successes = {row["variant"]: row["asr"][attack] for row in plane_rows(workspace, [attack], REPEATS)}
        for row in watched(workspace):
            found = successes[row["variant"]]
            if row["neuron_set"] == "watch" and row[key] is not None and found is not None:
                points.setdefault(row["variant"], (row[key], found["rate"]))
    return points


def drawn(concept, workspace, map_room):
    """{path: figure} of the plane and of sensitivity against success, for the page of a concept: the variants that erase."""
    rows = plane_rows(workspace, list(EVERYWHERE), REPEATS)
    away = erased_by(rows)
    plotted = pictures.plane([row for row in rows if row["variant"] in away], EVERYWHERE)
    away |= erased_by(plane_rows(map_room, []))
    points = beside_asr((workspace, map_room), SENSITIVITY_UNDER, "attacked")
    points = {name: point for name, point in points.items() if name in away}
    titles = f"activity of the watched neurons under {SENSITIVITY_UNDER}", f"ASR of {SENSITIVITY_UNDER}"
    return {
        PICTURES / f"robust-pruning-{concept}.png": plotted,
        PICTURES / f"robust-pruning-{concept}-sensitivity.png": pictures.scatter(points, *titles),
    }


def erased_by(rows):
    """Names of the variants of `plane_rows` that show the concept in less than half of the images without attack: in the others
    nothing is erased that could come back."""
    return {row["variant"] for row in rows if row["pre_asr"]["rate"] < 0.5}


def correlations(workspaces, attacks):
    """Markdown: does less sensitivity go with less ASR over all masks tried, and over those that erase?"""
    away, found = set().union(*(erased_by(plane_rows(workspace, [])) for workspace in workspaces)), []
    for attack in attacks:
        for key, words in (("value", "reactivation"), ("attacked", "activity under attack")):
            points = beside_asr(workspaces, attack, key)
            cells = []
            for names in (points, points.keys() & away):
                one = together(*([points[name][axis] for name in sorted(names)] for axis in (0, 1)))
                value = one["reason"] if one["spearman"] is None else signed(one["spearman"], one["low"], one["high"])
                cells += [one["n"], value]
            found.append([words, attack, *cells])
    columns = ["of the watched neurons", "with the ASR of", "variants", "Spearman", "of them erase", "Spearman over these"]
    return markdown(columns, found)


def stress(workspace):
    """Markdown: the concept's plain rate after revival and relearning."""
    rows = {row["variant"]: row for row in plane_rows(workspace, [])}
    shown = [name for name in rows if name.startswith((*NOT_ATTACKED, "erased", "masked"))]
    return markdown(["variant", "without attack"], [[name, share(rows[name]["pre_asr"])] for name in shown])


def page(concept, workspace, map_room, attacks, about):
    """(short table, everything) of one concept as Markdown, with words about it.

    map_room   the workspace of its map, as far as that was computed
    """
    names = [variant.name for variant in workspace.study.variants]
    masks = [name for name in names if name.startswith("masked")]
    rows = [row for other in COMPARATORS for row in against_rows(workspace, masks, other, attacks, REPEATS)]
    sought, seen = SOUGHT[workspace.study.concept.kind], watched(workspace)
    aim = f"Target: a reduction of {sought:.0%} or more, retention within {RETENTION:.0%}, rate without attack no worse, KID "
    aim += f"within the comparator's own interval. n = {N} units, {len(masks)} masks.{_missing(workspace)}\n"
    parts = [
        f"# Does pruning keep {concept} erased?\n",
        f"Made by `make robust-pruning`, {datetime.now(UTC):%Y-%m-%d}. {about}\n",
        f"Frozen settings of the learned mask: `{MASK}`. ASR: the judge sees the concept without attack or under it. Brackets are 95 % "
        "intervals: Wilson's, or resampled over units, seeds of the mask and runs of the attack. Reduction = 1 - ASR of the masks / ASR "
        "of the comparator. Concept inversion learns a vector for each half of the prompts, so it is run "
        f"{len(REPEATS['inversion'])} times against each variant that the masks are compared with; its ASR is the mean over runs, and "
        "its p is Welch's over runs instead of McNemar's over units. The variants beside the masks are one training each (masks: three), "
        "so a difference may be one between trainings. "
        "What this shows is no evidence about Stable Diffusion.\n",
        "## The plane\n",
        f"Computed in {_hours(workspace):.1f} hours of one process beside another one.\n",
        f"![the plane](../pictures/robust-pruning-{concept}.png)\n",
        "The pictures show the variants whose rate without attack is below one half.\n",
        plane(workspace, attacks),
    ]
    beside_control = controlled(workspace)
    parts += ["## Attacks beside their controls\n", beside_control] if beside_control else []
    parts += ["## The learned masks beside each\n", aim, beside(rows, sought)]
    peers = [name for name in PEERS if name in names]
    without = [row for other in COMPARATORS for row in against_rows(workspace, peers, other, EVERYWHERE, REPEATS)] if peers else []
    if without:
        parts += ["## The same mask learned without attacks in the loop\n", beside(without, sought, ())]
    picture = [f"![sensitivity](../pictures/robust-pruning-{concept}-sensitivity.png)\n"] if seen else []
    both, names = (workspace, map_room), {row["variant"] for row in seen}
    seen = seen + [row for row in watched(map_room) if row["variant"] not in names]
    parts += ["## Sensitivity\n", *picture, sensitivity(seen), correlations(both, EVERYWHERE)]
    parts += ["## Necessity and sufficiency of the concept set\n", held(workspace)]
    parts += ["## Stress\n", stress(workspace)]
    short = [f"**{concept}** {aim}", beside([row for row in rows if row["attack"] in EVERYWHERE], sought)]
    return "\n".join(short), "\n".join(parts)


def page_of_the_map(concept, workspace, map_room):
    """The map of a concept as Markdown, of as much as is there."""
    made = f"Made by `python -m experiments.robust_pruning.run --map`, {datetime.now(UTC):%Y-%m-%d}. {ABOUT_THE_MAP}"
    left = _missing(map_room, turn_of_map)
    return f"# Robust pruning: the map of {concept}\n\n{made}{left}\n\n{mapped(workspace, map_room)}"


def page_of_the_search(search):
    """The search on the development concept as Markdown, of as much as is there."""
    return "\n".join(
        [
            f"# Robust pruning: the search on {DEVELOPMENT}\n",
            f"Made by `python -m experiments.robust_pruning.run --search`, {datetime.now(UTC):%Y-%m-%d}. Chosen by these rates, before the "
            f"test: `{FROZEN}`. n = {N_SEARCH}.\n",
            searched(search, SEARCHED_WITH),
        ]
    )


def _hours(workspace):
    """How long the nodes of a run took together, as far as it came."""
    begun = (workspace.store.folder / "manifest.json").exists()
    return sum(node.get("seconds") or 0 for node in workspace.store.manifest()["nodes"]) / 3600 if begun else 0.0


def _missing(workspace, due=None):
    """A sentence when something the tables read is not computed yet."""
    nodes = picked(workspace, due)
    left = sum(not is_there(workspace, node.id) for node in nodes)
    return f" Not finished: {left} of {len(nodes)} steps are left; their cells show -." if left else ""


def searched(workspace, attacks):
    """Markdown: every candidate on the development concept, with the mean score of the judge beside the rates."""
    rows = []
    for row in plane_rows(workspace, list(attacks)):
        cells = [f"{share(row['asr'][a])}; {_mean_score(workspace, row['variant'], a)}" if row["asr"][a] else "-" for a in attacks]
        settings = f"`{CANDIDATES[row['variant']]}`" if row["variant"] in CANDIDATES else "-"
        rows.append([row["variant"], share(row["pre_asr"]), *cells, share(row["retained"]) if row["retained"] else "-", settings])
    columns = ["variant", "without attack", *(f"{attack}: ASR; mean score" for attack in attacks), "retained", "settings"]
    return markdown(columns, rows) if rows else ""


def _mean_score(workspace, variant, attack):
    return number(float(workspace.detections(variant, name_of(attack, variant))["judge_score"].mean()), 3)
