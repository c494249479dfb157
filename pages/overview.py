"""Overview: the answer in plain words, the story figure with the pictures of one prompt, caveats; everything else folded."""

import streamlit as st

from workbench.report import answer
from workbench.report.sections.verdict import FEW_CAVEATS, decided_first
from workbench.report.story import STORY_FIGURE, chains, story, story_caption
from workbench.ui import blur, current_run, headline_numbers, image_matrix, picture_files, show
from workbench.ui.text import plain

PAGE = {"title": "Overview", "icon": ":material/fact_check:", "why": "the answer, and what it rests on", "order": 10}
FEW = 4  # stories that fit beside each other as buttons

state = current_run.run_to_show()
report = state.report

st.title(plain(report.study["title"]))
stories = chains(report)
if not stories:
    st.markdown(f"**{plain(report['verdict']['headline'])}**")
    st.info("This study has no erased variant, so there is nothing to judge yet.", icon=":material/info:")
    st.stop()
head = st.container()
listed = picture_files.rows(state)
name, key = next(iter(stories)), None
with st.container(horizontal=True, vertical_alignment="bottom"):
    if 1 < len(stories) <= FEW:
        name = st.segmented_control("Variants", list(stories), default=name, required=True, key="overview-story", bind="query-params")
    elif len(stories) > FEW:
        name = st.selectbox("Variants", list(stories), key="overview-story", bind="query-params", width=320)
    told = story(report, stories[name])
    units = headline_numbers.pictures(listed, told.steps)
    if units:
        prompts = {key: picture_files.prompt_and_seed(next(row for row in rows if row)) for key, rows in units.items()}
        key = st.selectbox(
            "Prompt of the pictures",
            list(units),
            format_func=prompts.__getitem__,
            key=f"overview-unit-{name}",
            help="Prompts on which the attack succeeded come first.",
            width=320,
        )

with head:
    first, *more = answer.answer(report, told)
    st.markdown(f"##### {plain(first)}")
    for sentence in more:
        st.markdown(plain(sentence))

damaged = []
with st.grid(1, min_column_width=show.WIDE, wrap=False), st.container(gap="xsmall"):
    if key:
        with st.grid(len(told.steps) + 1, min_column_width=show.WIDE // (len(told.steps) + 2), wrap=False, gap="xsmall"):
            for row in units[key]:
                with st.container(gap="xxsmall", horizontal_alignment="center"):
                    damaged += image_matrix.pictures(state, [row] if row else [])
            st.caption(
                f"{plain(prompts[key])}. " + ("Blurred in the pixels; the switch is in the sidebar." if blur.is_on() else "Shown as drawn.")
            )
    show.chart(STORY_FIGURE, told)
image_matrix.tell(damaged)
if not units:
    st.info("This run kept no images of prompts with the concept.", icon=":material/image:")
st.caption(plain(" ".join(filter(None, (story_caption(told), report.note)))))

caveats = report["verdict"]["caveats"]
if caveats:
    st.markdown("**What limits this answer**")
    st.markdown("\n".join(f"- {plain(caveat)}" for caveat in caveats[:FEW_CAVEATS]))

with st.expander("Numbers of this story, each with its interval and n", icon=":material/123:"):
    for variant in stories[name][:1]:
        with st.grid(2, min_column_width=300):
            for number in headline_numbers.headline_numbers(report, variant):
                with st.container(border=True, gap="xsmall"):
                    st.metric(number.label, number.value, help=number.help)
                    st.caption(plain(number.words))
    for pruned, parent in headline_numbers.pruned_variants(report):
        if pruned in stories[name]:
            st.markdown(f"**Effect of pruning: {plain(pruned)}**")
            for sentence in headline_numbers.pruning_sentences(report, pruned):
                st.markdown(f"- {plain(sentence)}")
            changes = headline_numbers.pruning_changes(report, pruned, parent)
            if changes:
                cells = [{plain(name): plain(value) for name, value in change.items()} for change in changes]
                st.table(cells, hide_index=True, alt=f"Rates before and after pruning, {len(cells)} rows, each with interval and n")
                st.caption("Rates with 95 % intervals in brackets; n is the number of images.")
with st.expander("All findings, the decided ones first", icon=":material/balance:"):
    st.markdown(plain(report["verdict"]["headline"]))
    st.markdown("\n".join(f"- {headline_numbers.finding(word)}" for word in decided_first(report)))
if report["verdict"]["reasons"] or len(caveats) > FEW_CAVEATS:
    with st.expander("Reasons and further caveats", icon=":material/notes:"):
        for title, sentences in (("Reasons", report["verdict"]["reasons"]), ("Caveats", caveats[FEW_CAVEATS:])):
            if sentences:
                st.markdown(f"**{title}**")
                st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences))
