"""Sensitivity: which neurons carry the concept, what erasing silences, what an attack wakes, what pruning does."""

import streamlit as st

from workbench.report import wording
from workbench.report.plane_figures import plane_points
from workbench.ui import current_run, neuron_table
from workbench.ui.headline_numbers import n_of, plain

state = current_run.run_to_show()
document = state.document
variants, study = wording.variant_names(document), document["study"]
st.title("Sensitivity")

st.subheader("How active are the concept neurons?")
rows = wording.shown(document, "activity")
if rows:
    chosen = current_run.trajectory(rows, "sensitivity-activity")
    current_run.figure("activity_figure", rows, variants, chosen)
    st.caption(
        f"{n_of([row for row in rows if row['trajectory'] == chosen])} units (the half that did not choose the neurons), "
        "95 % intervals (jackknife t over units). "
        "Grey: matched random sets of neurons."
    )
else:
    st.info("No activity was measured in this run.", icon=":material/info:")

st.subheader("What each step did")
effects = wording.shown(document, "effects")
if effects:
    current_run.figure(
        "effects_figure",
        effects,
        variants,
        caption="p: is there a change? By flipping the signs of units, corrected for the number of tests where words rest on it. "
        f"Grey: the same effect in {wording.beside(effects)[1]}.",
    )
else:
    st.info("No effect was measured in this run.", icon=":material/info:")

points = plane_points(document)
if len({point["variant"] for point in points}) > 1:
    st.subheader("What it costs")
    current_run.figure(
        "plane_figure",
        points,
        variants,
        caption="Better is lower and further right. An open marker: the attack was made against another model. Bars: 95 % intervals.",
    )

unknown = list(dict.fromkeys(row["reason"] for name in ("activity", "effects", "neurons") for row in document[name] if row["reason"]))
if unknown:
    with st.expander(f"What could not be measured, and why ({len(unknown)})", icon=":material/help:"):
        for reason in unknown:
            st.markdown(f"- {plain(reason)}")

st.subheader("When in the sampling run?")
by_call = document["activity_by_call"]
if by_call:
    name = current_run.trajectory(by_call, "sensitivity-calls")
    sets = current_run.names(by_call, "neuron_set")
    chosen = st.segmented_control(
        "Neurons",
        sets,
        default="concept" if "concept" in sets else sets[0],
        required=True,
        format_func=lambda key: wording.NEURON_SETS.get(key, key),
        key="sensitivity-set",
    )
    rows = [row for row in by_call if (row["trajectory"], row["neuron_set"]) == (name, chosen)]
    if rows:
        current_run.figure("activity_by_call_figure", rows, variants, study["window"])
        st.caption(f"{n_of(rows)} units; bands are 95 % intervals. Shaded: the calls the study records.")
    else:
        st.info("These neurons were not measured on these latents; choose the other latents.", icon=":material/info:")
else:
    st.info("Activity was not recorded call by call in this run.", icon=":material/info:")

st.subheader("Single neurons")
shares = wording.shown(document, "neurons")
if shares:
    current_run.figure("shares_figure", shares, variants)
    silenced, woken = wording.thresholds(study)
    st.caption(
        f"{n_of(shares)} neurons in a set. Silenced: deactivation D above {silenced}. "
        f"Woken: reactivation R above {woken}, among the silenced."
    )
table = current_run.neurons(state)
if table is None:
    st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
    st.stop()
drawable = [variant for variant in wording.subjects(document) if neuron_table.points(table, variant)]
if drawable:
    variant = st.segmented_control("Model", drawable, default=drawable[0], required=True, key="sensitivity-variant")
    points = neuron_table.points(table, variant)
    current_run.figure("neurons_figure", points, variant, thresholds=wording.thresholds(study))
    st.caption(
        f"n = {len(points)} neurons with both D and R; of very many, the chosen ones and those with the highest score. "
        "Values of one neuron have no interval; the shares above have. All of them are on the page Neurons."
    )
