"""One look for all figures: colours that stay apart for the colour-blind, symbols, a light layout that prints."""

from typing import Any

Plot = Any  # a plotly figure; plotly has no types, and is imported when something is drawn
# Okabe and Ito's palette (colour-blind safe), without yellow, which is lost on white paper.
COLOURS = {
    "black": "#1b1b1b",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "green": "#009e73",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "purple": "#cc79a7",
    "grey": "#767676",
}
PALETTE = [COLOURS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "black", "sky")]
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
BAND = "#dedede"
LEGEND = {
    "orientation": "h",
    "x": 0,
    "xref": "container",
    "xanchor": "left",
    "y": 1,
    "yref": "container",
    "yanchor": "top",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


def layout(figure: Plot, **more: Any) -> Plot:
    """A small, light, printable layout: no template, one font, white paper."""
    figure.update_layout(
        template=None,
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        font={"family": FONT, "size": 13, "color": "#1b1b1b"},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        dragmode=False,
        **more,
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(gridcolor="#eeeeee", linecolor="#c9c9c9", zeroline=False, title_font_size=13)
    return figure
