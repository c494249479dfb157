"""One look for all figures: colours that stay apart for the colour-blind, symbols, a light layout that prints."""

from collections.abc import Sequence
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


def overlaid(figure: Plot, shapes: Sequence[dict[str, Any]] = (), annotations: Sequence[dict[str, Any]] = ()) -> Plot:
    """Shapes and words on a figure, all at once: with each one added alone plotly checks all that are there again."""
    if shapes:
        figure.layout.shapes = [*figure.layout.shapes, *shapes]
    if annotations:
        figure.layout.annotations = [*figure.layout.annotations, *annotations]
    return figure


def upright(x: float, line: dict[str, Any], axis: str = "") -> dict[str, Any]:
    """The shape of a vertical line through a panel, by the number of its axes."""
    return {"type": "line", "x0": x, "x1": x, "xref": f"x{axis}", "y0": 0, "y1": 1, "yref": f"y{axis} domain", "line": line}


def level(y: float, line: dict[str, Any], axis: str = "", **more: Any) -> dict[str, Any]:
    """The shape of a horizontal line through a panel, by the number of its axes."""
    return {"type": "line", "x0": 0, "x1": 1, "xref": f"x{axis} domain", "y0": y, "y1": y, "yref": f"y{axis}", "line": line} | more
