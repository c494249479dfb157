"""The parts of the page New study: where to start from, form, text, cost, start, progress.

The text of the study file is what counts: the form is filled in from it and writes it again; a study is checked, costed and started as the
text says.
"""

import hashlib
import tomllib
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.execution import engines, start
from workbench.report import wording
from workbench.study import as_toml
from workbench.study.study import MOST_BYTES, Study
from workbench.ui import run_list, run_progress, study_draft, study_form
from workbench.ui.text import plain, short

TEXT, VERSION, OPENED, ORIGIN = "new-text", "new-version", "new-opened", "new-origin"
STARTED, COST = "new-started", "new-cost"
ORIGIN_IN_ADDRESS = "origin"
FIRST = f"{study_draft.STUDY}emoji-ink-style"


def begin() -> None:
    """Choose what the study starts from; the address says which, so that a link opens the same."""
    known = study_draft.origins()
    asked = st.query_params.get(ORIGIN_IN_ADDRESS)
    if asked is not None and asked not in known:
        st.error(f'There is no "{plain(short(asked))}" to start from. Choose another one.', icon=":material/error:")
    if asked in known and st.session_state.get("new-asked") != asked:  # a link, not the choice below
        st.session_state["new-asked"] = st.session_state["new-choice"] = asked
    st.session_state.setdefault("new-choice", st.session_state.get("new-asked", FIRST))
    if st.session_state["new-choice"] not in known:
        st.session_state["new-choice"] = FIRST
    chosen = st.selectbox("Start from", list(known), format_func=known.__getitem__, key="new-choice", help="Its study is copied.")
    if st.query_params.get(ORIGIN_IN_ADDRESS) != chosen:
        st.query_params[ORIGIN_IN_ADDRESS] = chosen
    st.session_state["new-asked"] = chosen
    if chosen == study_draft.FILE:
        _upload()
    elif st.session_state.get(ORIGIN) != chosen:
        st.session_state[ORIGIN] = chosen
        try:
            _fill(study_draft.renamed(study_draft.opened(chosen)))
        except WorkbenchError as error:
            st.session_state.pop(TEXT, None)
            st.error(plain(error), icon=":material/error:")
    if TEXT not in st.session_state:
        st.info("Choose a study to start from.", icon=":material/info:")
        st.stop()


def _upload() -> None:
    """A study file of the reader's own."""
    file = st.file_uploader(
        "Study file", type="toml", key="new-file", help="Relative files in it are looked for beside the new study file."
    )
    if file is None:
        if st.session_state.get(ORIGIN) != study_draft.FILE:
            st.session_state.pop(TEXT, None)
        return
    content = file.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    if st.session_state.get("new-file-digest") == digest and st.session_state.get(ORIGIN) == study_draft.FILE:
        return
    st.session_state["new-file-digest"], st.session_state[ORIGIN] = digest, study_draft.FILE
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has {len(content):,} bytes, more than the limit of {MOST_BYTES:,}")
        _fill(content.decode("utf-8"))
    except ValueError as error:
        st.session_state.pop(TEXT, None)
        st.error(plain(f"{short(file.name)} is no study file: {error}."), icon=":material/error:")


def _fill(text: str) -> None:
    """Take over a text: new fields, with the same boxes open."""
    version = st.session_state.get(VERSION, 0)
    st.session_state[OPENED] = study_form.still_open(version)
    st.session_state[TEXT] = text.replace("\r\n", "\n")
    st.session_state[VERSION] = version + 1


def fields() -> None:
    """The form; what it changes is written into the text."""
    data = _data()
    if not study_form.fits(data):
        st.info("The form is shown when the study file on this page can be read as a study. Correct it there.", icon=":material/info:")
        return
    changed = study_form.form(data, st.session_state[VERSION], _restructured, st.session_state[OPENED])
    if as_toml.text(changed) != as_toml.text(data):
        st.session_state[TEXT] = as_toml.text(changed)


def _restructured(data: dict[str, Any]) -> None:
    """Draw the form again for a study with another variant or attack."""
    _fill(as_toml.text(data))
    st.rerun()


def _data() -> Any:
    """What the text says; None where it is no TOML."""
    try:
        return tomllib.loads(st.session_state[TEXT])
    except (ValueError, RecursionError):
        return None


def _edited() -> None:
    """The text was edited by hand: the form is filled in from it."""
    _fill(st.session_state["new-area"])


def text() -> Study | None:
    """The text, to be edited, and whether it is a study: the study, or None with what is wrong in place."""
    st.session_state["new-area"] = st.session_state[TEXT]
    st.text_area("Study file", key="new-area", height=420, on_change=_edited, label_visibility="collapsed")
    try:
        study = study_draft.checked(st.session_state[TEXT])
    except WorkbenchError as error:
        st.error(plain(error), icon=":material/error:")
        return None
    n = len(study.variants), len(study.attacks)
    st.success(f"This is a study: {n[0]} variants, {n[1]} attacks.", icon=":material/check_circle:")
    st.caption(f"It will be saved as {plain(study_draft.path_of(study.name))}. Comments are lost when the form changes the file.")
    return study


