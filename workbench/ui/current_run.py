"""The run that is picked, its empty states, its neuron table, and what is picked in it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from workbench.errors import RunError
from workbench.report import wording
from workbench.report.content import Row, values
from workbench.storage import read_table
from workbench.ui import run_list
from workbench.ui.run_list import State
from workbench.ui.text import plain, short

if TYPE_CHECKING:
    import pandas

NEURON, RUN = "neuron", "run"  # in the address; Streamlit drops a key of a page on the way to another, so no two pages have the same
SELECTED = "selected"  # the neuron under the table of the page Neurons
ASKED, STAMP = "asked-run", "run-stamp"
MOST_NAMES = 20
EVERY = 2.0  # seconds between two looks at a run; Streamlit would import pandas to read "2s"


def pick() -> str | None:
    """The run to show, picked in the sidebar; its name, which need not be that of a run there is, or None where there are no runs.

    The address says which: `?run=NAME`. Without it the newest run is shown, or the example run where there is no other, and the address
    says so from then on. A name that no run has stays in the address, and nothing is shown in its place.
    """
    names, odd = run_list.names(), run_list.odd_names(run_list.runs_folder())
    asked = st.query_params.get(RUN)
    if asked is None:
        asked = st.session_state.get(RUN) or (names[0] if names else None)
    st.session_state[ASKED] = asked
    st.session_state[STAMP] = run_list.stamp(asked)  # before anything of the run is read
    labels = {name: label(name) for name in names}
    if names:
        st.session_state[RUN] = asked if asked in names else None
        st.selectbox(
            "Run",
            names,
            index=0 if asked in names else None,
            key=RUN,
            placeholder="Choose a run",
            format_func=labels.__getitem__,
            on_change=_picked,
            help=f"Folders in {plain(run_list.runs_folder())}, newest first; the example run last",
        )
    else:
        st.caption("No runs yet. Make one with: workbench demo")
    if odd:
        st.caption(f"Not listed, because the name is not valid text; rename it: {plain(', '.join(odd))}")
    if asked in names and st.query_params.get(RUN) != asked:
        st.query_params[RUN] = asked
    return asked


def label(name: str) -> str:
    """The name of a run for a list of runs, marked when it is not finished or read only."""
    folder = run_list.folder_of_name(name)
    return run_list.label(folder) if folder else name


def _picked() -> None:
    # no name where the picker was cleared, the run has gone, or the browser still has the label of a state that has changed
    if st.session_state[RUN] in run_list.names():
        st.query_params[RUN] = st.session_state[RUN]


def stamp() -> Any:
    """What changes when the files of the picked run do: the key of what is kept of it."""
    return st.session_state.get(STAMP, (None, None))[1]


def current() -> State | None:
    """The state of the run the sidebar has picked; None when there is none."""
    folder = run_list.folder_of_name(st.session_state.get(ASKED))
    return run_list.look(folder) if folder else None


@st.fragment(run_every=EVERY)
def _watched(name: str | None, stamp: Any) -> None:
    if run_list.stamp(name) != stamp:
        st.rerun()


def watch(state: State | None) -> None:
    """Draw the app anew as soon as the folder of the run, or which runs there are, has changed; of a running run, its progress."""
    if state is not None and state.kind == "running":
        watched()
    else:
        _watched(st.session_state.get(ASKED), st.session_state.get(STAMP))


def run_to_show() -> State:
    """The picked run, if it has numbers; else its empty state is shown and the page ends here."""
    state = current()
    if state is None:
        missing()
    elif state.kind == "damaged":
        st.error(plain(state.sentence), icon=":material/error:")
    elif state.kind == "running":
        waiting()
    elif state.kind == "stopped" and (state.document is None or not state.document["activity"]):
        st.warning(plain(state.sentence), icon=":material/pause_circle:")
        so_far(state)
    else:
        if state.sentence:
            st.warning(plain(state.sentence), icon=":material/pause_circle:")
        return state
    st.stop()


def part(draw: Callable[..., None]) -> Callable[..., None]:
    """A part of a page that is drawn anew alone; what is damaged in the run's folder is told in its place."""

    def told(*arguments: Any) -> None:
        try:
            draw(*arguments)
        except RunError as error:
            st.error(plain(error), icon=":material/error:")

    return st.fragment(told)


