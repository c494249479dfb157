"""The calibration table of erasers as Markdown and pictures, of as much as is there."""

from datetime import UTC, datetime
from pathlib import Path

import plotly.graph_objects as go

from experiments import pictures
from experiments.attack_table.run import origin
from experiments.attack_table.tables import markdown, number, share
from experiments.erasers.design import (
    AT_INFERENCE,
    ATTACKS,
    DEVELOPMENT,
    N_SEARCH,
    RATE,
    RETENTION,
    SHOWN,
    START,
    candidates,
    frozen,
    named,
)
from experiments.erasers.rows import eraser_rows, orders, reached, with_asr
from experiments.robust_pruning.rows import plane_rows
from workbench.report.charts.style import LEGEND, PALETTE, SYMBOLS, layout

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


def search_table(workspace):
    """Markdown: what each candidate erases and retains of the development concept, and what it changes in what its search began with."""
    about = {one["name"]: one for one in candidates(START)}
    lines = []
    for row in plane_rows(workspace, []):
        rates_ = [_cell(row[name]) for name in ("pre_asr", "near", "far")]
        one = about[row["variant"]]
        frozen_ = "frozen" if one["changes"] == frozen(one["eraser"]) else ""
        lines.append([row["variant"], *rates_, f"`{one['changes']}`" if one["changes"] else "-", frozen_])
    return markdown(["variant", "without attack", "near", "far", "changes", ""], lines)


def _settings():
    return {name: found for name in START if (found := (START[name] or {}) | frozen(name))}


def document(workspaces, command, search=None):
    """(short, everything) as Markdown; `search` is the workspace of the search."""
    rows = {concept: eraser_rows(workspace, concept) for concept, workspace in workspaces.items()}
    every = [row for found in rows.values() for row in found]
    short = "".join((goal(every), order(every), together_sentence(every)))
    n = max(len(workspace.prompt_set("target")) for workspace in workspaces.values())
    parts = [
        "# Erasers on the emoji model\n",
        f"Made by `{command}`, {datetime.now(UTC):%Y-%m-%d}. n = {n} prompts a concept. Settings were found on {DEVELOPMENT} alone. "
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
    if search is not None:
        parts += [
            f"## The search on {DEVELOPMENT}\n",
            f"n = {N_SEARCH}, without attack. Frozen: of each eraser's candidates the one that misses a rate of {RATE:.0%} and a retention "
            f"of unrelated prompts of {RETENTION:.0%} of the base model's by least, added up; then the one with the lower rate.\n",
            search_table(search),
        ]
    parts += ["## Origin\n", markdown(["what", "digest or version"], origin(workspaces))]
    return short, "\n".join(parts)


def drawn(workspaces):
    """{path: figure}: retention against ASR for each concept, and reactivation against ASR for all."""
    figures, points = {}, {}
    for concept, workspace in workspaces.items():
        rows = eraser_rows(workspace, concept)
        figures[PICTURES / f"erasers-{concept}.png"] = _retention(rows)
        for row in rows:
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
