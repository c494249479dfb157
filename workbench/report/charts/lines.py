"""Panels of lines with bands side by side, each line with markers; the names of the lines above. Imports plotly when it draws.

figure   lines -> panels;  Line   one of them;  say   words in the place of a line that could not be measured
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from workbench.report import wording
from workbench.report.charts.style import LEGEND, Plot, layout, level, overlaid

if TYPE_CHECKING:
    import plotly.graph_objects as go

PANEL, TOP = 230, 74
NARROWEST = 600  # pixels that panels and legend have on the smallest screen
TITLE, TITLE_LINE = 34, 16  # letters of a panel's title beside another, and pixels of its further lines
LETTER, KEY, KEY_LINE = 6.8, 46, 20  # pixels of a letter, of the line and marker before it, of a line of the legend


@dataclass(frozen=True)
class Line:
    """A line of markers in a panel.

    name     in the legend, which names each once
    steps    whether a value holds until the next x;   mode   "lines+markers" or "markers"
    band     (lows, highs) drawn as an area behind it, or None;   band_colour   default the line's
    data     a list per point for the hover text, a plotly template
    more     further properties of the plotly trace
    """

    panel: str
    name: str
    x: list[float]
    y: list[float | None]
    colour: str
    symbol: str = "circle"
    dash: str = "solid"
    steps: bool = False
    mode: str = "lines+markers"
    size: float | list[float] = 6
    band: tuple[list[float], list[float]] | None = None
    band_colour: str | None = None
    data: list[list[Any]] = field(default_factory=list)
    hover: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def figure(
    lines: Sequence[Line],
    panels: Sequence[str],
    x_title: str,
    y_title: str,
    *,
    shared_x: bool = False,
    shared_y: bool = True,
    missing: Sequence[tuple[str, str, float]] = (),
    guides: Sequence[float] = (),
    shaded: Sequence[float] | None = None,
) -> "go.Figure":
    """One panel per name of `panels`, two beside each other, with the lines that belong there.

    missing   (panel, why, height from 0 to 1): words in place of a line
    guides    levels drawn as dotted lines;   shaded   (first, last) x of a shaded range
    """
    import plotly.graph_objects as go

    drawn, shown = empty_panels(panels, shared_x, "all" if shared_y else False), set()
    for panel, why, height in missing:
        say(drawn, why, cell(panels, panel), height)
        if not shared_y and not any(line.panel == panel for line in lines):
            for update in (drawn.update_xaxes, drawn.update_yaxes):
                update(showticklabels=False, showgrid=False, **cell(panels, panel))
    for line in lines:
        where = cell(panels, line.panel)
        if line.band:
            drawn.add_trace(_band(line), **where)
        drawn.add_trace(
            go.Scatter(
                x=line.x,
                y=line.y,
                mode=line.mode,
                name=escape(line.name),
                legendgroup=line.name,
                showlegend=line.name not in shown,
                line={"color": line.colour, "dash": line.dash, "width": 2} | ({"shape": "hv"} if line.steps else {}),
                marker={"symbol": line.symbol, "size": line.size, "color": line.colour},
                customdata=line.data,
                hovertemplate=line.hover,
                **line.more,
            ),
            **where,
        )
        shown.add(line.name)
    # plotly.js draws no axes without a trace
    filled = [axis(place) for place, name in enumerate(panels) if name in {line.panel for line in lines} | {panel for panel, *_ in missing}]
    shapes = [level(guide, {"color": "#767676", "width": 1, "dash": "dot"}, number) for guide in guides for number in filled]
    if shaded and lines:
        area = {"type": "rect", "x0": shaded[0], "x1": shaded[1], "y0": 0, "y1": 1} | {"fillcolor": "#f3efe2", "line": {"width": 0}}
        shapes += [area | {"xref": f"x{number}", "yref": f"y{number} domain", "layer": "below"} for number in filled]
    overlaid(drawn, shapes)
    return finished(drawn, panels, x_title, y_title)


def empty_panels(names: Sequence[str], shared_xaxes: bool, shared_yaxes: str | bool = "all") -> "go.Figure":
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


def finished(figure: "go.Figure", names: Sequence[str], x_title: str, y_title: str) -> "go.Figure":
    """The figure with sizes, titles and legend."""
    top = TOP + _more_title(names) + _more_legend(figure)
    layout(figure, height=top + 52 + _inner_height(names), margin={"l": 56, "r": 16, "t": top, "b": 52})
    figure.update_xaxes(title={"text": x_title, "standoff": 6}, row=_depth(names))
    figure.update_yaxes(title={"text": y_title, "standoff": 4}, col=1)
    for place, annotation in enumerate(figure.layout.annotations[: len(names)]):
        annotation.update(x=figure.layout[f"xaxis{axis(place)}"].domain[0], xanchor="left", align="left", font={"size": 13})
    figure.update_layout(legend=LEGEND)
    return figure


def say(figure: "go.Figure", reason: str, where: dict[str, int], y: float = 0.5) -> None:
    """Words in a panel, at a share of its height, in the place of a line that could not be measured."""
    import plotly.graph_objects as go

    words = "<br>".join(map(escape, wrap(f"{wording.DASH} {reason}", TITLE)))
    # plotly.js draws no axes without a trace, and moves what refers to them into the first panel
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", showlegend=False, hoverinfo="skip"), **where)
    place = {"x": 0.5, "y": y, "xref": "x domain", "yref": "y domain"}
    figure.add_annotation(text=f"<i>{words}</i>", showarrow=False, font={"size": 11, "color": "#595959"}, **place, **where)


def axis(place: int) -> str:
    """The number of a panel's axes, as plotly counts them: "", 2, 3, ..."""
    return str(place + 1) if place else ""


