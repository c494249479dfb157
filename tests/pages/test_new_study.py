"""The page New study: the form and the text say the same, errors are those of the command line, nothing is replaced unasked."""

import os
import subprocess
import sys
import tomllib

import pytest

from tests.pages import example_runs
from tests.pages.opening import SCRIPT
from tests.pages.test_pages import in_address, words
from workbench import registry, resources
from workbench.errors import RunError, StudyError
from workbench.execution import start
from workbench.execution.start import Started
from workbench.resources import folder
from workbench.storage import write_json
from workbench.study.study import load_study
from workbench.ui import run_list, study_draft, study_form

COST = {"nodes": 9, "kept": 1, "seconds": 65.0, "bytes": 3e6, "memory_mb": 900.0, "free_bytes": 5e9, "notes": ["a note"]}
COST |= {"engine": "processes", "workers": 2}
COST |= {"warnings": ["a caveat"], "rows": [{"stage": "generate", "nodes": 4, "kept": 1, "seconds": 60.0}]}


@pytest.fixture
def form(opened, tmp_path):
    """The page with the default study, on no runs."""
    return opened("new_study", None, tmp_path / "runs")


def text(app):
    return app.text_area[0].value


def errors(app):
    assert not app.exception, app.exception[0].value
    return [error.value.replace("\\", "") for error in app.error]


def test_it_starts_from_the_default_study_as_it_is_written(form):
    assert text(form) == load_study("emoji-ink-style").text and not errors(form)
    assert "3 variants, 2 attacks" in form.success[0].value and in_address(form, "origin") == "study:emoji-ink-style"


@pytest.mark.parametrize("name", resources.study_files())
def test_every_bundled_study_opens_in_the_form_and_is_not_changed_by_it(opened, tmp_path, name):
    app = opened("new_study", "x", tmp_path, origin=f"study:{name}")
    n = len(tomllib.loads(text(app))["variants"])
    for place in range(n):
        app.session_state[f"new-1-open-variant-{place}"] = True
    app.session_state["new-1-open-attack-0"] = app.session_state["new-1-open-steer"] = True
    app.run()
    assert not app.exception and text(app) == load_study(name, files=False).text
    assert all("was not found" in error for error in errors(app))  # prompts that are not shipped


def test_a_field_changes_the_text_and_the_text_changes_the_fields(form):
    form.text_input(key="new-1-prompts-limit").set_value("8").run()
    form.session_state["new-1-open-variant-0"] = True
    form.run()
    form.text_input(key="new-1-variants-0-esd-iterations").set_value("7").run()
    data = tomllib.loads(text(form))
    assert data["prompts"]["limit"] == 8 and data["variants"][0]["parameters"]["iterations"] == 7 and not errors(form)
    changed = text(form).replace('title = "Is the ink style really gone?"', 'title = "Mine"')
    form.text_area[0].set_value(changed).run()
    assert form.text_input(key="new-2-top-title").value == "Mine" and text(form) == changed
    form.text_input(key="new-2-prompts-limit").set_value("").run()
    assert "limit" not in tomllib.loads(text(form))["prompts"]


def test_variants_and_attacks_are_added_renamed_changed_and_removed(form):
    form.button(key="new-1-variants-add").click().run()
    assert [one["name"] for one in tomllib.loads(text(form))["variants"]] == ["erased", "pruned", "sham", "erased-2"]
    form.session_state["new-2-open-variant-0"] = True
    form.run()
    form.text_input(key="new-2-variants-0-name").set_value("gone").run()
    data = tomllib.loads(text(form))
    assert data["variants"][1]["parent"] == "gone" and data["attacks"][0]["against"] == ["gone", "pruned"] and not errors(form)
    form.selectbox(key="new-3-variants-0-method").select("wanda").run()
    changed = tomllib.loads(text(form))["variants"][0]
    assert changed["method"] == "wanda" and changed["role"] == "pruned"
    assert set(changed.get("parameters", {})) <= set(registry.method("erasers", "wanda").parameters.model_fields)
    form.session_state["new-4-open-variant-3"] = True
    form.run()
    form.button(key="new-4-variants-3-remove").click().run()
    assert len(tomllib.loads(text(form))["variants"]) == 3 and not form.exception
    form.button(key="new-5-attacks-add").click().run()
    assert 'two attacks are called "embedding_pgd": give each a `name`' in errors(form)[0]


