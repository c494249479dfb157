"""The forest plot most figures of the report are: one line per row, value, interval, words. Imports plotly when it draws."""

from collections.abc import Callable, Sequence
from html import escape
from textwrap import wrap
from typing import Any

from workbench.report import wording
from workbench.report.charts.style import BAND, LEGEND, Plot, layout, overlaid, upright
from workbench.report.content import Row

MATCHED = "range of matched random sets"
LINE, SMALL_LINE = 27, 37
Shapes = list[dict[str, Any]]
WRAP, HEAD_WRAP, HEAD_LINE = 30, 38, 0.65  # letters of a reason and of a heading, rows that a line of a heading takes


def figure(
    rows: Sequence[Row],
    *,
    group: Callable[[Row], Any],
    label: Callable[[Row], Sequence[Any]],
    style: Callable[[Row], dict[str, str]],
    title: str,
    value: str = "value",
    shares: bool = False,
    same: Callable[[Row], Any] | None = None,
    band: Callable[[Row], bool] = lambda row: False,
    behind: tuple[str, str, str] | None = None,
    guides: Sequence[tuple[float, str]] = (),
    note: Callable[[Row], str] = lambda row: "",
) -> Plot:
    """One line per row under the heading of its group, in the order given.

    rows     dicts with the column `value`, low, high, n and reason
    label    row -> parts of the text at the left; the second part is set small
    style    row -> {colour, symbol, name}; rows of one name are one entry of the legend
    shares   whether values are fractions in [0, 1], drawn as per cent
    same     row -> key; neighbours with the same key share one label
    band     row -> True when the row is drawn as the grey band behind its neighbours
    behind   (low, high, name): columns drawn as a grey band behind the row itself, and what the legend calls it
    guides   (x, words) vertical lines;   note   row -> words after the numbers at the right
    """
    import plotly.graph_objects as go

    form, scale = (wording.percent, 100) if shares else (wording.number, 1)
    row_band, band_name = (behind[:2], behind[2]) if behind else (None, MATCHED)
    lines: list[Row] = []
    bands: list[Row] = []
    heads: list[tuple[float, float, list[str]]] = []
    y = 0.0
    group_now, key_now = None, None
    for row in rows:
        if group(row) != group_now:
            group_now, key_now, y = group(row), None, y + (0.3 if lines else 0)
            words = wrap(str(group_now), HEAD_WRAP) or [""]
            more = max(0.0, HEAD_LINE * len(words) - 1)
            heads.append((y, y + more / 2, words))
            y += 1 + more
        key = same(row) if same else object()
        line = {"row": row, "y": y, "first": key != key_now, "key": (group_now, key)}
        key_now = key
        if band(row) and row[value] is not None:
            bands.append(line)
            continue
        lines.append(line)
        y += 1
    y = _behind(bands, lines, y)
    built = go.Figure()
    bottom = max(y - 0.4, 0.6)
    shapes = _bands(built, bands, lines, row_band, scale, band_name)
    _markers(built, lines + [line for line in bands if not line["own"]], style, value, scale)
    shapes += [upright(x, {"color": "#8a8a8a", "width": 1, "dash": "dot"}) for x, _ in guides]
    words_of_guide = {"y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": "#595959"}}
    words_beside = [words_of_guide | {"x": x, "text": name} for x, name in guides]
    labels = [_label(label(line["row"])) if line["first"] else "" for line in lines]
    notes = any(note(line["row"]) for line in lines)
    two_lines = any("<br>" in words for words in labels)
    two_lines = two_lines or any(line["row"][value] is None for line in lines)
    row_height = SMALL_LINE if two_lines else LINE
    top = 44 + (30 if guides else 0)
    layout(
        built,
        height=round(top + 52 + row_height * (bottom + 0.6)),
        margin={"l": 8, "r": 250 if notes else 190, "t": top, "b": 52},
        legend=LEGEND,
    )
    built.update_xaxes(title={"text": title, "standoff": 8})
    if shares:
        built.update_xaxes(range=[-2, 102])
    built.update_yaxes(
        range=[bottom, -0.6],
        tickvals=[at for _, at, _ in heads] + [line["y"] for line in lines],
        ticktext=["<br>".join(f"<b>{escape(line)}</b>" for line in words) for *_, words in heads] + labels,
        ticks="",
        showgrid=False,
        showline=False,
        automargin=True,
    )
    words_beside += [_numbers(line, value, form, note) for line in lines]
    rule = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "line": {"color": "#dddddd", "width": 1}}
    shapes += [rule | {"y0": at - 0.68, "y1": at - 0.68} for at, *_ in heads[1:]]
    return overlaid(built, shapes, words_beside)


