"""Every page on every kind of run, in process."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.pages.example_runs import KINDS, finished, running
from tests.pages.opening import SCRIPT
from workbench.errors import WorkbenchError
from workbench.resources import folder
from workbench.ui import navigation, run_list

PAGES = tuple(page.name for page in navigation.pages() if page.of_run)


MARKS = {"running": "running", "stopped": "stopped"} | dict.fromkeys(("damaged", "older", "reportless", "torn"), "damaged")


def words(app):
    """All text of the page."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def in_address(app, key):
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def test_every_script_of_a_page_is_listed_and_has_words_of_its_own():
    assert sorted(path.stem for path in folder("pages").glob("*.py")) == sorted(page.name for page in navigation.pages())
    for words in ("title", "why", "icon"):
        assert len({getattr(page, words) for page in navigation.pages()}) == len(navigation.pages())


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("run", KINDS)
def test_every_page_opens_on_every_kind_of_run_and_the_picker_works(opened, name, run):
    app = opened(name, run)
    picker = app.selectbox(key="run")
    assert picker.value == run and set(picker.options) == {f"{kind} ({MARKS[kind]})" if kind in MARKS else kind for kind in KINDS}
    picker.select("finished").run()
    assert not app.exception and not app.error and app.title
    assert in_address(app, "run") == "finished"


@pytest.mark.parametrize("name", PAGES)
def test_without_runs_the_command_is_named(opened, name, tmp_path):
    for runs in (tmp_path, tmp_path / "absent"):
        app = opened(name, runs=runs)
        assert [code.value for code in app.code] == ["workbench demo"] and not app.selectbox


@pytest.mark.parametrize(
    "run, sentence",
    [
        ("damaged", "is not valid JSON"),
        ("older", "written by another version of the workbench (layout 99"),
        ("reportless", "is missing"),
        ("torn", "manifest.json is damaged"),
    ],
)
@pytest.mark.parametrize("name", PAGES)
def test_a_damaged_run_is_one_sentence_that_says_what_to_do(opened, name, run, sentence):
    app = opened(name, run)
    assert len(app.error) == 1 and not app.title
    assert sentence in words(app) and any(cure in words(app) for cure in ("again", "Run the report stage"))


@pytest.mark.parametrize("name", PAGES)
def test_a_running_run_shows_its_progress_and_pictures(opened, name):
    app = opened(name, "running")
    assert "Run in progress" in words(app)
    assert len(app.get("image") or app.get("imgs")) == 3


NO_RUNS = ["no-such-run", "../../etc", "null", "", ".", "..", "/etc", "<script>alert(1)</script>", "finished ", "x" * 6000]
NO_RUNS += ["%2e%2e", "\u202eevil"]


@pytest.mark.parametrize("page, name", [("overview", name) for name in NO_RUNS] + [(page, NO_RUNS[0]) for page in PAGES[1:]])
def test_a_run_that_is_not_there_is_said_to_be_missing_and_none_is_shown_in_its_place(opened, page, name):
    app = opened(page, name)
    assert app.title[0].value == "No such run" and len(app.error) == 1 and not app.metric and not app.dataframe
    said = app.error[0].value.replace("\\", "")
    assert said.startswith(f'There is no run "{name[:80]}') and len(said) < 400
    assert ("(6000 letters)" in said) == (len(name) > 80)
    assert all(f"- {kind}" in words(app) for kind in KINDS)
    assert in_address(app, "run") == name and app.selectbox(key="run").value is None
    app.selectbox(key="run").select("finished").run()
    assert not app.error and not app.exception and in_address(app, "run") == "finished"


def test_a_run_that_is_not_there_is_missing_where_there_are_none_too(opened, tmp_path):
    app = opened("images", "no-such-run", tmp_path)
    assert [code.value for code in app.code] == ["workbench demo"]
    assert app.error[0].value.replace("\\", "") == 'There is no run "no-such-run".'


def test_the_address_says_which_run_is_shown(opened):
    app = opened("overview")
    assert in_address(app, "run") == app.selectbox(key="run").value


def test_a_run_removed_while_its_page_is_open_is_missing(opened, tmp_path):
    finished(tmp_path / "one")
    finished(tmp_path / "two")
    app = opened("overview", "one", tmp_path)
    shutil.rmtree(tmp_path / "one")
    app.run()
    assert app.title[0].value == "No such run" and in_address(app, "run") == "one"


def test_a_neuron_that_is_not_there_stays_in_the_address(opened):
    for name in ("../../etc", "<script>", "a:99999999999999999999", "a:-1", "null", "x" * 6000):
        app = opened("neurons", "finished", selected=name)
        assert len(app.error) == 1 and len(app.error[0].value) < 500 and in_address(app, "selected") == name