@pytest.mark.parametrize(
    "old, new",
    [
        ("iterations = 50", "iteration = 50"),
        ('method = "esd"', 'method = "esdd"'),
        ("steps = 10\nguidance", "steps = 1\nguidance"),
        ('name = "emoji-ink-style"', 'name = "A b"'),
        ('target = "prompts/emoji-ink-target.csv"', 'target = "nowhere.csv"'),
        ("[concept]", "[concept"),
        ("[[variants]]", "[variants]"),
        ('names = ["ink", "lineart"]', "names = 3"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_the_command_line(form, tmp_path, old, new):
    wrong = text(form).replace(old, new)
    form.text_area[0].set_value(wrong).run()
    place = tmp_path / "runs" / "studies" / ("new.toml" if "A b" in new or "[concept" in new else "emoji-ink-style.toml")
    if "variants]" in new:
        place = place.with_name("new.toml")
    place.parent.mkdir(parents=True)
    place.write_text(wrong)
    with pytest.raises(StudyError) as raised:
        load_study(place)
    assert errors(form) == [str(raised.value)] and not any(button.label == "Start" for button in form.button)


@pytest.mark.parametrize("name", ["../up", "a/b", "studies", "", "-x", "A", "x" * 101, "a\nb", "/etc"])
def test_a_name_never_becomes_a_path(name):
    with pytest.raises(StudyError, match="No study can be called"):
        study_draft.path_of(name)


def test_the_cost_is_asked_of_another_process_and_shown_until_the_study_changes(form, monkeypatch, tmp_path):
    asked = []

    def cost(study, run, how, cwd):
        asked.append((study.read_text(), run, how, cwd))
        return COST

    monkeypatch.setattr(start, "cost", cost)
    form.button(key="new-cost-button").click().run()
    assert list(form.table[0].value["Estimate"]) == ["9", "about 1 min 05 s", "3 MB", "0.9 GB", "2 (engine processes)"] and not errors(form)
    assert "a caveat" in words(form) and "a note" in words(form)
    assert asked == [(text(form), tmp_path / "runs" / "emoji-ink-style", [], tmp_path)]
    assert list((tmp_path / "runs" / "studies").iterdir()) == []
    form.number_input(key="new-workers").set_value(3).run()
    assert not form.table  # it was the cost of other workers
    form.button(key="new-cost-button").click().run()
    assert form.table and asked[-1][2] == ["--workers", "3"]
    form.text_input(key="new-1-top-title").set_value("Other").run()
    assert not form.table


def test_an_error_of_the_check_names_the_file_as_it_will_be_saved(form, monkeypatch, tmp_path):
    def cost(study, run, how, cwd):
        raise RunError(f"{study}: detectors.steer cannot be opened.")

    monkeypatch.setattr(start, "cost", cost)
    form.button(key="new-cost-button").click().run()
    assert errors(form) == [f"{tmp_path / 'runs' / 'studies' / 'emoji-ink-style.toml'}: detectors.steer cannot be opened."]


@pytest.fixture
def started(monkeypatch):
    """What was started: [(words, folder)]."""
    found = []

    def begin(words, run, cwd):
        found.append((words, run))
        if not run.exists():
            example_runs.running(run)
        return Started(run, 1, True, run / "start.log")

    monkeypatch.setattr(start, "start", begin)
    return found


def test_start_writes_the_study_file_and_starts_it(form, started, tmp_path):
    form.button(key="new-start").click().run()
    file, run = tmp_path / "runs" / "studies" / "emoji-ink-style.toml", tmp_path / "runs" / "emoji-ink-style"
    assert not errors(form) and file.read_text() == text(form)
    assert started == [(["run", str(file), "--out", str(run)], run)]
    assert "Run emoji-ink-style" in words(form) and "continues when this page is closed" in words(form)
    form.button(key="new-open").click().run()
    assert not form.exception and in_address(form, "run") == "emoji-ink-style" and "Run in progress" in words(form)


def test_engine_workers_and_devices_go_with_the_command(form, started):
    form.selectbox(key="new-engine").select("processes").run()
    form.number_input(key="new-workers").set_value(4).run()
    form.text_input(key="new-device").set_value("cuda:0,cuda:1").run()
    form.button(key="new-start").click().run()
    assert not errors(form) and started[0][0][4:] == ["--device", "cuda:0,cuda:1", "--engine", "processes", "--workers", "4"]


def test_nothing_is_replaced_before_the_reader_has_agreed(form, started, tmp_path):
    file = tmp_path / "runs" / "studies" / "emoji-ink-style.toml"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    run = example_runs.stopped(tmp_path / "runs" / "emoji-ink-style")
    write_json(run / "study.json", {"name": "another"})
    form.run()
    assert any("exists and says something else" in one.value for one in form.warning)
    assert any("of a study that differs" in one.value for one in form.warning)
    assert form.button(key="new-start").disabled and file.read_text() == "mine" and started == []
    form.checkbox[0].set_value(True).run()
    form.button(key="new-start").click().run()
    assert not errors(form) and file.read_text() == text(form) and len(started) == 1
    with pytest.raises(StudyError, match="exists and says something else"):
        file.write_text("mine")
        study_draft.save(study_draft.checked(text(form)))


def test_an_error_of_the_start_is_told_in_place(form, monkeypatch):
    def begin(words, run, cwd):
        raise RunError("detectors.steer: no label.")

    monkeypatch.setattr(start, "start", begin)
    form.button(key="new-start").click().run()
    assert errors(form) == ["detectors.steer: no label."]


def run_of(folder, text, beside):
    """A finished run of a study file that lies beside its prompts."""
    example_runs.finished(folder)
    (folder / "study.toml").write_text(text)
    study = study_draft.study_of_text(text, beside / "x.toml", files=False)
    write_json(folder / "study.json", study.model_dump(mode="json"))
    write_json(folder / "where.json", {"study_folder": str(beside)})
    return folder


def test_from_a_run_its_files_are_named_so_that_they_are_found_its_name_is_new_and_its_results_are_used(opened, started, tmp_path):
    runs, beside = tmp_path / "runs", tmp_path / "mine"
    (beside / "prompts").mkdir(parents=True)
    (beside / "prompts" / "own.csv").write_text("unit,prompt,seed,expect\na,a,1,\n")
    original = load_study("emoji-ink-style").text.replace("prompts/emoji-ink-target.csv", "prompts/own.csv")
    run = run_of(runs / "emoji-ink-style", original, beside)
    app = opened("new_study", "emoji-ink-style", runs, origin="run:emoji-ink-style")
    data = tomllib.loads(text(app))
    assert data["prompts"]["target"] == str(beside / "prompts" / "own.csv") and data["name"] == "emoji-ink-style-2"
    assert data["prompts"]["reference"] == "prompts/emoji-ink-reference.csv" and not errors(app)
    app.button(key="new-start").click().run()
    assert started[0][0][-2:] == ["--take-from", str(run)] and not errors(app)


def test_from_a_run_that_changed_values_its_changes_are_kept(opened, tmp_path):
    run = run_of(tmp_path / "emoji-ink-style", load_study("emoji-ink-style").text, tmp_path)
    study = load_study("emoji-ink-style").with_values(["sampling.steps=7"])
    write_json(run / "study.json", study.model_dump(mode="json"))
    app = opened("new_study", "emoji-ink-style", tmp_path, origin="run:emoji-ink-style")
    assert tomllib.loads(text(app))["sampling"]["steps"] == 7 and not errors(app)


@pytest.mark.parametrize("run", example_runs.KINDS)
def test_a_run_without_a_readable_study_is_one_sentence(opened, run):
    app = opened("new_study", run, origin=f"run:{run}")
    assert len(errors(app)) == 1 and "study.json" in errors(app)[0] and not app.text_area
    assert errors(opened("new_study", "finished", origin="run:../../etc"))[0].startswith('There is no "run:../../etc" to start from')


def test_a_file_of_ones_own_is_read_and_refused_when_it_is_no_study(opened, tmp_path):
    app = opened("new_study", "x", tmp_path, origin="file")
    assert not app.text_area and "Choose a study" in app.info[0].value
    app.file_uploader[0].set_value(("own.toml", load_study("emoji-church").text.encode(), "application/toml")).run()
    assert text(app) == load_study("emoji-church").text and not errors(app)
    app.file_uploader[0].set_value(("bad.toml", b"\xff\xfe", "application/toml")).run()
    assert "is no study file" in errors(app)[0]


def test_the_sites_of_the_form_are_those_there_are():
    from workbench.neurons.sites import SITES

    assert set(study_form.SITES) == set(SITES)


@pytest.mark.parametrize(
    ("written", "value"),
    [("3", 3), ("0.5", 0.5), ("1, 4", [1, 4]), ("[1]", [1]), ("x", "x"), ("true", True), ("a = 1\nb = 2", "a = 1\nb = 2")],
)
def test_what_is_written_into_a_setting_is_a_value_of_toml_or_text(written, value):
    assert study_form.read(written) == value and study_form.read(written, as_text=True) == written


def test_the_pages_of_runs_start_without_torch(some_runs):
    code = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(SCRIPT)!r}, default_timeout=180)\n"
        "app.query_params['run'] = 'finished'\n"
        "app.run()\n"
        "for name in ('runs', 'new_study'):\n"
        f"    app.switch_page({str(folder('pages'))!r} + f'/{{name}}.py').run()\n"
        "    assert not app.exception and app.title\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    environment = os.environ | {run_list.VARIABLE: str(some_runs)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, cwd=SCRIPT.parents[2])
    assert done.returncode == 0, done.stderr
