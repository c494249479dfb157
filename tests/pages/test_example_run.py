"""The example run: last in the list, opened when there is no other, read only."""

import os
import shutil

import pytest
from typer.testing import CliRunner

from tests.pages import example_runs
from tests.pages.test_pages import PAGES, in_address, words
from workbench.cli import main
from workbench.errors import RunError
from workbench.execution import jobs
from workbench.execution.open_run import find_run, open_run
from workbench.execution.run_folder import Store
from workbench.resources import EXAMPLE_FOLDER
from workbench.ui import run_list


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The folder of an example run, installed a moment ago."""
    folder = example_runs.finished(tmp_path / "installed" / "example-run")
    (folder / "status.json").unlink()
    (folder / ".lock").unlink(missing_ok=True)
    (folder / "study.json").write_text("{}")
    monkeypatch.setenv(EXAMPLE_FOLDER, str(folder))
    monkeypatch.setenv(run_list.VARIABLE, str(tmp_path / "runs"))
    return folder


def content(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in (folder, *folder.rglob("*"))}


def test_it_is_found_by_name_finished_and_read_only(example, tmp_path):
    assert run_list.names() == ["example"] and run_list.folder_of_name("example") == example
    state = run_list.look(example)
    assert (state.kind, state.read_only, state.name) == ("finished", True, "example")
    assert run_list.label(example) == "example, read only"
    example_runs.finished(tmp_path / "runs" / "zebra")
    assert run_list.names() == ["zebra", "example"] and not run_list.look(tmp_path / "runs" / "zebra").read_only


def test_a_run_of_the_user_that_is_called_so_wins(example, tmp_path, monkeypatch):
    own = example_runs.finished(tmp_path / "runs" / "example")
    assert run_list.names() == ["example"] and run_list.folder_of_name("example") == own and not run_list.look(own).read_only
    monkeypatch.chdir(tmp_path)
    assert find_run("example").resolve() == own


@pytest.mark.parametrize("page", PAGES)
def test_it_opens_where_there_is_no_other_run_and_nothing_is_written_into_it(opened, example, tmp_path, page):
    before = content(example)
    app = opened(page, None, tmp_path / "runs")
    assert app.title and not app.error and in_address(app, "run") == "example"
    assert app.selectbox(key="run").options == ["example, read only"]
    assert content(example) == before


def test_the_newest_run_opens_before_it_and_its_name_opens_it(opened, example, tmp_path):
    example_runs.finished(tmp_path / "runs" / "mine")
    assert in_address(opened("overview", None, tmp_path / "runs"), "run") == "mine"
    app = opened("overview", "example", tmp_path / "runs")
    assert app.metric and in_address(app, "run") == "example"
    assert app.selectbox(key="run").options == ["mine", "example, read only"]


def test_a_damaged_example_says_so(opened, example, tmp_path):
    (example / "manifest.json").write_text("[]")
    app = opened("overview", "example", tmp_path / "runs")
    assert len(app.error) == 1 and "manifest.json is damaged" in words(app)
    assert app.selectbox(key="run").options == ["example, read only (damaged)"]


def test_without_it_its_name_is_no_run(opened, tmp_path, monkeypatch):
    monkeypatch.setenv(EXAMPLE_FOLDER, str(tmp_path / "none"))
    assert run_list.names() == [] and find_run("example") is None
    assert "There is no run" in words(opened("overview", "example", tmp_path))


def test_the_command_line_reads_it_and_writes_nothing(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = content(example)
    run = open_run("example")
    assert run.folder == example and jobs.status(example)["run"] == "example" and jobs.status(example)["state"] == "finished"
    for verb in ("show", "status", "verify"):
        done = CliRunner().invoke(main.app, [verb, "example"])
        assert done.exit_code in (0, 1) and not isinstance(done.exception, RunError), done.output
    with pytest.raises(RunError, match="example run, in which nothing is written"):
        run.report("md")
    with pytest.raises(RunError, match="nothing is written"), Store(example).lock():
        pass
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    assert content(example) == before and not os.path.exists(tmp_path / "runs")
