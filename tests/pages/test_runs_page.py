"""The page Runs: every kind of run in the table, the log of the chosen one, and the buttons of its state."""

import pytest

from tests.pages import example_runs
from tests.pages.example_runs import KINDS
from tests.pages.test_pages import MARKS, in_address, words
from tests.tiny_study import STUDY
from workbench.errors import RunError
from workbench.execution import jobs, start
from workbench.execution.start import Started
from workbench.resources import EXAMPLE_FOLDER
from workbench.storage import write_json
from workbench.ui import run_table

ALWAYS = ["New study", "Open", "Run again with changes"]


def labels(app):
    return [button.label for button in app.button]


def test_without_runs_it_says_how_to_start_one(opened, tmp_path):
    app = opened("runs", None, tmp_path)
    assert app.title[0].value == "Runs" and "No runs yet" in app.info[0].value
    assert [code.value for code in app.code] == ["workbench demo"] and labels(app) == ["New study"]


@pytest.mark.parametrize("run", KINDS)
def test_every_kind_of_run_is_in_the_table_and_has_the_buttons_of_its_state(opened, run):
    app = opened("runs", run)
    table = app.dataframe[0].value
    assert list(table.columns) == list(run_table.COLUMNS) and set(table["Run"]) == set(KINDS)
    assert dict(zip(table["Run"], table["State"], strict=True)) == {kind: MARKS.get(kind, "finished") for kind in KINDS}
    assert table.set_index("Run")["Progress"].loc[["finished", "running", "stopped"]].tolist() == [100, 25, 50]
    kind = MARKS.get(run, "finished")
    more = {"finished": [], "running": ["Stop"], "stopped": ["Resume"], "damaged": ["Resume"]}[kind]
    assert labels(app) == [*ALWAYS[:2], *more, ALWAYS[2]]
    assert any("workbench run emoji-heart" in code.value for code in app.code) or run == "older"
    if kind == "running":
        assert "25 %" in str(app.get("progress")[-1].proto.text)
    if kind == "damaged":
        assert len(app.error) == 1


def test_a_run_that_is_not_there_leaves_the_choice_to_the_reader(opened):
    app = opened("runs", "no-such-run")
    assert "No run is chosen" in app.info[0].value and app.dataframe


def test_a_row_that_is_picked_becomes_the_run_of_the_address(opened):
    app = opened("runs", "finished")
    place = list(app.dataframe[0].value["Run"]).index("stopped")
    app.session_state["runs-table"] = {"selection": {"rows": [place], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    # AppTest sets a selection without calling on_select, which is seen in the browser
    assert in_address(app, "run") in ("finished", "stopped")


def test_stop_and_resume_are_called_for_the_chosen_run_and_errors_are_told(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "stop", lambda folder: asked.append(("stop", folder.name)))
    monkeypatch.setattr(start, "resume", lambda folder, cwd: asked.append(("resume", folder.name)) or Started(folder, 1, True, folder))
    app = opened("runs", "running")
    app.button(key="runs-stop").click().run()
    app = opened("runs", "stopped")
    app.button(key="runs-resume").click().run()
    assert asked == [("stop", "running"), ("resume", "stopped")] and not app.error

    def refuse(folder, cwd):
        raise RunError("The study file is gone.")

    monkeypatch.setattr(start, "resume", refuse)
    app.button(key="runs-resume").click().run()
    assert not app.exception and [error.value.replace("\\", "") for error in app.error] == ["The study file is gone."]


def test_run_again_with_changes_opens_the_form_filled_in(opened, tmp_path):
    run = example_runs.finished(tmp_path / "mine")
    from workbench.study.study import study_of_text

    text = STUDY.format(base="emoji").replace('"target.csv"', '"prompts/emoji-ink-target.csv"')
    (run / "study.toml").write_text(text)
    write_json(run / "study.json", study_of_text(text, run / "study.toml", files=False).model_dump(mode="json"))
    app = opened("runs", "mine", tmp_path)
    assert app.dataframe[0].value["Concept"].tolist() == ["ink"] and app.dataframe[0].value["Variants"].tolist() == ["erased, pruned"]
    app.button(key="runs-change").click().run()
    assert not app.exception and app.title[0].value == "New study" and in_address(app, "origin") == "run:mine"
    assert 'title = "A tiny study"' in app.text_area[0].value


def test_the_example_can_be_opened_and_copied_only(opened, tmp_path, monkeypatch):
    example = example_runs.stopped(tmp_path / "example-run")
    monkeypatch.setenv(EXAMPLE_FOLDER, str(example))
    app = opened("runs", None, tmp_path / "none")
    assert labels(app) == ALWAYS and "read only" in words(app)
    assert app.dataframe[0].value["Run"].tolist() == ["example, read only"]


def test_a_run_that_did_not_start_says_why(opened, tmp_path):
    run = tmp_path / "late"
    run.mkdir()
    write_json(run / "start.json", {"pid": 2**22, "pid_started": 0.0, "command": "workbench run late.toml"})
    (run / "start.log").write_text("loading\nworkbench: prompts.target is gone.\n")
    app = opened("runs", "late", tmp_path)
    assert "The run did not start: prompts.target is gone. Start it again with: workbench run late.toml" in words(app)
    assert app.dataframe[0].value["State"].tolist() == ["stopped"] and "Resume" in labels(app)
