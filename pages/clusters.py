"""Clusters: groups of neurons that respond alike, how sure they are, and what erasing, attacks and ablation do to them."""

import streamlit as st

from workbench.report import wording
from workbench.report.sections.ablation import SETS_FIGURE
from workbench.report.sections.clusters import (
    CHOICE_FIGURE,
    CLUSTER_CHOICE,
    CLUSTER_EFFECTS,
    CLUSTER_LAYERS,
    CLUSTER_PROMPTS,
    EFFECTS_FIGURE,
    MAP_FIGURE,
    PROFILES_FIGURE,
)
from workbench.ui import cluster_files, current_run, links, neuron_actions, neuron_card, neuron_table, region_cards, show
from workbench.ui.headline_numbers import n_of
from workbench.ui.text import plain

PAGE = {
    "title": "Clusters",
    "icon": ":material/bubble_chart:",
    "why": "groups of neurons that respond alike",
    "order": 44,
    "needs": "clusters",
}

state = current_run.run_to_show()
report = state.report
st.title("Clusters")
if not report["clusters"]:
    st.info("This run has no clusters. Add a table to its study and run it again:", icon=":material/info:")
    st.code("[cluster]\nk = [2, 8]\nregions = 4", language="toml")
    st.stop()
clusters = {row["cluster"]: row for row in report["clusters"]}
selected = next((row for row in report["cluster_choice"] if row["chosen"]), None)
st.markdown(
    f"Neurons that respond alike over prompts, variants and calls: {len(clusters)} clusters of "
    f"{wording.integer(sum(row['n_neurons'] for row in clusters.values()))} neurons, made on the selection half and described on the "
    "evaluation half."
)
if selected and not (selected["stable"] and selected["grouped"]):
    st.warning(
        plain(f"These clusters may be splits of a continuum: {selected['reason'] or 'they are no more stable than splits of one cloud.'}"),
        icon=":material/warning:",
    )

st.subheader("Which neurons are alike?")
points, whence = cluster_files.plane(state)
if points:
    show.figure(MAP_FIGURE, points, key="clusters-map", on_select="rerun", area=True)
    st.caption(
        f"n = {wording.integer(len(points))} neurons. {whence} Draw around neurons, or choose the box above the map, to keep or ablate "
        "them. A double click clears the choice; a name in the legend hides its cluster."
    )
    drawn = neuron_table.points_of_selection(st.session_state.get("clusters-map"))
    if drawn:
        st.markdown(f"**{neuron_actions.neurons_words(len(drawn))} of {wording.integer(len(points))} selected**")
    neuron_actions.actions(state, drawn, "clusters-drawn")
else:
    st.info("No map: recordings and projection of these neurons are not in the run folder.", icon=":material/info:")

st.subheader("How many clusters, and how sure?")
show.figure(CHOICE_FIGURE, report["cluster_choice"])
st.caption(
    f"n = {wording.integer(report['cluster_choice'][0]['n'])} neurons. Stability: how far the clusters come back when units are resampled "
    f"({report['cluster_choice'][0]['n_resamples']} times; line: 95 % of resamples). Grey: the same of a single cloud without groups."
)
with st.expander("Table of every number tried", icon=":material/table:"):
    show.frame(CLUSTER_CHOICE.view(report))

st.subheader("One cluster")
numbers = [str(number) for number in sorted(clusters)]
number = int(st.segmented_control("Cluster", numbers, default=numbers[0], required=True, key=links.CLUSTER, bind="query-params"))
row = clusters[number]
with st.grid(4, min_column_width=150):
    st.metric("Neurons", wording.integer(row["n_neurons"]))
    st.metric("of these concept neurons", wording.integer(row["n_concept"]))
    st.metric("Layers", wording.integer(row["n_layers"]))
    st.metric("Stability (Jaccard)", wording.number(row["jaccard"]))
st.caption(
    f"Stability: how much of the cluster comes back when units are resampled (95 % of {row['n_resamples']} resamples: "
    f"{wording.span(row['low'], row['high'])})."
)
table = current_run.neurons(state)
if table is not None:
    part = cluster_files.members(table, number)
    shown = [name for name in neuron_table.columns(part, report.subjects) if not part[name].isna().all()]
    st.dataframe(
        part[shown].assign(layer=part["short"]).rename(columns=neuron_table.label),
        hide_index=True,
        height=260,
        key=f"clusters-members-{number}",
        on_select="rerun",
        selection_mode="multi-row",
        alt=f"{len(part)} neurons of cluster {number}, by score",
    )
    ticked = neuron_table.all_of_selection(st.session_state.get(f"clusters-members-{number}"), part)
    st.caption(f"{len(part)} members, by score. " + (f"{len(ticked)} ticked." if ticked else "Tick rows to keep or ablate only these."))
    ids = ticked or [neuron_table.identity(one) for one in part.to_dict("records")]
    neuron_actions.actions(state, ids, f"clusters-{number}", None if ticked else f"cluster:{number}")
    links.neurons(state, f"cluster:{number}")
    if (file := state.report_folder / "neuron-sets" / f"cluster-{number}.safetensors").is_file():
        neuron_actions.as_mask(state, f"group-{number}", file)
with st.expander("Its layers, and the prompts that activate it most", icon=":material/table:"):
    for one in (CLUSTER_LAYERS, CLUSTER_PROMPTS):
        show.frame(one.view(cluster_files.only(report, one.name, number)))

st.subheader("When is it active?")
profiles = [one for one in report["cluster_profiles"] if not one["control"]]
if profiles:
    only = st.toggle("Only this cluster", True, key="clusters-only")
    own = [one for one in profiles if one["cluster"] == number] if only else profiles
    show.figure(PROFILES_FIGURE, own, report.variants)
    st.caption(f"{n_of(own)} units (evaluation half). Contrast with prompts without the concept; bands are 95 % intervals.")
else:
    st.info("No profiles of clusters are in this run.", icon=":material/info:")

with neuron_card.in_place():
    region_cards.regions(state, number)

st.subheader("What do erasing and attacks do to the clusters?")
effects = [one for one in report["cluster_effects"] if one["effect"] != "sensitivity"]
if effects:
    show.figure(EFFECTS_FIGURE, effects, report.variants)
    st.caption(f"{n_of(effects)} units (evaluation half); 95 % intervals; grey: as many random neurons in every layer.")
    with st.expander("Table of effects, with sensitivity δ", icon=":material/table:"):
        show.frame(CLUSTER_EFFECTS.view(report))
else:
    st.info("No effects on clusters were measured in this run.", icon=":material/info:")

st.subheader("What does ablating a cluster do?")
kinds = {"Shapley values": "shapley", "Leave-one-out": "leave_one_out", "Greedy order": "greedy"}
there = {words: name for words, name in kinds.items() if any(one["value"] is not None for one in report[name])}
if there:
    kind = st.segmented_control("Effect", list(there), default=next(iter(there)), required=True, key="clusters-ablation")
    rows = [one for one in report[there[kind]] if one["value"] is not None]
    show.figure(SETS_FIGURE, rows)
    st.caption(f"{n_of(rows)} units; 95 % intervals; grey: matched random sets. Only a change outside the grey band is the cluster's own.")
else:
    st.info("Clusters were not ablated in this run. Add to its study and run it again:", icon=":material/info:")
    st.code('[ablate]\neffects = ["leave_one_out", "shapley"]', language="toml")
