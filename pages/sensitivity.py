"""Sensitivity: what erasing deactivates and an attack reactivates: in total, per cluster, by layer and call; other thresholds."""

import pandas
import streamlit as st

from workbench.report import wording
from workbench.report.content import shown, values
from workbench.report.sections.activity import ACTIVITY_FIGURE, EFFECTS_FIGURE
from workbench.report.sections.by_call import BY_CALL_FIGURE
from workbench.report.sections.neurons import NEURONS_FIGURE, SHARES_FIGURE
from workbench.report.sections.retention import PLANE_FIGURE, plane_points
from workbench.report.slope import SLOPE_FIGURE, slopes
from workbench.report.story import chains, story
from workbench.ui import current_run, image_matrix, layer_changes, layer_names, neuron_table, show, threshold
from workbench.ui.headline_numbers import n_of
from workbench.ui.text import plain

PAGE = {"title": "Sensitivity", "icon": ":material/ssid_chart:", "why": "which neurons are deactivated and reactivated", "order": 30}

state = current_run.run_to_show()
report, stamp = state.report, current_run.stamp()
variants = report.variants
st.title("Sensitivity")
stories = chains(report)
if not stories:
    st.info("This study has no erased variant, so there is nothing to compare with the base model.", icon=":material/info:")
    st.stop()
name = st.selectbox("Variants", list(stories), key="sensitivity-story", bind="query-params", width=320)
told = story(report, stories[name])
variant = stories[name][0]

st.subheader("How much activity is lost, and how much is reactivated?")
found = slopes(report, told)
if found:
    show.figure(SLOPE_FIGURE, found, variant, cached=(stamp, name))
    st.caption(
        "1: the base model with the concept in the prompt, 0: without it. Attack: activity without attack plus what the attack adds beyond "
        "its control. Bars: 95 % intervals; n counts units of the evaluation half (" + n_of(report["effects"]) + ")."
    )
else:
    st.info("No effect on a valid set of neurons was measured for this variant.", icon=":material/info:")


@st.cache_data(max_entries=8, show_spinner="Reading the recordings of the run")
def changes_of(run: str, stamp: object, name: str, _table: pandas.DataFrame) -> list[layer_changes.Change]:
    return layer_changes.changes(state, _table, told.steps)


@current_run.part
def by_layer() -> None:
    table = current_run.neurons(state)
    changed = [] if table is None else changes_of(str(state.folder), stamp, name, table)
    if not changed:
        st.info("The recordings of this variant are not all in the run, or it has no valid set of neurons.", icon=":material/info:")
        return
    names = [one.name for one in changed]
    picked = st.segmented_control("Change", names, default=names[0], required=True, key=f"sensitivity-change-{name}", format_func=plain)
    change = changed[names.index(picked)]
    show.heat_map(change.cells, f"sensitivity-cells-{name}-{names.index(picked)}", f"{change.name}, by layer and call")
    total = change.total
    interval = wording.span(100 * total.low, 100 * total.high, wording.digits(1))
    st.caption(
        f"Each cell: its part of the change in activity, in per cent of the base model's contrast. All cells add up to "
        f"{plain(wording.number(100 * total.value, 1))} % (95 % interval {plain(interval)}, n = {total.n} units). "
        "Call 0 is the noisiest. Blue: activity lost; orange: gained. Click a cell to see the neurons behind it."
    )
    cell = layer_changes.picked(st.session_state.get(f"sensitivity-cells-{name}-{names.index(picked)}"), change.cells)
    if cell:
        part = layer_changes.of_cell(change, *cell)
        st.markdown(f"**Neurons of {plain(layer_names.short(cell[0]))} at call {cell[1]}**, those that change most first")
        st.caption(f"The layer's module: {plain(cell[0])}")
        show.neuron_links(part, state.name)


st.subheader("Where in the model, and at which call?")
by_layer()


@st.cache_data(max_entries=8, show_spinner="Reading the scores of the images")
def scores_of(run: str, stamp: object, name: str) -> list[threshold.Scores]:
    return threshold.scores(state, told.steps)


@current_run.part
def other_threshold() -> None:
    own = threshold.own_threshold(report)
    scored = scores_of(str(state.folder), stamp, name)
    if own is None or not scored:
        st.info("The scores of the images are not all in the run, or its judge has several thresholds.", icon=":material/info:")
        return
    at = st.slider("Threshold of the judge", 0.01, 0.99, own, 0.01, key="sensitivity-threshold", help=f"This study uses {own:g}.")
    st.table(
        threshold.at(scored, at), hide_index=True, alt=f"Rates of {len(scored)} conditions at the threshold {at:g}, with interval and n"
    )
    names = [one.name for one in scored]
    condition = st.segmented_control(
        "Images of", names, default=names[-1], required=True, key=f"sensitivity-sides-{name}", format_func=plain
    )
    below, above = threshold.nearest(scored[names.index(condition)].rows, at)
    damaged = []
    for title, rows in (("Just below: counted as without the concept", below), ("Just above: counted as showing it", above)):
        st.caption(f"**{title}**" + ("" if rows else ": no image"))
        if rows:
            with st.grid(4, min_column_width=132, wrap=False, gap="xsmall"):
                for row in rows:
                    with st.container(gap="xxsmall"):
                        damaged += image_matrix.pictures(state, [row | {"success": row["score"] >= at}])
    image_matrix.tell(damaged)


