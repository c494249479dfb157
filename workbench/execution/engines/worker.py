"""A worker of the engine `processes`: `python -m workbench.execution.engines.worker FD`, started by it and by nobody else.

It gets one Setup and then tasks over a socket whose number is FD, and tells what happens. When the socket closes, because the run has
ended or was killed, it ends at once.
"""

import os
import pickle
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.execution.plan import Plan
    from workbench.study.study import Study

OFTEN = 0.2  # seconds between two progress messages


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know once: everything a workspace is made from."""

    study: "Study"
    plan: "Plan"
    folder: Path
    device: str
    threads: int | None


def main() -> None:
    """Tell that it is ready, then compute what comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run, which ends its workers
    connection = Connection(int(sys.argv[1]))
    come: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, come), daemon=True).start()
    try:
        workspace = made(come.get())
        workspace.store.warn = lambda sentence: connection.send(("warned", sentence))
        connection.send(("ready",))
    except BaseException as error:
        connection.send(("failed", None, packed(error)))
        return
    from workbench.execution.compute import compute

    while True:
        task = come.get()
        workspace.progress = _telling(connection, task)
        try:
            seconds, dropped = compute(workspace, task)
        except Exception as error:
            connection.send(("failed", task, packed(error)))
        else:
            connection.send(("finished", task, seconds, dropped))


def _listen(connection: Connection, come: "queue.SimpleQueue[Any]") -> None:
    """Take what is sent; end the process when nothing more can come, whatever it computes."""
    while True:
        try:
            come.put(connection.recv())
        except (EOFError, OSError):
            os._exit(3)


def made(setup: Setup) -> Any:
    """The workspace of a Setup, its model loaded."""
    import torch

    from workbench.execution.run_folder import Store
    from workbench.execution.workspace import Workspace
    from workbench.memory import keep_freed_memory

    if setup.threads:
        torch.set_num_threads(setup.threads)
    if setup.device == "cpu":
        keep_freed_memory()
    store = Store(setup.folder)
    store.is_locked = True  # the run that started this worker holds the folder
    workspace = Workspace(setup.study, setup.plan, store, setup.device)
    _ = workspace.model
    return workspace


def _telling(connection: Connection, task: Any) -> Any:
    last = 0.0

    def tell(step: float, of: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= OFTEN:
            last = now
            connection.send(("progress", task, step, of, note))

    return tell


def packed(error: BaseException) -> bytes:
    """An error as bytes; one that cannot be sent as it is becomes a RunError with its words."""
    import traceback

    from workbench.errors import RunError, WorkbenchError

    try:
        data = pickle.dumps(error)
        if str(pickle.loads(data)) == str(error) and isinstance(error, WorkbenchError | OSError | MemoryError):
            return data
    except Exception:  # what an exception of a library does when it is pickled, nobody knows
        pass
    told = str(error) if isinstance(error, WorkbenchError) else "".join(traceback.format_exception(error)).strip()
    return pickle.dumps(RunError(told))


if __name__ == "__main__":
    main()
