"""A section's figure or table on a page, with its alternative text."""

import hashlib
import pickle
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import streamlit as st

from workbench.report.charts.style import CONFIG
from workbench.report.section import Drawing, Figure
from workbench.report.table import View
from workbench.ui import layer_names
from workbench.ui.text import plain

if TYPE_CHECKING:
    import pandas

WIDE = 740
LEGEND_LINES = 30


def figure(
    figure: Figure,
    *arguments: Any,
    caption: str | None = None,
    key: str | None = None,
    on_select: Callable[[], None] | Literal["ignore", "rerun"] = "ignore",
    area: bool = False,
    cached: Hashable = None,
    **options: Any,
) -> None:
    """A figure of the report; on a narrow screen it scrolls instead of shrinking.

    arguments, options   what its `draw` and `alt` take
    on_select            called without arguments when points are picked; what was picked is in the session under `key`
    area                 whether points are picked by drawing a line or box around them, and not one by one
    cached               what the figure depends on, such as the stamp of the run: it is drawn once for each. None: its arguments
                         themselves, which takes a moment where they are large
    """
    with st.grid(1, min_column_width=WIDE, wrap=False), st.container():
        chart(figure, *arguments, key=key, on_select=on_select, area=area, cached=cached, **options)
    if caption:
        st.caption(caption)


def chart(
    figure: Figure,
    *arguments: Any,
    key: str | None = None,
    on_select: Callable[[], None] | Literal["ignore", "rerun"] = "ignore",
    area: bool = False,
    cached: Hashable = None,
    **options: Any,
) -> None:
    """A figure of the report where it stands, as wide as its place."""
    drawing = Drawing("", arguments, options)
    name = f"{figure.draw.__module__}.{figure.draw.__qualname__}"
    same = _same(drawing) if cached is None else cached
    drawn, words = _kept(name, area, same, figure, drawing)
    mode: Any = ("box", "lasso") if area else "points"
    st.plotly_chart(drawn, theme=None, config=CONFIG, alt=words, key=key, on_select=on_select, selection_mode=mode)


def _same(drawing: Drawing) -> bytes:
    """What is equal for drawings of equal arguments: pages draw the same figure at every interaction."""
    return hashlib.blake2b(pickle.dumps((drawing.arguments, drawing.options)), digest_size=16).digest()


@st.cache_resource(max_entries=64, show_spinner=False)
def _kept(name: str, area: bool, key: Hashable, _figure: Figure, _drawing: Drawing) -> tuple[Any, str]:
    """(plotly figure, its alternative text), drawn once for a key. All sessions share it, so nobody may change it."""
    return _made(_figure, _drawing, area)


def _made(figure: Figure, drawing: Drawing, area: bool) -> tuple[Any, str]:
    drawn = figure.drawn(drawing)
    if figure.forest:
        # on a page a forest plot is narrower than in the report, and its legend takes more lines
        drawn.update_layout(height=drawn.layout.height + LEGEND_LINES, margin_t=drawn.layout.margin.t + LEGEND_LINES)
    if area:
        drawn.update_layout(dragmode="lasso")
    return drawn, figure.words(drawing)


def heat_map(cells: "pandas.DataFrame", key: str, title: str) -> None:
    """Rows layers, columns calls, of shares; a cell can be selected. The number stands in each cell, so colour is not the only cue."""
    most = max(float(cells.abs().to_numpy().max()), 1e-9)
    shown = (100 * cells).rename(columns=lambda call: f"call {call}", index=layer_names.names(cells.index))
    coloured = shown.style.format(lambda value: f"{value:+.1f}".replace("-", "−")).map(lambda value: _colour(value / (100 * most)))
    st.dataframe(coloured, key=key, on_select="rerun", selection_mode="single-cell", alt=f"{title}: {_extremes(shown)}")


def _colour(share: float) -> str:
    """Orange for a gain, blue for a loss, the stronger the larger; black text on all of them."""
    far = (0, 114, 178) if share < 0 else (213, 94, 0)
    strength = 0.65 * min(1.0, abs(share))
    colour = ", ".join(str(round(255 + (one - 255) * strength)) for one in far)
    return f"background-color: rgb({colour}); color: #111111"


def _extremes(cells: "pandas.DataFrame") -> str:
    """The largest loss and the largest gain in words."""
    values = [(value, layer, call) for call, column in cells.items() for layer, value in column.items()]
    return "; ".join(
        f"{word} {value:+.1f} % in {layer} at {call}" for word, (value, layer, call) in (("least", min(values)), ("most", max(values)))
    )


def neuron_links(part: "pandas.DataFrame", run: str) -> None:
    """Neurons with their part of a change, each with a link to its card."""
    import pandas

    rows = [
        {
            "Neuron": f"{layer_names.short(layer)} {layer_names.DOT} {index}",
            "Change (% of the base model's contrast)": f"{100 * change:+.2f}".replace("-", "−"),
            "Card": f"/neuron?{urlencode({'run': run, 'neuron': f'{layer}:{index}'})}",
        }
        for layer, index, change in zip(part["layer"], part["index"], part["change"], strict=True)
    ]
    link = st.column_config.LinkColumn("Card", display_text="open card")
    alt = f"{len(rows)} neurons with their part of the change"
    st.dataframe(pandas.DataFrame(rows), hide_index=True, column_config={"Card": link}, alt=alt)


def table(view: View) -> None:
    """A table of the report under its title; nothing when it has no rows."""
    if view.rows:
        st.caption(f"**{plain(view.title)}**")
        cells = [dict(zip(view.head, map(plain, row), strict=True)) for row in view.rows]
        st.table(cells, hide_index=True, alt=f"{view.title}, {len(cells)} rows")


def frame(view: View) -> None:
    """A long table of the report under its title, one that scrolls; nothing when it has no rows."""
    if view.rows:
        import pandas

        st.markdown(f"**{plain(view.title)}**")
        # a data frame needs columns of different names; a space more at the end is not seen
        heads = [head + " " * view.head[:place].count(head) for place, head in enumerate(view.head)]
        st.dataframe(pandas.DataFrame(view.rows, columns=heads), hide_index=True, alt=f"{view.title}, {len(view.rows)} rows")
