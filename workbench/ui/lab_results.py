"""What the Ablation lab shows of its results: pictures before and after, numbers, related prompts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from workbench.report import images, wording
from workbench.report.charts.style import COLOURS, CONFIG
from workbench.report.section import Drawing
from workbench.report.sections.ablation import DOSE_FIGURE
from workbench.ui import blur, current_run, lab_job, lab_state
from workbench.ui.lab_state import Asked
from workbench.ui.live import DIFFERENCE, Outcome
from workbench.ui.run_list import State
from workbench.ui.text import plain

if TYPE_CHECKING:
    import numpy

WIDTH = 160


def vectors_for(
    found: Mapping[Any, "numpy.ndarray"], asked: Asked, variant: str, neurons: Mapping[str, Sequence[int]]
) -> "tuple[numpy.ndarray | None, str]":
    """(vectors, what a reader must know): those found against this state, else those of this variant in another state."""
    own = found.get(lab_state.key_of(asked, variant, neurons))
    if own is not None:
        return own, ""
    alike = [key for key in found if key[:3] == (asked.prompt, asked.seeds, variant)]
    if alike:
        return found[alike[-1]], f"{variant}: the vectors were found against another state of the ablation (transferred)."
    return None, f"{variant}: no attack was made for this prompt yet; shown without attack."


def grid(asked: Asked, outcomes: Sequence[Outcome], attacked: bool) -> None:
    """Rows before, after, difference; columns variants; a block for each seed."""
    hide = blur.is_on()
    for place, seed in enumerate(asked.seeds):
        if len(asked.seeds) > 1:
            st.caption(f"Seed {seed}")
        with st.grid(len(outcomes) + 1, min_column_width=112, wrap=False, gap="xsmall"):
            st.caption("under attack" if attacked else "without attack")
            for one in outcomes:
                st.markdown(f"**{plain(one.variant)}**")
            for name in ("before", "after", "difference"):
                st.caption(name if name != "difference" else f"difference, {DIFFERENCE} times")
                for one in outcomes:
                    with st.container(gap="xxsmall"):
                        _cell(one, name, place, asked, hide)


def _cell(one: Outcome, name: str, place: int, asked: Asked, hide: bool) -> None:
    picture: Image.Image = getattr(one, name)[place]
    picture = images.blurred(picture.convert("RGB")) if hide else picture
    alt = f"{one.variant} {name} the ablation, {asked.prompt}, seed {asked.seeds[place]}"
    if name != "difference":
        present, score = one.found[place][name == "after"]
        alt += f"; the judge {'finds' if present else 'does not find'} the concept, score {score:.2f}"
    enlarged = picture.resize((WIDTH, WIDTH), Image.Resampling.NEAREST) if picture.width < WIDTH else picture
    st.image(enlarged, width=WIDTH, output_format="PNG", alt=alt)
    if name != "difference":
        st.caption(f":material/visibility: concept · {score:.2f}" if present else f":material/visibility_off: no concept · {score:.2f}")


def numbers(asked: Asked, outcomes: Sequence[Outcome], rest: bool) -> None:
    """Detector, target and activity, before and after."""
    rows = [{"": "Concept in image (score of the judge)"} | {one.variant: _mean_scores(one) for one in outcomes}]
    rows.append({"": "Target T2 (base model = 1)"} | {one.variant: _pair(one.target) for one in outcomes})
    rows.append({"": "Activity of the picked neurons (base model = 1)"} | {one.variant: _pair(one.activity) for one in outcomes})
    if rest:
        rows.append({"": "Activity of the other concept neurons"} | {one.variant: _pair(one.rest) for one in outcomes})
    cells = [{plain(key): plain(value) for key, value in row.items()} for row in rows]
    st.table(cells, hide_index=True, alt="Judge, target and activity before and after the ablation, one column a variant")
    n = len(asked.seeds)
    reference = outcomes[0].reference
    compared = f"reference: {reference}" if reference else "reference: the empty prompt"
    st.caption(
        f"Before → after; n = {n} image{'s' if n > 1 else ''} of one prompt, so there is no interval ({plain(compared)}). A finding needs "
        "many prompts and random sets beside them: [ablate] in a study."
    )
    for why in dict.fromkeys(one.why for one in outcomes if one.why):
        st.caption(f"Not measured: {plain(why)}")


def _mean_scores(one: Outcome) -> str:
    before, after = (sum(pair[side][1] for pair in one.found) / len(one.found) for side in (0, 1))
    return f"{before:.2f} → {after:.2f}"


def _pair(values: tuple[float, float] | None) -> str:
    return wording.DASH if values is None else f"{values[0]:.2f} → {values[1]:.2f}"


def retained(rows: Sequence[tuple[str, tuple[int, int, int] | None]]) -> None:
    """How many related prompts show what they ask for, before and after."""
    known = [(variant, found) for variant, found in rows if found is not None]
    if not known:
        st.caption("The study has no related prompts ([prompts] near or far).")
        return
    cells = [
        {"Variant": plain(variant), "Before": f"{found[0]} of {found[2]}", "After": f"{found[1]} of {found[2]}"} for variant, found in known
    ]
    st.table(cells, hide_index=True, alt="Related prompts that show what they ask for, before and after the ablation")


def as_job(state: State, asked: Asked) -> None:
    """For a model too large for the pages: the same as a process of its own, started and shown here."""
    st.caption(
        "This model is too large to be computed while the page waits, so another process computes. It continues when the tab is closed."
    )
    device = st.text_input("Device", "cpu", key="lab-device", help="cpu, cuda, cuda:1, ...")
    job = lab_job.find(state, asked, device)
    if job.kind == "running":
        _running(state, asked, device)
    elif job.kind == "done":
        _job_grid(asked, job)
    else:
        if job.kind == "failed":
            st.error(f"The process ended without a result. {plain(job.said)}", icon=":material/error:")
        if st.button("Compute", key="lab-job", icon=":material/play_arrow:", type="primary"):
            lab_job.start(state, asked, device)
            st.rerun()
    st.caption("The same in a terminal")
    st.code(lab_state.as_command(state, asked), language=None, wrap_lines=True)


@st.fragment(run_every=current_run.EVERY)
def _running(state: State, asked: Asked, device: str) -> None:
    job = lab_job.find(state, asked, device)
    if job.kind != "running":
        st.rerun()
    st.info("Computing …", icon=":material/hourglass_top:")
    if st.button("Stop", key="lab-job-stop", icon=":material/stop_circle:"):
        lab_job.stop(job)


def _job_grid(asked: Asked, job: lab_job.Job) -> None:
    rows, hide = {(row["variant"], row["seed"]): row for row in job.rows}, blur.is_on()
    for seed in asked.seeds:
        with st.grid(len(asked.variants) + 1, min_column_width=112, wrap=False, gap="xsmall"):
            st.caption(f"seed {seed}")
            for variant in asked.variants:
                st.markdown(f"**{plain(variant)}**")
            for place, when in enumerate(("before", "after")):
                st.caption(when)
                for variant in asked.variants:
                    found = rows[variant, seed]
                    picture = Image.open(job.picture(variant, seed, when)).convert("RGB")
                    with st.container(gap="xxsmall"):
                        st.image(
                            images.blurred(picture) if hide else picture, width=WIDTH, alt=f"{variant} {when} the ablation, {asked.prompt}"
                        )
                        st.caption(f"{'concept' if found['concept'][place] else 'no concept'} · {found['score'][place]:.2f}")
    cells = [
        {"Variant": plain(row["variant"]), "Seed": str(row["seed"])}
        | {word: plain(_pair(tuple(row[key]) if row[key] else None)) for word, key in (("Target T2", "target"), ("Activity", "activity"))}
        for row in rows.values()
    ]
    st.table(cells, hide_index=True, alt="Target and activity before and after the ablation, one row an image")
    st.caption(f"n = {len(asked.seeds)} images of one prompt, so there is no interval.")


def dose(state: State, n_neurons: int) -> None:
    """The run's dose-response curve with the band of random sets, and a mark where the picked neurons are."""
    rows = [row for row in state.report["ablation"] if row["value"] is not None]
    if not rows:
        st.caption(
            'This run has no dose-response curve. Add [ablate] with effects = ["dose_response"] to its study and run it again: one prompt '
            "shows what changes; many prompts with random sets beside them show whether it is these neurons."
        )
        return
    with st.expander("Dose-response over many prompts", icon=":material/show_chart:", key="lab-dose", on_change="rerun") as opened:
        if not opened.open:
            return
        sizes = [row["n_neurons"] / row["share"] for row in rows if row["share"]]
        share = n_neurons / (sum(sizes) / len(sizes)) if sizes else None
        drawing = Drawing("", (rows,))
        figure = DOSE_FIGURE.drawn(drawing)
        if share:
            figure.add_vline(x=100 * share, line={"dash": "dot", "color": COLOURS["black"]}, annotation={"text": f"{n_neurons} neurons"})
        st.plotly_chart(figure, theme=None, config=CONFIG, alt=DOSE_FIGURE.words(drawing), key="lab-dose-figure")
        ns = sorted({row["n"] for row in rows if row["n"]})
        n = f"{ns[0]}" if len(ns) == 1 else f"{ns[0]} to {ns[-1]}"
        st.caption(
            f"n = {n} units (evaluation half), 95 % intervals. Grey: matched random sets of the same size. Dotted: as many neurons as are "
            "picked now; the curve itself ablates those that rank highest in the run."
        )
