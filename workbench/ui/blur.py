"""Whether images are blurred in their pixels: the switch of the sidebar."""

import streamlit as st

from workbench.ui.run_list import State

BLUR, BLUR_OF = "blur", "blur-of-run"


def choose(state: State | None) -> None:
    """The switch; of each run it starts on, unless the concept of its study is harmless."""
    name = state.name if state else None
    if BLUR not in st.session_state or st.session_state.get(BLUR_OF) != name:
        st.session_state[BLUR], st.session_state[BLUR_OF] = state is None or state.sensitive, name
    st.toggle("Blur images", key=BLUR, help="Images that may show the concept are blurred in their pixels.")


def is_on() -> bool:
    """Whether pictures are blurred."""
    return st.session_state.get(BLUR, True)