def test_a_stopped_run_says_why_and_how_to_go_on(opened):
    app = opened("overview", "stopped")
    assert "the disk is full" in words(app) and "workbench run emoji-heart --set sampling.steps=20" in words(app)


def test_the_overview_shows_every_number_with_interval_and_n(opened):
    app = opened("overview", "finished")
    assert [metric.value for metric in app.metric] == ["3.9 %", "0.54", "65.6 %", "82.8 %"]
    shown = [caption.value for caption in app.caption if caption.value.startswith("95 % interval")]
    assert len(shown) == 4 and all("n = " in text for text in shown)
    app.segmented_control(key="overview-story").select("uce").run()
    assert not app.exception and app.metric[0].value == "6.7 %"


def test_the_overview_begins_with_the_answer_and_the_story(opened):
    app = opened("overview", "finished")
    first = app.markdown[0].value.replace("\\", "").replace("\u00a0", " ")
    assert first.startswith("##### Without attack, esd shows heart in 4 % of its images (base model 97 %), under unlearndiffatk in 66 %")
    (chart,) = app.get("plotly_chart")
    assert "esd-pruned + attack (unlearndiffatk, optimised against it)" in chart.proto.alt and "n = 180" in chart.proto.alt
    assert len(app.get("image") or app.get("imgs")) == 5
    app.segmented_control(key="overview-story").select("uce").run()
    assert "uce + attack" in app.get("plotly_chart")[0].proto.alt and len(app.get("image") or app.get("imgs")) == 3


def test_the_overview_tells_decided_findings_first(opened):
    lines = next(text.value for text in opened("overview", "finished").markdown if text.value.startswith("- **esd")).splitlines()
    assert ["undecided" in line.split(".**")[0] for line in lines] == [False] * 4 + [True] * 2


def test_hostile_prompts_stay_text(opened):
    app = opened("images", "finished")
    assert "<script>alert(1)</script>" in words(app)
    assert all(not element.allow_html for element in [*app.markdown, *app.caption])


def test_the_models_and_conditions_of_the_matrix_can_be_chosen(opened):
    app = opened("images", "finished")
    block = app.segmented_control(key="images-block").value
    before = len(app.get("image") or app.get("imgs"))
    app.button_group(key=f"images-variants-{block}").set_value(["base", "esd"]).run()
    assert not app.exception and len(app.get("image") or app.get("imgs")) == before - 4 * 4
    app.button_group(key=f"images-variants-{block}").set_value([]).run()
    assert "Choose at least one variant" in words(app)


def test_images_are_filtered_by_success_and_sorted_by_score(opened):
    app = opened("images", "finished")
    app.selectbox(key="images-found").select("with none").run()
    assert "No prompt is like that" in words(app) and not app.exception
    app.selectbox(key="images-found").select("with an image in which the concept was found").run()
    assert "4 of 4 prompts x seeds" in words(app)
    app.selectbox(key="images-order").select("judge's score, lowest first").run()
    assert not app.exception and "4 of 4 prompts x seeds" in words(app)


def test_two_images_have_a_difference_and_each_image_a_large_view(opened):
    app = opened("images", "finished")
    before = len(app.get("image") or app.get("imgs"))
    assert "Difference, brightest where largest" in words(app)
    large = [button for button in app.button if button.key.startswith("images-large-")]
    assert len(large) == before - 4
    large[0].click().run()
    assert not app.exception and len(app.get("image") or app.get("imgs")) == before + 1


def test_an_image_from_another_seed_can_be_laid_over_its_prompts_others(opened):
    app = opened("images", "finished")
    block = app.segmented_control(key="images-block").value
    controls = [words for words in app.selectbox(key=f"images-to-{block}").options if "control" in words]
    assert controls and not any("1000003" in option for option in app.selectbox(key=f"images-unit-{block}").options)
    app.selectbox(key=f"images-to-{block}").select(controls[0]).run()
    assert not app.exception and len(app.get("imgs") or app.get("image")) > 3


FOLDS = {"activity": 1, "effects": 1, "plane": 1, "calls": 1, "single": 2, "missing": 0}


@pytest.mark.parametrize("fold", FOLDS)
def test_sensitivity_draws_a_figure_when_its_fold_is_opened_and_no_other(opened, fold):
    app = opened("sensitivity", "finished")
    before = len(app.get("plotly_chart"))
    app.session_state[f"sensitivity-fold-{fold}"] = True
    app.run()
    charts = app.get("plotly_chart")
    assert not app.exception and not app.error and before == 1 and len(charts) == 1 + FOLDS[fold]
    assert all(len(chart.proto.alt) > 60 for chart in charts)


