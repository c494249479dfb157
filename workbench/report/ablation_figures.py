"""What happens when neurons are taken out, beside matched random sets."""

import plotly.graph_objects as go

from workbench.report import wording
from workbench.report.charts import forest
from workbench.report.charts.forest import COLOURS
from workbench.report.charts.lines import band, cell, empty_panels, finished, say

GROUPS = {"target": "prompts with the concept", "near": "neighbours of the concept", "far": "things far from it"}
MODES = {"one_step": "one step", "images": "images"}


def outcome(row):
    """'pixel change', 'T2 J_lin': columns in words, targets by their name."""
    name = row["outcome"]
    return name.replace("_", " ") if name.islower() else name


def reading(row):
    """'T2 J_lin of prompts with the concept (one step, zero)'."""
    group = GROUPS.get(row["group"], row["group"])
    return f"{outcome(row)} of {group} ({MODES.get(row['mode'], row['mode'])}, {row['kind']})"


def ablation_figure(rows, variants=()):
    """Change of each outcome by taking out a share of the neurons, the band of matched random sets behind it; a panel per outcome."""
    parts, shown = {}, set()
    for row in rows:
        parts.setdefault(reading(row), []).append(row)
    names = list(parts)
    figure = empty_panels(names, shared_xaxes=False, shared_yaxes=False)
    for name, points in parts.items():
        where = cell(names, name)
        known = sorted((row for row in points if row["value"] is not None), key=lambda row: row["share"])
        if not known:
            say(figure, points[0]["reason"], where)
            figure.update_xaxes(showticklabels=False, showgrid=False, **where)
            figure.update_yaxes(showticklabels=False, showgrid=False, **where)
            continue
        x = [100 * row["share"] for row in known]
        random = [{"low": row["random_low"], "high": row["random_high"]} for row in known]
        figure.add_trace(band(x, random, COLOURS["grey"], "random"), **where)
        for key, label, colour, dash, symbol in (
            ("random_mean", "matched random sets: mean and range", COLOURS["grey"], "dash", "line-ew-open"),
            ("value", "the highest ranked", COLOURS["vermillion"], "solid", "diamond"),
        ):
            error = {"array": [r["high"] - r["value"] for r in known], "arrayminus": [r["value"] - r["low"] for r in known]}
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=[row[key] for row in known],
                    error_y=error | {"thickness": 1} if key == "value" else None,
                    mode="lines+markers",
                    name=label,
                    legendgroup=key,
                    showlegend=key not in shown,
                    line={"color": colour, "dash": dash, "width": 2},
                    marker={"symbol": symbol, "size": 7},
                    customdata=[[row["n_neurons"], row["n"], row["n_random"]] for row in known],
                    hovertemplate="%{x:.3g} %, %{customdata[0]} neurons: %{y:.3g}, n = %{customdata[1]}, "
                    "%{customdata[2]} random sets<extra></extra>",
                ),
                **where,
            )
            shown.add(key)
    taken = sorted({row["share"] for row in rows if row["share"] is not None})
    figure.update_xaxes(type="log", tickvals=[100 * share for share in taken], ticktext=[f"{100 * share:g}" for share in taken])
    return finished(figure, names, "share of the neurons taken out (per cent)", "change")


def set_effects_figure(rows, variants=()):
    """Leave-one-out, greedy order, necessity or sufficiency: the change of each outcome, beside matched random sets."""
    return forest.figure(
        sorted(rows, key=lambda row: (row["mode"], row["kind"], list(GROUPS).index(row["group"]) if row["group"] in GROUPS else 9)),
        group=reading,
        label=lambda row: [which(row), wording.provenance(row)],
        style=lambda row: {"colour": COLOURS["vermillion"], "symbol": "diamond", "name": "the set"},
        guides=((0, "no change"),),
        row_band=("random_low", "random_high"),
        note=lambda row: "" if row["p_random"] is None else f"p = {wording.p_value(row['p_random'])}".replace("= <", "<"),
        title="change by the ablation (95 % interval; grey: matched random sets)",
    )


def which(row):
    """What a row took out, in words."""
    if row.get("step"):
        return f"{row['step']}. {row['added']}"
    if row.get("cluster"):
        return row["cluster"]
    if row["kind"] != "held" and row.get("neuron_set"):
        return row["neuron_set"]
    return f"{row['variant']}, {row['attack']}" if row["attack"] else row["variant"]
