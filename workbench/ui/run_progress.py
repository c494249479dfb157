"""Progress and log of a run on a page, and the buttons that stop, continue, open and change it."""

from pathlib import Path

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.execution import jobs, start
from workbench.execution.run_folder import Store
from workbench.ui import current_run, navigation, run_list
from workbench.ui.run_list import State
from workbench.ui.text import plain

LINES = 12


def script_of(page: str) -> Path:
    """The script of a page, by its name."""
    return next(one.script for one in navigation.pages() if one.name == page)


def go_to(page: str, run: str, **more: str) -> None:
    """Open a page of a run; what follows in the script does not run."""
    st.switch_page(script_of(page), query_params={"run": run} | more)


@st.fragment(run_every=current_run.EVERY)
def live(name: str) -> None:
    """Progress and log of a run in progress, read again every two seconds; the app is drawn again when the run has ended."""
    folder = run_list.folder_of_name(name)
    state = run_list.look(folder) if folder else None
    if state is None or state.kind != "running":
        st.rerun()
    current_run.bar(state)
    st.caption(plain(state.sentence))
    log(state)


def log(state: State) -> None:
    """The last lines of the log of a run, or of what its process printed before it had one."""
    try:
        lines = jobs.log_tail(state.folder, LINES)
    except WorkbenchError:
        lines = start.printed(state.folder, LINES)
    if lines:
        st.caption("Log, the last lines")
        st.code("\n".join(lines), language=None, wrap_lines=True)


def buttons(state: State) -> None:
    """What can be done with a run in its state. Nothing is written into one that is read only."""
    running, store = state.kind == "running", Store(state.folder)
    unknown = jobs.is_starting(store) and store.starter() is None  # started in a terminal, and it holds nothing yet
    with st.container(horizontal=True):
        if st.button("Open", icon=":material/open_in_new:", key="runs-open", help="Its pages: verdict, images, neurons."):
            go_to("overview", state.name)
        if running and not state.read_only:
            about = "It can be stopped from here once it has begun to compute." if unknown else "Finished results are kept."
            if st.button("Stop", icon=":material/stop:", key="runs-stop", disabled=unknown, help=about):
                act(state, "Stopping")
        if state.kind in ("stopped", "damaged") and not state.read_only:
            about = "Only what is missing is computed; damaged results are computed again."
            if st.button("Resume", icon=":material/play_arrow:", key="runs-resume", type="primary", help=about):
                act(state, "Starting")
        about = "Opens New study, filled in with the study of this run."
        if st.button("Run again with changes", icon=":material/edit:", key="runs-change", help=about):
            go_to("new_study", state.name, origin=f"run:{state.name}")


def act(state: State, words: str) -> None:
    """Stop a run or continue it; what is in the way is told in place."""
    try:
        with st.spinner(f"{words} …"):
            if state.kind == "running":
                jobs.stop(state.folder)
            else:
                start.resume(state.folder, cwd=run_list.runs_folder().absolute().parent)
    except WorkbenchError as error:
        st.session_state["runs-error"] = (state.name, str(error))
    st.rerun()


def told(state: State) -> None:
    """What was in the way of the last button, once."""
    name, sentence = st.session_state.pop("runs-error", (None, ""))
    if name == state.name:
        st.error(plain(sentence), icon=":material/error:")
