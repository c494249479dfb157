"""Links from one page to another, with what is chosen; none to a page that is not there."""

import streamlit as st

from workbench.ui import navigation
from workbench.ui.current_run import NEURON, RUN
from workbench.ui.run_list import State

AMONG, BY, PICK, CLUSTER = "among", "by", "pick", "cluster"  # in the address


def page(state: State, name: str, label: str, **query: str) -> None:
    """A link to a page of this run."""
    found = navigation.page(name)
    if found is not None:
        st.page_link(str(found.script), label=label, icon=found.icon, query_params={RUN: state.name} | query)


def lab(state: State, pick: str, label: str = "Ablate in the lab") -> None:
    """A link that opens the lab with these neurons (see pick.py)."""
    page(state, "lab", label, **{PICK: pick})


def neuron(state: State, identity: str, label: str, among: str | None = None, by: str | None = None) -> None:
    """A link to the page of one neuron.

    among, by   the neurons, a pick, and the column of the order in which previous and next go through them
    """
    more = {key: value for key, value in ((AMONG, among), (BY, by)) if value}
    page(state, "neuron", label, **{NEURON: identity}, **more)


def neurons(state: State, among: str) -> None:
    """A link to the page of a neuron that begins with the first of these, a pick."""
    page(state, "neuron", "Go through it, neuron by neuron", **{AMONG: among})


def cluster(state: State, number: int, label: str) -> None:
    """A link to one cluster."""
    page(state, "clusters", label, **{CLUSTER: str(number)})