st.subheader("What would another threshold of the judge change?")
other_threshold()

st.subheader("More figures")


@current_run.part
def fold(key: str, title: str) -> None:
    with st.expander(title, key=f"sensitivity-fold-{key}", on_change="rerun") as one:
        if one.open:
            FOLDS[key][1]()


def activity() -> None:
    rows = shown(report, "activity")
    if not rows:
        st.info("No activity was measured in this run.", icon=":material/info:")
        return
    chosen = current_run.trajectory(rows, "sensitivity-activity")
    show.figure(ACTIVITY_FIGURE, rows, variants, chosen, cached=(stamp, chosen))
    n = n_of([row for row in rows if row["trajectory"] == chosen])
    st.caption(f"{n} units (evaluation half), 95 % intervals (jackknife t over units). Grey: matched random sets of neurons.")


def effects() -> None:
    rows = shown(report, "effects")
    if not rows:
        st.info("No effect was measured in this run.", icon=":material/info:")
        return
    show.figure(EFFECTS_FIGURE, rows, variants, cached=(stamp,))
    st.caption(
        "p: is there a change? By flipping the signs of units, adjusted for the number of tests where the verdict rests on it. "
        f"Grey: the same effect in {wording.comparison_sets(rows)[2]}."
    )


def plane() -> None:
    points = plane_points(report)
    if len({point["variant"] for point in points}) < 2:
        st.info("Too few variants have both rates in this run.", icon=":material/info:")
        return
    show.figure(PLANE_FIGURE, points, variants, cached=(stamp,))
    st.caption("Better is lower and further right. Open markers: the attack was optimised against another variant. Bars: 95 % intervals.")


def by_call() -> None:
    rows = report["activity_by_call"]
    if not rows:
        st.info("Activity was not recorded call by call in this run.", icon=":material/info:")
        return
    trajectory, sets = current_run.trajectory(rows, "sensitivity-calls"), values(rows, "neuron_set")
    chosen = st.segmented_control(
        "Neurons",
        sets,
        default="concept" if "concept" in sets else sets[0],
        required=True,
        format_func=lambda key: wording.named(wording.NEURON_SETS, key),
        key="sensitivity-set",
    )
    rows = [row for row in rows if (row["trajectory"], row["neuron_set"]) == (trajectory, chosen)]
    if rows:
        show.figure(BY_CALL_FIGURE, rows, variants, report.study["window"], cached=(stamp, trajectory, chosen))
        st.caption(f"{n_of(rows)} units; bands are 95 % intervals. Shaded: the calls that the numbers above are averaged over.")
    else:
        st.info("These neurons were not measured on this trajectory; choose the other one.", icon=":material/info:")


def single() -> None:
    shares = shown(report, "neurons")
    if shares:
        show.figure(SHARES_FIGURE, shares, variants, cached=(stamp,))
        deactivated, reactivated = report.thresholds
        st.caption(
            f"{n_of(shares)} neurons in a set. Deactivated: D above {deactivated}. Reactivated: R above {reactivated}, among the "
            "deactivated."
        )
    table = current_run.neurons(state)
    drawable = [] if table is None else [one for one in report.subjects if neuron_table.points(table, one)]
    if table is None or not drawable:
        st.info("This run has no table of single neurons yet. Run its study again to finish it.", icon=":material/info:")
        return
    chosen = st.segmented_control("Variant", drawable, default=drawable[0], required=True, key="sensitivity-variant")
    points = neuron_table.points(table, chosen)
    show.figure(NEURONS_FIGURE, points, chosen, report.thresholds, cached=(stamp, chosen))
    st.caption(
        f"n = {len(points)} neurons with both D and R; if there are many, the concept neurons and those with the highest score. "
        "Values of one neuron have no interval; the shares above have. The page Neurons lists all neurons."
    )


def missing() -> None:
    unknown = list(dict.fromkeys(row["reason"] for table in ("activity", "effects", "neurons") for row in report[table] if row["reason"]))
    st.markdown("\n".join(f"- {plain(reason)}" for reason in unknown) or "No number is missing.")


FOLDS = {
    "activity": ("Activity of the concept neurons in every condition", activity),
    "effects": ("Effects of erasing, attack and pruning", effects),
    "plane": ("Rate of the concept against retention", plane),
    "calls": ("Activity along the sampling run", by_call),
    "single": ("Single neurons: how many are deactivated and reactivated", single),
    "missing": ("Numbers that could not be measured, and the reasons", missing),
}
for key, (title, _) in FOLDS.items():
    fold(key, title)
