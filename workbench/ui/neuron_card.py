"""Cards: what is known about one neuron, put on the page."""

import streamlit as st

from workbench.report import wording
from workbench.report.content import Row, values
from workbench.report.sections.by_call import NEURON_FIGURE
from workbench.ui import current_run, neuron_activity, neuron_table, show
from workbench.ui.run_list import State
from workbench.ui.text import plain

METRICS = {
    "score": "Response of the neuron to the concept in the base model, by the score that chose the neurons, in {unit}; "
    "on the selection half of the units.",
    "score_b": "The same score on the evaluation half of the units, which was not used to choose neurons, so it is unbiased.",
}


def neuron(state: State, row: Row) -> None:
    """The card of one neuron (a dict of `neuron_table.find`): its numbers, each model, its activity along the sampling run."""
    report = state.report
    unit = report.score_unit
    st.subheader(plain(f"Neuron {row['index']} of {row['layer']}"))
    st.caption(plain(", ".join([f"site {row['site']}", *neuron_table.words(row)])))
    with st.grid(3, min_column_width=170):
        for name in METRICS:
            if row.get(name) is not None:
                st.metric(neuron_table.label(name), wording.number(row[name]), help=plain(METRICS[name].format(unit=unit)))
        if row.get("kappa") is not None:
            st.metric("κ, base contrast", wording.number(row["kappa"], 3), help="Mean activity with the concept minus without it.")
            if row.get("kappa_se") is not None:
                st.caption(f"standard error {wording.number(row['kappa_se'], 3)}")
    models = neuron_table.models(row, report.subjects)
    if models:
        st.table(models, hide_index=True, alt=f"Deactivation, reactivation and δ of this neuron in {len(models)} variants")
        st.caption(
            "D: share of its base contrast that erasing deactivated. R: share that the attack reactivated. δ: attack minus control, in "
            "standard deviations of the base model. Values of one neuron have no interval; those of its set are on the page Sensitivity. "
            "A dash: the base contrast is too small to divide by."
        )
    activity(state, row)


def activity(state: State, row: Row) -> None:
    """How active it was in each condition at each call."""
    st.markdown("**Activity along the sampling run**")
    known = values(state.report["activity"], "trajectory")
    rows = {name: _by_call(state, str(state.folder), _stamp(state), row["layer"], row["index"], name) for name in known}
    if not any(rows.values()):
        st.info("The recordings of this neuron are not in the run folder.", icon=":material/info:")
        return
    chosen = current_run.trajectory([one for each in rows.values() for one in each], "neurons-trajectory")
    shown = [one for one in rows[chosen] if not one["control"]] if st.toggle("Hide controls", key="neurons-controls") else rows[chosen]
    show.figure(NEURON_FIGURE, shown, state.report.variants, state.report.study["window"])
    st.caption(f"n = {shown[0]['n']} units (evaluation half); bands are 95 % intervals (jackknife t over units).")


def _stamp(state: State) -> int:
    return (state.folder / "manifest.json").stat().st_mtime_ns


@st.cache_data(max_entries=64, show_spinner=False)
def _by_call(_state_of_run: State, folder: str, stamp: int, layer: str, index: int, trajectory: str) -> list[Row]:
    return neuron_activity.of_neuron(_state_of_run, layer, index, trajectory)
