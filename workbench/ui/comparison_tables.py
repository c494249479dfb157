"""The tables of the page Compare: they sort by their heads, and each can be taken along as CSV."""

from functools import partial
from typing import Any

import pandas
import streamlit as st

from workbench.report import wording
from workbench.report.content import Row
from workbench.ui.text import plain

MOST_ROWS = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a text that begins like this
PER_CENT = "%.1f %%"


def points(rows: list[Row], run: str) -> None:
    """Points of the plane as numbers."""
    cells = [
        {
            "Variant": row["variant"],
            "Prompts": row["condition"],
            "Provenance": row["made"],
            "Concept (%)": _per_cent(row["rate"]),
            "95 % interval": wording.span(row["low"], row["high"], wording.percent),
            "n": row["n"],
            "Retained (%)": _per_cent(row["kept"]["rate"]),
            "95 % interval, retained": wording.span(row["kept"]["low"], row["kept"]["high"], wording.percent),
            "n, retained": row["kept"]["n"],
            "Retained of": wording.named(wording.RETAINED, row["kept"]["kind"]),
        }
        for row in rows
    ]
    _table(cells, "Rate of the concept and of retained concepts", f"{run}-plane.csv", "compare-csv-plane")


def differences(rows: list[Row], first: str, run: str) -> None:
    """Differences of rates to those of the variant `first`, paired or not."""
    if not rows:
        st.info("These variants have no rate in common.", icon=":material/info:")
        return
    cells = [
        {
            "Variant": row["b"],
            "What": row["what"],
            "Difference (points)": _per_cent(row["difference"]),
            "95 % interval": wording.span(row["low"], row["high"], wording.percent),
            "p, adjusted": row["p_adjusted"],
            "Pairs": "paired" if row["paired"] else f"unpaired: {row['why']}",
            "n": row["n"],
            "Variant (%)": _per_cent(row["rate_b"]),
            f"{first} (%)": _per_cent(row["rate_a"]),
            "p": row["p"],
        }
        for row in rows
    ]
    _table(cells, f"Rates of the variants minus those of {first}", f"{run}-differences.csv", "compare-csv-differences")
    n_paired, tests = sum(row["paired"] for row in rows), next((row["n_family"] for row in rows if row["n_family"]), 0)
    st.caption(
        f"{n_paired} of {len(rows)} differences are paired by prompt (McNemar’s exact test, or whole units swapped; p adjusted by "
        f"Benjamini and Hochberg over {tests} tests). The others take the two rates as independent (Newcombe’s interval) and have no p. "
        "Under an attack that was optimised against each of the two, each has its own adversarial prompts, paired by target prompt."
    )


def shared(rows: list[Row], run: str) -> None:
    """How far sets of neurons overlap."""
    if not rows:
        st.info("There are no two sets of neurons to compare. A run has them when it is finished.", icon=":material/info:")
        return
    cells = [
        {
            "Set A": row["a"],
            "Set B": row["b"],
            "In A": row["n_a"],
            "In B": row["n_b"],
            "Shared": row["shared"],
            "Shared by chance": None if row["expected"] is None else round(row["expected"], 1),
            "Overlap (IoU)": row["iou"],
            "IoU by chance": row["iou_expected"],
            "Reason if missing": row["reason"] or "",
        }
        for row in rows
    ]
    _table(
        cells,
        "Neurons that two sets share",
        f"{run}-shared-neurons.csv",
        "compare-csv-shared",
        {"Overlap (IoU)": "%.2f", "IoU by chance": "%.2f"},
    )
    st.caption(
        "Sets of all sites. By chance: two random sets with as many neurons in each layer. Sets of different base models are not compared."
    )


def reports(settings: list[Row] | None, numbers: list[Row], a: str, b: str) -> None:
    """Settings and numbers in which two reports differ."""
    if settings is None:
        st.caption("The settings cannot be compared: one of the runs has no study that can be read.")
    elif settings:
        cells = [{"Setting": row["setting"], a: _text(row["a"]), b: _text(row["b"])} for row in settings]
        _table(cells, f"Settings that differ ({len(cells)})", f"{a}-{b}-settings.csv", "compare-csv-settings")
    else:
        st.caption("The two studies have the same settings.")
    if not numbers:
        st.caption("Every number of the two reports is the same.")
        return
    known = list(dict.fromkeys(row["table"] for row in numbers))
    wanted = st.pills("Tables", known, selection_mode="multi", default=known, key="compare-tables") if len(known) > 1 else known
    cells = [
        {
            "Table": row["table"],
            "About": row["about"],
            a: row["a"],
            b: row["b"],
            "Difference": row["difference"],
            "Intervals": _apart(row["apart"]),
        }
        for row in numbers
        if row["table"] in wanted
    ]
    _table(cells, f"Numbers that differ ({len(cells)})", f"{a}-{b}-numbers.csv", "compare-csv-numbers")
    st.caption("Runs are not paired here. Intervals that do not meet are a clear difference; intervals that meet decide nothing.")


def _apart(apart: bool | None) -> str:
    return {True: "do not meet", False: "meet", None: "missing"}[apart]


def _text(value: Any) -> str:
    return wording.DASH if value is None else str(value)


def _per_cent(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate


def _table(cells: list[Row], title: str, file: str, key: str, forms: dict[str, str] | None = None) -> None:
    """A table that sorts by its heads, with a button for all its rows as CSV; of a long one the first rows are shown."""
    st.markdown(f"**{plain(title)}**")
    if not cells:
        st.caption("Nothing is chosen.")
        return
    frame = pandas.DataFrame(cells[:MOST_ROWS])
    numbers = {name: "%.1f" for name in frame if str(name).endswith(("(%)", "(points)"))} | {name: "%.3f" for name in ("p", "p, adjusted")}
    config = {str(name): st.column_config.NumberColumn(format=form) for name, form in (numbers | (forms or {})).items() if name in frame}
    st.dataframe(
        frame,
        hide_index=True,
        column_config=config,
        height=min(38 + 35 * len(frame), 420),
        alt=f"{title}, {len(cells)} rows; columns: {', '.join(map(str, frame))}",
    )
    if len(cells) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of {wording.integer(len(cells))} rows; the CSV file has all.")
    st.download_button(
        "CSV",
        partial(as_csv, cells),
        file_name=file,
        mime="text/csv",
        key=key,
        on_click="ignore",
        icon=":material/download:",
        help=f"{title}, all rows",
    )


def as_csv(cells: list[Row]) -> str:
    """Rows as CSV text, in which a spreadsheet finds no formula."""
    guarded = [{_guarded(name): _guarded(value) for name, value in row.items()} for row in cells]
    return pandas.DataFrame(guarded).to_csv(index=False)


def _guarded(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
