"""Report: choose what it holds, see it, take it along as HTML, Markdown, JSON, CSV, a model card or one archive."""

from functools import partial

import streamlit as st

from workbench.errors import RunError
from workbench.report.renderers.exports import FORMATS
from workbench.report.renderers.options import IMAGES, MAX_MB, Options
from workbench.report.section import found
from workbench.ui import address, current_run, report_files
from workbench.ui.text import plain

PAGE = {"title": "Report", "icon": ":material/description:", "why": "a report to keep, print or hand over", "order": 60}
LEAST = 5.0  # megabytes of an HTML report with figures: plotly.js alone has 4.8
BUTTONS = {
    "html": ("HTML", ":material/html:"),
    "zip": ("Everything (ZIP)", ":material/folder_zip:"),
    "md": ("Markdown", ":material/markdown:"),
    "json": ("JSON", ":material/data_object:"),
    "csv": ("CSV tables", ":material/table:"),
    "card": ("Model card", ":material/badge:"),
    "bib": ("BibTeX", ":material/format_quote:"),
}

state = current_run.run_to_show()
report = state.report
st.title("Report")
st.markdown("Every file is made from the run’s `report.json` when you ask for it, and opens without a network.")

titles = {name: section.title for name, section in found().items()}
address.chosen("report-sections", titles)
sections = st.multiselect(
    "Sections",
    list(titles),
    key="report-sections",
    on_change=partial(address.keep, "report-sections"),
    format_func=titles.__getitem__,
    placeholder="all sections",
    help="Sections of the HTML and the Markdown report. JSON and CSV always have every table.",
)
with st.container(horizontal=True, vertical_alignment="bottom"):
    kind = st.segmented_control(
        "Images",
        list(IMAGES),
        default="thumb",
        required=True,
        key="report-images",
        bind="query-params",
        help="; ".join(f"{name}: {words}" for name, words in IMAGES.items()),
    )
    most = st.number_input(
        "At most (MB)",
        1.0,
        500.0,
        MAX_MB,
        1.0,
        format="%.1f",
        key="report-mb",
        bind="query-params",
        width=150,
        help="Size of the HTML file and of the archive. Images are made smaller or left out to keep it; the report says so.",
    )
    card = st.selectbox("Model card of", report.subjects, key="report-card", width=220) if len(report.subjects) > 1 else None
    # never in the address, so that no link shows clear images
    blur = st.toggle(
        "Blur images that may show the concept",
        bool(report.study["concept"].get("sensitive", True)),
        key="report-blur",
        help="In the files, too: then the clear images are not in them.",
    )
options = Options(tuple(name for name in titles if name in sections) or None, kind, float(most), card)  # type: ignore[arg-type]  # of IMAGES

st.subheader("Download")
with st.container(horizontal=True):
    for name, (label, icon) in BUTTONS.items():
        if name == "card" and not report.subjects:
            continue
        st.download_button(
            label,
            partial(report_files.content, state.folder, name, options, not blur),
            file_name=f"{state.name}-{FORMATS[name].file}",
            mime=FORMATS[name].mime,
            key=f"report-get-{name}",
            on_click="ignore",
            icon=icon,
            help=FORMATS[name].what.capitalize(),
            type="primary" if name == "html" else "secondary",
        )
if most < LEAST:
    st.caption(
        f"A report with figures has at least {LEAST:g} MB as HTML, so that it opens without a network. Below that, choose sections without "
        "figures, such as Caveats and Methods."
    )
st.caption("A large report takes some seconds. The same in a terminal, with these options:")
st.code(report_files.command(state, options, not blur), language=None, wrap_lines=True)

st.subheader("Preview")
if st.toggle("Show the HTML report here", key="report-preview", help="It is made again when the options above change."):
    try:
        with st.spinner("Making the report"):
            shown = report_files.made(state, "html", options, not blur)
        st.caption(f"{len(shown.content) / 1e6:.1f} MB. " + (" ".join(map(plain, shown.left_out)) or "Nothing was left out."))
        st.iframe(shown.content.decode("utf-8"), height=900, alt=f"HTML report of {state.name}, {len(titles)} sections at most")
    except RunError as error:
        st.error(plain(error), icon=":material/error:")
