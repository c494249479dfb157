"""Neurons: find, sort, compare and collect single neurons; a selection opens one of them."""

from functools import partial

import streamlit as st

from workbench.errors import RunError
from workbench.report import wording
from workbench.report.sections import neuron_choice
from workbench.report.sections.neurons import REACTIVATION_FIGURE
from workbench.ui import current_run, layer_names, neuron_actions, neuron_card, neuron_sets, neuron_table, show
from workbench.ui.text import plain

PAGE = {
    "title": "Neurons",
    "icon": ":material/hub:",
    "why": "find, sort and compare single neurons",
    "order": 40,
    "needs": "neuron_table",
}

state = current_run.run_to_show()
st.title("Neurons")
table = current_run.neurons(state)
if table is None:
    st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
    st.stop()
variants, unit = state.report.subjects, state.report.score_unit
st.markdown(
    f"Each row is one neuron. **Score**: response to the concept in the base model, in {plain(unit)}. **D**: share of it that erasing "
    "deactivated. **R** and **δ**: what an attack reactivated."
)

drawable = [variant for variant in variants if neuron_table.reactivated(table, variant)]
if drawable:
    st.subheader("Which neurons encode the concept, and which does the attack reactivate?")
    variant = st.segmented_control("Variant", drawable, default=drawable[0], required=True, key="neurons-variant")
    points = [point | {"short": layer_names.short(point["layer"])} for point in neuron_table.reactivated(table, variant)]
    show.figure(
        REACTIVATION_FIGURE, points, variant, unit=unit, key="neurons-plane", on_select=partial(current_run.open_neuron, "neurons-plane")
    )
    st.caption(
        f"n = {wording.integer(len(points))} of {wording.integer(len(table))} neurons: the concept neurons, then those farthest from zero. "
        "Right: more active with the concept in the prompt. Up: more active under the attack than under its control. "
        "Both are measured on the evaluation half. Click a point to see its neuron below."
    )

neuron_sets.show_sets(state)

st.subheader("All neurons")
short = layer_names.names(table["layer"].unique())
text = st.text_input("Search", key="neurons-search", placeholder="by number or layer, such as down1.0.0:246", width=320)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layers = st.multiselect(
        "Layers", layer_names.in_order(short), format_func=short.__getitem__, key="neurons-layers", placeholder="all layers"
    )
    numbers = neuron_table.clusters(table)
    clusters = st.multiselect("Clusters", numbers, key="neurons-clusters", placeholder="all clusters", width=180) if numbers else []
    role = st.segmented_control("Neurons", neuron_table.roles(table), default="all", required=True, key="neurons-role")
    shown = neuron_table.columns(table, variants)
    sortable = neuron_table.sortable(table, shown)
    first = sortable.index("score") if "score" in sortable else 0
    sort = st.selectbox("Sort by", sortable, index=first, format_func=neuron_table.label, key="neurons-sort", width=220)
    down = st.toggle("Largest first", True, key="neurons-down")
    size = st.number_input("Rows", 10, neuron_table.MOST, 50, 10, key="neurons-rows", width=140, help=f"at most {neuron_table.MOST}")
found = neuron_table.searched(neuron_table.selected(table, layers, role, sort, down, clusters), text)
if found.empty:
    st.info("No neuron matches these filters; remove one of them.", icon=":material/filter_alt:")
    st.stop()
pages = neuron_table.n_pages(found, size)
number = st.pagination(pages, key=f"neurons-page-{pages}") if pages > 1 else 1
part = neuron_table.page(found, number, size)
st.dataframe(
    part[shown].assign(layer=part["layer"].map(short)).rename(columns=neuron_table.label),
    hide_index=True,
    height=320,
    key="neurons-table",
    on_select=partial(current_run.open_neuron, "neurons-table", part),
    selection_mode="multi-row",
    alt=f"{len(part)} of {len(found)} neurons, sorted by {neuron_table.label(sort)}: layer, number, scores, role, and D, R and δ of each "
    "variant",
)
st.caption(
    f"{wording.integer(len(found))} neurons, page {number} of {pages}. Tick a row to see its neuron below, several to keep or ablate them. "
    "Empty cells: the contrast of the neuron in the base model is too small to divide by. Names of layers are short: down1.0.0 is "
    f"{plain(layer_names.LONG)}."
)
ticked = neuron_table.all_of_selection(st.session_state.get("neurons-table"), part)
if ticked:
    st.markdown(f"**{neuron_actions.neurons_words(len(ticked))} ticked**")
neuron_actions.actions(state, ticked, "neurons")
name = st.text_input(
    "Neuron",
    key=current_run.SELECTED,
    bind="query-params",
    placeholder=f"layer:number, such as {layer_names.neuron_id(neuron_table.identity(part.iloc[0]))}",
)
if name:
    try:
        among = {"chosen": "concept", "pruned": "prune", "watched": "watch"}.get(role)
        neuron_card.preview(state, neuron_table.find(table, name), among, sort)
    except RunError as error:
        st.error(plain(error), icon=":material/error:")
else:
    st.caption("No neuron is selected.")

st.subheader("Lists")
st.markdown("Lists of neurons that you keep beside the run; a study can use them as sets and masks.")
neuron_actions.manage(state)

stable = neuron_choice.sentence(state.report)
if stable:
    st.subheader("Is the choice of neurons stable?")
    st.markdown(plain(stable))
    with st.expander("Tables: evaluation half, random halves, seeds, triggers, scores", icon=":material/table:"):
        for one in (neuron_choice.SELECTION, neuron_choice.STABILITY):
            show.frame(one.view(state.report))
