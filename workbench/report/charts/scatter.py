"""Points: one trace per group of them, on canvas when there are many. Imports plotly when it draws.

figure   groups of points in one plane;  corner   words in a corner of it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.report.charts.style import COLOURS, LEGEND, layout, level, overlaid, upright

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 1000


@dataclass(frozen=True)
class Group:
    """Points of one look; data is a list per point for the hover text, a plotly template."""

    name: str
    colour: str
    symbol: str
    x: list[float]
    y: list[float]
    data: list[list[Any]]


def figure(groups: Sequence[Group], hover: str, x_title: str, y_title: str, *, size: int = 7, webgl: bool | None = None) -> "go.Figure":
    """Groups of points.

    webgl   draw on canvas; None: above MANY points. The HTML report must say False: the strict content policy of the file forbids
            the code that plotly's WebGL generates
    """
    import plotly.graph_objects as go

    many = sum(len(group.x) for group in groups) > MANY
    Scatter = go.Scattergl if (many if webgl is None else webgl) else go.Scatter
    drawn = go.Figure()
    for group in groups:
        drawn.add_trace(
            Scatter(
                x=group.x,
                y=group.y,
                mode="markers",
                name=f"{group.name} ({len(group.x)})",
                marker={"color": group.colour, "symbol": group.symbol, "size": size, "opacity": 0.7},
                customdata=group.data,
                hovertemplate=f"{hover}<extra></extra>",
            )
        )
    layout(drawn, height=430, margin={"l": 56, "r": 12, "t": 40, "b": 52}, legend=LEGEND)
    drawn.update_xaxes(title={"text": x_title, "standoff": 8})
    drawn.update_yaxes(title={"text": y_title, "standoff": 4})
    return drawn


def corner(drawn: "go.Figure", x: float, y: float, text: str, anchor: str) -> None:
    """Words at (x, y), fractions of the plane."""
    drawn.add_annotation(
        x=x,
        y=y,
        xref="paper",
        yref="paper",
        text=f"<i>{text}</i>",
        showarrow=False,
        xanchor=anchor,
        align=anchor,
        bgcolor="rgba(255,255,255,0.8)",
        borderpad=1,
        font={"color": COLOURS["grey"], "size": 12},
    )


def lines_at(drawn: "go.Figure", x: float, y: float) -> None:
    """A vertical and a horizontal dotted line through (x, y)."""
    line = {"color": COLOURS["grey"], "width": 1, "dash": "dot"}
    overlaid(drawn, [upright(x, line), level(y, line)])
