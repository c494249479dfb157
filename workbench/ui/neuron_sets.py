"""The [[sets]] of a study, put on the page Neurons."""

import streamlit as st

from workbench.report import set_views, wording
from workbench.ui import current_run
from workbench.ui.headline_numbers import plain

SHOWN = ("sets", "set_overlaps")


def show(state):
    """Where each set comes from, how far it is the concept set, and what erasing and attacks do to it; nothing without [[sets]]."""
    document = state.document
    if not document["sets"]:
        return
    st.subheader("Sets by name")
    st.markdown("Sets from other runs or made of other sets. The table below can be cut to each of them.")
    for name in SHOWN:
        view = getattr(set_views, name)(document)
        if view["rows"]:
            cells = [dict(zip(view["head"], map(plain, row), strict=True)) for row in view["rows"]]
            st.caption(f"**{plain(view['title'])}**")
            st.table(cells, hide_index=True, alt=f"{view['title']}, {len(cells)} rows")
    drawn = [row for row in document["set_effects"] if row["effect"] != "sensitivity"]
    if drawn:
        current_run.figure("named_effects_figure", drawn, wording.variant_names(document))
        counts = sorted({row["n"] for row in drawn if row["n"] is not None})
        st.caption(f"n = {' or '.join(map(str, counts))} units, the half that did not choose this study's own neurons; 95 % intervals.")
