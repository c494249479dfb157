"""Neuron: the card of one neuron, opened from the page Neurons, a cluster, a list or a link."""

import random

import streamlit as st

from workbench.errors import RunError
from workbench.report import wording
from workbench.ui import current_run, layer_names, links, lists, neuron_card, neuron_table, pick
from workbench.ui.text import plain

PAGE = {
    "title": "Neuron",
    "icon": ":material/scatter_plot:",
    "why": "everything a run knows about one neuron",
    "order": 41,
    "needs": "neuron_table",
    "hidden": True,
}
EVERY = "all neurons"

state = current_run.run_to_show()
table = current_run.neurons(state)
if table is None:
    st.title("Neuron")
    st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
    st.stop()
among, by = st.query_params.get(links.AMONG), st.query_params.get(links.BY, "score")
by = by if by in neuron_table.sortable(table, list(table.columns)) else "score"
ids = neuron_table.order(table, by) if by in table else [neuron_table.identity(row) for _, row in table.iterrows()]
if among:
    try:
        inside = set(lists.as_ids(pick.resolve(state, among)))
        ids = [one for one in ids if one in inside]
    except RunError as error:
        st.warning(plain(f"{error} All neurons are shown instead."), icon=":material/warning:")
        among = None

heading, place = st.container(), st.container()
left, right = st.columns(2)
hint = f"layer:number, such as {layer_names.neuron_id(ids[0])}"
name = left.text_input("Neuron", key=current_run.NEURON, bind="query-params", placeholder=hint)
try:
    row = neuron_table.find(table, name or ids[0])
except RunError as error:
    heading.title("Neuron")
    st.error(plain(error), icon=":material/error:")
    st.stop()
heading.title(plain(layer_names.neuron(row)))
at = ids.index(neuron_table.identity(row)) if neuron_table.identity(row) in ids else None


def go(identity: str) -> None:
    """Show another neuron."""
    st.session_state[current_run.NEURON] = identity


def go_through() -> None:
    """Go through other neurons from now on."""
    picked = st.session_state["neuron-among"]
    if picked == EVERY:
        st.query_params.pop(links.AMONG, None)
    else:
        st.query_params[links.AMONG] = picked


known = list(dict.fromkeys([EVERY, *pick.choices(state), among or EVERY]))
right.selectbox(
    "Go through",
    known,
    index=known.index(among or EVERY),
    format_func=lambda one: EVERY if one == EVERY else pick.words(one),
    key="neuron-among",
    on_change=go_through,
)
with place, st.container(horizontal=True, vertical_alignment="center", gap="small"):
    before, after = (None, ids[0]) if at is None else (ids[at - 1] if at else None, ids[at + 1] if at + 1 < len(ids) else None)
    st.button("Previous", icon=":material/arrow_back:", key="neuron-previous", disabled=before is None, on_click=go, args=(before,))
    st.button("Next", icon=":material/arrow_forward:", key="neuron-next", disabled=after is None, on_click=go, args=(after,))
    st.button("Random", icon=":material/casino:", key="neuron-random", on_click=go, args=(random.choice(ids),))
    whose = plain(pick.words(among)) if among else EVERY
    count = f"{wording.integer(at + 1)} of {wording.integer(len(ids))}" if at is not None else f"Not one of the {wording.integer(len(ids))}"
    st.caption(f"{count}: {whose}, by {plain(neuron_table.label(by))}")
neuron_card.numbers(state, row)
for part in (neuron_card.activity, neuron_card.images, neuron_card.evidence, neuron_card.kept):
    with neuron_card.in_place():
        part(state, row)
