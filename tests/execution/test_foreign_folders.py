"""Folders that are no run: whatever verb is pointed at one, nothing in it is removed, changed or added."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import workbench
from workbench.cli import main
from workbench.errors import RunError, WorkbenchError
from workbench.execution.open_run import find_run, list_runs
from workbench.execution.run_folder import Store


def letters(folder):
    """The folder of issue 19: hidden files that look like what a killed run leaves."""
    for name in (".important.tmp", "report/deep/.draft.tmp", "nodes/a/.mine.tmp/page", "letter.txt", ".x.0123abcd.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("dear")


def web_app(folder):
    """Another program's manifest.json, and folders of the names that a run uses."""
    letters(folder)
    (folder / "manifest.json").write_text(json.dumps({"name": "app", "icons": []}))
    (folder / "status.json").write_text("{}")


def graph(folder):
    """Another program's study.json and nodes, and a lock of its own."""
    (folder / "nodes" / "a" / "b").mkdir(parents=True)
    (folder / "nodes" / "a" / ".b.0123abcd.tmp").write_text("x")
    (folder / "study.json").write_text(json.dumps({"name": "field study", "concept": "birds"}))
    (folder / ".lock").write_text("mine")


def half(folder):
    """Names of a run alone, without anything that only a run writes."""
    (folder / "report").mkdir()
    (folder / "report" / ".notes.0123abcd.tmp").write_text("x")
    (folder / "run.log").write_text("went for a run\n")


FOLDERS = {one.__name__: one for one in (letters, web_app, graph, half)}
READING = ("report", "show", "status", "logs", "stop", "verify")


@pytest.fixture(params=FOLDERS)
def foreign(request, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    FOLDERS[request.param](folder)
    return folder


def state(folder):
    """{path: (time, content)} of everything in a folder."""
    paths = (folder, *folder.rglob("*"))
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in paths}


def invoke(*words):
    """What a verb raises; any other exception than an expected one fails the test."""
    done = CliRunner().invoke(main.app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, WorkbenchError | SystemExit):
        raise done.exception
    assert done.exit_code != 0, done.output
    return str(done.exception)


def test_no_verb_touches_a_folder_that_is_no_run(foreign, study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state(foreign)
    for more in ((), ("--dry-run",)):
        said = invoke("run", study_file, "--out", foreign, *more)
        assert "no run folder" in said and "nothing in it is touched" in said and "Choose another --out" in said
    assert "no run folder" in invoke("demo", "--out", foreign)
    assert "no run folder" in invoke("run", study_file, "--out", tmp_path / "new", "--take-from", foreign)
    for verb in READING:
        assert invoke(verb, foreign)
    invoke("check", foreign, "--fail-if", "asr > 0")
    invoke("diff", foreign, foreign)
    for form in ("mask", "partial", "diffusers"):
        invoke("export", foreign, "--variant", "erased", "--as", form, "--out", tmp_path / "taken")
    assert state(foreign) == before and sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


def test_what_takes_a_variant_or_a_set_out_replaces_nothing(foreign, finished, tiny_folder, tmp_path):
    before = state(foreign)
    node = next(node for node in finished.store.manifest()["nodes"] if node["id"] == "erase:pruned")
    mask = finished.store.result("erase", node["shards"][0]) / "mask.safetensors"
    sets = sorted((finished.store.report_folder / "neuron-sets").glob("*.safetensors"))[:2]
    for form in ("mask", "partial", "diffusers"):
        assert "nothing is replaced" in invoke("export", finished.folder, "--variant", "pruned", "--as", form, "--out", foreign)
    assert "nothing is replaced" in invoke("mask", "apply", tiny_folder, mask, "--out", foreign)
    for there in (foreign, next(path for path in foreign.rglob("*") if path.is_file())):
        assert "nothing is replaced" in invoke("mask", "invert", mask, "--out", there)
        assert "nothing is replaced" in invoke("mask", "combine", mask, mask, "--how", "union", "--out", there)
        assert "nothing is replaced" in invoke("sets", "union", *sets, "--out", there)
    assert state(foreign) == before


def test_running_in_the_folder_of_a_study_is_refused_and_the_study_stays(study_file):
    before = state(study_file.parent)
    with pytest.raises(RunError, match="no run folder"):
        workbench.run(study_file, study_file.parent)
    assert state(study_file.parent) == before


def test_a_file_in_the_place_of_a_folder_is_told(study_file, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is no folder" in invoke("run", study_file, "--out", tmp_path / "file")
    with pytest.raises(RunError, match="is a file"), Store(tmp_path / "file").lock():
        pass
    assert (tmp_path / "file").read_text() == "x"


def test_in_a_run_folder_what_is_not_ours_is_not_swept(finished, study_file, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "r")
    kept = [".important.tmp", "report/.draft.tmp", "nodes/score/.mine.tmp", "letter.txt"]
    swept = [
        "nodes/score/.aaaa.0123abcd.tmp",
        ".status.json.0123abcd.tmp",
        "report/tables/.x.csv.0123abcd.tmp",
        "nodes/attack/.k.a.search.tmp",
    ]
    for name in (*kept, *swept):
        (folder / name).write_text("x")
    with Store(folder).lock():
        pass
    assert all((folder / name).exists() for name in kept) and not any((folder / name).exists() for name in swept)


@pytest.mark.parametrize("files", [(), (".lock",), (".lock", ".study.json.0123abcd.tmp"), (".lock", ".manifest.json.89abcdef.tmp")])
def test_a_folder_in_which_a_run_was_killed_before_it_had_begun_is_ours(study_file, tmp_path, files):
    for name in files:
        (tmp_path / name).touch()
    store = Store(tmp_path)
    with store.lock():
        store.open_for(workbench.load_study(study_file))
    assert (tmp_path / "study.json").is_file()
    store.look()  # killed before the manifest


def test_only_folders_that_show_a_run_are_listed(tmp_path, finished):
    runs_folder = tmp_path / "runs"
    shutil.copytree(finished.folder, runs_folder / "whole")
    (shutil.copytree(finished.folder, runs_folder / "torn") / "manifest.json").unlink()
    (runs_folder / "empty").mkdir()
    (runs_folder / "file").write_text("x")
    (runs_folder / "loop").symlink_to("loop")
    (runs_folder / "etc").symlink_to("/etc")
    letters(runs_folder / "letters")
    assert list_runs(runs_folder) == ["torn", "whole"]
    assert find_run("x" * 5000) is None
