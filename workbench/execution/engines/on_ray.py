"""The engine `ray`: actors of a Ray cluster, each with the model loaded once. Needs the extra [cluster].

It joins the cluster that RAY_ADDRESS names or that runs on this machine, else it starts one of this machine alone. Where the actors
see the run folder (a shared file system), they write into it; elsewhere their inputs and results travel through Ray's object store.
A node that vanishes takes its actors with it: their shards are computed again by others, and new actors start where there is room.
"""

import io
import os
import signal
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from workbench.errors import RunError
from workbench.execution import child, stages
from workbench.execution.claims import FOLDER as CLAIMS
from workbench.execution.compute import compute
from workbench.execution.engines import Failed, Finished, Lost, Progress, Tell, Warned
from workbench.execution.engines.worker import Setup, made

if TYPE_CHECKING:
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace

START = 600.0  # seconds in which a first actor must be ready
ASK = 1.0  # seconds between two questions about progress
Result = tuple[str, str]  # stage, key


class Actor:
    """What runs on a node: a workspace, and one task at a time."""

    def __init__(self, setup: Setup, token: str) -> None:
        self._shares = (setup.folder / token).exists()
        if not self._shares:
            setup = replace(setup, folder=Path(tempfile.mkdtemp(prefix="workbench-")))
        self._warnings: list[str] = []
        self._workspace = made(setup)
        self._workspace.store.warn = self._warnings.append
        self._now: tuple[float, float, str] = (0.0, 1.0, "")
        self._threads = setup.threads

    def shares(self) -> bool:
        """Whether it sees the run folder."""
        return self._shares

    def progress(self) -> tuple[float, float, str]:
        """(step, of, note) of the task that is being computed."""
        return self._now

    def compute(self, task: "Task", inputs: list[Result], *bundles: bytes) -> tuple[Any, ...]:
        """("finished", seconds, dropped, result or None, warnings) or ("failed", error, warnings)."""
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        self._now, self._warnings[:] = (0.0, 1.0, ""), []

        def tell(step: float, of: float, note: str = "") -> None:
            self._now = (step, of, note)

        self._workspace.progress = tell
        store = self._workspace.store
        try:
            for (stage, key), bundle in zip(inputs, bundles, strict=True):
                unpack(store.path(stage, key), bundle)
            seconds, dropped = compute(self._workspace, task)
            result = None if self._shares else pack(store.path(task.stage, task.key))
            return "finished", seconds, dropped, result, list(self._warnings)
        except Exception as error:
            return "failed", child.packed(error), list(self._warnings)


