"""What can be done with picked neurons: keep them in a list, ablate them in the lab, use them in a study. Put on a page."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.report import wording
from workbench.ui import links, lists, pick
from workbench.ui.run_list import State
from workbench.ui.text import plain


def actions(state: State, ids: Sequence[str], key: str, text: str | None = None) -> None:
    """Buttons for neurons (ids, layer:number): add to a list, save as a new list, ablate in the lab.

    key    of the widgets, one per place
    text   what the link to the lab names (see pick.py); default: the neurons by number
    """
    if not ids:
        return
    neurons = lists.of_ids(ids)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        known = lists.names(state)
        if known:
            st.selectbox("List", known, key=f"{key}-list", width=180)
            st.button("Add to list", key=f"{key}-add", icon=":material/playlist_add:", on_click=_add, args=(state, neurons, key))
        st.text_input("New list", key=f"{key}-new", placeholder="name, such as eyes", width=180)
        st.button("Save as list", key=f"{key}-save", icon=":material/bookmark_add:", on_click=_create, args=(state, neurons, key))
        links.lab(state, text or pick.of_neurons(neurons))
    told(key)


def told(key: str) -> None:
    """What the last button did."""
    kind, words = st.session_state.pop(f"{key}-said", (None, ""))
    if kind == "error":
        st.error(plain(words), icon=":material/error:")
    elif kind:
        st.success(plain(words), icon=":material/check:")


def _add(state: State, neurons: lists.Neurons, key: str) -> None:
    name, n = st.session_state[f"{key}-list"], sum(map(len, neurons.values()))
    with _saying(key):
        new = lists.add(state, name, neurons)
        _said(key, f'Added {neurons_words(new)} to the list "{name}"' + (f"; {n - new} were in it already." if n > new else "."))


def _create(state: State, neurons: lists.Neurons, key: str) -> None:
    name = st.session_state[f"{key}-new"].strip()
    with _saying(key):
        lists.create(state, name, neurons)
        st.session_state[f"{key}-new"] = ""
        _said(key, f'Saved {neurons_words(sum(map(len, neurons.values())))} as the list "{name}", in {lists.path(state, name)}.')


def remove(state: State, name: str, neurons: lists.Neurons, key: str) -> None:
    """Remove neurons from a list; for a button."""
    with _saying(key):
        lists.remove(state, name, neurons)
        _said(key, f'Removed from the list "{name}".')


@contextmanager
def _saying(key: str) -> Iterator[None]:
    """An expected error becomes what is told."""
    try:
        yield
    except WorkbenchError as error:
        st.session_state[f"{key}-said"] = ("error", str(error))


def _said(key: str, words: str) -> None:
    st.session_state[f"{key}-said"] = ("success", words)


def neurons_words(n: int) -> str:
    """'1 neuron', '23 neurons'."""
    return f"{wording.integer(n)} neuron{'' if n == 1 else 's'}"


def as_mask(state: State, name: str, file: str | Path) -> None:
    """The lines of a study that prunes a saved neuron set, folded."""
    variants = [row["variant"] for row in state.report["models"] if row["role"] not in ("base", "pruned", "sham")]
    parent = variants[0] if variants else "base"
    with st.expander("Use as mask in a study", icon=":material/content_cut:"):
        st.markdown(
            "Put these lines into a study file of the same base model: the set is then described beside its concept set, and a variant of "
            f"{plain(parent)} is pruned by it."
        )
        st.code(lists.study_lines(name, Path(file).absolute(), parent), language="toml")


def manage(state: State) -> None:
    """The lists of the run: size, rename, delete, use."""
    known = lists.names(state)
    if not known:
        st.caption("No lists yet. Tick rows of the table, then save them as a list.")
        return
    name = st.selectbox("List", known, key="lists-name", width=240)
    try:
        ids = lists.as_ids(lists.read(state, name))
    except WorkbenchError as error:
        st.error(plain(error), icon=":material/error:")
        ids = []
    st.caption(plain(f"{neurons_words(len(ids))}, kept in {lists.path(state, name)}"))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if ids:
            links.neurons(state, f"list:{name}")
            links.lab(state, f"list:{name}")
        st.text_input("New name", key="lists-new", width=180)
        st.button("Rename", key="lists-rename", on_click=_rename, args=(state, name))
        st.button("Delete list", key="lists-delete", icon=":material/delete:", on_click=_delete, args=(state, name))
    told("lists")
    if ids:
        as_mask(state, name, lists.path(state, name))


def _rename(state: State, name: str) -> None:
    with _saying("lists"):
        new = st.session_state["lists-new"].strip()
        lists.rename(state, name, new)
        st.session_state["lists-name"], st.session_state["lists-new"] = new, ""
        _said("lists", f'The list is now called "{new}".')


def _delete(state: State, name: str) -> None:
    with _saying("lists"):
        lists.delete(state, name)
        st.session_state.pop("lists-name", None)
        _said("lists", f'Deleted the list "{name}".')