def _label(parts: Sequence[Any]) -> str:
    first, *rest = [escape(part) for part in parts if part]
    small = f"<br><span style='font-size:11px;color:#595959'>{', '.join(rest)}</span>" if rest else ""
    return first + small


def _behind(bands: list[Row], lines: list[Row], y: float) -> float:
    """Give each band the place of the rows it stands behind, or a line of its own."""
    for line in bands:
        same = [other["y"] for other in lines if other["key"] == line["key"]]
        line["from"], line["to"] = (min(same), max(same)) if same else (y, y)
        line["y"] = (line["from"] + line["to"]) / 2
        line["own"] = not same
        if not same:
            lines.append(line)
            y += 1
    return y


def _bands(built: Plot, bands: list[Row], lines: list[Row], row_band: Sequence[str] | None, scale: float, band_name: str) -> Shapes:
    """The shapes of grey rectangles: of a row's own columns, or of a "random" row behind its neighbours; their entry in the legend."""
    import plotly.graph_objects as go

    rectangles = [
        (line["row"]["low"], line["row"]["high"], line["from"], line["to"])
        for line in bands
        if None not in (line["row"]["low"], line["row"]["high"])
    ]
    for line in lines if row_band else ():
        low, high = (line["row"][name] for name in row_band or ())
        if None not in (low, high):
            rectangles.append((low, high, line["y"], line["y"]))
    if rectangles:
        built.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name="range and median of matched random sets" if bands else band_name,
                marker={"symbol": "square", "size": 14, "color": BAND},
            )
        )
    look = {"type": "rect", "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
    return [look | {"x0": low * scale, "x1": high * scale, "y0": first - 0.42, "y1": last + 0.42} for low, high, first, last in rectangles]


def _markers(built: Plot, lines: list[Row], style: Callable[[Row], dict[str, str]], value: str, scale: float) -> None:
    """One trace per look; nulls keep their place with x = None, so that no row is lost."""
    import plotly.graph_objects as go

    looks: dict[str, tuple[dict[str, str], list[tuple[int, Row]]]] = {}
    for place, line in enumerate(lines):
        look = style(line["row"])
        looks.setdefault(look["name"], (look, []))[1].append((place, line))
    for look, members in looks.values():
        scaled: list[dict[str, Any]] = [
            {name: None if line["row"][name] is None else line["row"][name] * scale for name in (value, "low", "high")}
            for _, line in members
        ]
        known = [
            all(number is not None for number in numbers.values()) and "from" not in line
            for numbers, (_, line) in zip(scaled, members, strict=True)
        ]
        built.add_trace(
            go.Scatter(
                x=[numbers[value] for numbers in scaled],
                y=[line["y"] for _, line in members],
                mode="markers",
                name=escape(look["name"]),
                showlegend=any("from" not in line and line["row"][value] is not None for _, line in members),
                marker={
                    "color": look["colour"],
                    "symbol": look["symbol"],
                    "size": 10,
                    "line": {
                        "color": look["colour"],
                        "width": 2 if "open" in look["symbol"] else 0,
                    },
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(s["high"] - s[value], 0) if k else None for s, k in zip(scaled, known, strict=True)],
                    "arrayminus": [max(s[value] - s["low"], 0) if k else None for s, k in zip(scaled, known, strict=True)],
                    "color": look["colour"],
                    "thickness": 1.6,
                    "width": 4,
                },
                customdata=[[place, line["row"].get("n")] for place, line in members],
                hovertemplate="%{x:.3g} (n = %{customdata[1]})<extra>" + escape(look["name"]) + "</extra>",
            )
        )


def _numbers(line: Row, value: str, form: wording.Form, note: Callable[[Row], str]) -> dict[str, Any]:
    """The annotation with the numbers of a row at its right; of a null the reason, never a zero."""
    row = line["row"]
    if row[value] is None:
        reason = wrap(f"{wording.DASH} {row.get('reason') or 'not measured'}", WRAP)
        if len(reason) > 2:
            reason = [reason[0], f"{reason[1][: WRAP - 1]}…"]
        text = f"<i>{'<br>'.join(map(escape, reason))}</i>"
    else:
        interval = wording.span(row["low"], row["high"], form)
        text = f"<b>{form(row[value])}</b>" + (f"  ({interval})" if interval else "")
        text += f"  {escape(note(row))}"
    return {
        "x": 1,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 10,
        "y": line["y"],
        "text": text,
        "showarrow": False,
        "align": "left",
        "font": {"size": 12 if row[value] is not None else 11},
    }
