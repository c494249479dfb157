"""Runs as jobs of another process: their state, their log, and how to stop them. Nothing is computed here.

state      running, finished or stopped: what the lock and the manifest of a run say
status     state of a run folder, its progress, the command that resumes it
log_tail   the last lines of its log
stop       end the process that writes it; what was finished stays
"""

import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError
from workbench.execution.claims import Claims
from workbench.execution.run_folder import Store
from workbench.report import document

if TYPE_CHECKING:
    import psutil

STARTING = "It is starting: it plans and loads its model."
STATES = ("running", "finished", "stopped", "damaged")


def is_starting(store: Store) -> bool:
    """Whether a run was started and does not say yet what it does."""
    return store.is_starting() and not store.is_running()


def state(store: Store, nodes: Sequence[Mapping[str, Any]]) -> str:
    """running while a process holds the folder, finished when every node of the manifest is done, else stopped."""
    if store.is_running():
        return "running"
    return "finished" if nodes and all(node["state"] == "done" for node in nodes) else "stopped"


def status(folder: str | Path) -> dict[str, Any]:
    """What a run is doing.

    returns  {run, state (one of STATES), nodes, nodes_done, share (of the UNet passes of this start, [0, 1] or None), node,
             left_seconds, error, again (the command that resumes it), note (what is damaged, a sentence, or None)}; None where the run
             does not say. A run that has computed everything is damaged, not finished, when its report is missing or damaged
    Raises   RunError when the folder is no run or of another layout, or its manifest is damaged
    """
    store = Store(folder)
    if is_starting(store):
        nothing = dict.fromkeys(("nodes", "nodes_done", "share", "node", "left_seconds", "error"))
        return {"run": store.name, "state": "running"} | nothing | {"again": store.command(), "note": STARTING}
    nodes = store.manifest()["nodes"]
    said, note = store.status()
    done = sum(node["state"] == "done" for node in nodes)
    kind = state(store, nodes)
    if kind == "finished":
        try:
            document.load(store.report_folder)
        except RunError as error:
            kind, note = "damaged", str(error)
    of = said.get("of") or 0
    return {
        "run": store.name,
        "state": kind,
        "nodes": len(nodes),
        "nodes_done": done,
        "share": 1.0 if kind in ("finished", "damaged") else min(max((said.get("done") or 0) / of, 0.0), 1.0) if of else None,
        "node": said.get("node") if kind in ("running", "stopped") else None,
        "left_seconds": said.get("left_seconds") if kind == "running" else None,
        "error": said.get("error") if kind == "stopped" else None,
        "again": store.command(),
        "note": note,
    }


def statuses(folders: Iterable[str | Path]) -> list[dict[str, Any]]:
    """`status` of several runs, with the same keys for one whose state cannot be read: damaged, and the note says why."""
    found = []
    for folder in folders:
        try:
            found.append(status(folder))
        except RunError as error:
            nothing = dict.fromkeys(("nodes", "nodes_done", "share", "node", "left_seconds", "error"))
            found.append({"run": Path(folder).name, "state": "damaged"} | nothing | {"again": Store(folder).command(), "note": str(error)})
    return found


def log_tail(folder: str | Path, lines: int = 20) -> list[str]:
    """The last lines of run.log, list of str.

    Raises   RunError when the folder is no run or of another layout, or has no log
    """
    store = Store(folder)
    if not store.is_run():
        store.manifest()
    store.refuse_other_layout()
    path = store.folder / "run.log"
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            return [line.rstrip("\n") for line in deque(log, maxlen=lines)]
    except FileNotFoundError:
        raise RunError(f"{folder} has no run.log: it was never started here. Start it with: {store.command()}") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from None


def stop(folder: str | Path, patience: float = 20.0) -> bool:
    """End the process of a running run: first by signals that it can handle, after `patience` seconds by SIGKILL. True without SIGKILL.

    Only the process that holds the run's lock is signalled, whatever status.json says, and those of this machine that share the work with
    it; of a run that still plans, the process that was started for it. It gets SIGINT, as from Ctrl-C; a process that a shell started in
    the background ignores that one and gets SIGTERM, which ends a run in the same way; then SIGKILL.
    Raises   RunError when nothing runs there, when it cannot be proved which process runs, or when it may not be signalled
    """
    import psutil

    store = Store(folder)
    starter = store.starter() if is_starting(store) else None
    if starter is None:
        store.manifest()
        if not store.is_running():
            raise RunError(f"Nothing is running in {folder}. What it is doing: workbench status {store.folder.name}")
    sharing = [holder for _, holder in Claims(folder).others() if holder.shares]
    if away := sorted({holder.host for holder in sharing if not holder.is_here}):
        raise RunError(
            f"Processes on {', '.join(away)} share the work on {folder}, and those on other machines cannot be stopped from here. "
            "Stop them where they were started, such as with scancel."
        )
    try:
        process = starter or store.holder()
        if process is None:
            raise RunError(
                f"A process holds {store.folder / '.lock'}, and it cannot be proved which, so none is stopped. "
                f"If you know it, end it yourself: kill PID. Ask who holds the file with: fuser {store.folder / '.lock'}"
            )
        processes = {process.pid: process}
        for holder in sharing:
            with suppress(psutil.NoSuchProcess):
                processes[holder.pid] = psutil.Process(holder.pid)
        return all([_ended(one, patience) for one in processes.values()])  # all, also after one that had to be killed
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        raise RunError(f"The run in {folder} belongs to another user and cannot be stopped from here.") from None


def _ended(process: "psutil.Process", patience: float) -> bool:
    """End a process, politely first. Whether it ended without SIGKILL."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        for number in (signal.SIGINT, signal.SIGTERM):
            if _hears(process, number):
                process.send_signal(number)
                if _gone(process, patience):
                    return True
        process.kill()
        _gone(process, patience)
        return False
    return True


def _hears(process: "psutil.Process", number: int) -> bool:
    """Whether a process does not ignore a signal; True where that cannot be known."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return True
    return not ignored >> (number - 1) & 1


def _gone(process: "psutil.Process", seconds: float) -> bool:
    """Whether a process ends within the time; a child process in the zombie state counts as ended."""
    import psutil

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
