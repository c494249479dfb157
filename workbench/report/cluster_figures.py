"""Clusters of neurons: where they lie, what they do along the sampling run, what erasing and attacks do to them."""

from html import escape

import plotly.graph_objects as go

from workbench.report import wording
from workbench.report.charts import forest
from workbench.report.charts.forest import COLOURS, LEGEND, layout
from workbench.report.charts.lines import SYMBOLS, activity_by_call_figure

PALETTE = [COLOURS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "black", "sky")]
NONE = {"colour": COLOURS["grey"], "symbol": "circle-open"}


def look(cluster):
    """Colour and symbol of a cluster; -1 = in none."""
    place = int(cluster)
    return NONE if place < 0 else {"colour": PALETTE[place % len(PALETTE)], "symbol": SYMBOLS[place % len(SYMBOLS)]}


def cluster_map_figure(neurons, webgl=None):
    """Every clustered neuron on the two directions of largest variance of its features, made on half A.

    neurons   rows of neurons.parquet with cluster, cluster_x, cluster_y;  webgl   as of neuron_figures.neurons_figure
    """
    Scatter = go.Scattergl if (len(neurons) > 1000 if webgl is None else webgl) else go.Scatter
    figure = go.Figure()
    for number in sorted({neuron["cluster"] for neuron in neurons}, key=lambda number: (number < 0, number)):
        mine, own = [neuron for neuron in neurons if neuron["cluster"] == number], look(number)
        figure.add_trace(
            Scatter(
                x=[neuron["cluster_x"] for neuron in mine],
                y=[neuron["cluster_y"] for neuron in mine],
                mode="markers",
                name=f"{'in no cluster' if number < 0 else f'cluster {number:.0f}'} ({len(mine)})",
                marker={"color": own["colour"], "symbol": own["symbol"], "size": 6, "opacity": 0.7},
                customdata=[[escape(f"{neuron['layer']}:{neuron['index']}")] for neuron in mine],
                hovertemplate="%{customdata[0]}<extra></extra>",
            )
        )
    layout(figure, height=430, margin={"l": 56, "r": 12, "t": 40, "b": 52}, legend=LEGEND)
    figure.update_xaxes(title={"text": "first direction of largest variance", "standoff": 8})
    figure.update_yaxes(title={"text": "second", "standoff": 4})
    return figure


def cluster_profiles_figure(rows, variants=()):
    """Mean contrast of each cluster along the sampling run, one panel per cluster, one line per condition."""
    several = [
        row | {"variant": f"cluster {row['cluster']}", "prompt_set": _condition(row), "attack": None, "control": False}
        for row in wording.arranged(rows, variants)
    ]
    names = [f"cluster {number}" for number in sorted({row["cluster"] for row in rows})]
    return activity_by_call_figure(several, names, guides=(0,), y_title="contrast (base standard deviations)")


def cluster_effects_figure(rows, variants=()):
    """Deactivation and reactivation of each cluster, in shares of its own base contrast, beside matched random sets."""
    rows = [row for row in wording.arranged(rows, variants) if row["effect"] != "sensitivity"]
    places = {name: place for place, name in enumerate(wording.EFFECTS)}
    rows.sort(key=lambda row: (places.get(row["effect"], len(places)), row["cluster"]))
    return forest.figure(
        rows,
        group=lambda row: wording.EFFECTS.get(row["effect"], row["effect"]),
        label=lambda row: [f"cluster {row['cluster']}, {row['variant']}", row["attack"] and _condition(row)],
        style=lambda row: look(row["cluster"]) | {"name": f"cluster {row['cluster']}"},
        guides=((0, "no effect"), (1, "all of it")),
        row_band=("random_low", "random_high"),
        title="share of the cluster's base contrast (95 % interval; grey: matched random sets)",
    )


def _condition(row):
    made = wording.provenance(row)
    return f"{row['variant']}, {wording.condition(row)}" + (f" ({made})" if made else "")
