"""Runs seen from outside: status, log and stop, on run folders made by hand and a process that stands for a run."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.report.example import write_example
from workbench.errors import RunError
from workbench.execution import jobs, lock
from workbench.execution.run_folder import Store
from workbench.ui.run_list import look

SLEEPER = """
import signal, sys, time
from filelock import FileLock
{deaf}
lock = FileLock({lock!r})
{hold}
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""

HEARS = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background shell hands its deafness on
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
HEARS_NOTHING = f"{DEAF}; signal.signal(signal.SIGTERM, lambda *_: None)"


def folder(path, states, status=None, log=None):
    """A run folder whose nodes are in these states, with a report."""
    (path / "report").mkdir(parents=True)
    write_example(path / "report")
    (path / "manifest.json").write_text(json.dumps({"layout": 1, "nodes": [{"state": state} for state in states]}))
    if status is not None:
        (path / "status.json").write_text(json.dumps(status))
    if log is not None:
        (path / "run.log").write_text(log)
    return path


def process(path, deaf=HEARS, hold="lock.acquire()"):
    """A process that waits and holds the lock of a folder, and what status.json says of it."""
    code = SLEEPER.format(deaf=deaf, lock=str(path / ".lock"), hold=hold)
    one = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    assert one.stdout.readline() == "ready\n"
    return one, {"pid": one.pid, "pid_started": psutil.Process(one.pid).create_time(), "state": "running"}


@pytest.fixture
def run(tmp_path):
    return folder(tmp_path / "r", ["done", "running"], log="2026-01-01 workbench run a: 2 nodes to do, 0 kept\n")


def test_a_finished_run_is_done_whatever_its_status_says_last(tmp_path):
    found = jobs.status(folder(tmp_path / "r", ["done"] * 3, {"state": "done", "done": 0, "of": 0, "node": None}))
    assert (found["state"], found["share"], found["nodes_done"], found["nodes"]) == ("finished", 1.0, 3, 3)


def test_a_stopped_run_says_where_why_and_how_to_go_on(tmp_path):
    status = {"state": "stopped", "node": "erase:esd", "done": 30.0, "of": 120.0, "error": "disk full", "pid": 1, "pid_started": 0}
    log = "2026-01-01 workbench run a: 9 nodes to do, 0 kept\nx\n2026-01-02 workbench run 'my [b]': 8 nodes to do, 1 kept\nstopped\n"
    path = folder(tmp_path / "r", ["done", "failed", "waiting"], status, log)
    found = jobs.status(path)
    assert found["state"] == "stopped" and found["share"] == 0.25 and found["left_seconds"] is None
    assert (found["node"], found["error"], found["again"]) == ("erase:esd", "disk full", "workbench run 'my [b]'")
    assert jobs.log_tail(path, 2) == log.splitlines()[-2:] and jobs.log_tail(path, 99) == log.splitlines()
    with pytest.raises(RunError, match="Nothing is running"):
        jobs.stop(path)


def test_the_command_is_that_of_the_status_and_of_the_log_in_older_folders(run):
    assert Store(run).command() == "workbench run a"
    Store(run).write_status(state="stopped", command="workbench run 'b c' --out x")
    assert Store(run).command() == jobs.status(run)["again"] == "workbench run 'b c' --out x"
    (run / "status.json").unlink()
    (run / "run.log").unlink()
    assert Store(run).command() == f"workbench run STUDY --out {run}, with the study of this run"


def test_a_folder_that_is_no_run_or_was_never_started_is_told(tmp_path):
    for call in (jobs.status, jobs.log_tail, jobs.stop):
        with pytest.raises(RunError, match="no run folder"):
            call(tmp_path)
    path = folder(tmp_path / "r", ["waiting"])
    assert jobs.status(path)["state"] == "stopped" and jobs.status(path)["share"] is None
    with pytest.raises(RunError, match="never started here"):
        jobs.log_tail(path)


