"""The pages Neuron, Attribution and Clusters, and what can be done with picked neurons."""

import pandas
import pytest

from tests.pages import example_runs
from tests.pages.opening import open_page
from tests.pages.test_pages import in_address, words
from workbench.neurons.sets import NeuronSet
from workbench.report import document as schema
from workbench.ui import cluster_files, layer_names, lists, neuron_table, run_list

DOWN = "down_blocks.{}.attentions.0.transformer_blocks.0.ff.net.2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    example_runs.finished(folder / "finished")
    return folder


@pytest.fixture
def page(runs, monkeypatch):
    """page(name, **address) -> the AppTest of a page on a finished run without lists."""
    import shutil

    shutil.rmtree(runs / lists.FOLDER, ignore_errors=True)
    return lambda name, run="finished", **address: open_page(monkeypatch, runs, name, run, **address)


@pytest.fixture
def table(runs):
    return pandas.read_parquet(runs / "finished" / "report" / "neurons.parquet")


def linked(app):
    """{label: query} of the links of the page."""
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


def sure(app):
    assert not app.exception and not app.error, [error.value for error in app.error]
    return app


def test_the_page_of_a_neuron_says_everything_or_how_to_get_it(page, table):
    row = table.iloc[3]
    app = sure(page("neuron", neuron=f"{row['layer']}:{row['index']}"))
    said = words(app)
    assert app.title[0].value.replace("\\", "") == "down0.0.0 · 3" and f"neuron 3 of {row['layer']}" in said
    assert [metric.value for metric in app.metric][:2] == [f"{row[name]:.2f}" for name in ("score", "score_b")]
    for heading in ("When is it active?", "Which images activate it most?", "Which words drive it?", "What does ablating do?"):
        assert heading in said
    assert "not in the run folder" in said, "the invented run has no recordings"
    assert "Words are computed for" in said and "tokens = 32" in said
    assert any("Attribution, in units of" in chart.proto.alt for chart in app.get("plotly_chart"))


def test_previous_and_next_follow_the_order_and_the_address_the_neuron(page, table):
    best = neuron_table.order(table, "score")
    app = sure(page("neuron"))
    assert app.title[0].value.replace("\\", "") == layer_names.neuron_id(best[0]) and app.button(key="neuron-previous").disabled
    sure(app.button(key="neuron-next").click().run())
    assert app.title[0].value.replace("\\", "") == layer_names.neuron_id(best[1]) and in_address(app, "neuron") == best[1]
    sure(app.button(key="neuron-next").click().run().button(key="neuron-previous").click().run())
    assert in_address(app, "neuron") == best[1]
    sure(app.button(key="neuron-random").click().run())
    assert in_address(app, "neuron") in best


def test_the_neurons_of_a_cluster_are_gone_through_by_themselves(page, table):
    own = neuron_table.order(table[table["cluster"] == 1], "score")
    app = sure(page("neuron", among="cluster:1", by="score"))
    assert f"1 of {len(own)}: cluster 1, by score" in words(app)
    sure(app.button(key="neuron-next").click().run())
    assert in_address(app, "neuron") == own[1] and f"2 of {len(own)}" in words(app)
    app = sure(page("neuron", among="cluster:7"))
    assert "no cluster 7" in words(app) and "1 of 400: all neurons" in words(app)


def test_a_neuron_is_found_by_its_short_name_as_it_is_shown_too(page):
    for name in ("down1.0.0:4", "down1.0.0 · 4", f"{DOWN.format(1)}:4"):
        assert sure(page("neuron", neuron=name)).title[0].value.replace("\\", "") == "down1.0.0 · 4"
    app = page("neuron", neuron="nowhere:3")
    assert not app.exception and "an id is layer:number" in app.error[0].value.replace("\\", "")


def test_a_note_is_kept_and_comes_back(page, runs):
    app = sure(page("neuron", neuron="down1.0.0:4"))
    key = f"note-{DOWN.format(1)}:4"
    sure(app.text_area(key=key).set_value("fires on *eyes*").run())
    assert "The note is saved" in [one.value for one in app.success][0]
    assert lists.notes(run_list.look(runs / "finished")) == {f"{DOWN.format(1)}:4": "fires on *eyes*"}
    assert sure(page("neuron", neuron="down1.0.0:4")).text_area(key=key).value == "fires on *eyes*"


def test_neurons_are_saved_in_a_list_added_and_removed(page, runs):
    state = run_list.look(runs / "finished")
    app = sure(page("neuron", neuron="down1.0.0:4"))
    app.text_input(key="neuron-new").set_value("eyes").run()
    sure(app.button(key="neuron-save").click().run())
    assert lists.read(state, "eyes") == {DOWN.format(1): [4]} and "In the list **eyes**" in words(app)
    app.text_input(key="neuron").set_value("down1.0.0:7").run()
    sure(app.button(key="neuron-add").click().run())
    assert lists.read(state, "eyes") == {DOWN.format(1): [4, 7]}
    sure(app.button(key="neuron-remove-eyes").click().run())
    assert lists.read(state, "eyes") == {DOWN.format(1): [4]}
    app.text_input(key="neuron-new").set_value("Not a name").run()
    app.button(key="neuron-save").click().run()
    assert not app.exception and "cannot be called" in app.error[0].value


