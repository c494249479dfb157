"""Runs: all runs with their state and progress; the chosen one's log, and how to stop, continue, change and open it."""

import pandas
import streamlit as st

from workbench.ui import current_run, run_list, run_progress, run_table
from workbench.ui.text import plain

PAGE = {
    "title": "Runs",
    "icon": ":material/checklist:",
    "why": "all runs: progress, log, stop, resume",
    "order": 70,
    "of_run": False,
}
ICONS = {"finished": ":material/check_circle:", "running": ":material/pending:", "stopped": ":material/pause_circle:"}


def picked() -> None:
    """Put the run whose row was picked into the address, from which every page takes it."""
    rows = st.session_state["runs-table"]["selection"]["rows"]
    names = st.session_state["runs-names"]
    if rows and rows[0] < len(names):
        st.query_params[current_run.RUN] = names[rows[0]]


@st.fragment(run_every=current_run.EVERY)
def table() -> None:
    """All runs, read again every two seconds."""
    rows = run_table.rows()
    st.session_state["runs-names"] = [row["name"] for row in rows]
    shown = pandas.DataFrame([{column: row[column] for column in run_table.COLUMNS} for row in rows])
    st.dataframe(
        shown,
        hide_index=True,
        key="runs-table",
        on_select=picked,
        selection_mode="single-row",
        alt=f"All runs, {len(rows)} rows: state, concept, variants, attacks, progress",
        column_config={
            "Progress": st.column_config.ProgressColumn(format="%d %%", min_value=0, max_value=100, width=110),
            "Last change": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
        },
    )
    if st.query_params.get(current_run.RUN) != st.session_state.get(current_run.ASKED):
        st.rerun()


st.title("Runs")
if st.button("New study", icon=":material/add:", key="runs-new", help="Write a study in a form, see what it costs, start it."):
    st.switch_page(run_progress.script_of("new_study"))
if not run_list.names():
    st.info("No runs yet. Start the first one with the button above, or in a terminal with the command below.", icon=":material/info:")
    st.code("workbench demo", language=None)
    st.stop()
table()
st.caption("Choose a run in its first column, or in the sidebar. A run is a process of its own: it continues when this page is closed.")

state = current_run.current()
if state is None:
    st.info("No run is chosen. Choose one in the table.", icon=":material/info:")
    st.stop()
st.subheader(plain(run_list.label(state.folder)), anchor=False)
run_progress.told(state)
run_progress.buttons(state)
if state.kind == "running":
    run_progress.live(state.name)
else:
    if state.kind == "finished":
        words = "The example run: it is part of the installation and read only." if state.read_only else "This run is finished."
        st.success(words, icon=ICONS["finished"])
    elif state.kind == "stopped":
        st.warning(plain(state.sentence), icon=ICONS["stopped"])
    else:
        st.error(plain(state.sentence), icon=":material/error:")
    run_progress.log(state)
