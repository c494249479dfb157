"""What the Ablation lab does on request: compute, attack, keep what was found."""

from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui import lab_results, lab_session, lab_state, lists, pick, run_list
from workbench.ui.lab_state import Asked
from workbench.ui.live import Neurons
from workbench.ui.run_list import State
from workbench.ui.text import plain

ITERATIONS = 20
ATTACK_NOW = "lab-attack-now"


def compute(state: State, asked: Asked, neurons: Neurons) -> None:
    """Before and after of all variants."""
    lab, place = lab_session.session(), lab_session.place_of(state)
    found: dict[Any, Any] = st.session_state.setdefault("lab-vectors", {})
    attacked, rest, notes = st.session_state.get("lab-attacked", False), lab_state.rest(state, neurons), []
    vectors: dict[str, Any] = {}
    for variant in asked.variants if attacked else ():
        own, note = lab_results.vectors_for(found, asked, variant, neurons)
        notes.append(note)
        vectors |= {} if own is None else {variant: own}
    with st.spinner("Computing …" if lab.has(place) else "Loading the model (once) …"):
        outcomes = lab.ask("outcomes", place, asked.variants, asked, neurons, rest, vectors)
    lab_results.grid(asked, outcomes, attacked)
    for note in dict.fromkeys(filter(None, notes)):
        st.caption(plain(note))
    lab_results.numbers(asked, outcomes, bool(rest))
    if st.toggle("Related prompts: does the ablation change what should stay?", key="lab-retained"):
        bar, rows = st.empty(), []
        for number, variant in enumerate(asked.variants):
            bar.progress(number / len(asked.variants), text=f"Computing related prompts with {plain(variant)} …")
            rows.append((variant, lab.ask("retained", place, variant, asked, neurons)))
        bar.empty()
        lab_results.retained(rows)


def attack_button() -> None:
    """Ask for an attack; it is made when the page runs next."""
    st.button(
        "Attack these variants as they are",
        key="lab-attack",
        icon=":material/bolt:",
        on_click=lambda: st.session_state.update({ATTACK_NOW: True}),
        help=f"Embedding PGD, {ITERATIONS} steps, against each variant with the ablation. Any other click stops it.",
    )


def attack(state: State, asked: Asked, neurons: Neurons) -> None:
    """Attack each variant as it is with the ablation, if that was asked for, and show the images under the attack from then on.

    Its places stay when there is nothing to do, so that what is below keeps its own and the old pictures stay while new ones are made.
    """
    place_of_bar, stop = st.empty(), st.empty()
    if not st.session_state.pop(ATTACK_NOW, False):
        return
    lab, place = lab_session.session(), lab_session.place_of(state)
    bar = place_of_bar.progress(0.0, text="Attacking …")
    stop.button("Stop", key="lab-stop", icon=":material/stop_circle:")
    for number, variant in enumerate(asked.variants):

        def tell(step: float, of: float, note: str = "", number: int = number, variant: str = variant) -> None:
            bar.progress(min((number + step / max(of, 1)) / len(asked.variants), 1.0), text=f"Attacking {plain(variant)} …")

        made = lab.ask("attack", place, variant, asked, neurons, ITERATIONS, tell=tell)
        st.session_state.setdefault("lab-vectors", {})[lab_state.key_of(asked, variant, neurons)] = made
    bar.empty()
    stop.empty()
    st.session_state["lab-attacked"] = True


def keep(state: State, asked: Asked, neurons: Neurons, variants: tuple[str, ...]) -> None:
    """Save as list, make a pruned variant, show the command."""
    save, prune, command = st.columns(3)
    with save.popover("Save as list", icon=":material/bookmark_add:", width="stretch"):
        name = st.text_input("Name of the list", key="lab-list", placeholder="for example eyes")
        if st.button("Save", key="lab-save", disabled=not name):
            try:
                lists.create(state, name, neurons, f"in the Ablation lab: {pick.words(asked.pick)}")
                st.success(f"Saved as list {plain(name)}.", icon=":material/check:")
            except WorkbenchError as error:
                st.error(plain(error), icon=":material/error:")
    with prune.popover("Make a pruned variant", icon=":material/content_cut:", width="stretch"):
        st.caption("A mask cuts the incoming weights of these neurons. It becomes a variant of a copy of the study.")
        name = st.text_input("Name of the variant", key="lab-variant-name", placeholder="for example without-eyes")
        parent = st.selectbox("Pruned from", variants, index=min(1, len(variants) - 1), key="lab-parent")
        if st.button("Write mask and study", key="lab-prune", disabled=not name):
            try:
                mask = lists.folder(state).parent / "masks" / f"{lists.checked(name)}.safetensors"
                path = lab_state.pruned_study(state, name, parent, mask, run_list.runs_folder() / "studies")
                try:
                    lab_session.session().ask("save_mask", lab_session.place_of(state), str(mask.absolute()), neurons)
                except WorkbenchError:
                    path.unlink()
                    raise
                st.success("Written. Start it in a terminal:", icon=":material/check:")
                st.code(f"workbench run {path}", language=None, wrap_lines=True)
            except WorkbenchError as error:
                st.error(plain(error), icon=":material/error:")
    with command.popover("Show command", icon=":material/terminal:", width="stretch"):
        st.code(lab_state.as_command(state, asked), language=None, wrap_lines=True)
        st.code(lab_state.as_python(state, asked, neurons), language="python", wrap_lines=True)
