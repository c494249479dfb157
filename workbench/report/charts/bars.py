"""Signed bars lying on their side, in groups of the same name, with intervals. Imports plotly when it draws.

figure   series of bars side by side;  Series   one of them
"""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.report import wording
from workbench.report.charts.style import LEGEND, PALETTE, Plot, layout

PATTERNS = ("", "/", "x", ".", "-", "+")
ROW, GAP, TOP, FOOT = 15, 9, 50, 52


@dataclass(frozen=True)
class Series:
    """Bars of one colour and pattern: `values[i]` belongs to name i of the figure, None = there is none; `n` as words for the hover."""

    name: str
    values: Sequence[float | None]
    lows: Sequence[float | None]
    highs: Sequence[float | None]
    n: Sequence[int | None]
    ids: Sequence[str] = ()


def figure(series: Sequence[Series], names: Sequence[str], x_title: str, digits: int = 4) -> Plot:
    """A group of bars per name, the first at the top; the ids of a series, where given, travel in `customdata`."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    places = list(range(len(names)))
    for at, one in enumerate(series):
        colour, shape = PALETTE[at % len(PALETTE)], PATTERNS[at % len(PATTERNS)]
        arms = [
            [None if value is None or end is None else abs(end - value) for value, end in zip(one.values, ends, strict=True)]
            for ends in (one.highs, one.lows)
        ]
        known = any(arm is not None for arm in arms[0])
        form = wording.digits(digits)
        hover = [
            f"{name}<br>{one.name}: {wording.with_n({'value': value, 'low': low, 'high': high, 'n': n, 'reason': 'not stored'}, form=form)}"
            for name, value, low, high, n in zip(names, one.values, one.lows, one.highs, one.n, strict=True)
        ]
        drawn.add_trace(
            go.Bar(
                x=list(one.values),
                y=places,
                orientation="h",
                name=one.name,
                marker={"color": colour, "pattern": {"shape": shape, "bgcolor": colour, "fgcolor": "#ffffff", "size": 5, "solidity": 0.25}},
                error_x={"array": arms[0], "arrayminus": arms[1], "thickness": 1, "width": 2, "color": "#1b1b1b"} if known else None,
                customdata=[[name] for name in one.ids] or None,
                hovertext=hover,
                hoverinfo="text",
            )
        )
    height = TOP + FOOT + (ROW * len(series) + GAP) * len(names)
    layout(drawn, height=max(height, 180), margin={"l": 8, "r": 12, "t": TOP, "b": FOOT}, legend=LEGEND, barmode="group", bargap=0.25)
    drawn.update_xaxes(title={"text": x_title, "standoff": 8}, zeroline=True, zerolinecolor="#8a8a8a")
    drawn.update_yaxes(tickvals=places, ticktext=list(names), range=[len(names) - 0.5, -0.5], showgrid=False, automargin=True)
    return drawn
