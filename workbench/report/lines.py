"""Figures of lines with bands, one panel each, side by side: along the sampling run, and against the budget of an attack."""

from html import escape

import plotly.graph_objects as go

from workbench.report import summary
from workbench.report.forest import COLOURS, KINDS, LEGEND, layout

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
PANEL, TOP = 230, 74


def activity_by_call_figure(rows, variants=(), window=None, guides=(0, 1), y_title="activity A"):
    """Concept activity along the sampling run, one panel per variant, one line per condition.

    window   (first, last) calls of the study, shaded
    guides   levels drawn as dotted lines
    """
    rows = summary.arranged(rows, variants)
    panels = list(dict.fromkeys(row["variant"] for row in rows))
    lines = {}
    for row in rows:
        lines.setdefault((row["variant"], _line(row), row["prompt_set"]), []).append(row)
    looks = {name: place for place, name in enumerate(dict.fromkeys(name for _, name, _ in lines))}
    figure = empty_panels(panels, shared_xaxes=True)
    palette = [COLOURS[name] for name in ("blue", "black", "vermillion", "orange", "green", "purple")]
    shown = set()
    for (variant, name, _), points in lines.items():
        place, where = looks[name], cell(panels, variant)
        colour = palette[place % len(palette)]
        points = sorted(points, key=lambda row: row["call"])
        x = [point["call"] for point in points]
        figure.add_trace(band(x, points, colour, name), **where)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=[point["value"] for point in points],
                mode="lines+markers",
                name=escape(name),
                legendgroup=name,
                showlegend=name not in shown,
                line={"color": colour, "dash": DASHES[place % len(DASHES)], "width": 2},
                marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
                customdata=[[point["timestep"], point["n"]] for point in points],
                hovertemplate=f"call %{{x}}, timestep %{{customdata[0]}}: %{{y:.3g}}, n = %{{customdata[1]}}<extra>{escape(name)}</extra>",
            ),
            **where,
        )
        shown.add(name)
    for guide in guides:
        figure.add_hline(y=guide, line={"color": COLOURS["grey"], "width": 1, "dash": "dot"})
    if window and rows:
        figure.add_vrect(x0=window[0], x1=window[1], fillcolor="#f3efe2", line_width=0, layer="below")
    return finished(figure, panels, "UNet call (0 = noisiest)", y_title)


def neuron_by_call_figure(rows, variants=(), window=None):
    """How active one neuron is along the sampling run, in its own units; rows as of activity_by_call."""
    return activity_by_call_figure(rows, variants, window, guides=(), y_title="mean |a| of the neuron")


def budget_figure(rows, variants=()):
    """Share of prompts on which the steering detector had seen the concept, against UNet row passes per prompt.

    One panel per attack and variant, the attack beside its control, with Wilson interval. A large marker is a budget at which
    looks took place; small ones go on where a search had used up its looks and nothing more was tried.
    """
    rows = summary.arranged(rows, variants)
    panels = list(dict.fromkeys(_attack(row) for row in rows))
    lines = {}
    for row in rows:
        lines.setdefault((_attack(row), row["control"]), []).append(row)
    figure = empty_panels(panels, shared_xaxes=False)
    shown = set()
    for (panel, control), points in lines.items():
        look, where = KINDS["control" if control else "attack"], cell(panels, panel)
        known = sorted((point for point in points if point["rate"] is not None), key=lambda row: row["budget"])
        if not known:
            words = f"<i>{look['name']}: {summary.DASH} {escape(points[0]['reason'])}</i>"
            figure.add_annotation(x=0.5, y=95, xref="x domain", text=words, showarrow=False, font={"size": 11}, **where)
            continue
        x, intervals = [point["budget"] for point in known], [{end: 100 * p[end] for end in ("low", "high")} for p in known]
        figure.add_trace(band(x, intervals, COLOURS["grey" if control else "vermillion"], look["name"], steps=True), **where)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=[100 * point["rate"] for point in known],
                mode="lines+markers",
                name=look["name"],
                legendgroup=look["name"],
                showlegend=look["name"] not in shown,
                line={"color": look["colour"], "dash": "dash" if control else "solid", "width": 2, "shape": "hv"},
                marker={"symbol": look["symbol"], "color": look["colour"], "size": [4 if p["ended"] else 9 for p in known]},
                customdata=[[point["looks"], point["n"]] for point in known],
                hovertemplate="%{x:.0f} passes, up to %{customdata[0]} looks: %{y:.1f} %"
                f", n = %{{customdata[1]}}<extra>{escape(look['name'])}</extra>",
            ),
            **where,
        )
        shown.add(look["name"])
    figure.update_xaxes(type="log", dtick="D2", exponentformat="none")
    figure.update_yaxes(range=[-3, 103])
    return finished(figure, panels, "UNet row passes per prompt", "prompts (per cent)")


def empty_panels(names, shared_xaxes, shared_yaxes="all"):
    """An empty figure with one panel per name, two beside each other."""
    from plotly.subplots import make_subplots

    depth = _depth(names)
    return make_subplots(
        rows=depth,
        cols=_columns(names),
        shared_xaxes=shared_xaxes,
        shared_yaxes=shared_yaxes,
        subplot_titles=[f"<b>{escape(name)}</b>" for name in names],
        horizontal_spacing=0.06 if shared_yaxes else 0.12,
        vertical_spacing=(44 if shared_xaxes else 70) / (PANEL * depth) if depth > 1 else 0,
    )


def finished(figure, names, x_title, y_title):
    """The figure with sizes, titles and legend."""
    depth = _depth(names)
    layout(figure, height=TOP + 52 + PANEL * depth, margin={"l": 56, "r": 16, "t": TOP, "b": 52})
    figure.update_xaxes(title={"text": x_title, "standoff": 6}, row=depth)
    figure.update_yaxes(title={"text": y_title, "standoff": 4}, col=1)
    for place, annotation in enumerate(figure.layout.annotations[: len(names)]):
        axis = figure.layout[f"xaxis{place + 1 if place else ''}"]
        annotation.update(x=axis.domain[0], xanchor="left", font={"size": 13})
    figure.update_layout(legend=LEGEND)
    return figure


def band(x, points, colour, group, steps=False):
    """The intervals of a line, as a filled area."""
    low, high = ([point[end] for point in points] for end in ("low", "high"))
    if steps:
        x, low, high = (_steps(values, first) for values, first in ((x, False), (low, True), (high, True)))
    return go.Scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        fill="toself",
        fillcolor=colour,
        opacity=0.13,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )


def _steps(values, holds):
    """Corners of a step line: the value holds until the next place, or the place is the next one's."""
    doubled = [value for value in values for _ in range(2)]
    return doubled[:-1] if holds else doubled[1:]


def _columns(names):
    return 2 if len(names) > 1 else 1


def _depth(names):
    return -(-len(names) // _columns(names)) or 1


def cell(names, name):
    row, column = divmod(names.index(name), _columns(names))
    return {"row": row + 1, "col": column + 1}


def _line(row):
    made = summary.provenance(row)
    return summary.condition(row) + (f" ({made})" if made else "")


def _attack(row):
    return f"{row['attack']} on {row['variant']}"
