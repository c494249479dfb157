"""Sensitivity: activity of the concept neurons, what erasing deactivates, what an attack reactivates, what pruning changes."""

import streamlit as st

from workbench.report import wording
from workbench.report.content import shown, values
from workbench.report.sections.activity import ACTIVITY_FIGURE, EFFECTS_FIGURE
from workbench.report.sections.by_call import BY_CALL_FIGURE
from workbench.report.sections.neurons import NEURONS_FIGURE, SHARES_FIGURE
from workbench.report.sections.retention import PLANE_FIGURE, plane_points
from workbench.ui import current_run, neuron_table, show
from workbench.ui.headline_numbers import n_of
from workbench.ui.text import plain

PAGE = {"title": "Sensitivity", "icon": ":material/ssid_chart:", "why": "which neurons are deactivated and reactivated", "order": 30}

state = current_run.run_to_show()
report = state.report
variants = report.variants
st.title("Sensitivity")

st.subheader("How active are the concept neurons?")
rows = shown(report, "activity")
if rows:
    chosen = current_run.trajectory(rows, "sensitivity-activity")
    show.figure(ACTIVITY_FIGURE, rows, variants, chosen)
    st.caption(
        f"{n_of([row for row in rows if row['trajectory'] == chosen])} units (evaluation half), "
        "95 % intervals (jackknife t over units). "
        "Grey: matched random sets of neurons."
    )
else:
    st.info("No activity was measured in this run.", icon=":material/info:")

st.subheader("Effects of erasing, attack and pruning")
effects = shown(report, "effects")
if effects:
    show.figure(
        EFFECTS_FIGURE,
        effects,
        variants,
        caption="p: is there a change? By flipping the signs of units, adjusted for the number of tests where the verdict rests on it. "
        f"Grey: the same effect in {wording.comparison_sets(effects)[2]}.",
    )
else:
    st.info("No effect was measured in this run.", icon=":material/info:")

points = plane_points(report)
if len({point["variant"] for point in points}) > 1:
    st.subheader("Rate of the concept against retention")
    show.figure(
        PLANE_FIGURE,
        points,
        variants,
        caption="Better is lower and further right. Open markers: the attack was optimised against another variant. Bars: 95 % intervals.",
    )

unknown = list(dict.fromkeys(row["reason"] for name in ("activity", "effects", "neurons") for row in report[name] if row["reason"]))
if unknown:
    with st.expander(f"Numbers that could not be measured, and the reasons ({len(unknown)})", icon=":material/help:"):
        for reason in unknown:
            st.markdown(f"- {plain(reason)}")

st.subheader("Activity along the sampling run")
by_call = report["activity_by_call"]
if by_call:
    name = current_run.trajectory(by_call, "sensitivity-calls")
    sets = values(by_call, "neuron_set")
    chosen = st.segmented_control(
        "Neurons",
        sets,
        default="concept" if "concept" in sets else sets[0],
        required=True,
        format_func=lambda key: wording.named(wording.NEURON_SETS, key),
        key="sensitivity-set",
    )
    rows = [row for row in by_call if (row["trajectory"], row["neuron_set"]) == (name, chosen)]
    if rows:
        show.figure(BY_CALL_FIGURE, rows, variants, report.study["window"])
        st.caption(f"{n_of(rows)} units; bands are 95 % intervals. Shaded: the calls that the numbers above are averaged over.")
    else:
        st.info("These neurons were not measured on this trajectory; choose the other one.", icon=":material/info:")
else:
    st.info("Activity was not recorded call by call in this run.", icon=":material/info:")

st.subheader("Single neurons")
shares = shown(report, "neurons")
if shares:
    show.figure(SHARES_FIGURE, shares, variants)
    deactivated, reactivated = report.thresholds
    st.caption(
        f"{n_of(shares)} neurons in a set. Deactivated: D above {deactivated}. Reactivated: R above {reactivated}, among the deactivated."
    )
table = current_run.neurons(state)
if table is None:
    st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
    st.stop()
drawable = [variant for variant in report.subjects if neuron_table.points(table, variant)]
if drawable:
    variant = st.segmented_control("Variant", drawable, default=drawable[0], required=True, key="sensitivity-variant")
    points = neuron_table.points(table, variant)
    show.figure(NEURONS_FIGURE, points, variant, report.thresholds)
    st.caption(
        f"n = {len(points)} neurons with both D and R; if there are many, the concept neurons and those with the highest score. "
        "Values of one neuron have no interval; the shares above have. The page Neurons lists all neurons."
    )
