"""Entry script of the app: `workbench app`. Sidebar and pages; the pages are the scripts in pages/."""

import streamlit as st

from workbench.resources import folder
from workbench.ui import _runs, _state
from workbench.ui._numbers import plain

st.set_page_config(page_title="Concept Erasure Workbench", layout="wide")

# name, title, icon, why to go there, and the part of report.json without which the navigation leaves it out
PAGES = (
    ("overview", "Overview", ":material/fact_check:", "the verdict and its numbers", None),
    ("images", "Images", ":material/grid_view:", "what each model draws, side by side", None),
    ("sensitivity", "Sensitivity", ":material/ssid_chart:", "which neurons are silenced and woken", None),
    ("neurons", "Neurons", ":material/hub:", "find, sort and compare single neurons", "neuron_table"),
)

with st.sidebar:
    names = _runs.list_runs(_runs.runs_folder())
    if names:
        st.selectbox("Run", names, key="run", bind="query-params", help=f"Folders in {plain(_runs.runs_folder())}, newest first")
    else:
        st.caption("No runs yet. Make one with: workbench demo")
    st.toggle("Blur images", True, key="blur", help="Pictures that may show the concept are blurred in their pixels.")
    state = _state.current() if names else None
    if state is not None and state.kind == "running":
        _state.watched()
    if state is not None and state.kind != "damaged":
        with st.expander("Show command", icon=":material/terminal:", key="command", on_change="rerun") as command:
            if command.open:
                line = state.document["reproduce"]["command"] if state.document else _runs.command_of(state.folder)
                st.caption("In a terminal; only what is missing is computed")
                st.code(line, language="bash", wrap_lines=True)
                st.caption("In Python")
                st.code(_runs.python_of(line), language="python", wrap_lines=True)
                if state.document:
                    st.caption("The study file")
                    st.code(state.document["study"]["text"] or "# built in Python; see study.json", language="toml")

there = [needs is None or bool(state and state.document and state.document[needs]) for *_, needs in PAGES]
# without icons: Streamlit would fetch the icon of the page from fonts.gstatic.com as the icon of the browser tab
pages = [
    st.Page(
        folder("pages") / f"{name}.py",
        title=title,
        default=name == "overview",
        url_path=name,
        visibility="visible" if shown else "hidden",
    )
    for (name, title, *_), shown in zip(PAGES, there, strict=True)
]
page = st.navigation(pages)
page.run()

if state is not None and state.kind == "finished":
    st.divider()
    st.markdown("**Look at next**")
    for other, (_, title, icon, why, _), shown in zip(pages, PAGES, there, strict=True):
        if other != page and shown:
            st.page_link(other, label=f"{title}: {why}", icon=icon, query_params={"run": state.folder.name})
