"""Figures with one point per neuron.

neurons_figure   deactivation against reactivation of one variant
waking_figure    what a neuron does in the base model against what an attack does to it in a variant
"""

from html import escape

import plotly.graph_objects as go

from workbench.report.charts.forest import COLOURS, LEGEND, layout

FRAME = (-0.6, 1.6)
ROLES = (
    ("measured only", COLOURS["grey"], "circle", ""),
    ("chosen", COLOURS["blue"], "circle", "chosen"),
    ("chosen, watched", COLOURS["green"], "triangle-up", "watch"),
    ("chosen, pruned", COLOURS["vermillion"], "x", "prune"),
)


def neurons_figure(neurons, variant, webgl=None, thresholds=(0.5, 0.25)):
    """Deactivation D against reactivation R of single neurons.

    neurons      rows of neurons.parquet (dicts); rows without D and R are left out by the caller
    webgl        None: above 1000 points. The HTML report must say False: the strict content policy
                 of the file forbids the code plotly's WebGL generates
    thresholds   D above which a neuron counts as silenced, R above which as woken
    """
    figure = _points(neurons, f"d_{variant}", f"r_{variant}", "D = %{x:.2f}, R = %{y:.2f}", webgl)
    silenced, woken = thresholds
    line = {"color": COLOURS["grey"], "width": 1, "dash": "dot"}
    figure.add_vline(x=silenced, line=line)
    figure.add_hline(y=woken, line=line)
    for x, y, text, anchor in (
        (0.995, 0.985, "silenced, then woken", "right"),
        (0.995, 0.02, "silenced, stays quiet", "right"),
        (0.01, 0.02, "not silenced", "left"),
    ):
        _corner(figure, x, y, text, anchor)
    low, high = FRAME
    outside = sum(not all(low <= neuron[f"{key}_{variant}"] <= high for key in "dr") for neuron in neurons)
    layout(figure, height=430, margin={"l": 56, "r": 12, "t": 40, "b": 52}, legend=LEGEND)
    figure.update_layout(dragmode="zoom")
    frame = {"zeroline": True, "zerolinecolor": "#c9c9c9", "range": list(FRAME)}
    figure.update_xaxes(
        title={"text": "deactivation D (1 = silenced fully)" + (f"; {outside} outside this frame" if outside else ""), "standoff": 8},
        **frame,
    )
    figure.update_yaxes(title={"text": "reactivation R (1 = woken fully)", "standoff": 4}, **frame)
    return figure


def waking_figure(neurons, variant, webgl=None, unit="the score's own unit"):
    """What the concept does to a neuron in the base model, against what the attack does to it in a variant.

    neurons   rows of neurons.parquet with score_b, in the unit of the choosing score, and delta_<variant>, in the base model's
              standard deviations; points carry the neuron's id, layer:number
    unit      what the score counts, from summary.score_unit
    """
    figure = _points(neurons, "score_b", f"delta_{variant}", "score %{x:.2f}, δ = %{y:.2f}", webgl)
    _corner(figure, 0.995, 0.985, "carries the concept, woken by the attack", "right")
    _corner(figure, 0.995, 0.02, "carries the concept, not woken", "right")
    layout(figure, height=430, margin={"l": 56, "r": 12, "t": 40, "b": 52}, legend=LEGEND)
    figure.update_layout(dragmode="zoom")
    zero = {"zeroline": True, "zerolinecolor": "#8a8a8a"}
    figure.update_xaxes(title={"text": f"score in the base model, evaluation half ({escape(unit, quote=False)})", "standoff": 8}, **zero)
    figure.update_yaxes(title={"text": f"δ in {escape(variant)}: attack minus control", "standoff": 4}, **zero)
    return figure


def _points(neurons, x, y, words, webgl):
    """A trace per role, on canvas when there are many points."""
    Scatter = go.Scattergl if (len(neurons) > 1000 if webgl is None else webgl) else go.Scatter
    figure = go.Figure()
    for name, colour, symbol, role in ROLES:
        part = [neuron for neuron in neurons if _role(neuron) == role]
        if part:
            figure.add_trace(
                Scatter(
                    x=[neuron[x] for neuron in part],
                    y=[neuron[y] for neuron in part],
                    mode="markers",
                    name=f"{name} ({len(part)})",
                    marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
                    customdata=[[escape(str(n["layer"])), n["index"], f"{n['layer']}:{n['index']}"] for n in part],
                    hovertemplate="%{customdata[0]}, neuron %{customdata[1]}<br>" + words + "<extra></extra>",
                )
            )
    return figure


def _corner(figure, x, y, text, anchor):
    figure.add_annotation(
        x=x,
        y=y,
        xref="paper",
        yref="paper",
        text=f"<i>{text}</i>",
        showarrow=False,
        xanchor=anchor,
        bgcolor="rgba(255,255,255,0.8)",
        borderpad=1,
        font={"color": COLOURS["grey"], "size": 12},
    )


def _role(neuron):
    for column, role in (("in_prune", "prune"), ("in_watch", "watch"), ("in_concept", "chosen")):
        if neuron.get(column):
            return role
    return ""