def how() -> list[str]:
    """Where it is computed: the words of the command line for engine, workers and devices."""
    engine, workers, device = st.columns(3)
    about = "auto takes a worker per core or GPU where that is faster and memory allows; ray needs a Ray cluster."
    chosen = engine.selectbox("Engine", ("auto", *engines.NAMES), key="new-engine", help=about)
    about = "One per core or GPU, unless you say how many."
    n = workers.number_input("Workers", min_value=1, value=None, step=1, key="new-workers", placeholder="one per core", help=about)
    places = device.text_input("Device", "cpu", key="new-device", help="cpu, cuda, cuda:1, mps; several as cuda:0,cuda:1; auto: all GPUs")
    words = ["--device", places] if places and places != "cpu" else []
    words += ["--engine", chosen] if chosen != "auto" else []
    return words + (["--workers", str(int(n))] if n else [])


def cost(study: Study, words: list[str]) -> None:
    """What the study costs where `words` say, asked for by a button, and shown until the study or these change."""
    if st.button("Check and cost", icon=":material/calculate:", key="new-cost-button", help="Loads the model and measures it: some 20 s."):
        try:
            with st.spinner("Loading the model and planning …"), study_draft.set_down(study) as path:
                found = _without_place(study, path, lambda: start.cost(path, study_draft.run_folder_of(study.name), words, cwd=_cwd()))
            st.session_state[COST] = ((study.text, words), found, None)
        except WorkbenchError as error:
            st.session_state[COST] = ((study.text, words), None, str(error))
    text_of, found, wrong = st.session_state.get(COST, (None, None, None))
    if text_of != (study.text, words):
        st.caption("Opens everything that the study names, and estimates time, disk and memory. Nothing is computed.")
    elif wrong:
        st.error(plain(wrong), icon=":material/error:")
    elif found:
        _costs(found)


def _without_place(study: Study, path: Any, call: Any) -> Any:
    """Call; an error names the file as it will be saved, not as it was put down for the check."""
    try:
        return call()
    except WorkbenchError as error:
        raise type(error)(str(error).replace(str(path), str(study_draft.path_of(study.name)))) from None


def _costs(found: dict[str, Any]) -> None:
    numbers = {
        "Nodes to do": f"{found['nodes']}",
        "Time": f"about {wording.seconds(found['seconds'])}",
        "Disk": f"{found['bytes'] / 1e6:,.0f} MB",
        "Memory": f"{found['memory_mb'] / 1000:,.1f} GB",
        "Workers": f"{found['workers']} (engine {found['engine']})",
    }
    st.table([{"Cost": label, "Estimate": value} for label, value in numbers.items()], hide_index=True, alt="What the study costs, 5 rows")
    st.caption(f"{found['kept']} nodes are done already. {found['free_bytes'] / 1e9:,.0f} GB of disk are free.")
    for sentence in found["warnings"]:
        st.warning(plain(sentence), icon=":material/warning:")
    for sentence in found["notes"]:
        st.caption(plain(sentence))
    cells = [
        {"Stage": row["stage"], "Nodes": str(row["nodes"]), "Done": str(row["kept"]), "Time": wording.seconds(row["seconds"])}
        for row in found["rows"]
    ]
    with st.expander("By stage"):
        st.table(cells, hide_index=True, alt=f"Cost of the study by stage, {len(cells)} rows")


def _cwd() -> Any:
    return run_list.runs_folder().absolute().parent


def start_button(study: Study, how: list[str]) -> None:
    """The start, after the reader has agreed to what would be replaced.

    how   words of the command line for engine, workers and devices
    """
    told = study_draft.in_the_way(study)
    for sentence in told:
        st.warning(plain(sentence), icon=":material/warning:")
    agreed = not told or st.checkbox("I agree", key=f"new-agree-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}")
    origin = st.session_state.get(ORIGIN, "")
    source = run_list.folder_of_name(origin.removeprefix(study_draft.RUN)) if origin.startswith(study_draft.RUN) else None
    words: list[str] = []
    if source is not None and source.absolute() != study_draft.run_folder_of(study.name):
        about = "What the change does not touch is copied from there instead of computed."
        if st.toggle(f"Use results of the run {plain(origin.removeprefix(study_draft.RUN))}", True, key="new-take", help=about):
            words = ["--take-from", str(source.absolute())]
    if not st.button("Start", icon=":material/play_arrow:", type="primary", key="new-start", disabled=not agreed):
        return
    try:
        path, folder = study_draft.save(study, replace=agreed), study_draft.run_folder_of(study.name)
        with st.spinner("Starting: loading the model and planning …"):
            start.start(["run", str(path), "--out", str(folder), *words, *how], folder, cwd=_cwd())
    except WorkbenchError as error:
        st.error(plain(error), icon=":material/error:")
        return
    st.session_state[STARTED] = study.name
    st.rerun()


def followed() -> None:
    """Progress of the run that this page has started, and how to open it."""
    name = st.session_state.get(STARTED)
    folder = run_list.folder_of_name(name) if name else None
    if folder is None:
        return
    st.divider()
    state = run_list.look(folder)
    st.subheader(f"Run {plain(state.name)}", anchor=False)
    st.caption("It is a process of its own: it continues when this page is closed. The page Runs shows it too.")
    if state.kind == "running":
        run_progress.live(state.name)
    elif state.kind == "finished":
        st.success("This run is finished.", icon=":material/check_circle:")
    else:
        st.warning(plain(state.sentence), icon=":material/pause_circle:")
    if st.button("Open this run", icon=":material/open_in_new:", key="new-open", type="primary"):
        run_progress.go_to("overview", state.name)
