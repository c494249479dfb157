"""The engine `processes`: workers on this machine, each with the model loaded once; one thread each on a CPU, one device each on GPUs."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError
from workbench.execution import child
from workbench.execution.engines import Failed, Finished, Lost, Progress, Tell, Warned, cores
from workbench.execution.engines.worker import Setup

if TYPE_CHECKING:
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace

COMMAND = [sys.executable, "-P", "-m", "workbench.execution.engines.worker"]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    """A worker process and what it computes."""

    process: subprocess.Popen
    connection: Connection
    device: str
    is_ready: bool = False
    task: "Task | None" = None


class Processes:
    """Workers of this machine.

    workers   how many; default: one per core, or one per device where these are GPUs
    devices   on which they work, in turn
    """

    name = "processes"

    def __init__(self, workers: int | None, devices: tuple[str, ...]) -> None:
        on_cpu = devices == ("cpu",)
        self.slots = workers or (cores() if on_cpu else len(devices))
        self._devices = [devices[place % len(devices)] for place in range(self.slots)]
        # with as many workers as cores each has one thread
        self.threads = max(1, cores() // self.slots) if on_cpu else None
        self._workers: list[_Worker] = []

    def open(self, workspace: "Workspace", tell: Tell) -> None:
        """Start all workers; they load while the first tasks are handed out."""
        self._workspace, self._tell = workspace, tell
        self._workers = [self._start(device) for device in self._devices]

    def _start(self, device: str) -> _Worker:
        environment = dict(os.environ)
        if self.threads:
            environment |= dict.fromkeys(THREADS, str(self.threads))
        try:
            process, connection = child.start(COMMAND, environment)
        except OSError as error:
            raise RunError(f"No worker process can be started: {error}. Take fewer --workers, or --engine inline.") from error
        of = self._workspace
        connection.send(Setup(of.study, of.plan, of.store.folder.absolute(), device, self.threads))
        return _Worker(process, connection, device)

    def submit(self, task: "Task") -> None:
        """Hand it to a worker that has none; those that are ready first."""
        free = sorted((one for one in self._workers if one.task is None), key=lambda one: not one.is_ready)
        free[0].task = task
        with suppress(OSError):  # of a worker that has just died `wait` says so
            free[0].connection.send(task)

    def wait(self, seconds: float) -> None:
        """Tell what the workers have sent."""
        there = {id(one.connection): one for one in self._workers}
        for connection in wait([one.connection for one in self._workers], seconds):
            worker = there[id(connection)]
            try:
                self._heard(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._replace(worker)

    def _heard(self, worker: _Worker, said: tuple[Any, ...]) -> None:
        kind, *rest = said
        if kind == "ready":
            worker.is_ready = True
        elif kind == "progress":
            self._tell(Progress(*rest))
        elif kind == "warned":
            self._tell(Warned(*rest))
        elif kind == "finished":
            worker.task = None
            self._tell(Finished(*rest))
        else:
            task, error = rest
            if task is None:
                raise child.unpacked(error)
            worker.task = None
            self._tell(Failed(task, child.unpacked(error)))

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that has died."""
        worker.connection.close()
        code = child.ended(worker.process)
        if not worker.is_ready and worker.task is None:
            raise RunError(f"A worker process ended before it was ready ({child.in_words(code)}). Try --engine inline.")
        task = worker.task
        self._workers[self._workers.index(worker)] = self._start(worker.device)
        if task is not None:
            self._tell(Lost(task, child.in_words(code)))

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            with suppress(OSError):
                worker.connection.close()
        for worker in self._workers:
            child.ended(worker.process)
        self._workers = []
