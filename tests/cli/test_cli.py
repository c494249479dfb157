"""The command line as a user meets it."""

import json
import subprocess
import sys

import pytest

from workbench.resources import study_files


def workbench(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-P", "-m", "workbench.cli", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("what", ["studies", "methods", "sites", "models", "prompts", "runs"])
def test_every_list_is_also_json(what, tmp_path):
    done = workbench("list", what, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows == [] if what == "runs" else rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "emoji-ink-stile"), "emoji-ink-style"),
        (("list", "studys"), "studies"),
        (("show", "esq"), "esd"),
        (("report", "nothing"), 'No run "nothing"'),
        (("run", "emoji-ink-style", "--set", "sampling.stebs=3"), '"steps"'),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, message, tmp_path):
    done = workbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_brackets_in_messages_and_tables_are_text(tmp_path):
    (tmp_path / "[red]x.toml").write_text("schema_version = ")
    done = workbench("run", "[red]x.toml", cwd=tmp_path)
    assert done.returncode == 2 and "[red]x.toml is not valid TOML" in done.stderr
    done = workbench("show", "[bold]nothing[/bold]", cwd=tmp_path)
    assert done.returncode == 2 and 'Nothing is called "[bold]nothing[/bold]"' in done.stderr
    run = tmp_path / "runs" / "[b]1"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text('{"layout": 1, "nodes": []}')
    assert "[b]1" in workbench("list", "runs", cwd=tmp_path).stdout


def test_a_study_is_begun_and_the_state_of_runs_is_told(tmp_path):
    done = workbench("init", "mine", "--like", "emoji-church", cwd=tmp_path)
    assert done.returncode == 0 and "workbench run mine.toml --dry-run" in done.stdout
    assert 'name = "mine"' in workbench("show", "mine.toml", cwd=tmp_path).stdout
    assert "workbench demo" in workbench("status", cwd=tmp_path).stdout
    run = tmp_path / "runs" / "half"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text('{"layout": 1, "nodes": [{"state": "done"}, {"state": "waiting"}]}')
    (run / "run.log").write_text("2026-01-01 workbench run mine.toml: 2 nodes to do, 0 kept\nerase:x 1/1 2.0 s\n")
    told = workbench("status", cwd=tmp_path).stdout
    assert "half: stopped, 1 of 2 nodes done" in told and "continue with: workbench run mine.toml" in told
    (row,) = json.loads(workbench("status", "half", "--json", cwd=tmp_path).stdout)
    assert row["nodes_done"] == 1 and row["state"] == "stopped"
    assert workbench("logs", "half", "--lines", "1", cwd=tmp_path).stdout == "erase:x 1/1 2.0 s\n"
    done = workbench("stop", "half", cwd=tmp_path)
    assert done.returncode == 2 and "Nothing is running" in done.stderr


def test_a_study_whose_prompts_are_not_shipped_says_where_they_come_from(tmp_path):
    done = workbench("init", "mine", "--like", "sd14-church-check", cwd=tmp_path)
    assert done.returncode == 0 and "Prompts  none are shipped; the first lines of mine.toml say how to make them" in done.stdout
    head = (tmp_path / "mine.toml").read_text().split("schema_version")[0]
    assert "workbench import-prompts church.csv" in head and "workbench run mine.toml" in head


def test_show_explains_a_method_and_prints_a_study(tmp_path):
    assert "learning_rate" in workbench("show", "esd", "--json", cwd=tmp_path).stdout
    assert 'name = "emoji-ink-style"' in workbench("show", "emoji-ink-style", cwd=tmp_path).stdout


def test_doctor_finds_the_bundled_model(tmp_path):
    rows = {row["what"]: row for row in json.loads(workbench("doctor", "--json", cwd=tmp_path).stdout)}
    assert rows["emoji model"]["state"] == "ok" and rows["torch"]["state"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "emoji-ink-style", "--dry-run", "--device", "banana"), 'No device is called "banana". Possible: cpu'),
        (("run", "emoji-ink-style", "--set", "variants.-1.name=x"), '"-1" is not a position in the list'),
        (("run", "emoji-ink-style", "--out", "a" * 300), "too long for the name of a folder"),
        (("run", "folder"), "is a folder. Name the study file in it. Possible: mine.toml"),
        (("run", "folder/mine.toml"), "looks like Latin-1 or Windows-1252"),
        (("init", "mine", "--out", "folder/mine.toml"), "cannot be written"),
        (("init", "mine", "--like", "escaping.toml"), "lies outside its folder"),
        (("import-prompts", "list.csv", "--provenance", "static", "--out", "/proc/x"), "cannot be written"),
    ],
)
def test_bad_input_is_one_message_exit_code_2_and_nothing_written(arguments, message, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.toml").write_bytes("title = 'café'".encode("latin-1"))
    (tmp_path / "list.csv").write_text("prompt\na church\n")
    (tmp_path / "outside.csv").write_text("unit,prompt\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    ink = (study_files()["emoji-ink-style"]).read_text()
    (tmp_path / "escaping.toml").write_text(ink.replace("prompts/emoji-ink-near.csv", "../outside.csv"))
    (tmp_path.parent / "outside.csv").write_text("unit,prompt\n")
    before = sorted(tmp_path.rglob("*"))
    done = workbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_shows_the_bill_says_what_weakens_a_study_and_writes_nothing(tmp_path):
    done = workbench("run", "emoji-ink-style", "--dry-run", "--limit", "8", "--set", 'detectors.judge.which="steer"', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of memory" in done.stdout and "nodes to do" in done.stdout and list(tmp_path.iterdir()) == []
    assert "Caveat One detector, emoji, is both attack-visible detector and judge" in " ".join(done.stdout.split())
