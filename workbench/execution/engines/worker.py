"""A worker of the engine `processes`: `python -m workbench.execution.engines.worker FD`, started by it and by nobody else.

It gets one Setup and then tasks over a socket whose number is FD, and tells what happens. When the socket closes, because the run has
ended or was killed, it ends at once.
"""

import queue
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.execution import child

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
    connection = child.connection_of_this()
    come: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=child.listen, args=(connection, come.put), daemon=True).start()
    try:
        workspace = made(come.get())
        workspace.store.warn = lambda sentence: connection.send(("warned", sentence))
        connection.send(("ready",))
    except BaseException as error:
        connection.send(("failed", None, child.packed(error)))
        return
    from workbench.execution.compute import compute

    while True:
        task = come.get()
        workspace.progress = _telling(connection, task)
        try:
            seconds, dropped = compute(workspace, task)
        except Exception as error:
            connection.send(("failed", task, child.packed(error)))
        else:
            connection.send(("finished", task, seconds, dropped))


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


if __name__ == "__main__":
    main()
