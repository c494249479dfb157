"""Every variant on the plane: how often the concept is seen against what is still drawn right; with the sentence that says the same.

An eraser or a mask is worth something where attacks succeed less at the same retention: towards the lower right.
"""

from html import escape
from math import ceil, floor

import plotly.graph_objects as go

from workbench.report import wording
from workbench.report.charts.lines import SYMBOLS, cell, empty_panels, finished
from workbench.report.cluster_figures import PALETTE

PLAIN = "without attack"


def plane_points(document):
    """One row per variant that is no base model and condition (without attack, each attack): variant, condition, provenance and its
    words `made`, n, rate, low, high, and kept, the row of what is retained (related concepts, else unrelated ones). Variants
    without such a row are left out."""
    points = []
    for variant in wording.subjects(document):
        cards = wording.cards(document, variant)
        kept, plain = cards["retention"], cards["erasure"]
        if kept is None or kept["rate"] is None:
            continue
        asked = [
            row
            for row in wording.arranged(document["rates"], (variant,))
            if row["variant"] == variant and row["attack"] and not row["control"] and row["definition"] == "asr"
        ]
        for condition, row in [(PLAIN, plain), *((wording.condition(row), row) for row in asked)]:
            if row is not None and row["rate"] is not None:
                about = {"variant": variant, "condition": condition, "provenance": row["provenance"]}
                about |= {"made": wording.provenance(row), "kept": kept}
                points.append(about | {name: row[name] for name in ("n", "rate", "low", "high")})
    return points


def plane_figure(points, variants=()):
    """One panel per condition, one marker per variant, with 95 % intervals both ways; open: the attack was made against another variant."""
    panels = sorted(dict.fromkeys(point["condition"] for point in points), key=lambda name: name != PLAIN)
    names = [name for name in variants if any(point["variant"] == name for point in points)]
    names += [name for name in dict.fromkeys(point["variant"] for point in points) if name not in names]
    figure, shown = empty_panels(panels, shared_xaxes=False), set()
    for point in sorted(points, key=lambda point: names.index(point["variant"])):
        place, moved = names.index(point["variant"]), point["provenance"] == "transferred"
        colour, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
        kept, words = point["kept"], escape(point["variant"])
        figure.add_trace(
            go.Scatter(
                x=[100 * kept["rate"]],
                y=[100 * point["rate"]],
                error_x=_interval(kept, colour),
                error_y=_interval(point, colour),
                mode="markers",
                name=words,
                legendgroup=words,
                showlegend=words not in shown,
                marker={"color": colour, "symbol": f"{symbol}-open" if moved else symbol, "size": 10},
                customdata=[[point["n"], kept["n"], escape(point["made"])]],
                hovertemplate="concept in %{y:.1f} % (n = %{customdata[0]}), retained %{x:.1f} % (n = %{customdata[1]})"
                f"<br>%{{customdata[2]}}<extra>{words}</extra>",
            ),
            **cell(panels, point["condition"]),
        )
        shown.add(words)
    least = min(point["kept"]["rate"] if point["kept"]["low"] is None else point["kept"]["low"] for point in points)
    most = max(point["rate"] if point["high"] is None else point["high"] for point in points)
    figure.update_xaxes(range=[10 * floor(10 * least) - 3, 103])  # tens of per cent; equal in all panels
    figure.update_yaxes(range=[-3, 10 * ceil(10 * most) + 3])
    kinds = sorted({point["kept"]["kind"] for point in points}, reverse=True)
    return finished(figure, panels, f"drawn right, {' or '.join(kinds)} (per cent)", "concept seen (per cent)")


def plane_alt(points, variants=()):
    """Each point with its intervals."""
    parts = [
        f"{point['variant']}, {point['condition']}{' (' + point['made'] + ')' if point['made'] else ''}: "
        f"{wording.with_interval(point, 'rate', wording.percent)}, n = {point['n']}, "
        f"at {wording.percent(point['kept']['rate'])} retained"
        for point in points
    ]
    return "How often the concept is seen against what is still drawn right. " + "; ".join(parts) + "."


def _interval(row, colour):
    """Error bars of a rate; none where there is no interval."""
    if row["low"] is None or row["high"] is None:
        return None
    ends = {"array": [100 * (row["high"] - row["rate"])], "arrayminus": [100 * (row["rate"] - row["low"])]}
    return {"type": "data", "color": colour, "thickness": 1, "width": 0} | ends
