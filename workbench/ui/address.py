"""Several choices in the address of a page under their stable ids, where what a reader sees of them are other words."""

from collections.abc import Iterable

import streamlit as st


def chosen(key: str, possible: Iterable[str]) -> None:
    """Put what the address says into the widget `key` before it is drawn for the first time; what is not possible is left out."""
    if key not in st.session_state:
        asked = st.query_params.get(key, "").split(",")
        st.session_state[key] = [name for name in possible if name in asked]


def keep(key: str) -> None:
    """Put what the widget `key` holds into the address; for its `on_change`."""
    if names := st.session_state[key]:
        st.query_params[key] = ",".join(names)
    else:
        st.query_params.pop(key, None)