def cell(names: Sequence[str], name: str) -> dict[str, int]:
    """Row and column of a panel."""
    row, column = divmod(list(names).index(name), _columns(names))
    return {"row": row + 1, "col": column + 1}


def _band(line: Line) -> Plot:
    """The intervals of a line, as a filled area."""
    import plotly.graph_objects as go

    x, (low, high) = line.x, line.band or ([], [])
    if line.steps:
        x, low, high = (_steps(values, first) for values, first in ((x, False), (low, True), (high, True)))
    return go.Scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        fill="toself",
        fillcolor=line.band_colour or line.colour,
        opacity=0.13,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=line.name,
    )


def _steps(values: list[Any], holds: bool) -> list[Any]:
    """Corners of a step line: the value holds until the next place, or the place is the next one's."""
    doubled = [value for value in values for _ in range(2)]
    return doubled[:-1] if holds else doubled[1:]


def _columns(names: Sequence[str]) -> int:
    return 2 if len(names) > 1 else 1


def _depth(names: Sequence[str]) -> int:
    return -(-len(names) // _columns(names)) or 1


def _title(name: str, names: Sequence[str]) -> list[str]:
    """The lines of a panel's title."""
    return wrap(str(name), TITLE if len(names) > 1 else 2 * TITLE) or [""]


def _more_title(names: Sequence[str]) -> int:
    """Pixels that titles take beyond their first line."""
    return TITLE_LINE * (max((len(_title(name, names)) for name in names), default=1) - 1)


def _more_legend(figure: Plot) -> int:
    """Pixels that the legend takes beyond its first line on the smallest screen; in a full line all entries have the widest one's width."""
    widths = [KEY + LETTER * len(trace.name) for trace in figure.data if trace.name and trace.showlegend is not False]
    if sum(widths) <= NARROWEST:
        return 0
    return KEY_LINE * (-(-len(widths) // max(1, int(NARROWEST // max(widths)))) - 1)


def _inner_height(names: Sequence[str]) -> int:
    """Pixels from the top of the first panel to the bottom of the last."""
    depth = _depth(names)
    return PANEL * depth + _more_title(names) * (depth - 1)
