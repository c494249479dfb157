"""Runs seen from outside: status, log and stop, on run folders made by hand and a process that stands for a run."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from workbench.errors import RunError
from workbench.run import jobs

SLEEPER = """
import signal, sys, time
{deaf}
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""

HEARS = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background shell hands its deafness on


def folder(path, states, status=None, log=None):
    """A run folder whose nodes are in these states."""
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps({"layout": 1, "nodes": [{"state": state} for state in states]}))
    if status is not None:
        (path / "status.json").write_text(json.dumps(status))
    if log is not None:
        (path / "run.log").write_text(log)
    return path


def process(deaf=""):
    """A process that waits, and what status.json says of it."""
    one = subprocess.Popen([sys.executable, "-P", "-c", SLEEPER.format(deaf=deaf)], stdout=subprocess.PIPE, text=True)
    assert one.stdout.readline() == "ready\n"
    return one, {"pid": one.pid, "pid_started": psutil.Process(one.pid).create_time(), "state": "running"}


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


def test_a_folder_that_is_no_run_or_was_never_started_is_told(tmp_path):
    for call in (jobs.status, jobs.log_tail, jobs.stop):
        with pytest.raises(RunError, match="no run folder"):
            call(tmp_path)
    path = folder(tmp_path / "r", ["waiting"])
    assert jobs.status(path)["state"] == "stopped" and jobs.status(path)["share"] is None
    with pytest.raises(RunError, match="never started here"):
        jobs.log_tail(path)


@pytest.mark.parametrize(("deaf", "politely", "code"), [(HEARS, True, 7), ("signal.signal(signal.SIGINT, signal.SIG_IGN)", False, -15)])
def test_a_run_is_stopped_politely_if_it_listens_and_firmly_if_not(tmp_path, deaf, politely, code):
    one, status = process(deaf)
    try:
        path = folder(tmp_path / "r", ["done", "running"], status | {"done": 1.0, "of": 4.0, "left_seconds": 9.0, "node": "record:x"})
        found = jobs.status(path)
        assert (found["state"], found["left_seconds"], found["node"]) == ("running", 9.0, "record:x")
        assert jobs.stop(path, patience=20.0 if politely else 0.5) is politely
        assert one.wait(20) == code and jobs.status(path)["state"] == "stopped"
    finally:
        one.kill()


def test_another_process_with_the_same_number_is_left_alone(tmp_path):
    one, status = process()
    try:
        path = folder(tmp_path / "r", ["running"], status | {"pid_started": status["pid_started"] - 60})
        with pytest.raises(RunError, match="Nothing is running"):
            jobs.stop(path)
        time.sleep(0.1)
        assert one.poll() is None
    finally:
        one.kill()
