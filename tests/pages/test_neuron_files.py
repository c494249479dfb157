"""What the pages read of single neurons: recordings, profiles, attributions; and the figures of it."""

import numpy as np
import pytest

from tests.pages.opening import open_page
from tests.pages.recorded_run import ACTIVE, CALLS, TWIN, recorded
from tests.pages.test_neuron_pages import DOWN
from tests.pages.test_pages import words
from tests.report.example import example
from workbench.errors import RunError
from workbench.report import wording
from workbench.report.section import Drawing
from workbench.report.sections import attribution, clusters
from workbench.ui import attribution_files, attribution_rows, cluster_files, neuron_activity, neuron_files, neuron_profiles, run_list


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("runs") / "recorded")


@pytest.fixture
def state(run):
    return run_list.look(run[0])


def test_the_prompts_at_which_a_neuron_is_most_active_come_first(state, run):
    rows = neuron_activity.by_prompt(state, DOWN.format(0), ACTIVE, "base", "target", run[1])
    assert len(rows) == 4, "the evaluation half of eight units"
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)
    assert [row["prompt"] for row in rows] == sorted((row["prompt"] for row in rows), reverse=True)
    assert neuron_activity.by_prompt(state, DOWN.format(0), ACTIVE, "esd", "target", run[1]) == []
    (row, *_) = neuron_activity.of_neuron(state, DOWN.format(0), ACTIVE, run[1])
    assert row["n"] == 4 and row["call"] == CALLS[0]


def test_the_nearest_neuron_is_the_one_that_fires_at_the_same_prompts(state, run):
    found = neuron_profiles.of_run(state, run[1])
    assert found.values.shape == (8 * len(CALLS), 3 * 400) and found.n_all == 16
    first, *others = neuron_profiles.nearest(found, DOWN.format(0), ACTIVE)
    assert (first["layer"], first["index"]) == (DOWN.format(0), TWIN) and first["correlation"] > 0.99 < first["cosine"]
    own = found.values[:, [ACTIVE, TWIN]].astype(float)
    assert first["correlation"] == pytest.approx(np.corrcoef(own.T)[0, 1])
    assert first["cosine"] == pytest.approx(own[:, 0] @ own[:, 1] / np.sqrt((own**2).sum(axis=0)).prod())
    assert all(one["correlation"] <= first["correlation"] for one in others) and len(others) == 9
    assert neuron_profiles.nearest(found, "nowhere", 3) == []


def test_no_more_is_read_of_recordings_than_a_page_may(state, run, monkeypatch):
    monkeypatch.setattr(neuron_profiles, "MOST_BYTES", 4 * 1200 * len(CALLS) * 3)
    neuron_profiles._of_run.cache_clear()
    found = neuron_profiles.of_run(state, run[1])
    neuron_profiles._of_run.cache_clear()
    assert found.values.nbytes <= neuron_profiles.MOST_BYTES and found.n_prompts == 3 and found.n_all == 16


def test_without_a_stored_projection_the_map_is_made_of_the_recordings(run, tmp_path):
    import shutil

    import pandas

    folder = shutil.copytree(run[0], tmp_path / "recorded")
    path = folder / "report" / "neurons.parquet"
    table = pandas.read_parquet(path)
    table.assign(cluster_x=np.nan, cluster_y=np.nan).to_parquet(path, index=False)
    points, whence = cluster_files.plane(run_list.look(folder))
    assert len(points) == table["cluster"].notna().sum() and "keeps no projection" in whence
    assert np.isfinite([[point["cluster_x"], point["cluster_y"]] for point in points]).all()


def test_attributions_come_from_the_results_and_from_the_table_where_these_are_gone(state, run, tmp_path):
    import shutil

    (condition,) = attribution_files.conditions(state)
    stored = attribution_files.scores(state, "gradient", condition)
    assert stored.n == 3 and stored.table["value"].eq(2).all() and stored.table["low"].eq(1).all()
    totals = attribution_files.layer_totals(stored)
    assert sum(row["n_neurons"] for row in totals) == 400
    assert all(row["value"] == pytest.approx(2 * row["n_neurons"]) and row["low"] < row["value"] < row["high"] for row in totals)
    rows = attribution_files.by_unit(state, "gradient", condition, DOWN.format(0), 3)
    assert rows == [{"unit": "unit-7", "value": 3.0}, {"unit": "unit-2", "value": 2.0}, {"unit": "unit-5", "value": 1.0}]
    folder = shutil.copytree(run[0], tmp_path / "recorded")
    shutil.rmtree(folder / "nodes" / "attribute")
    gone = run_list.look(folder)
    table = neuron_files.frame(gone, ("attribution_b", "attribution_b_low"))
    again = attribution_files.scores(gone, "gradient", condition)
    assert again.table["value"].tolist() == table["attribution_b"].tolist() and again.by_unit is None
    assert attribution_files.by_unit(gone, "gradient", condition, DOWN.format(0), 3) is None


