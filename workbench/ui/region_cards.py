"""Where in the image clusters are active, put on a page."""

from typing import Any

import streamlit as st

from workbench.errors import RunError
from workbench.report import wording
from workbench.ui import blur, region_files
from workbench.ui.run_list import State
from workbench.ui.text import plain

WIDTH = 128


def regions(state: State, number: int) -> None:
    """The pictures of one cluster, each with its words; how to get them where the study did not ask for regions."""
    st.subheader("Where in the image is a cluster active?")
    if number not in region_files.clusters(state.report):
        st.info("No maps of this cluster were made. Add to the study and run it again:", icon=":material/info:")
        st.code("[cluster]\nregions = 4", language="toml")
        return
    found = region_files.cards(state.report, number)
    top = next((card["row"]["top"] for card in found if card["row"]["top"]), None)
    with st.grid(2, min_column_width=300):
        for card in found:
            with st.container(border=True):
                _card(state, card)
    st.caption(
        "On the units of the evaluation half that activate it most. Colour: more active than on average over the image"
        + (f", darkest from {wording.number(top)} times the average on" if top else "")
        + "; the line encloses the most active tenth. In every condition the neurons were recorded on the trajectory of the base model for "
        "the target prompt, so the map lies over the base model's image. "
        + ("Images are blurred in their pixels, and maps are as coarse." if blur.is_on() else "Images are shown as drawn.")
    )


def _card(state: State, card: dict[str, Any]) -> None:
    try:
        shown = region_files.pictures(state, card, reveal=not blur.is_on())
    except RunError as error:
        st.error(plain(error), icon=":material/error:")
        shown = []
    with st.container(horizontal=True, gap="small"):
        for picture, words, alt in shown:
            with st.container(width=WIDTH, gap="xxsmall"):
                st.image(picture, width=WIDTH, alt=alt)
                st.caption(plain(words))
    st.markdown(f"**{plain(card['title'])}**")
    st.caption(plain(card["prompt"]))
    reason = f" — {card['reason']}." if card["reason"] and card["row"]["share"] is not None else ""
    st.caption(plain(card["words"] + reason))
