"""Entry script of the app: `workbench app`. Sidebar and pages; the pages are the scripts in pages/."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui import blur, current_run, navigation, run_list
from workbench.ui.text import plain

st.set_page_config(page_title="Concept Erasure Workbench", layout="wide")

# without icons: Streamlit would fetch the icon of the page from fonts.gstatic.com as the icon of the browser tab
listed = navigation.pages()
pages = {one.name: st.Page(one.script, title=one.title, url_path=one.name) for one in listed}
first = listed[0]
# the address without a page's name shows the first page, which has an address with its name too
home = st.Page(first.script, title=first.title, url_path="home", default=True)
page = st.navigation([home, *pages.values()], position="hidden")
if page == home:
    pages[first.name] = home

with st.sidebar:
    links = st.container(gap="xxsmall")
    name = current_run.pick()
    state = current_run.current()
    blur.choose(state)
    current_run.watch(state)
    if state is not None and state.kind != "damaged":
        with st.expander("Show command", icon=":material/terminal:", key="command", on_change="rerun") as command:
            if command.open:
                line = state.document["reproduce"]["command"] if state.document else state.command
                st.caption("In a terminal; only missing results are computed")
                st.code(line, language=None, wrap_lines=True)
                st.caption("In Python")
                st.code(run_list.python_of(line), language="python", wrap_lines=True)
                if state.document:
                    st.caption("The study file")
                    st.code(state.document["study"]["text"] or "# built in Python; see study.json", language="toml")

here = {"run": name} if name else None
with links:
    for one in navigation.linked(state.document if state else None):
        st.page_link(pages[one.name], label=one.title, query_params=here)

try:
    if state is None and next(one for one in listed if pages[one.name] == page).of_run:
        current_run.missing()  # every such page begins so; without its script, no library for numbers is imported
    else:
        page.run()
except WorkbenchError as error:  # what is damaged in the run's folder; anything unexpected keeps its traceback
    st.error(plain(error), icon=":material/error:")

if state is not None and state.kind == "finished":
    st.divider()
    st.markdown("**Next pages**")
    for one in navigation.linked(state.document):
        if pages[one.name] != page:
            st.page_link(pages[one.name], label=f"{one.title}: {one.why}", icon=one.icon, query_params=here)

    from workbench.ui import lab_session

    lab_session.warm_up(state)  # the model of the lab loads while the page is read
