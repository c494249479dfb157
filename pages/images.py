"""Images: the condition matrix (rows prompt x seed, columns conditions), one image large, two conditions side by side."""

from typing import Any

import streamlit as st

from workbench.report import wording
from workbench.ui import blur, current_run, image_matrix, picture_files
from workbench.ui.text import plain

PAGE = {"title": "Images", "icon": ":material/grid_view:", "why": "what each variant draws, side by side", "order": 20}
PER_PAGE = 8
MOST_COLUMNS = 23

state = current_run.run_to_show()
st.title("Images")
listed = picture_files.rows(state)
if not listed:
    st.info("This run kept no images. Run its study again to draw them.", icon=":material/image:")
    st.stop()

blocks = {block["title"]: block for block in picture_files.matrix(state, listed)}
title = st.segmented_control("Prompts", list(blocks), default=next(iter(blocks)), required=True, key="images-block")
columns = [(column["name"], column["words"]) for column in blocks[title]["columns"]]
variants, conditions = (list(dict.fromkeys(column[place] for column in columns)) for place in (0, 1))
without_controls = [words for words in conditions if not words.startswith("control")]
picked = st.pills("Variants", variants, selection_mode="multi", default=variants, key=f"images-variants-{title}")
asked = st.pills("Conditions", conditions, selection_mode="multi", default=without_controls, key=f"images-conditions-{title}")
with st.container(horizontal=True):
    found = st.selectbox("Show", picture_files.FOUND, key="images-found", width=330, help="Judged in the conditions that are shown")
    order = st.selectbox("Order", picture_files.ORDERS, key="images-order", width=260)

keep = [place for place, (name, words) in enumerate(columns) if name in picked and words in asked]
if not keep:
    st.info("Choose at least one variant and one condition that was drawn with it.", icon=":material/filter_alt:")
    st.stop()
if len(keep) > MOST_COLUMNS:
    st.warning(f"{len(keep)} conditions are selected; the first {MOST_COLUMNS} are shown.", icon=":material/view_column:")
    keep = keep[:MOST_COLUMNS]
every = blocks[title]["rows"]
rows = picture_files.arranged([row | {"cells": [row["cells"][place] for place in keep]} for row in every], found, order)
if rows:
    pages = -(-len(rows) // PER_PAGE)
    number = st.pagination(pages, key=f"images-page-{title}-{pages}") if pages > 1 else 1
    shown = rows[(number - 1) * PER_PAGE : number * PER_PAGE]
    image_matrix.show(state, blocks[title] | {"columns": [blocks[title]["columns"][place] for place in keep], "rows": shown}, large=True)
else:
    st.info("No prompt is like that in these conditions; choose another one under Show.", icon=":material/filter_alt:")
st.caption(
    f"{len(rows)} of {len(every)} prompts x seeds, {len(keep)} conditions. The eye and the words say what the judge found, with its "
    "confidence; scroll sideways for more. The button under an image shows it large. "
    + ("Images that may show the concept are blurred in their pixels." if blur.is_on() else "Images are shown as drawn.")
)


@current_run.part
def compare() -> None:
    by_name = {(row["unit"], row["seed"]): row for row in every}
    chosen = st.selectbox(
        "Prompt",
        list(by_name),
        format_func=lambda name: f"{by_name[name]['prompt'] or name[0]} (seed {name[1]})",
        key=f"images-unit-{title}",
    )
    choices: dict[str, dict[str, Any]] = {}
    for image in [image for cell in by_name[chosen]["cells"] for image in cell]:
        choices.setdefault(picture_files.column(image), image)
    if len(choices) < 2:
        st.info("This prompt was drawn in one condition only.", icon=":material/compare:")
        return
    left, right = st.columns(2)
    one = left.selectbox("From", list(choices), key=f"images-from-{title}")
    two = right.selectbox("To", list(choices), index=1, key=f"images-to-{title}")
    share = st.slider("Blend", 0, 100, 50, format="%d %%", key="images-blend", help="0 % is the first image, 100 % the second") / 100
    first, second = (picture_files.picture(state, choices[name], reveal=not blur.is_on())[0] for name in (one, two))
    if first is None or second is None:
        st.info("One of these images is missing.", icon=":material/image:")
        return
    apart, mean = picture_files.difference(first, second)
    far, blend = f"{wording.percent(mean)} of the largest possible", f"{wording.percent(share, 0)} of the second"
    with st.grid(4, min_column_width=132, wrap=False):
        for words, drawn, alt in (
            (one, first, picture_files.alt(choices[one])),
            (f"Blend: {blend}", picture_files.mixed(first, second, share), f"{one} blended with {two}, {blend}"),
            (two, second, picture_files.alt(choices[two])),
            (f"Difference, brightest where largest; on average {far}", apart, f"Where {one} and {two} differ; mean difference {far}"),
        ):
            with st.container(gap="xxsmall"):
                st.image(drawn, width=192, alt=alt)
                st.caption(plain(words))


st.subheader("Compare two conditions")
compare()
