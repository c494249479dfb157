"""Runs as jobs, seen from outside: what a run is doing, its log, and how it is stopped. Reads and signals, computes nothing.

status     state of a run folder, how far it is, how to go on
log_tail   the last lines of its log
stop       end the process that writes it; what was finished stays
"""

import re
import signal
import time
from collections import deque

import psutil

from workbench.errors import RunError
from workbench.run.store import Store
from workbench.storage import read_json

STATES = ("running", "finished", "stopped")


def status(folder):
    """What a run is doing.

    returns  {run, state (one of STATES), nodes, nodes_done, share (of the UNet passes of this start, [0, 1] or None), node,
             left_seconds, error, again (the command that goes on)}; None where the run does not say
    Raises   RunError when the folder is no run
    """
    store = Store(folder)
    nodes = store.manifest()["nodes"]
    path = store.folder / "status.json"
    said = read_json(path) if path.exists() else {}
    done = sum(node["state"] == "done" for node in nodes)
    running = store.is_running()
    state = "running" if running else "finished" if nodes and done == len(nodes) else "stopped"
    of = said.get("of") or 0
    return {
        "run": store.folder.name,
        "state": state,
        "nodes": len(nodes),
        "nodes_done": done,
        "share": 1.0 if state == "finished" else min(said.get("done", 0) / of, 1.0) if of else None,
        "node": None if state == "finished" else said.get("node"),
        "left_seconds": said.get("left_seconds") if running else None,
        "error": said.get("error") if state == "stopped" else None,
        "again": _command(store),
    }


def log_tail(folder, lines=20):
    """The last lines of run.log, list of str.

    Raises   RunError when the folder is no run, or has no log
    """
    store = Store(folder)
    store.manifest()
    path = store.folder / "run.log"
    if not path.exists():
        raise RunError(f"{folder} has no run.log: it was never started here. Start it with: {_command(store)}")
    with path.open(encoding="utf-8", errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=lines)]


def stop(folder, patience=20.0):
    """End the process of a running run: politely first, after `patience` seconds firmly; True when it ended politely.

    A process that a shell started in the background does not hear the polite signal.
    Raises   RunError when nothing runs there, or the process may not be signalled
    """
    store = Store(folder)
    store.manifest()
    if not store.is_running():
        raise RunError(f"Nothing is running in {folder}. What it is doing: workbench status {store.folder.name}")
    try:
        process = psutil.Process(read_json(store.folder / "status.json")["pid"])
        process.send_signal(signal.SIGINT)
        if _gone(process, patience):
            return True
        process.terminate()
        if not _gone(process, patience):
            process.kill()
            _gone(process, patience)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        raise RunError(f"The run in {folder} belongs to another user and cannot be stopped from here.") from None
    return False


def _gone(process, seconds):
    """Whether it ends within the time; a child of ours that nobody has waited for has ended too."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def _command(store):
    """The command line that made the run, from its log; in words when the log does not say."""
    log = store.folder / "run.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = re.findall(r"^\S+ (workbench .+): \d+ nodes to do", text, re.MULTILINE)
    return found[-1] if found else "workbench run STUDY, with the study of this run"