def test_sensitivity_shows_the_slope_in_total_and_per_cluster(opened):
    app = opened("sensitivity", "finished")
    alt = app.get("plotly_chart")[0].proto.alt
    assert "all concept neurons: base 1.00, esd 0.19" in alt and "cluster 0: base 1.00" in alt and "n = 60" in alt
    app.selectbox(key="sensitivity-story").select("uce").run()
    assert not app.exception and "uce under the attack" in app.get("plotly_chart")[0].proto.alt


def test_another_threshold_of_the_judge_changes_rates_and_sides(opened):
    app = opened("sensitivity", "finished")
    assert app.table[0].value.to_dict("records")[0] == {"Condition": "base", "Images that show the concept": "100 % (51 to 100 %), n = 4"}
    assert "Just below: counted as without the concept: no image" in words(app).replace("*", "")
    app.slider(key="sensitivity-threshold").set_value(0.95).run()
    assert not app.exception and app.table[0].value["Images that show the concept"].tolist() == ["0 % (0 to 49 %), n = 4"]
    assert len(app.get("image") or app.get("imgs")) == 4


def test_the_table_of_neurons_is_filtered_and_never_longer_than_asked(opened):
    app = opened("neurons", "finished")
    assert len(app.dataframe[0].value) == 50
    app.number_input(key="neurons-rows").set_value(500).run()
    assert len(app.dataframe[0].value) == 400
    app.segmented_control(key="neurons-role").select("pruned").run()
    assert len(app.dataframe[0].value) == 80 and app.dataframe[0].value["pruned"].all()


def test_the_page_of_neurons_says_whether_their_choice_is_stable(opened, tmp_path):
    from workbench.report import document as schema

    app = opened("neurons", "finished")
    assert "Yes: the choice is stable" in words(app) and "140 are confirmed" in words(app)
    holds, overlap = (table.value for table in app.dataframe[1:3])
    assert list(holds["Confirmed"]) == ["140", "—"] and overlap["Overlap (IoU)"].tolist()[:2] == ["0.71", "0.68"]
    assert "every unit has one seed" in overlap["Reason if missing"].tolist()
    run = finished(tmp_path / "older")
    schema.write(schema.load(run / "report") | {"selection": [], "stability": []}, run / "report")
    assert "choice of neurons stable" not in words(opened("neurons", "older", tmp_path))


def test_a_picked_row_opens_the_card_of_its_neuron_with_every_model(opened):
    app = opened("neurons", "finished")
    assert "No neuron is selected" in words(app)
    app.session_state["neurons-table"] = {"selection": {"rows": [3], "columns": [], "cells": []}}
    row = app.dataframe[0].value.iloc[3]
    app.text_input(key="selected").set_value(f"{row['layer']}:{row['neuron']}").run()
    assert not app.exception and f"Neuron {row['layer']} · {row['neuron']}" in words(app)
    assert [metric.value for metric in app.metric][0] == f"{row['score, selection half']:.2f}".replace("-", "−")
    assert list(app.table[-1].value["Variant"]) == ["esd", "uce", "esd-pruned"]


def test_the_card_of_a_neuron_gives_the_score_in_its_own_unit(opened):
    app = opened("neurons", "finished")
    assert "in multiples of the layer's mean |a|" in words(app)
    row = app.dataframe[0].value.iloc[3]
    app.text_input(key="selected").set_value(f"{row['layer']}:{row['neuron']}").run()
    told = {metric.label: metric.help.replace("\\", "") for metric in app.metric}
    assert "in multiples of the layer's mean |a|" in told["score, selection half"] and not any("deviation" in one for one in told.values())


def test_the_page_of_clusters_shows_where_a_cluster_is_active_blurred_until_asked_for(opened):
    app = opened("clusters", "finished")
    assert "Where in the image is a cluster active?" in words(app)
    assert "31.0 % of its activity in its most active tenth" in words(app) and "maps are as coarse" in words(app)
    assert len(app.get("image") or app.get("imgs")) == 2
    app.segmented_control(key="cluster").select("1").run()
    assert not app.exception and "every neuron is 0" in words(app) and len(app.get("image") or app.get("imgs")) == 3
    app.toggle(key="blur").set_value(False).run()
    assert not app.exception and "only available blurred" in words(app) and "shown as drawn" in words(app)


def concept_of(run, **said):
    path = run / "report" / "report.json"
    document = json.loads(path.read_text())
    document["study"]["concept"] |= said
    path.write_text(json.dumps(document))


