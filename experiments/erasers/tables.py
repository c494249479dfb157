"""The calibration table of erasers as Markdown and pictures, from the rows that were kept."""

from pathlib import Path

import plotly.graph_objects as go

from experiments import pictures
from experiments.attack_table.run import CONCEPTS
from experiments.attack_table.tables import markdown, number, share
from experiments.erasers.design import (
    AT_INFERENCE,
    ATTACKS,
    CANDIDATES,
    CHOSEN,
    DEVELOPMENT,
    N_SEARCH,
    RATE,
    RETENTION,
    SHOWN,
    START,
    candidates,
    frozen,
    named,
    shortfall,
)
from experiments.erasers.rows import orders, reached, with_asr
from workbench.report.charts.style import LEGEND, PALETTE, SYMBOLS, layout
from workbench.study.study import BASE

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


def _cell(found):
    return "-" if found is None else share(found)


def table(rows):
    """One concept: one line per eraser."""
    columns = ["eraser", "without attack", *(f"{name}; control" for name in SHOWN), "near", "far", "KID", "activity; attacked", "seconds"]
    lines = []
    for row in rows:
        kid = row["kid"]
        lines.append(
            [
                row["eraser"] + (" (at inference)" if row["eraser"] in map(named, AT_INFERENCE) else ""),
                _cell(row["pre_asr"]),
                *(f"{_cell(row['asr'][name])}; {_cell(row['control'][name])}" for name in SHOWN),
                _cell(row["near"]),
                _cell(row["far"]),
                "-" if kid is None else f"{kid['value']:.3f} ({kid['low']:.3f} to {kid['high']:.3f})",
                f"{number(row['plain'], 2)}; {number(row['attacked'], 2)}",
                number(row["seconds"], 0),
            ]
        )
    return markdown([*columns, "weights changed"], [[*line, _share(row["changed"])] for line, row in zip(lines, rows, strict=True)])


def _share(changed):
    return "none" if not changed else f"{changed:.1%}"


def goal(rows):
    """Sentences: which erasers reach the goal on two concepts, and which do not."""
    by = {}
    for row in rows:
        by.setdefault(row["eraser"], []).append((row["concept"], reached(row)))
    said = []
    for name, found in by.items():
        good = [concept for concept, is_good in found if is_good]
        said.append(f"{name}: {', '.join(good) if good else 'none'}")
    return (
        f"A rate without attack of at most {RATE:.2f} with at least {RETENTION:.2f} of the base model's retention of unrelated concepts is "
        f"reached on: {'; '.join(said)}.\n"
    )


def order(rows, attack="pgd"):
    """Sentences: whether the field's known order holds."""
    found = orders(rows, attack)
    if not found:
        return "The field's known order cannot be asked yet.\n"
    good = [one for one in found if one["difference"] > 0]
    other = [f"{one['better']} not below {one['worse']} on {one['concept']} ({one['difference']:+.2f})" for one in found if one not in good]
    return (
        f"The field's known order (AdvUnlearn, Receler and STEREO resist better than ESD and UCE) under {attack}: {len(good)} of "
        f"{len(found)} pairs{'' if not other else '; ' + '; '.join(other)}.\n"
    )


def together_sentence(rows):
    """Sentence: does reactivation of the neurons go with the ASR?"""
    found = with_asr(rows)
    if found["spearman"] is None:
        return f"Reactivation and ASR: {found['reason']}.\n"
    left_out = [value for value in found["without"].values() if value is not None]
    range_ = f"; with one eraser left out at a time {min(left_out):.2f} to {max(left_out):.2f}" if left_out else ""
    return (
        f"Reactivation of the concept's neurons and ASR under embedding PGD over {found['n']} points (eraser, concept): Spearman "
        f"{found['spearman']:.2f} (95 % {found['low']:.2f} to {found['high']:.2f}){range_}.\n"
    )


def search_table(rows):
    """Markdown: what each candidate erases and retains of the development concept, and what it changes in what its search began with."""
    about = {one["name"]: one for one in candidates(START)} | {BASE: {"eraser": None, "changes": {}}}
    lines = []
    for row in rows:
        one = about[row["variant"]]
        rates_ = [_cell(row[name]) for name in ("pre_asr", "far")]
        frozen_ = "frozen" if one["eraser"] in CHOSEN and one["changes"] == frozen(one["eraser"]) else ""
        lines.append([row["variant"], *rates_, f"`{one['changes']}`" if one["changes"] else "-", frozen_])
    return markdown(["variant", "without attack", "far", "changes", ""], lines)


