"""A run whose folder is damaged is one sentence that says what is wrong with it; every other run stays as it was."""

import re
import shutil

import pandas
import pytest

from tests.pages import damages, example_runs
from tests.pages.test_pages import PAGES
from workbench.ui import run_list


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return example_runs.finished(tmp_path_factory.mktemp("sound") / "run")


@pytest.fixture
def damaged(sound, tmp_path):
    """damaged(what it does to the folder) -> the folder of a copy that is damaged so, beside one that is sound."""

    def copy(damage):
        folder = shutil.copytree(sound, tmp_path / "runs" / "damaged")
        shutil.copytree(sound, tmp_path / "runs" / "sound")
        damage(folder)
        return folder

    return copy


def said(app):
    """The one error of a page, as a reader sees it."""
    assert not app.exception, app.exception[0].value
    assert len(app.error) == 1, [error.value for error in app.error]
    return re.sub(r"\\(.)", r"\1", app.error[0].value)


@pytest.mark.parametrize("kind", damages.LOOKED)
def test_damage_to_what_a_run_is_known_by_is_one_sentence(damaged, kind):
    damage, words = damages.LOOKED[kind]
    folder = damaged(damage)
    state = run_list.look(folder)
    assert state.kind == "damaged" and re.search(words, state.sentence), state.sentence
    assert str(folder) in state.sentence and re.search(damages.CURE, state.sentence), state.sentence
    assert run_list.label(folder) == "damaged (damaged)" and run_list.label(folder.with_name("sound")) == "sound"


@pytest.mark.parametrize("kind", ["nodes of null", "status pid -5", "report of another schema", "report nested too deeply"])
def test_every_page_of_such_a_run_shows_the_sentence_and_other_runs_are_as_before(opened, damaged, kind):
    damage, words = damages.LOOKED[kind]
    runs = damaged(damage).parent
    for page in PAGES:
        app = opened(page, "damaged", runs)
        assert re.search(words, said(app)) and not app.title
        assert set(app.selectbox(key="run").options) == {"damaged (damaged)", "sound"}
    app.selectbox(key="run").select("sound").run()
    assert not app.error and not app.exception and app.title


@pytest.mark.parametrize("kind", damages.PICTURES)
def test_damaged_pictures_are_one_sentence_and_the_rest_of_the_page_stays(opened, damaged, kind):
    damage, words = damages.PICTURES[kind]
    folder = damaged(damage)
    shutil.rmtree(folder / "nodes")
    app = opened("overview", "damaged", folder.parent)
    sentence = said(app)
    assert re.search(words, sentence) and "more images here are damaged" in sentence and "the report is written again" in sentence
    assert len(app.metric) == 4 and len(sentence) < 600


@pytest.mark.parametrize("kind", ["images missing", "image path outside"])
def test_the_page_of_images_says_so_too(opened, damaged, kind):
    damage, words = damages.PICTURES[kind]
    folder = damaged(damage)
    shutil.rmtree(folder / "nodes")
    app = opened("images", "damaged", folder.parent)
    assert not app.exception and all(re.search(words, error.value.replace("\\", "")) for error in app.error) and app.error
    app = opened("neurons", "damaged", folder.parent)
    assert not app.exception and app.dataframe


@pytest.mark.parametrize("kind", damages.TABLES)
def test_a_damaged_table_of_neurons_is_one_sentence(opened, damaged, kind):
    damage, words = damages.TABLES[kind]
    runs = damaged(damage).parent
    for page, charts in (("neurons", 0), ("sensitivity", 1)):
        app = opened(page, "damaged", runs)
        assert re.search(words, said(app)) and len(app.get("plotly_chart")) == charts
        assert app.title


@pytest.mark.parametrize("kind", damages.HARMLESS)
def test_what_no_page_needs_may_be_damaged(opened, damaged, kind):
    folder = damaged(damages.HARMLESS[kind])
    state = run_list.look(folder)
    assert state.kind == "finished", state.sentence
    for line in (state.document["reproduce"]["command"], state.command, "workbench run 'x"):
        compile(run_list.python_of(line), "shown", "exec")
    app = opened("neurons", "damaged", folder.parent)
    assert not app.exception and not app.error


def test_a_neuron_of_a_run_whose_study_is_damaged_is_one_sentence(sound, tmp_path):
    """The halves of the units are cut by the study's seed."""
    from workbench.errors import RunError
    from workbench.ui import neuron_activity

    (tmp_path / "study.json").write_text("[]")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RunError, match=r"study.json is missing or damaged. Run the study again"):
            neuron_activity.seed_of(folder)


def test_results_of_other_columns_are_one_sentence(opened, tmp_path):
    folder = example_runs.stopped(tmp_path / "stopped")
    for path in folder.glob("nodes/detect/*/detections.parquet"):
        pandas.DataFrame({"a": [1]}).to_parquet(path)
    assert "The result of detect:base:target in " in said(opened("overview", "stopped", tmp_path))


def test_a_folder_whose_name_is_no_text_is_told_and_left_out(opened, sound, tmp_path):
    shutil.copytree(sound, tmp_path / "sound")
    odd = str(tmp_path / "caf").encode() + b"\xe9"
    shutil.copytree(bytes(sound.parent / "run"), odd)
    assert run_list.list_runs(tmp_path) == ["sound"] and run_list.odd_names(tmp_path) == [r"caf\udce9"]
    app = opened("overview", None, tmp_path)
    assert not app.exception and any("not valid text" in caption.value for caption in app.caption)


@pytest.mark.parametrize(
    "name", ["a b", "\u202egnp", "💀", "-rf", "..x", "a&b=c?d#e", "<script>", "%2e%2e", "x" * 200, "a\x1b[31mb", "a'\"`b"]
)
def test_odd_names_of_folders_open(opened, sound, tmp_path, name):
    shutil.copytree(sound, tmp_path / name)
    app = opened("overview", name, tmp_path)
    assert not app.exception and not app.error and app.metric
    assert "\u202e" not in app.selectbox(key="run").options[0] and "\x1b" not in app.selectbox(key="run").options[0]


def test_a_run_that_changes_changes_its_stamp_and_so_does_the_list(sound, tmp_path, monkeypatch):
    monkeypatch.setenv(run_list.VARIABLE, str(tmp_path))
    folder = shutil.copytree(sound, tmp_path / "one")
    seen = [run_list.stamp("one")]
    assert run_list.stamp("one") == seen[0]
    example_runs.status(folder, "running")
    seen.append(run_list.stamp("one"))
    shutil.copytree(sound, tmp_path / "two")
    seen.append(run_list.stamp("one"))
    shutil.rmtree(folder)
    seen.append(run_list.stamp("one"))
    assert len(set(seen)) == 4
