"""A run started as a process of its own: it outlives its starter, its errors are told at once, and it can be continued from its folder."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.execution.test_jobs import folder
from workbench.errors import RunError
from workbench.execution import jobs, start
from workbench.execution.open_run import open_run
from workbench.execution.run_folder import Store
from workbench.resources import EXAMPLE_FOLDER, PACKAGE

STUB = """
import os, sys, time
from pathlib import Path
from workbench.execution.run_folder import Store
store = Store(sys.argv[1])
{body}
"""
RUNS = """
with store.lock():
    store.write_status(state="running", command="workbench run instead")
    print("ready", os.getsid(0) == os.getpid(), repr(sys.stdin.read()), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def instead(monkeypatch):
    """instead(body) makes `start` run this Python instead of the command line; its words are (folder,)."""
    return lambda body: monkeypatch.setattr(start, "COMMAND", (sys.executable, "-c", STUB.format(body=body)))


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    assert condition()


def test_a_started_run_is_a_process_of_its_own_session_without_input(instead, tmp_path):
    instead(RUNS)
    run = tmp_path / "r"
    started = start.start([str(run)], run)
    try:
        assert started.began and Store(run).is_running() and not Store(run).is_starting()
        wait_for(lambda: start.printed(run) == ["ready True ''"])
        with pytest.raises(RunError, match="in progress in .* already"):
            start.start([str(run)], run)
        assert start.failure(run) is None
    finally:
        psutil.Process(started.pid).kill()


def test_a_run_outlives_the_process_that_started_it(tmp_path):
    run = tmp_path / "r"
    code = STUB.format(body=RUNS)
    starter = (
        f"import sys\nfrom workbench.execution import start\nstart.COMMAND = (sys.executable, '-c', {code!r})\n"
        f"print(start.start([{str(run)!r}], {str(run)!r}).pid)"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    try:
        assert psutil.pid_exists(int(done.stdout)) and Store(run).is_running()
    finally:
        psutil.Process(int(done.stdout)).kill()


def test_what_keeps_a_run_from_beginning_is_told_at_once_and_leaves_no_folder(instead, tmp_path):
    instead("print('loading'); print('workbench: prompts.target is gone.'); sys.exit(2)")
    with pytest.raises(RunError, match=r"^prompts.target is gone.$"):
        start.start([str(tmp_path / "r")], tmp_path / "r")
    assert list(tmp_path.iterdir()) == []
    instead("raise KeyError('odd')")
    with pytest.raises(RunError, match="KeyError: 'odd'"):
        start.start([str(tmp_path / "r")], tmp_path / "r")
    instead("sys.exit(3)")
    with pytest.raises(RunError, match="exit code 3"):
        start.start([str(tmp_path / "r")], tmp_path / "r")


def test_a_run_that_plans_for_long_is_starting_until_it_says_what_it_does(instead, tmp_path):
    instead("time.sleep(60)")
    run = tmp_path / "r"
    started = start.start([str(run)], run, patience=0.5)
    assert not started.began and jobs.status(run)["state"] == "running" and jobs.status(run)["note"] == jobs.STARTING
    assert open_run(run).folder == run and jobs.stop(run)
    wait_for(lambda: not Store(run).is_starting())
    with pytest.raises(RunError):
        jobs.stop(run)
    # a test run under nohup hands down that SIGINT is ignored; SIGTERM ends the stub without a word
    assert "KeyboardInterrupt" in start.failure(run) or start.failure(run) == "its process has ended without a message"


def test_a_folder_that_is_no_run_is_not_started_in(instead, tmp_path, monkeypatch):
    instead("sys.exit(0)")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="no run folder"):
        start.start([str(tmp_path)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    example = folder(tmp_path / "example-run", ["done"])
    monkeypatch.setenv(EXAMPLE_FOLDER, str(example))
    with pytest.raises(RunError, match="example run, in which nothing is written"):
        start.start([str(example)], example)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("workbench demo --out x", ["demo"]),
        (
            "workbench run emoji-ink-style --limit 8 --set a=1 --set b=2",
            ["run", "emoji-ink-style", "--limit", "8", "--set", "a=1", "--set", "b=2"],
        ),
        ("workbench run sub/mine.toml --out x --take-from y --device cuda", ["run", "MINE", "--device", "cuda"]),
    ],
)
def test_a_run_is_continued_from_any_folder_by_the_command_that_made_it(tmp_path, command, words):
    run = folder(tmp_path / "r", ["waiting"])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.toml").write_text("")
    (run / "where.json").write_text(json.dumps({"study_folder": str(tmp_path / "sub")}))
    Store(run).write_status(state="stopped", command=command)
    mine = str(tmp_path / "sub" / "mine.toml")
    assert start.resuming(run) == [mine if word == "MINE" else word for word in words] + ["--out", str(run)]


def test_a_run_whose_study_or_command_is_gone_is_not_continued(tmp_path):
    run = folder(tmp_path / "r", ["waiting"])
    with pytest.raises(RunError, match="which command made it|is gone"):
        start.resuming(run)
    Store(run).write_status(state="stopped", command="workbench run mine.toml")
    with pytest.raises(RunError, match='"mine.toml" of .* is gone'):
        start.resuming(run)


def test_the_cost_is_what_the_dry_run_prints_or_its_error(instead, tmp_path):
    instead("import json; print(json.dumps(dict(nodes=3)))")
    assert start.cost("mine.toml", tmp_path / "r") == {"nodes": 3}
    instead("print('workbench: no label.', file=sys.stderr); sys.exit(2)")
    with pytest.raises(RunError, match="^no label.$"):
        start.cost("mine.toml", tmp_path / "r")
    instead("time.sleep(30)")
    with pytest.raises(RunError, match="not found within 0 s. Ask in a terminal: workbench run mine.toml"):
        start.cost("mine.toml", tmp_path / "r", patience=0.3)
    assert list(tmp_path.iterdir()) == []


def test_detach_starts_the_same_command_and_says_how_to_follow_and_stop_it(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from workbench.cli import main
    from workbench.errors import WorkbenchError

    asked = []
    monkeypatch.setattr(start, "start", lambda words, run: asked.append((words, run)) or start.Started(run, 42, True, run / "start.log"))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main.app, ["run", "emoji-ink-style", "--limit", "8", "--detach"])
    assert done.exit_code == 0, done.output
    assert [(words, str(run)) for words, run in asked] == [(["run", "emoji-ink-style", "--limit", "8"], "runs/emoji-ink-style")]
    assert "process 42" in done.output and "workbench stop emoji-ink-style" in done.output
    for more in (["--detach", "--dry-run"], ["--json"]):
        assert isinstance(CliRunner().invoke(main.app, ["run", "emoji-ink-style", *more]).exception, WorkbenchError)