def test_ticked_rows_become_a_list_that_is_renamed_used_and_deleted(page, runs):
    state = run_list.look(runs / "finished")
    app = page("neurons")
    app.session_state["neurons-table"] = {"selection": {"rows": [0, 2], "columns": [], "cells": []}}
    sure(app.run())
    assert "2 neurons ticked" in words(app)
    rows = app.dataframe[0].value.iloc[[0, 2]]
    app.text_input(key="neurons-new").set_value("top-two").run()
    sure(app.button(key="neurons-save").click().run())
    kept = {f"{layer_names.short(layer)}:{index}" for layer, indices in lists.read(state, "top-two").items() for index in indices}
    assert kept == {f"{layer}:{index}" for layer, index in zip(rows["layer"], rows["neuron"], strict=True)}
    assert "among=list" in linked(app)["Go through it, neuron by neuron"]
    assert any('file = "' in code.value and 'set = "top-two"' in code.value for code in app.code)
    app.text_input(key="lists-new").set_value("best").run()
    sure(app.button(key="lists-rename").click().run())
    assert lists.names(state) == ["best"] and len(NeuronSet.load(lists.path(state, "best"))) == 2
    sure(app.button(key="lists-delete").click().run())
    assert lists.names(state) == [] and "No lists yet" in words(app)


def test_neurons_are_searched_by_number_and_layer(page):
    app = page("neurons")
    for text, n in (("down1.0.0:4", 44), ("down1.0.0 · 43", 2), (f"{DOWN.format(2)}:2", 44)):
        found = sure(app.text_input(key="neurons-search").set_value(text).run()).dataframe[0].value
        assert len(found) and all(text.replace(" · ", ":").split(":")[1] in str(one) for one in found["neuron"]), n
    app.text_input(key="neurons-search").set_value("nothing like it").run()
    assert not app.exception and "No neuron matches" in words(app)


def test_the_attribution_can_be_chosen_and_every_figure_says_its_numbers(page):
    app = sure(page("attribution"))
    for heading in ("Which neurons does it go through?", "Which layers", "Do methods agree", "Which words drive", "Do the scores add up?"):
        assert heading in words(app)
    charts = app.get("plotly_chart")
    assert len(charts) >= 4 and all(len(chart.proto.alt) > 60 for chart in charts)
    first = app.dataframe[0].value
    assert len(first) == 15
    sure(app.number_input(key="attribution-k").set_value(5).run())
    assert len(app.dataframe[0].value) == 5 and list(app.dataframe[0].value["neuron"]) == list(first["neuron"][:5])
    sure(app.segmented_control(key="attribution-sign").select("most negative").run())
    assert list(app.dataframe[0].value["neuron"]) != list(first["neuron"][:5])
    app.multiselect(key="attribution-conditions").set_value([]).run()
    assert not app.exception and "Choose at least one condition" in words(app)


def test_the_neurons_drawn_around_on_the_map_become_a_list(page, runs, table):
    app = sure(page("clusters"))
    points, whence = cluster_files.plane(run_list.look(runs / "finished"))
    assert len(points) == table["cluster"].notna().sum() and "features that were clustered" in whence
    state = {"selection": {"points": [{"customdata": ["down0.0.0 · 3", f"{DOWN.format(0)}:3"]}] * 2, "box": [], "lasso": []}}
    assert neuron_table.points_of_selection(state) == [f"{DOWN.format(0)}:3"]
    assert neuron_table.points_of_selection(None) == [] == neuron_table.points_of_selection({"selection": {"points": []}})
    assert app.segmented_control(key="cluster").value == "0"


def test_a_link_opens_a_cluster_and_its_actions_name_it(page, runs):
    app = sure(page("clusters", cluster="1"))
    assert app.segmented_control(key="cluster").value == "1"
    app.text_input(key="clusters-1-new").set_value("whole").run()
    sure(app.button(key="clusters-1-save").click().run())
    assert lists.size(run_list.look(runs / "finished"), "whole") == len(app.dataframe[1].value)
    assert "among=cluster" in linked(app)["Go through it, neuron by neuron"]
    assert all(len(chart.proto.alt) > 60 for chart in app.get("plotly_chart"))


def test_without_attributions_or_clusters_the_pages_name_the_lines_of_the_study(runs, page):
    run = example_runs.finished(runs / "bare")
    without = dict.fromkeys(("attribution", "clusters", "cluster_choice", "tokens", "ablation", "shapley", "leave_one_out"), [])
    schema.write(schema.load(run / "report") | without, run / "report")
    for name, line in (("attribution", "[attribute]"), ("clusters", "[cluster]")):
        app = sure(page(name, "bare"))
        assert any(line in code.value for code in app.code)
        assert name.capitalize() not in linked(app)
    said = [code.value for code in sure(page("neuron", "bare")).code]
    assert any("[ablate]" in one for one in said) and any("[attribute]" in one for one in said)


def test_a_damaged_list_or_note_is_said_in_its_place(page, runs):
    state = run_list.look(runs / "finished")
    lists.create(state, "eyes", {DOWN.format(1): [4]})
    lists.path(state, "eyes").write_bytes(b"x")
    (lists.folder(state).parent / "notes.json").write_text("[]")
    app = page("neuron", neuron="down1.0.0:4")
    assert not app.exception and any("notes.json is damaged" in error.value.replace("\\", "") for error in app.error)
    app = page("neurons")
    assert not app.exception and any("eyes.safetensors" in error.value.replace("\\", "") for error in app.error)
