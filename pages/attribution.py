"""Attribution: through which neurons the prediction of the concept goes, how sure that is, and whether ablation agrees."""

import pandas
import streamlit as st

from workbench.report import wording
from workbench.report.content import Report
from workbench.report.sections.attribution import ATTRIBUTION_FIGURE, BARS_FIGURE, FIDELITY_FIGURE, METHODS, TOKENS, TOKENS_FIGURE
from workbench.ui import attribution_files, attribution_rows, current_run, layer_names, neuron_actions, picture_files, show
from workbench.ui.headline_numbers import n_of
from workbench.ui.text import plain

PAGE = {
    "title": "Attribution",
    "icon": ":material/account_tree:",
    "why": "which neurons the concept's prediction goes through",
    "order": 43,
    "needs": "attribution",
}
MOST, WORDS = 3, 5

state = current_run.run_to_show()
report = state.report
st.title("Attribution")
if not report["attribution"]:
    st.info("Attribution was not computed in this run. Add a table to its study and run it again:", icon=":material/info:")
    st.code("[attribute]\nfidelity = true\ntokens = 8", language="toml")
    st.stop()
target, n = report["attribution"][0]["target"], n_of(report["attribution"])
st.markdown(
    f"How much would the network's prediction of {plain(report.concept)} change without a neuron? The target is **{plain(target)}**; "
    f"positive: with the neuron it is larger. {n} units of the evaluation half."
)
methods, known = attribution_files.methods(state), attribution_files.conditions(state)
names = {picture_files.column(one): one for one in known}
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = st.segmented_control("Method", methods, default=methods[0], required=True, key="attribution-method")
    chosen = st.multiselect(
        "Conditions", list(names), default=attribution_rows.first(known), key="attribution-conditions", max_selections=MOST, width=520
    )
if method in METHODS:
    st.caption(f"{METHODS[method].capitalize()}: compare within a layer, as a path counts in every layer it goes through.")
if not chosen:
    st.info("Choose at least one condition.", icon=":material/filter_alt:")
    st.stop()
scores = {name: found for name in chosen if (found := attribution_files.scores(state, method, names[name])) is not None}
if not scores:
    st.info("The scores of these conditions are not in the run folder. Run its study again to compute them.", icon=":material/info:")
    st.stop()

st.subheader("Which neurons does it go through?")
with st.container(horizontal=True, vertical_alignment="bottom"):
    signs = list(attribution_rows.SIGNS)
    sign = st.segmented_control("Show", signs, default=signs[0], required=True, key="attribution-sign")
    k = st.number_input("Neurons", 5, 60, 15, 5, key="attribution-k", width=140)
top = attribution_rows.top(scores, sign, k)
show.figure(BARS_FIGURE, top, f"attribution, in units of {target}")
first = next(iter(scores))
st.caption(
    f"The {k} neurons with the {sign} attribution in the first condition, {plain(first)}, of {wording.integer(len(scores[first].table))}. "
    f"n = {scores[first].n} units; lines are 95 % intervals over units (jackknife t), not corrected for having chosen the top neurons."
)
table = current_run.neurons(state)
ids = list(dict.fromkeys(row["id"] for row in top))
if table is not None:
    part = attribution_rows.table(table, ids)
    st.dataframe(
        part.drop(columns="id"),
        hide_index=True,
        height=240,
        key="attribution-table",
        on_select="rerun",
        selection_mode="multi-row",
        alt=f"The same {len(part)} neurons with score, role and cluster",
    )
    ticked = [ids[row] for row in st.session_state.get("attribution-table", {}).get("selection", {}).get("rows", []) if row < len(ids)]
    st.caption("Tick rows to keep or ablate only these." if not ticked else f"{neuron_actions.neurons_words(len(ticked))} ticked.")
    whole = f"top:{attribution_files.column(method, names[first])}:{k}" if sign == signs[0] else None
    neuron_actions.actions(state, ticked or ids, "attribution", None if ticked else whole)

st.subheader("Which layers does it go through?")
show.figure(BARS_FIGURE, attribution_rows.layers(scores), f"summed attribution of a layer, in units of {target}")
st.caption(f"Sum over all neurons of a layer; n = {scores[first].n} units; lines are 95 % intervals over units (jackknife t).")

st.subheader("Does the concept set get more than random sets?")
credit = [row for row in report["attribution"] if row["method"] == method]
show.figure(ATTRIBUTION_FIGURE, credit, report.variants)
st.caption(f"{n_of(credit)} units. Summed attribution of the concept neurons; grey: as many random neurons in every layer.")

st.subheader("Do methods agree, and does ablation agree?")
fidelity = [row for row in report["fidelity"] if row["spearman"] is not None]
if fidelity:
    show.figure(FIDELITY_FIGURE, fidelity)
    st.caption(
        f"{n_of(fidelity)} neurons or sets. Rank correlation of each method's scores with the change that ablating makes: 1 means the same "
        "order."
    )
else:
    st.info("The scores were not compared with ablation. Add to the study and run it again:", icon=":material/info:")
    st.code("[attribute]\nfidelity = true", language="toml")
agreed = attribution_files.agreement(state, names[first])
if agreed:
    cells = [
        {
            "Ranking": one["one"],
            "compared with": one["other"],
            "Spearman": wording.number(one["spearman"]),
            f"Shared of the top {one['of']}": f"{one['shared']} (by chance {wording.number(one['by_chance'], 1)})",
        }
        for one in agreed
    ]
    st.dataframe(pandas.DataFrame(cells), hide_index=True, alt=f"Agreement of rankings, {len(cells)} pairs")
    st.caption(
        f"{plain(first)}; n = {wording.integer(agreed[0]['n'])} neurons. Methods on the same units, then each method on its two halves of "
        "the units: the second says how far a ranking comes back on other prompts."
    )

st.subheader("Which words drive the top neurons?")
words = [row for row in report.arranged("tokens") if row["rank"] <= WORDS and picture_files.column(row) in chosen]
if words:
    show.figure(TOKENS_FIGURE, words, layer_names.neuron)
    st.caption(
        f"{n_of(words)} units; 95 % intervals. The {len({row['rank'] for row in words})} neurons with the highest attribution in the base "
        "model on the selection half. Credit for the neuron's signed activation, by integrated gradients over the words."
    )
    with st.expander("Table: all neurons and conditions", icon=":material/table:"):
        short = [row | {"layer": layer_names.short(row["layer"])} for row in report["tokens"]]
        show.frame(TOKENS.view(Report(report.document | {"tokens": short})))
else:
    st.info("Words were not computed for these conditions. Add to the study and run it again:", icon=":material/info:")
    st.code("[attribute]\ntokens = 8", language="toml")

st.subheader("Do the scores add up?")
cells = [attribution_rows.completeness(row) for row in report.arranged("attribution")]
st.dataframe(pandas.DataFrame(cells), hide_index=True, alt=f"Completeness of each attribution, {len(cells)} rows")
st.caption(
    "Sum of all scores against value minus value at the baseline; the gap is what the method leaves unexplained. Only methods that add up "
    "by construction (complete) are expected to have a small one; the others are first-order estimates of single neurons."
)
