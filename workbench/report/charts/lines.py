"""Figures of lines with bands, one panel each, side by side: along the sampling run, and against the budget of an attack."""

from html import escape
from textwrap import wrap

import plotly.graph_objects as go

from workbench.report import wording
from workbench.report.charts.forest import COLOURS, KINDS, LEGEND, layout

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
PANEL, TOP = 230, 74
NARROWEST = 600  # pixels that panels and legend have on the smallest screen
TITLE, TITLE_LINE = 34, 16  # letters of a panel's title beside another, and pixels of its further lines
LETTER, KEY, KEY_LINE = 6.8, 46, 20  # pixels of a letter, of the line and marker before it, of a line of the legend


def activity_by_call_figure(rows, variants=(), window=None, guides=(0, 1), y_title="activity A"):
    """Concept activity along the sampling run, one panel per variant, one line per condition.

    window   (first, last) calls of the study, shaded
    guides   levels drawn as dotted lines
    """
    rows = wording.arranged(rows, variants)
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
    rows = wording.arranged(rows, variants)
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
            say(figure, f"{look['name']}: {points[0]['reason']}", where, 0.3 if control else 0.7)
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
    """An empty figure with one panel per name, two beside each other; long names take several lines."""
    from plotly.subplots import make_subplots

    depth = _depth(names)
    gap = (44 if shared_xaxes else 70) + _more_title(names)
    return make_subplots(
        rows=depth,
        cols=_columns(names),
        shared_xaxes=shared_xaxes,
        shared_yaxes=shared_yaxes,
        subplot_titles=["<br>".join(f"<b>{escape(line)}</b>" for line in _title(name, names)) for name in names],
        horizontal_spacing=0.06 if shared_yaxes else 0.12,
        vertical_spacing=gap / _inner_height(names) if depth > 1 else 0,
    )


def finished(figure, names, x_title, y_title):
    """The figure with sizes, titles and legend."""
    top = TOP + _more_title(names) + _more_legend(figure)
    layout(figure, height=top + 52 + _inner_height(names), margin={"l": 56, "r": 16, "t": top, "b": 52})
    figure.update_xaxes(title={"text": x_title, "standoff": 6}, row=_depth(names))
    figure.update_yaxes(title={"text": y_title, "standoff": 4}, col=1)
    for place, annotation in enumerate(figure.layout.annotations[: len(names)]):
        axis = figure.layout[f"xaxis{place + 1 if place else ''}"]
        annotation.update(x=axis.domain[0], xanchor="left", align="left", font={"size": 13})
    figure.update_layout(legend=LEGEND)
    return figure


def say(figure, reason, where, y=0.5):
    """Words in the middle of a panel, or at another share of its height, in the place of a line that could not be measured."""
    words = "<br>".join(map(escape, wrap(f"{wording.DASH} {reason}", TITLE)))
    # plotly.js draws no axes without a trace, and moves what refers to them into the first panel
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", showlegend=False, hoverinfo="skip"), **where)
    place = {"x": 0.5, "y": y, "xref": "x domain", "yref": "y domain"}
    figure.add_annotation(text=f"<i>{words}</i>", showarrow=False, font={"size": 11, "color": "#595959"}, **place, **where)


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


def _title(name, names):
    """The lines of a panel's title."""
    return wrap(str(name), TITLE if len(names) > 1 else 2 * TITLE) or [""]


def _more_title(names):
    """Pixels that titles take beyond their first line."""
    return TITLE_LINE * (max((len(_title(name, names)) for name in names), default=1) - 1)


def _more_legend(figure):
    """Pixels that the legend takes beyond its first line on the smallest screen; in a full line all entries have the widest one's width."""
    widths = [KEY + LETTER * len(trace.name) for trace in figure.data if trace.name and trace.showlegend is not False]
    if sum(widths) <= NARROWEST:
        return 0
    return KEY_LINE * (-(-len(widths) // max(1, int(NARROWEST // max(widths)))) - 1)


def _inner_height(names):
    """Pixels from the top of the first panel to the bottom of the last."""
    depth = _depth(names)
    return PANEL * depth + _more_title(names) * (depth - 1)


def cell(names, name):
    row, column = divmod(names.index(name), _columns(names))
    return {"row": row + 1, "col": column + 1}


def _line(row):
    made = wording.provenance(row)
    return wording.condition(row) + (f" ({made})" if made else "")


def _attack(row):
    return f"{row['attack']} on {row['variant']}"