@pytest.mark.parametrize(("deaf", "politely", "code"), [(HEARS, True, 7), (DEAF, True, -15), (HEARS_NOTHING, False, -9)])
def test_a_run_is_stopped_politely_if_it_listens_and_firmly_if_not(run, deaf, politely, code):
    one, status = process(run, deaf)
    try:
        (run / "status.json").write_text(json.dumps(status | {"done": 1.0, "of": 4.0, "left_seconds": 9.0, "node": "record:x"}))
        found = jobs.status(run)
        assert (found["state"], found["left_seconds"], found["node"]) == ("running", 9.0, "record:x")
        assert jobs.stop(run, patience=20.0 if politely else 0.5) is politely
        assert one.wait(20) == code and jobs.status(run)["state"] == "stopped"
    finally:
        one.kill()


@pytest.mark.parametrize("hold", ["", "open({lock!r})", "lock.acquire(); lock.release()"])
def test_a_process_that_only_a_status_names_is_never_signalled(run, hold):
    (run / ".lock").touch()
    one, status = process(run, hold=hold.format(lock=str(run / ".lock")))
    try:
        (run / "status.json").write_text(json.dumps(status))
        assert jobs.status(run)["state"] == "stopped"
        with pytest.raises(RunError, match="Nothing is running"):
            jobs.stop(run)
        time.sleep(0.1)
        assert one.poll() is None
    finally:
        one.kill()


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_while_a_run_goes_on_another_process_that_its_status_names_is_not_signalled(run, tmp_path, monkeypatch, kernel_tells):
    other = folder(tmp_path / "other", ["running"])
    (one, status), (real, truly) = process(other), process(run)
    if not kernel_tells:
        monkeypatch.setattr(lock, "_listed", lambda path: None)
    try:
        (run / "status.json").write_text(json.dumps(status))
        if kernel_tells and lock._listed(run / ".lock"):
            assert jobs.stop(run) and real.wait(20) == 7
        else:
            with pytest.raises(RunError, match="cannot be proved which, so none is stopped"):
                jobs.stop(run)
            (run / "status.json").write_text(json.dumps(truly))
            assert jobs.stop(run) and real.wait(20) == 7
        assert one.poll() is None
    finally:
        one.kill()
        real.kill()


@pytest.mark.parametrize(
    "status", ["[]", "null", "{", '{"pid": "x"}', '{"pid": -5}', '{"pid": 1e99}', '{"pid": null}', '{"pid": 4194304000}']
)
def test_a_damaged_status_hides_no_run_and_stops_no_other(run, status):
    (run / "status.json").write_text(status)
    assert jobs.status(run)["state"] == "stopped"
    with pytest.raises(RunError, match="Nothing is running"):
        jobs.stop(run)
    one, _ = process(run)
    try:
        assert jobs.status(run)["state"] == "running"
        if lock._listed(run / ".lock"):
            assert jobs.stop(run) and one.wait(20) == 7
    finally:
        one.kill()


def test_looking_whether_a_run_goes_on_keeps_none_from_starting(run):
    (run / ".lock").touch()
    looks = f"from workbench.execution import lock\nprint(flush=True)\nwhile True: lock.is_held({str(run / '.lock')!r})"
    watcher = subprocess.Popen([sys.executable, "-c", looks], stdout=subprocess.PIPE)
    try:
        watcher.stdout.readline()
        for _ in range(20):
            with Store(run).lock():
                assert Store(run).is_running()
    finally:
        watcher.kill()
    assert not Store(run).is_running()


def test_a_run_that_was_begun_a_moment_ago_is_running_as_on_the_page(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    assert jobs.status(tmp_path)["state"] == look(tmp_path).kind == "running"
    assert jobs.status(tmp_path)["note"] == jobs.STARTING
    long_ago = time.time() - 10_000
    os.utime(tmp_path / "study.json", (long_ago, long_ago))
    with pytest.raises(RunError, match="is no run folder"):
        jobs.status(tmp_path)
