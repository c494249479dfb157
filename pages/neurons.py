"""Neurons: find, sort and compare single neurons; a selection opens the card of one."""

from functools import partial

import streamlit as st

from workbench.errors import RunError
from workbench.report import summary
from workbench.ui import _cards, _neurons, _region_cards, _sets, _state
from workbench.ui._numbers import plain

state = _state.run_to_show()
st.title("Neurons")
table = _state.neurons(state)
if table is None:
    st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
    st.stop()
variants, unit = summary.subjects(state.document), summary.score_unit(state.document["study"])
st.markdown(
    f"Each row is one neuron of the model. Its **score** says how far it answers to the concept in the base model, in {plain(unit)}; "
    "**D** what erasing took away; **R** and **δ** what an attack reactivated."
)

drawable = [variant for variant in variants if _neurons.woken(table, variant)]
if drawable:
    st.subheader("Who carries the concept, and whom does the attack wake?")
    variant = st.segmented_control("Model", drawable, default=drawable[0], required=True, key="neurons-variant")
    points = _neurons.woken(table, variant)
    _state.figure("waking_figure", points, variant, unit=unit, key="neurons-plane", on_select=partial(_state.open_neuron, "neurons-plane"))
    st.caption(
        f"n = {summary.integer(len(points))} of {summary.integer(len(table))} neurons: the chosen ones, then those farthest from zero. "
        "To the right: fires more with the concept. Up: fires more under the attack than under its control. "
        "Both are read on the half of the units that did not choose. Click a point to open its card."
    )

_region_cards.regions(state)
_sets.show(state)

st.subheader("The table")
with st.container(horizontal=True, vertical_alignment="bottom"):
    layers = st.multiselect("Layers", sorted(table["layer"].unique()), key="neurons-layers", placeholder="all layers")
    numbers = _neurons.clusters(table)
    clusters = st.multiselect("Clusters", numbers, key="neurons-clusters", placeholder="all clusters", width=180) if numbers else []
    role = st.segmented_control("Neurons", _neurons.roles(table), default="all", required=True, key="neurons-role")
    shown = _neurons.columns(table, variants)
    sortable = _neurons.sortable(table, shown)
    first = sortable.index("score") if "score" in sortable else 0
    sort = st.selectbox("Sort by", sortable, index=first, format_func=_neurons.label, key="neurons-sort", width=220)
    down = st.toggle("Largest first", True, key="neurons-down")
    size = st.number_input("Rows", 10, _neurons.MOST, 50, 10, key="neurons-rows", width=140, help=f"at most {_neurons.MOST}")
found = _neurons.selected(table, layers, role, sort, down, clusters)
if found.empty:
    st.info("No neuron is in this choice; take out a filter.", icon=":material/filter_alt:")
    st.stop()
pages = _neurons.n_pages(found, size)
number = st.pagination(pages, key=f"neurons-page-{pages}") if pages > 1 else 1
part = _neurons.page(found, number, size)
st.dataframe(
    part[shown].rename(columns=_neurons.label),
    hide_index=True,
    height=320,
    key="neurons-table",
    on_select=partial(_state.open_neuron, "neurons-table", part),
    selection_mode="single-row",
    alt=f"{len(part)} of {len(found)} neurons, sorted by {_neurons.label(sort)}: layer, number, scores, role, and D, R and δ of each model",
)
st.caption(
    f"{summary.integer(len(found))} neurons, page {number} of {pages}. Tick a row to open its card. "
    "Empty cells: the neuron is too weak in the base model to divide by."
)

stable = _neurons.stable(state.document)
if stable:
    st.subheader("Is the choice of neurons stable?")
    st.markdown(plain(stable["sentence"]))
    with st.expander("The numbers: half B, other halves, seeds, triggers, scores", icon=":material/table:"):
        for view in stable["tables"]:
            st.markdown(f"**{view['title']}**")
            st.dataframe(_neurons.frame(view), hide_index=True, alt=f"{view['title']} {len(view['rows'])} rows, each with its control")

name = st.text_input(
    "Neuron", key=_state.NEURON, bind="query-params", placeholder=f"layer:number, such as {_neurons.identity(part.iloc[0])}"
)
if name:
    try:
        _cards.neuron(state, table, _neurons.find(table, name))
    except RunError as error:
        st.error(plain(error), icon=":material/error:")
else:
    st.caption("No neuron is picked yet.")
