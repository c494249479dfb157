"""A section's figure or table on a page, with its alternative text."""

from collections.abc import Callable
from typing import Any, Literal

import pandas
import streamlit as st

from workbench.report.charts.style import CONFIG
from workbench.report.section import Drawing, Figure
from workbench.report.table import View
from workbench.ui.text import plain

WIDE = 740
LEGEND_LINES = 30


def figure(
    figure: Figure,
    *arguments: Any,
    caption: str | None = None,
    key: str | None = None,
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
    **options: Any,
) -> None:
    """A figure of the report; on a narrow screen it scrolls instead of shrinking.

    arguments, options   what its `draw` and `alt` take
    on_select            called without arguments when points are picked; what was picked is in the session under `key`
    """
    with st.grid(1, min_column_width=WIDE, wrap=False), st.container():
        chart(figure, *arguments, key=key, on_select=on_select, **options)
    if caption:
        st.caption(caption)


def chart(
    figure: Figure, *arguments: Any, key: str | None = None, on_select: Callable[[], None] | Literal["ignore"] = "ignore", **options: Any
) -> None:
    """A figure of the report where it stands, as wide as its place."""
    drawing = Drawing("", arguments, options)
    drawn = figure.drawn(drawing)
    if figure.forest:
        # on a page a forest plot is narrower than in the report, and its legend takes more lines
        drawn.update_layout(height=drawn.layout.height + LEGEND_LINES, margin_t=drawn.layout.margin.t + LEGEND_LINES)
    st.plotly_chart(drawn, theme=None, config=CONFIG, alt=figure.words(drawing), key=key, on_select=on_select, selection_mode="points")


def table(view: View) -> None:
    """A table of the report under its title; nothing when it has no rows."""
    if view.rows:
        st.caption(f"**{plain(view.title)}**")
        cells = [dict(zip(view.head, map(plain, row), strict=True)) for row in view.rows]
        st.table(cells, hide_index=True, alt=f"{view.title}, {len(cells)} rows")


def frame(view: View) -> None:
    """A long table of the report under its title, one that scrolls; nothing when it has no rows."""
    if view.rows:
        st.markdown(f"**{plain(view.title)}**")
        st.dataframe(pandas.DataFrame(view.rows, columns=view.head), hide_index=True, alt=f"{view.title}, {len(view.rows)} rows")
