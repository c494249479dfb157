"""Cards: what is known about one neuron, put on a page. `preview` is short; the page of the neuron shows all the others too.

numbers     scores, D, R and δ of each variant;   activity   by condition and call
images      the images that activate it most, and those to which it is attributed most
evidence    attribution, words, neighbours, ablation;   kept   notes and lists
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.report import wording
from workbench.report.content import Row, values
from workbench.report.sections.ablation import SETS_FIGURE
from workbench.report.sections.attribution import BARS_FIGURE, PARTS
from workbench.report.sections.by_call import NEURON_FIGURE
from workbench.ui import (
    attribution_files,
    blur,
    current_run,
    image_matrix,
    layer_names,
    links,
    lists,
    neuron_actions,
    neuron_activity,
    neuron_files,
    neuron_profiles,
    neuron_table,
    picture_files,
    show,
)
from workbench.ui.run_list import State
from workbench.ui.text import plain

METRICS = {
    "score": "Response of the neuron to the concept in the base model, by the score that chose the neurons, in {unit}; "
    "on the selection half of the units.",
    "score_b": "The same score on the evaluation half of the units, which was not used to choose neurons, so it is unbiased.",
}
STUDY = {
    "attribute": "[attribute]\nfidelity = true\ntokens = 8",
    "tokens": "[attribute]\ntokens = 32",
    "ablate": '[cluster]\n\n[ablate]\neffects = ["dose_response", "shapley"]',
}
IMAGES, CONDITIONS = 5, 3


@contextmanager
def in_place() -> Iterator[None]:
    """A part of a card whose results are damaged says so where it would be; the others are shown."""
    try:
        yield
    except WorkbenchError as error:
        st.error(plain(error), icon=":material/error:")


def preview(state: State, row: Row, among: str | None = None, by: str | None = None) -> None:
    """The numbers of a neuron (a dict of `neuron_table.find`), and a link to its page."""
    st.subheader(plain(f"Neuron {layer_names.neuron(row)}"))
    numbers(state, row)
    links.neuron(state, neuron_table.identity(row), "Open the card of this neuron", among, by)


def numbers(state: State, row: Row) -> None:
    """Scores, and each variant."""
    report = state.report
    unit = report.score_unit
    st.caption(plain(", ".join([f"neuron {row['index']} of {row['layer']}", f"site {row['site']}", *neuron_table.words(row)])))
    with st.grid(3, min_column_width=170):
        for name in METRICS:
            if row.get(name) is not None:
                st.metric(neuron_table.label(name), wording.number(row[name]), help=plain(METRICS[name].format(unit=unit)))
        if row.get("kappa") is not None:
            st.metric("κ, base contrast", wording.number(row["kappa"], 3), help="Mean activity with the concept minus without it.")
            if row.get("kappa_se") is not None:
                st.caption(f"standard error {wording.number(row['kappa_se'], 3)}")
    models = neuron_table.models(row, report.subjects)
    if models:
        st.table(models, hide_index=True, alt=f"Deactivation, reactivation and δ of this neuron in {len(models)} variants")
        st.caption(
            "D: share of its base contrast that erasing deactivated. R: share that the attack reactivated. δ: attack minus control, in "
            "standard deviations of the base model. Values of one neuron have no interval; those of its set are on the page Sensitivity. "
            "A dash: the base contrast is too small to divide by."
        )


def activity(state: State, row: Row) -> None:
    """How active it was in each condition at each call."""
    st.subheader("When is it active?")
    known = values(state.report["activity"], "trajectory")
    rows = {name: _by_call(state, str(state.folder), _stamp(state), row["layer"], row["index"], name) for name in known}
    if not any(rows.values()):
        st.info("The recordings of this neuron are not in the run folder. Run the study again to record them.", icon=":material/info:")
        return
    chosen = current_run.trajectory([one for each in rows.values() for one in each], "neurons-trajectory")
    without = st.toggle("Hide controls", True, key="neurons-controls")
    shown = [one for one in rows[chosen] if not (without and one["control"])]
    show.figure(NEURON_FIGURE, shown, state.report.variants, state.report.study["window"])
    st.caption(f"n = {shown[0]['n']} units (evaluation half); bands are 95 % intervals (jackknife t over units).")


def images(state: State, row: Row) -> None:
    """The prompts at which it is most active, and those at which it is attributed most, with the images of these conditions."""
    st.subheader("Which images activate it most?")
    known = values(state.report["activity"], "trajectory")
    found = neuron_activity.conditions(state, known[0]) if known else []
    drawn = [one for one in found if _drawn(state, one)]
    if not drawn:
        st.info("Recordings or images are not in the run folder. Run the study again to make them.", icon=":material/info:")
        return
    asked = {picture_files.column(one): one for one in drawn}
    chosen = st.multiselect("Conditions", list(asked), default=_first(drawn), key="neuron-conditions")
    for name in chosen:
        ranked = _by_prompt(state, str(state.folder), _stamp(state), row["layer"], row["index"], *_names(asked[name]), known[0])
        _gallery(state, name, asked[name], [(str(one["id"]), wording.number(one["value"], 3)) for one in ranked], "mean |a|")
    st.caption(
        "The prompts of the evaluation half with the largest mean |a| over the recorded calls, in each condition by itself. Activity was "
        f"recorded on the base model's latents ({plain(wording.named(wording.TRAJECTORIES, known[0]))}); the image is what the variant "
        "draws for the prompt. Where in the image one neuron is active is not stored; clusters have maps where the study says "
        "[cluster] regions = 4. ".replace("[", "\\[")
        + ("Images are blurred in their pixels." if blur.is_on() else "Images are shown as drawn.")
    )
    _attributed(state, row, [asked[name] for name in chosen])


def _attributed(state: State, row: Row, chosen: list[Row]) -> None:
    """The prompts that attribute most to it, in the chosen conditions that were attributed, else in the first one."""
    st.subheader("At which images is it attributed most?")
    conditions = attribution_files.conditions(state)
    if not conditions:
        _not_stored("Attribution was not computed in this run. Add a table to its study and run it again:", STUDY["attribute"])
        return
    method, shown = attribution_files.methods(state)[0], 0
    for one in [one for one in conditions if one in chosen] or conditions[:1]:
        ranked = attribution_files.by_unit(state, method, one, row["layer"], row["index"])
        prompts = neuron_activity.prompts(state, one["prompt_set"])
        if ranked is None or prompts is None or not _drawn(state, one):
            continue
        shown += 1
        first = prompts.drop_duplicates("half_by").set_index("half_by")["id"].to_dict()
        units = [(str(first.get(each["unit"], each["unit"])), wording.number(each["value"], 4)) for each in ranked]
        _gallery(state, picture_files.column(one), one, units, "attribution")
    if shown:
        st.caption(
            f"The units of the evaluation half with the largest attribution to this neuron by the method {plain(method)}, in the "
            "conditions chosen above as far as they were attributed."
        )
    else:
        st.info(
            "Attribution by prompt of this neuron is not in the run folder: it is stored of the site ff, in the results of the run.",
            icon=":material/info:",
        )


def _first(rows: Sequence[Row]) -> list[str]:
    """The conditions shown first: prompts with the concept in the base model and in a variant, and an attack."""
    plain_ones = [row for row in rows if row["prompt_set"] == "target"]
    attacks = [row for row in rows if row["attack"] and not row["control"] and row["provenance"] == "optimised"]
    return [picture_files.column(row) for row in [*plain_ones[:2], *attacks[:1]]][:CONDITIONS] or [picture_files.column(rows[0])]


def _drawn(state: State, row: Row) -> bool:
    return any(node["id"] == f"detect:{row['variant']}:{row['prompt_set']}" and state.has(node) for node in state.nodes)


def _names(row: Row) -> tuple[str, str]:
    return row["variant"], row["prompt_set"]


def _gallery(state: State, name: str, condition: Row, ranked: Sequence[tuple[str, str]], what: str) -> None:
    """The pictures of the first prompts, each under its value."""
    rows = picture_files.by_prompt(state, *_names(condition))
    known = [(rows[identity], value) for identity, value in ranked if identity in rows][:IMAGES]
    st.markdown(f"**{plain(name)}**, n = {len(ranked)} prompts")
    damaged = []
    with st.grid(IMAGES, min_column_width=128, gap="xsmall"):
        for picture, value in known:
            with st.container(gap="xxsmall"):
                damaged += image_matrix.pictures(state, [picture])
                st.caption(f"{what} **{value}**  \n{plain(picture_files.prompt_and_seed(picture))}")
    image_matrix.tell(damaged)


def evidence(state: State, row: Row) -> None:
    """Attribution, the words that drive it, neurons that behave alike, what ablating does."""
    st.subheader("How much does the concept's prediction go through it?")
    with in_place():
        attribution(state, row)
    st.subheader("Which words drive it?")
    tokens(state, row)
    st.subheader("Which neurons behave alike?")
    with in_place():
        neighbours(state, row)
    st.subheader("What does ablating do?")
    with in_place():
        ablation(state, row)


def attribution(state: State, row: Row) -> None:
    """Its attribution in every condition by every method."""
    given = str(state.folder), _stamp(state), row["layer"], row["index"]
    found = _attributions(state, *given) if attribution_files.conditions(state) else []
    if not found:
        st.info(
            "No attribution of this neuron: it is computed for the site ff, where the study has a table [attribute].".replace("[", "\\["),
            icon=":material/info:",
        )
        return
    target = state.report["attribution"][0]["target"]
    bars = [one | {"name": picture_files.column(one), "condition": one["method"]} for one in found]
    show.figure(BARS_FIGURE, bars, f"attribution, in units of {target}")
    st.caption(
        f"n = {wording.integer(found[0]['n'])} units (evaluation half). Bars without a line have no stored interval. Positive: with the "
        "neuron the target is larger."
    )


def tokens(state: State, row: Row) -> None:
    """Credit of the words of the prompt for its activation."""
    own = [one for one in state.report.arranged("tokens") if (one["layer"], one["index"]) == (row["layer"], row["index"])]
    if own:
        cells = [
            {
                "Condition": plain(picture_files.column(one)),
                "Part of the prompt": PARTS[one["part"]],
                "Words with most credit": plain(one["words"]),
                "Credit (95 % interval)": plain(wording.with_n(one, form=wording.digits(4))),
            }
            for one in own
        ]
        st.table(cells, hide_index=True, alt=f"Credit of the words of the prompt for this neuron, {len(cells)} rows")
        return
    ranks = {(one["layer"], one["index"]) for one in state.report["tokens"]}
    said = f"Words are computed for the {len(ranks)} neurons with the highest attribution; this one is none of them. For more of them:"
    _not_stored(said if ranks else "Words were not computed in this run. Add to its study and run it again:", STUDY["tokens"])


def neighbours(state: State, row: Row) -> None:
    """The neurons with the most similar activity."""
    known = values(state.report["activity"], "trajectory")
    found = neuron_profiles.of_run(state, known[0]) if known else None
    rows = neuron_profiles.nearest(found, row["layer"], row["index"]) if found else []
    if not found or not rows:
        st.info("The recordings of this neuron are not in the run folder, or it is never active.", icon=":material/info:")
        return
    table = neuron_files.frame(state, ("score", "cluster", "in_concept")).set_index(["layer", "index"])
    about = table.reindex([(one["layer"], one["index"]) for one in rows])
    cells = pandas.DataFrame([{key: one[key] for key in ("correlation", "cosine")} for one in rows])
    cells.insert(0, "neuron", [layer_names.neuron(one) for one in rows])
    for column in ("score", "cluster", "in_concept"):
        if column in about:
            cells[neuron_table.label(column)] = about[column].to_numpy()
    st.dataframe(
        cells,
        hide_index=True,
        key="neuron-neighbours",
        on_select=lambda: _to_neighbour(rows),
        selection_mode="single-row",
        alt=f"{len(cells)} neurons with the most similar activity, with correlation and cosine",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f") for name in ("correlation", "cosine", neuron_table.label("score"))
        },
    )
    whole = "" if found.n_all == len(found.values) else f" of {wording.integer(found.n_all)} recorded in them, evenly spaced"
    st.caption(
        f"By the correlation of mean |a| over {found.n_conditions} conditions x {found.n_prompts} prompts x {found.n_calls} calls "
        f"(n = {wording.integer(len(found.values))} values{whole}). Cosine is taken without subtracting means. A description of these "
        "recordings, without interval. Tick a row to open its card."
    )


def _to_neighbour(rows: list[Row]) -> None:
    chosen = (st.session_state.get("neuron-neighbours") or {}).get("selection", {}).get("rows", [])
    if chosen:
        st.session_state[current_run.NEURON] = neuron_table.identity(rows[chosen[0]])


def ablation(state: State, row: Row) -> None:
    """What ablating its cluster, or the smallest share of the ranking that has it, does."""
    report = state.report
    if row.get("cluster") is not None and row["cluster"] >= 0:
        name = f"cluster {row['cluster']:.0f}"
        links.cluster(state, int(row["cluster"]), f"It is in {name}")
        own = [one for table in ("leave_one_out", "shapley") for one in report[table] if one["cluster"] == name]
        own = [one for one in own if one["value"] is not None]
        if own:
            shapley = [one for one in own if "n_orders" in one]
            shown = shapley or own
            show.figure(SETS_FIGURE, shown)
            st.caption(
                f"n = {shown[0]['n']} units. " + ("Shapley values" if shapley else "Leave-one-out") + f": what ablating {name} as a whole "
                "changes, beside matched random sets. The ablation of single neurons is in the lab."
            )
            return
    share = _share(state, row)
    doses = [one for one in report["ablation"] if one["value"] is not None and one["share"] is not None]
    reached = sorted({one["share"] for one in doses if share is not None and one["share"] >= share})
    if reached:
        show.figure(SETS_FIGURE, [one | {"cluster": f"top {wording.percent(one['share'])}"} for one in doses if one["share"] == reached[0]])
        st.caption(
            f"The neuron is in the highest {wording.percent(share)} by score; the smallest share that was ablated and has it is "
            f"{wording.percent(reached[0])}. Beside matched random sets; 95 % intervals."
        )
        return
    if report["ablation"] or report["shapley"] or report["leave_one_out"]:
        st.info("No ablation of this run has this neuron: it is in no cluster and in no share of the ranking.", icon=":material/info:")
    else:
        _not_stored("No ablation was measured in this run. Add to its study and run it again:", STUDY["ablate"])


def _share(state: State, row: Row) -> float | None:
    """How far up the ranking by score it is: its rank as a share of the neurons of its site."""
    table = neuron_files.frame(state, ("score",))
    own = table[table["site"] == row["site"]]
    if row["site"] != attribution_files.SITE or row.get("score") is None or "score" not in table:
        return None
    return float((own["score"] >= row["score"]).sum() / len(own))


def kept(state: State, row: Row) -> None:
    """Notes on it, and the lists it is in."""
    identity = neuron_table.identity(row)
    st.subheader("Notes and lists")
    with in_place():
        known = lists.notes(state)
        key = f"note-{identity}"
        st.text_area(
            "Note on this neuron",
            known.get(identity, ""),
            key=key,
            max_chars=lists.MOST_NOTE,
            help="Saved when you leave the field, beside the run",
            on_change=_note,
            args=(state, identity, key),
        )
        neuron_actions.told(key)
    with in_place():
        for name in lists.containing(state, row["layer"], row["index"]):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"In the list **{plain(name)}**")
                own = {row["layer"]: [row["index"]]}
                st.button("Remove from it", key=f"neuron-remove-{name}", on_click=neuron_actions.remove, args=(state, name, own, "neuron"))
        neuron_actions.actions(state, [identity], "neuron")


def _note(state: State, identity: str, key: str) -> None:
    try:
        lists.write_note(state, identity, st.session_state[key])
        st.session_state[f"{key}-said"] = ("success", "The note is saved.")
    except WorkbenchError as error:
        st.session_state[f"{key}-said"] = ("error", str(error))


def _not_stored(words: str, study: str) -> None:
    st.info(words, icon=":material/info:")
    st.code(study, language="toml")


def _stamp(state: State) -> int:
    return (state.folder / "manifest.json").stat().st_mtime_ns


@st.cache_data(max_entries=64, show_spinner=False)
def _by_call(_state_of_run: State, folder: str, stamp: int, layer: str, index: int, trajectory: str) -> list[Row]:
    return neuron_activity.of_neuron(_state_of_run, layer, index, trajectory)


@st.cache_data(max_entries=256, show_spinner=False)
def _by_prompt(
    _state_of_run: State, folder: str, stamp: int, layer: str, index: int, variant: str, prompt_set: str, trajectory: str
) -> list[Row]:
    return neuron_activity.by_prompt(_state_of_run, layer, index, variant, prompt_set, trajectory)


@st.cache_data(max_entries=64, show_spinner=False)
def _attributions(_state_of_run: State, folder: str, stamp: int, layer: str, index: int) -> list[Row]:
    return attribution_files.of_neuron(_state_of_run, layer, index)
