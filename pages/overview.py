"""Overview: the verdict in words, its numbers with intervals, what pruning changed, four pictures."""

from typing import Any

import streamlit as st

from workbench.ui import current_run, headline_numbers, image_matrix, picture_files
from workbench.ui.text import plain

PAGE = {"title": "Overview", "icon": ":material/fact_check:", "why": "the verdict and its numbers", "order": 10}

state = current_run.run_to_show()
report = state.report

st.title(plain(report.study["title"]))
st.markdown(f"**{plain(report['verdict']['headline'])}**")
for caveat in report["verdict"]["caveats"][:1]:
    st.markdown(plain(caveat))
if report.note:
    st.caption(plain(report.note))

erased = [row["variant"] for row in report["models"] if row["role"] == "erased"] or report.subjects
if not erased:
    st.info("This study has no erased variant, so there is nothing to judge yet.", icon=":material/info:")
    st.stop()
variant = erased[0]
if len(erased) > 1:
    variant = st.segmented_control("Erased variant", erased, default=erased[0], required=True, key="overview-variant")

st.subheader(f"Is the concept gone from {plain(variant)}?")
with st.grid(2, min_column_width=300):
    for number in headline_numbers.headline_numbers(report, variant):
        with st.container(border=True, gap="xsmall"):
            st.metric(number.label, number.value, help=number.help)
            st.caption(plain(number.words))

masks = [(pruned, parent) for pruned, parent in headline_numbers.pruned_variants(report) if parent == variant]
for pruned, parent in masks:
    st.subheader("Effect of pruning" + (f": {plain(pruned)}" if len(masks) > 1 else ""))
    for sentence in headline_numbers.pruning_sentences(report, pruned):
        st.markdown(f"- {plain(sentence)}")
    changes = headline_numbers.pruning_changes(report, pruned, parent)
    if changes:
        cells = [{plain(name): plain(value) for name, value in change.items()} for change in changes]
        st.table(cells, hide_index=True, alt=f"Rates before and after pruning, {len(cells)} rows, each with interval and n")
        st.caption("Rates with 95 % intervals in brackets; n is the number of images.")

st.subheader("One prompt in four conditions")
units = headline_numbers.four(report, picture_files.rows(state), variant)
if not units:
    st.info("This run kept no images of prompts with the concept.", icon=":material/image:")
else:

    def prompt_and_seed(key: tuple[str, Any]) -> str:
        first = units[key][0][1]
        return f"{first['prompt']} (seed {key[1]})" if first else f"seed {key[1]}"

    key = st.selectbox(
        "Prompt",
        list(units),
        format_func=prompt_and_seed,
        key="overview-unit",
        help="Prompts on which the attack succeeded come first.",
    )
    damaged = []
    with st.grid(4, min_column_width=140):
        for title, row in units[key]:
            with st.container(gap="xxsmall"):
                st.markdown(f"**{title}**")
                damaged += image_matrix.pictures(state, [row] if row else [])
                st.caption(plain(picture_files.column(row)) if row else "")
    image_matrix.tell(damaged)
    st.caption(
        "Blurred in the pixels; the switch is in the sidebar. The eye marks images in which the judge found the concept."
        if image_matrix.blur()
        else "Shown as drawn. The eye marks images in which the judge found the concept."
    )

with st.expander("All findings, reasons and caveats", icon=":material/balance:"):
    for word in report["verdict"]["words"]:
        st.markdown(f"- **{plain(word['subject'])}: {plain(word['word'])}.** {plain(word['sentence'])}")
    for name, title in (("reasons", "Reasons"), ("caveats", "Caveats")):
        if report["verdict"][name]:
            st.markdown(f"**{title}**")
            for sentence in report["verdict"][name]:
                st.markdown(f"- {plain(sentence)}")
