"""Images of a run side by side: rows prompt x seed, columns conditions; blurred until asked for."""

from typing import Any

import streamlit as st

from workbench.errors import RunError
from workbench.report.content import Row
from workbench.ui import blur, picture_files
from workbench.ui.run_list import State
from workbench.ui.text import plain


def show(state: State, block: dict[str, Any], large: bool = False) -> None:
    """One block of the image matrix: rows prompt x seed, columns conditions; `large`: each image has a button that shows it large."""
    damaged = []
    with st.grid(len(block["columns"]) + 1, min_column_width=132, wrap=False, gap="xsmall"):
        st.caption("prompt, seed")
        for column in block["columns"]:
            st.caption(f"**{plain(column['name'])}** · {plain(column['words'])}")
        for row in block["rows"]:
            st.caption(plain(picture_files.prompt_and_seed(row)))
            for cell in row["cells"]:
                with st.container(gap="xxsmall"):
                    damaged += pictures(state, cell, large)
    tell(damaged)


def pictures(state: State, rows: list[Row], large: bool = False) -> list[str]:
    """The pictures of a cell, each with the detector's finding; says so when there is none. Returns what is damaged, a sentence each."""
    damaged = []
    if not rows:
        st.caption("not part of the study")
    for row in rows:
        try:
            shown, note = picture_files.picture(state, row, reveal=not blur.is_on())
        except RunError as error:
            damaged.append(str(error))
            shown, note = None, ":material/broken_image: damaged"
        if shown is None:
            st.caption(note)
            continue
        st.image(shown, width=128, alt=picture_files.alt(row))
        mark = ":material/visibility:" if row["success"] else ":material/visibility_off:"
        words = f"{mark} {plain(picture_files.caption(row))}" + (f" · {note}" if note else "")
        if not large:
            st.caption(words)
        elif st.button(words, key=_key(row), type="tertiary", help=f"Show it large: {plain(picture_files.column(row))}"):
            enlarged(state, row)
    return damaged


def _key(row: Row) -> str:
    names = ("variant", "prompt_set", "attack", "provenance", "against", "control", "unit", "id", "seed")
    return f"images-large-{'|'.join(str(row.get(name)) for name in names)}"


@st.dialog("Image", width="medium")
def enlarged(state: State, row: Row) -> None:
    """One picture as large as it fits, with its prompt and the detector's finding."""
    shown, note = picture_files.picture(state, row, reveal=not blur.is_on())
    if shown is not None:
        st.image(picture_files.large(shown), alt=picture_files.alt(row), width=picture_files.LARGE)
    st.markdown(f"**{plain(picture_files.column(row))}**")
    st.write(plain(picture_files.prompt_and_seed(row)))
    st.caption(plain(", ".join(filter(None, (picture_files.caption(row), note)))))


def tell(damaged: list[str]) -> None:
    """Say what is wrong with pictures: the first sentence, and how many more there are."""
    if damaged:
        more = f" {len(damaged) - 1} more images here are damaged." if len(damaged) > 1 else ""
        st.error(plain(damaged[0] + more), icon=":material/error:")
