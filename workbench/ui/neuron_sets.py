"""The [[sets]] of a study, put on the page Neurons."""

import streamlit as st

from workbench.report.sections.neuron_sets import EFFECTS_FIGURE, SET_OVERLAPS, SETS
from workbench.ui import show
from workbench.ui.headline_numbers import n_of
from workbench.ui.run_list import State


def show_sets(state: State) -> None:
    """Where each set comes from, how far it is the concept set, and what erasing and attacks do to it; nothing without [[sets]]."""
    report = state.report
    if not report["sets"]:
        return
    st.subheader("Named neuron sets")
    st.markdown("Sets from other runs or made from other sets. The table below can be filtered by them.")
    for table in (SETS, SET_OVERLAPS):
        show.table(table.view(report))
    drawn = [row for row in report["set_effects"] if row["effect"] != "sensitivity"]
    if drawn:
        show.figure(EFFECTS_FIGURE, drawn, report.variants)
        st.caption(f"{n_of(drawn)} units (evaluation half); 95 % intervals.")
