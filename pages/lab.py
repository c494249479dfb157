"""Ablation lab: ablate neurons of the run's models, and see images, detector, target and activity change at once."""

import streamlit as st

from workbench.errors import RunError, WorkbenchError
from workbench.execution.open_run import Run
from workbench.study.study import Study
from workbench.ui import current_run, lab_actions, lab_results, lab_state, live, pick
from workbench.ui.lab_controls import Controls
from workbench.ui.text import plain

PAGE = {
    "title": "Ablation lab",
    "icon": ":material/experiment:",
    "why": "ablate neurons and see at once what changes",
    "order": 45,
    "needs": "neuron_table",
}

# Streamlit fades and spins what waits: a browser without a graphics card needs CPU for it that the model needs
STILL = "<style>[data-testid=stMain] *, [data-testid=stHeader] * {transition: none !important; animation: none !important}</style>"

state = current_run.run_to_show()
st.title("Ablation lab")
st.html(STILL)


@st.fragment
def session(controls: Controls, large: bool) -> None:
    """Everything that a control changes."""
    controls.begin()
    controls.note()
    left, right = st.columns([1, 2.2], gap="medium")
    with left:
        with st.container(border=True):
            controls.neurons()
        with st.container(border=True):
            controls.ablation()
    with right:
        try:
            asked = controls.asked()
            neurons = pick.resolve(state, asked.pick)
            if not large:
                lab_actions.attack(state, asked, neurons)
            controls.images()
            if not asked.variants:
                st.info("Choose at least one variant.", icon=":material/filter_alt:")
                return
            st.markdown(f"**{plain(lab_state.described(asked, neurons))}**")
            if large:
                lab_results.as_job(state, asked)
                return
            lab_actions.compute(state, asked, neurons)
            lab_actions.attack_button()
            lab_actions.keep(state, asked, neurons, controls.variants)
            lab_results.dose(state, sum(map(len, neurons.values())))
        except WorkbenchError as error:
            controls.images()
            st.error(plain(error), icon=":material/error:")


def refused(study: Study | None, size: int | None) -> str | None:
    """Why nothing can be computed, a sentence; None when it can."""
    if study is None or size is not None:
        return None
    return (
        f"The base model {plain(study.model.base)} is not on this machine, so nothing can be computed here. Put it where the study names "
        "it, or open the run on the machine that has it."
    )


try:
    study: Study | None = Run(state.folder).study
except RunError as error:
    study = None
    st.info(f"Nothing can be computed here. {plain(error)}", icon=":material/info:")
size = live.model_bytes(study) if study else None
if why := refused(study, size):
    st.info(why, icon=":material/info:")
elif study:
    calls = [row["call"] for row in state.report["activity_by_call"]]
    n_calls = max([study.sampling.steps, *(call + 1 for call in calls)])
    session(Controls(state, lab_state.variants(state, study), n_calls), size is not None and size > live.MOST_BYTES)