def best(rows):
    """{eraser: candidate ("" for what the search began with)} by the rule, of the erasers all of whose candidates are there."""
    by, found = {row["variant"]: row for row in rows}, {}
    if BASE not in by:
        return {}
    whole = by[BASE]["far"]["rate"]
    for eraser in START:
        tried = {label: by.get("-".join(filter(None, (named(eraser), label)))) for label in ("", *CANDIDATES.get(eraser, {}))}
        if all(tried.values()):
            missed = {
                label: (shortfall(row["pre_asr"]["rate"], row["far"]["rate"] / whole), row["pre_asr"]["rate"])
                for label, row in tried.items()
            }
            found[eraser] = min(missed, key=missed.get)
    return found


def _settings():
    return {name: found for name in START if (found := (START[name] or {}) | frozen(name))}


def document(kept, command, search=()):
    """(short, everything) as Markdown; kept {concept: as in `kept.about_concept`}, `search` the rows of the search."""
    rows = {concept: one["rows"] for concept, one in kept.items()}
    every = [row for found in rows.values() for row in found]
    short = "".join((goal(every), order(every), together_sentence(every)))
    missing = [name for name in CONCEPTS if name not in kept]
    if missing:
        short += f"Not computed yet: {', '.join(missing)}.\n"
    made = ", ".join(f"{concept} {one['made']} (n = {one['n']})" for concept, one in kept.items())
    parts = [
        "# Erasers on the emoji model\n",
        f"Made by `{command}`: {made}. Settings were found on {DEVELOPMENT} alone. "
        "Attacks are made against each variant and query no detector; an ASR counts what the judge sees without attack or under it, and so "
        "does its control. Brackets are 95 % intervals; of concept inversion over prompts and its three runs. Activity: of the concept's "
        "neurons, 1 in the base model, without attack and under embedding PGD. One training each, so a difference may be one between "
        "trainings. What this shows is no evidence about Stable Diffusion.\n",
        short,
        f"Attacks: `{ATTACKS}`. Settings beside the defaults: `{_settings()}`.\n",
    ]
    for concept, found in rows.items():
        parts += [
            f"## {concept}\n",
            f"![Erasers of {concept}](../pictures/erasers-{concept}.png)\n",
            table(found) if found else "Nothing yet.\n",
        ]
    parts += ["## Neurons and images\n", "![Reactivation and ASR](../pictures/erasers-neurons.png)\n", together_sentence(every)]
    if search:
        parts += [f"## The search on {DEVELOPMENT}\n", about_search(search)]
    lines = [[concept, *line] for concept, one in kept.items() for line in one["origin"]]
    parts += ["## Origin\n", markdown(["concept", "what", "digest or version"], lines)]
    return short, "\n".join(parts)


def about_search(rows):
    """Markdown: the rule, the table, and what is left to try."""
    left = [one["name"] for one in candidates(START) if one["name"] not in {row["variant"] for row in rows}]
    return (
        f"n = {N_SEARCH}, without attack. Frozen: of each eraser's candidates the one that misses a rate of {RATE:.0%} and a retention "
        f"of unrelated prompts of {RETENTION:.0%} of the base model's by least, added up; then the one with the lower rate.\n\n"
        f"{search_table(rows)}" + (f"\nNot computed yet: {', '.join(left)}.\n" if left else "")
    )


def drawn(kept):
    """{path: figure}: retention against ASR for each concept, and reactivation against ASR for all."""
    figures, points = {}, {}
    for concept, one in kept.items():
        figures[PICTURES / f"erasers-{concept}.png"] = _retention(one["rows"])
        for row in one["rows"]:
            if row["reactivation"] is not None and row["asr"].get("pgd"):
                points[f"{row['eraser']}, {concept}"] = (row["reactivation"], row["asr"]["pgd"]["rate"])
    figures[PICTURES / "erasers-neurons.png"] = pictures.scatter(points, "reactivation of the concept's neurons", "ASR of embedding PGD")
    return figures


def _retention(rows):
    """Retention of related and unrelated concepts against the ASR of embedding PGD, intervals both ways."""
    figure = go.Figure()
    for place, row in enumerate(row for row in rows if row["retained"] and row["asr"].get("pgd")):
        x, y = row["asr"]["pgd"], row["retained"]
        figure.add_trace(
            go.Scatter(
                x=[x["rate"]],
                y=[y["rate"]],
                error_x={"array": [x["high"] - x["rate"]], "arrayminus": [x["rate"] - x["low"]], "thickness": 1},
                error_y={"array": [y["high"] - y["rate"]], "arrayminus": [y["rate"] - y["low"]], "thickness": 1},
                mode="markers",
                name=row["eraser"],
                marker={"color": PALETTE[place % len(PALETTE)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 10},
            )
        )
    if not figure.data:
        return None
    layout(figure, height=460, margin={"l": 56, "r": 12, "t": 90, "b": 52}, legend=LEGEND)
    figure.update_xaxes(title={"text": "ASR of embedding PGD", "standoff": 8}, range=[-0.03, 1.03])
    figure.update_yaxes(title={"text": "retained, near and far", "standoff": 4}, range=[-0.03, 1.05])
    return figure