def test_the_pictures_of_a_harmless_concept_are_clear_and_each_run_starts_as_its_study_says(opened, tmp_path):
    for name in ("harmless", "sensitive", "older"):
        finished(tmp_path / name)
    concept_of(tmp_path / "harmless", sensitive=False)
    concept_of(tmp_path / "sensitive", sensitive=True)
    app = opened("overview", "harmless", tmp_path)
    assert app.toggle(key="blur").value is False and "Shown as drawn" in words(app)
    for name in ("sensitive", "older"):  # an older report does not say
        app.selectbox(key="run").select(name).run()
        assert app.toggle(key="blur").value is True and "Blurred in the pixels" in words(app)
        app.toggle(key="blur").set_value(False).run()
        assert app.toggle(key="blur").value is False and "Shown as drawn" in words(app)
    app.selectbox(key="run").select("harmless").run()
    assert app.toggle(key="blur").value is False


def test_a_running_run_of_a_harmless_concept_is_clear_from_its_study(tmp_path):
    folder = running(tmp_path / "r")
    assert run_list.look(folder).sensitive
    (folder / "study.json").write_text(json.dumps({"concept": {"sensitive": False}}))
    assert not run_list.look(folder).sensitive
    (folder / "study.json").write_text("[")
    assert run_list.look(folder).sensitive


def test_a_neuron_that_is_not_there_is_one_sentence(opened):
    app = opened("neurons", "finished")
    app.text_input(key="selected").set_value("nowhere:3").run()
    assert not app.exception and "an id is layer:number" in words(app)


def test_a_run_without_pictures_or_neurons_says_so(opened, tmp_path):
    from workbench.report import document as schema

    run = finished(tmp_path / "bare")
    content = schema.load(run / "report") | {"images": [], "neuron_table": None, "neurons": [], "activity_by_call": []}
    schema.write(content, run / "report")
    assert "kept no images" in words(opened("overview", "bare", tmp_path)) and "kept no images" in words(opened("images", "bare", tmp_path))
    text = words(opened("sensitivity", "bare", tmp_path))
    assert "The recordings of this variant are not all in the run" in text


def test_the_pages_start_without_torch(some_runs):
    code = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(SCRIPT)!r}, default_timeout=180)\n"
        "app.query_params['run'] = 'finished'\n"
        "app.run()\n"
        f"for name in {PAGES!r}:\n"
        f"    app.switch_page({str(folder('pages'))!r} + f'/{{name}}.py').run()\n"
        "    assert not app.exception and app.title\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    environment = os.environ | {"WORKBENCH_RUNS": str(some_runs)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, cwd=SCRIPT.parents[2])
    assert done.returncode == 0, done.stderr


NEW_PAGE = '''"""A page that came later."""

import streamlit as st

from workbench.ui import current_run

PAGE = {"title": "Latency", "icon": ":material/timer:", "why": "how long an image takes", "order": 35, "needs": "timings"}

st.title(f"Latency of {current_run.run_to_show().report.study['name']}")
'''


@pytest.fixture
def with_a_new_page(tmp_path, monkeypatch):
    """The folder of pages with one more script."""
    scripts = shutil.copytree(folder("pages"), tmp_path / "pages")
    (scripts / "latency.py").write_text(NEW_PAGE)
    monkeypatch.setattr(navigation, "folder", lambda name: scripts)
    navigation.pages.cache_clear()
    yield scripts
    navigation.pages.cache_clear()


def test_a_page_is_one_new_file(opened, with_a_new_page):
    listed = navigation.pages()
    assert {page.name for page in listed if page.of_run} == {*PAGES, "latency"} and [page.order for page in listed] == sorted(
        page.order for page in listed
    )
    app = opened("latency", "finished")
    assert app.title[0].value == "Latency of emoji-heart"
    links = [link.proto.label for link in opened("overview", "finished").get("page_link")]
    assert "Latency" in links and "Latency: how long an image takes" in links
    without = {page.needs: [] for page in navigation.pages() if page.needs}
    assert not {"latency", "neurons"} & {page.name for page in navigation.linked(without)}


def test_a_hidden_page_is_opened_by_its_address_and_no_link_of_the_navigation_leads_there(opened):
    app = opened("overview", "finished")
    assert navigation.page("neuron").hidden and "Neuron" not in [link.proto.label for link in app.get("page_link")]
    assert navigation.page("no-such-page") is None


@pytest.mark.parametrize("text", ["import streamlit\n", "PAGE = make()\n", 'PAGE = {"title": "x"}\n'])
def test_a_script_without_a_readable_page_is_named(with_a_new_page, text):
    (with_a_new_page / "latency.py").write_text(text)
    with pytest.raises(WorkbenchError, match=r"latency\.py"):
        navigation.pages()