def test_damaged_attributions_are_named(run, tmp_path):
    import shutil

    folder = shutil.copytree(run[0], tmp_path / "recorded")
    for path in folder.glob("nodes/attribute/*/scores.safetensors"):
        path.write_bytes(b"x")
    state = run_list.look(folder)
    with pytest.raises(RunError, match=r"scores\.safetensors is damaged"):
        attribution_files.scores(state, "gradient", attribution_files.conditions(state)[0])


def test_the_page_shows_the_images_of_both_and_the_neighbours(monkeypatch, run):
    app = open_page(monkeypatch, run[0].parent, "neuron", run[0].name, neuron=f"{DOWN.format(0)}:{ACTIVE}")
    assert not app.exception and not app.error, [error.value for error in app.error]
    said = words(app)
    assert "n = 4 prompts" in said and "n = 3 prompts" in said and len(app.get("image") or app.get("imgs")) == 7
    assert "attribution **3.0000**" in said and "mean |a| **" in said
    near = app.dataframe[0].value
    assert near["neuron"].iloc[0] == f"down0.0.0 · {TWIN}" and "n = 16 values" in said


def test_the_top_neurons_follow_the_sign_that_was_asked_for(state):
    (condition,) = attribution_files.conditions(state)
    found = attribution_files.scores(state, "gradient", condition)
    signed = attribution_files.Scores(found.table.assign(value=[-9.0, 5.0, *[0.0] * (len(found.table) - 2)]), 3)
    for sign, places in (("largest", [1]), ("most negative", [0]), ("largest of either sign", [0, 1])):
        rows = attribution_rows.top({"base": signed}, sign, len(places))
        assert [row["value"] for row in rows] == [signed.table["value"].iloc[place] for place in places]


BARS = [
    {"name": "down0.0.0 · 3", "id": "a:3", "condition": "base", "value": 0.5, "low": 0.25, "high": 0.75, "n": 20},
    {"name": "down0.0.0 · 3", "id": "a:3", "condition": "esd", "value": -0.125, "low": None, "high": None, "n": 20},
    {"name": "mid.0.0 · 1", "id": "b:1", "condition": "base", "value": 0.0625, "low": 0.03125, "high": 0.125, "n": 20},
]


def test_bars_say_every_value_and_interval_and_what_is_missing_has_no_bar():
    drawing = Drawing("", (BARS, "attribution, in units of T2"))
    drawn = attribution.BARS_FIGURE.drawn(drawing)
    assert [list(trace.x) for trace in drawn.data] == [[0.5, 0.0625], [-0.125, None]]
    assert list(drawn.data[0].error_x.array) == [0.25, 0.0625] and drawn.data[1].error_x.array is None
    assert len({trace.marker.pattern.shape for trace in drawn.data}) == 2, "colour is not the only cue"
    alt = attribution.BARS_FIGURE.words(drawing)
    assert "0.5000 (0.2500 to 0.7500), n = 20" in alt and "esd: −0.1250, n = 20" in alt


@pytest.mark.parametrize(
    ("figure", "table", "column", "more"),
    [
        (attribution.FIDELITY_FIGURE, "fidelity", "spearman", ()),
        (attribution.TOKENS_FIGURE, "tokens", "value", (lambda row: f"{row['layer']} {row['index']}",)),
        (clusters.CHOICE_FIGURE, "cluster_choice", "stability", ()),
    ],
)
def test_every_value_of_the_new_figures_is_drawn_and_in_the_alternative_text(figure, table, column, more):
    rows = [row for row in example()[table] if row[column] is not None]
    drawing = Drawing("", (rows, *more))
    drawn, alt = figure.drawn(drawing), figure.words(drawing)
    shown = [value for trace in drawn.data for axis in (trace.x, trace.y) for value in (axis if axis is not None else ())]
    for row in rows:
        assert any(value == pytest.approx(row[column]) for value in shown if isinstance(value, float))
        assert wording.number(row[column]) in alt or wording.number(row[column], 4) in alt
