"""Compare: variants of any runs on one plane, their differences, the neurons they share, two reports side by side."""

import streamlit as st

from workbench.report.sections.retention import PLANE_FIGURE
from workbench.ui import compared_runs, comparison_tables, current_run, run_list, show
from workbench.ui.text import plain

PAGE = {"title": "Compare", "icon": ":material/compare_arrows:", "why": "variants and runs side by side", "order": 50}
MOST_CONDITIONS = 4

state = current_run.run_to_show()
here = state.name
st.title("Compare")
others = st.multiselect(
    "Compare this run with",
    [name for name in run_list.names() if name != here],
    key="compare-runs",
    bind="query-params",
    max_selections=compared_runs.MOST_RUNS - 1,
    placeholder="other runs; without any, the variants of this run",
)
states = {here: state}
for name in others:
    other = compared_runs.opened(name)
    if other.document is None or not other.document["models"]:
        st.warning(f"{plain(name)} is left out. {plain(other.sentence or 'It has no numbers yet.')}", icon=":material/error:")
    else:
        states[name] = other
possible = {side.id: side for side in compared_runs.sides(states)}
asked = st.multiselect(
    "Variants",
    list(possible),
    key="compare-variants",
    bind="query-params",
    max_selections=compared_runs.MOST_SIDES,
    placeholder="all changed variants",
)
sides = [possible[name] for name in asked if name in possible] or compared_runs.changed(states)
names = [compared_runs.named(side, states) for side in sides]

st.subheader("Which variant erases more and retains more?")
points = compared_runs.points(states, sides)
conditions = list(dict.fromkeys(point["condition"] for point in points))
if points:
    wanted = conditions
    if len(conditions) > 1:
        wanted = st.pills("Conditions", conditions, selection_mode="multi", default=conditions[:MOST_CONDITIONS], key="compare-conditions")
    drawn = [point for point in points if point["condition"] in wanted]
    if drawn:
        show.figure(
            PLANE_FIGURE,
            drawn,
            names,
            caption="Better is lower and further right. Open markers: the attack was optimised against another variant. Bars: 95 % "
            "intervals. n and every number: in the table.",
        )
    comparison_tables.points(points, here)
else:
    st.info("None of these variants has both a rate of the concept and a rate of retained concepts.", icon=":material/info:")

st.subheader("How large are the differences?")
if len(sides) < 2:
    st.info("Choose at least two variants, or another run above.", icon=":material/compare_arrows:")
else:
    first = sides[0]
    if len(sides) > 2:
        first = st.selectbox("Difference to", sides, format_func=lambda side: compared_runs.named(side, states), key="compare-first")
    comparison_tables.differences(compared_runs.differences(states, first, sides), compared_runs.named(first, states), here)

st.subheader("Which neurons do they share?")
comparison_tables.shared(compared_runs.shared(compared_runs.neuron_sets(states)), here)

st.subheader("Two reports side by side")
if len(states) < 2:
    st.info("Choose another run above to see every setting and number in which the two differ.", icon=":material/difference:")
else:
    rest = list(states)[1:]
    second = rest[0] if len(rest) == 1 else st.selectbox("Report beside", rest, key="compare-report", format_func=plain)
    settings, numbers = compared_runs.reports(states[here], states[second])
    comparison_tables.reports(settings, numbers, here, second)