def pack(folder: Path) -> bytes:
    """A result as bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(folder, arcname=".")
    return data.getvalue()


def unpack(folder: Path, data: bytes) -> None:
    """A result from bytes, by one rename; one that is there stays."""
    if folder.is_dir():
        return
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(temporary, filter="data")
    with suppress(OSError):
        os.replace(temporary, folder)


@dataclass
class _Worker:
    """An actor, what it computes, and the questions that it has not answered yet."""

    actor: Any
    starting: Any  # until it is ready
    task: "Task | None" = None
    answer: Any = None
    asked: Any = None
    when: float = 0.0
    has: set[Result] = field(default_factory=set)


class OnRay:
    """Actors of a cluster.

    workers   how many; default: one per CPU of the cluster, or one per GPU. More of them than GPUs share these
    devices   ("cpu",), or a GPU: each actor takes the one that Ray gives it
    """

    name = "ray"

    def __init__(self, workers: int | None, devices: tuple[str, ...]) -> None:
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the user's machines
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            import ray
        except ImportError as error:
            raise RunError('The engine ray needs Ray. Install it: pip install "concept-erasure-workbench[cluster]"') from error
        self._ray: Any = ray
        self._wanted, self._devices = workers, devices
        self._workers: list[_Worker] = []
        self._is_open = self._began = False
        self.threads = 1 if devices == ("cpu",) else None

    @property
    def slots(self) -> int:
        """How many actors are ready; before `open`, how many there will be."""
        return sum(one.starting is None for one in self._workers) if self._is_open else self._planned()

    def _planned(self) -> int:
        self._connect()
        there = self._ray.cluster_resources().get("CPU" if self._devices == ("cpu",) else "GPU", 0)
        if there < 1:
            raise RunError(f"The Ray cluster has no {'CPU' if self._devices == ('cpu',) else 'GPU'}. Choose another --device.")
        return self._wanted or int(there)

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        except ValueError:  # a cluster that runs already takes no such settings
            self._ray.init(address="auto", log_to_driver=False, logging_level="error")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process without a word
        self._began = True

    def open(self, workspace: "Workspace", tell: Tell) -> None:
        """Start all actors; return when the first one is ready."""
        n = self._planned()
        self._workspace, self._tell, self._is_open = workspace, tell, True
        self._put: dict[Result, Any] = {}
        store = workspace.store
        self._token = store.folder / f"{CLAIMS}/.{uuid4().hex}.shared"
        self._token.parent.mkdir(parents=True, exist_ok=True)
        self._token.write_text("")
        on_cpu = self._devices == ("cpu",)
        device = "cpu" if on_cpu else "cuda"
        setup = Setup(workspace.study, workspace.plan, store.folder.absolute(), device, self.threads)
        self._setup = self._ray.put(setup)
        gpus = 0.0 if on_cpu else min(1.0, self._ray.cluster_resources()["GPU"] / n)
        self._class = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_concurrency=2)(Actor)
        self._workers = [self._start() for _ in range(n)]
        end = time.monotonic() + START
        while not self.slots:
            if time.monotonic() > end:
                raise RunError(f"No actor of the Ray cluster was ready within {START:.0f} s. Ask the cluster what is free: ray status")
            self.wait(1.0)

    def _start(self) -> _Worker:
        actor = self._class.remote(self._setup, str(self._token.relative_to(self._workspace.store.folder)))
        return _Worker(actor, actor.shares.remote())

    def submit(self, task: "Task") -> None:
        """Hand it to an actor that has none; with its inputs, where that one does not see the run folder."""
        worker = next(one for one in self._workers if one.starting is None and one.task is None)
        worker.task = task
        if self._shared:
            worker.answer = worker.actor.compute.remote(task, [])
            return
        if stages.stage(task.stage).reads_study:  # it reads nearly everything: here it is
            worker.answer = None
            return
        needed = [one for one in self._ancestors(task.node) if one not in worker.has]
        worker.answer = worker.actor.compute.remote(task, needed, *(self._object(one) for one in needed))
        worker.has |= {*needed, (task.stage, task.key)}

    def _ancestors(self, name: str) -> list[Result]:
        """Every result that a node may read, directly or through another one."""
        plan, found, todo = self._workspace.plan, {}, list(self._workspace.plan.node(name).inputs)
        while todo:
            node = plan.node(todo.pop())
            if node.id not in found:
                found[node.id] = node
                todo += node.inputs
        return [(node.stage, shard.key) for node in found.values() for shard in node.shards]

    def _object(self, result: Result) -> Any:
        """A result in the object store, put there once."""
        if result not in self._put:
            self._put[result] = self._ray.put(pack(self._workspace.store.result(*result)))
        return self._put[result]

    def wait(self, seconds: float) -> None:
        """Tell what the actors have answered."""
        if self._compute_here():
            return
        now = time.monotonic()
        for worker in self._workers:
            if worker.answer is not None and worker.asked is None and now - worker.when > ASK:
                worker.asked, worker.when = worker.actor.progress.remote(), now
        of = {ref: worker for worker in self._workers for ref in (worker.starting, worker.answer, worker.asked) if ref is not None}
        if not of:
            time.sleep(min(seconds, ASK))
            return
        for ref in self._ray.wait(list(of), num_returns=1, timeout=min(seconds, ASK))[0]:
            self._heard(of[ref], ref)

    def _compute_here(self) -> bool:
        for worker in self._workers:
            if worker.task is not None and worker.answer is None:
                task, worker.task = worker.task, None
                self._workspace.progress = lambda step, of, note="", task=task: self._tell(Progress(task, step, of, note))
                self._tell(Finished(task, *compute(self._workspace, task)))
                return True
        return False

    def _heard(self, worker: _Worker, ref: Any) -> None:
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            self._replace(worker, error)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise RunError(f"An actor of the Ray cluster did not start: {error.cause or error}") from error
        if ref == worker.starting:
            self._shared, worker.starting = said, None
        elif ref == worker.asked:
            worker.asked = None
            if worker.task is not None:
                self._tell(Progress(worker.task, *said))
        else:
            self._answered(worker, said)

    def _answered(self, worker: _Worker, said: tuple[Any, ...]) -> None:
        task, worker.task, worker.answer = worker.task, None, None
        assert task is not None, "an actor answers what it was asked"
        kind, *rest, warnings = said
        for sentence in warnings:
            self._tell(Warned(sentence))
        if kind == "failed":
            self._tell(Failed(task, child.unpacked(rest[0])))
            return
        seconds, dropped, result = rest
        if result is not None:
            unpack(self._workspace.store.path(task.stage, task.key), result)
        self._tell(Finished(task, seconds, dropped))

    def _replace(self, worker: _Worker, error: Exception) -> None:
        with suppress(Exception):  # it may only be out of reach for a while
            self._ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._start()
        if worker.task is not None:
            self._tell(Lost(worker.task, f"its actor or its node has ended: {' '.join(str(error).split())[:200]}"))

    def close(self) -> None:
        """End all actors, and the cluster where this engine began it."""
        self._is_open = False
        for worker in self._workers:
            with suppress(Exception):  # of an actor that is gone
                self._ray.kill(worker.actor)
        self._workers = []
        with suppress(OSError, AttributeError):
            self._token.unlink(missing_ok=True)
            self._token.parent.rmdir()
        if self._began:
            self._ray.shutdown()