def missing() -> None:
    """No run at all: what to do first; or none of the name in the address: which there are."""
    asked, folder = st.session_state.get(ASKED), run_list.runs_folder()
    names = run_list.names()
    if asked is None or not names:
        st.title("No runs yet")
        if asked is not None:
            st.error(f'There is no run "{plain(short(asked))}".', icon=":material/error:")
        st.write(f"There is no run in {plain(folder)}. Start the first one on the page New study, or on the bundled model in a terminal:")
        st.code("workbench demo", language=None)
        st.write("It appears in the list in the sidebar as soon as it has started.")
        return
    st.title("No such run")
    st.error(f'There is no run "{plain(short(asked))}" in {plain(folder)}.', icon=":material/error:")
    st.markdown("Choose one in the sidebar. Existing runs, newest first:")
    st.markdown("\n".join(f"- {plain(label(name))}" for name in names[:MOST_NAMES]))
    if len(names) > MOST_NAMES:
        st.caption(f"and {len(names) - MOST_NAMES} more.")


@st.fragment(run_every=EVERY)
def waiting() -> None:
    """Progress of a running run and the pictures it has so far, read anew every two seconds."""
    state = current()
    if state is None or state.kind != "running":
        st.rerun()
    st.subheader("Run in progress")
    bar(state)
    st.caption(plain(state.sentence))
    so_far(state)


@st.fragment(run_every=EVERY)
def watched() -> None:
    """The same progress, small, for the sidebar."""
    state = current()
    if state is not None and state.kind == "running":
        bar(state)


def bar(state: State) -> None:
    """How far a run is."""
    share, words = run_list.progress(state)
    st.progress(share, text=plain(words))


def so_far(state: State) -> None:
    """The pictures that exist, without controls."""
    from workbench.ui import image_matrix, picture_files

    try:
        listed = picture_files.rows(state)
        if not listed:
            st.info("No images yet. The first appear when the base model has drawn its prompts.", icon=":material/image:")
            return
        st.subheader("Images so far")
        for block in picture_files.matrix(state, listed):
            st.markdown(f"**{plain(block['title'])}**")
            image_matrix.show(state, block)
    except RunError as error:
        st.error(plain(error), icon=":material/error:")


@st.cache_data(max_entries=4, show_spinner=False)
def _table(path: str, modified: int, size: int) -> "pandas.DataFrame":
    return read_table(path)


def neurons(state: State) -> "pandas.DataFrame | None":
    """The neuron table of a run; None when it has none."""
    from workbench.ui import neuron_table

    path = state.report_folder / "neurons.parquet"
    if state.report["neuron_table"] is None or not path.exists():
        return None
    return neuron_table.checked(_table(str(path), path.stat().st_mtime_ns, path.stat().st_size), path)


def open_neuron(key: str, part: "pandas.DataFrame | None" = None) -> None:
    """Put the neuron picked on the page Neurons, in the table `part` or in a figure, where its address reads it."""
    from workbench.ui import neuron_table

    if found := neuron_table.of_selection(st.session_state.get(key), part):
        st.session_state[SELECTED] = found


def trajectory(rows: list[Row], key: str) -> str:
    """A choice of the latents on which activity was measured."""
    possible = values(rows, "trajectory")
    if len(possible) == 1:
        st.caption(f"Trajectory: {plain(wording.named(wording.TRAJECTORIES, possible[0]))}")
        return possible[0]
    return st.segmented_control(
        "Trajectory",
        possible,
        default=possible[0],
        required=True,
        format_func=lambda name: wording.named(wording.TRAJECTORIES, name),
        key=key,
        help="All variants are recorded on the latents of the base model, so that differences come from the variant alone.",
    )
