"""What a run writes about itself while it works: manifest, status, log, the first report and the last.

Watcher   functions that are told the same
Seconds   how long each node took, over all starts of the run
Books     manifest.json, status.json and run.log of one start
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from workbench.execution.drive import Hears

if TYPE_CHECKING:
    from workbench.execution.cost import Estimate
    from workbench.execution.engines import Engine
    from workbench.execution.plan import Node
    from workbench.execution.run_folder import Store
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace

OFTEN = 0.2  # seconds between two writings of status.json while tasks end
RARELY = 20  # the manifest is written when this many times longer has passed than writing it takes


@dataclass
class Watcher:
    """The functions that `run` calls while it works; each may be replaced.

    warning   called with a sentence about damaged results and what was done with them
    """

    start: Callable = lambda estimate: None
    node: Callable = lambda node, done_passes, of_passes, note="": None
    picture: Callable = lambda path: None
    finish: Callable = lambda path: None
    warning: Callable = lambda sentence: warnings.warn(sentence, stacklevel=2)


class Seconds:
    """{node id: seconds} of all starts; a node of which every shard is computed again begins at 0."""

    def __init__(self, nodes: "Sequence[Node]", store: "Store", seconds: dict[str, float | None]) -> None:
        self.of, self._fresh = seconds, set()
        for node in nodes:
            if not any(store.has(node.stage, shard.key) for shard in node.shards):
                self._fresh.add(node.id)

    def add(self, node: "Node", took: float) -> None:
        """One more shard of a node was computed."""
        before = 0.0 if node.id in self._fresh else (self.of.get(node.id) or 0.0)
        self._fresh.discard(node.id)
        self.of[node.id] = before + took


class Books:
    """Written by one process at a time. A context manager: an error that leaves it is written down, and raised."""

    def __init__(self, workspace: "Workspace", watcher: Watcher, command: str) -> None:
        self.workspace, self.watcher, self.command = workspace, watcher, command
        self.store, self.plan = workspace.store, workspace.plan
        self._began = time.time()
        self._done = 0.0
        self._wrote = self._writing = 0.0
        self._said = 0.0
        self._pictured = False
        self._todo: Estimate | None = None
        self._current: str | None = None

    def __enter__(self) -> "Books":
        return self

    def open(self) -> None:
        """Take over what earlier starts have left."""
        self.seconds = self.store.earlier_seconds()
        self._earlier = sum(s or 0 for s in self.seconds.values())
        self.history: dict[str, Any] = {
            "seconds": self.seconds,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
            "wall_seconds": None,
        }
        self.store.write_study_folder(self.workspace.study.folder)
        self._log = (self.store.folder / "run.log").open("a", encoding="utf-8")
        self._say("running")

    def warn(self, sentence: str) -> None:
        """A sentence about damaged results, for the log and the watcher."""
        self._write(f"warning: {sentence}")
        self.watcher.warning(sentence)

    def begin(self, todo: "Estimate") -> None:
        """What is left to do is known."""
        self._todo = todo
        self._taken = Seconds(self.plan.nodes, self.store, self.seconds)
        # a first report is written when the images of a first condition are there, if this start made any of them
        self._pictures = [node.id for node in self.plan.of_stage("detect")]
        self._pictured = any(self.workspace.there(self.plan.node(name)) for name in self._pictures)
        self.watcher.start(todo)
        self._write(f"{self.history['started']} {self.command}: {todo.nodes} nodes to do, {todo.kept} kept")
        self._say("running", left_seconds=todo.seconds)

    def hears(self) -> Hears:
        """What `drive` calls."""
        return Hears(self.progress, self.shard, self.complete)

    def progress(self, node: "Node", done: float, note: str) -> None:
        """A task is being computed."""
        self._done, self._current = done, node.id
        self.watcher.node(node, done, self._of, note)

    def shard(self, node: "Node", task: "Task", done: float, said: str, took: float) -> None:
        """A task's result is there."""
        self._done, self._current = done, node.id
        self._taken.add(node, took)
        self._write(f"{node.id} {said}")
        if time.monotonic() - self._said > OFTEN:
            self._say("running", node=node.id, left_seconds=self._left())

    def elsewhere(self, node: "Node", took: float) -> None:
        """Another process has computed a shard of a node."""
        self._taken.add(node, took)
        self._write(f"{node.id} 1/1 {took:.1f} s")

    def complete(self, node: "Node") -> None:
        """All results of a node are there."""
        self.write_manifest()
        if node.stage == "detect" and not self._pictured:
            from workbench.execution.stages.report import write_report

            self._pictured = True
            self.history["wall_seconds"] = time.time() - self._began
            with self.store.naming_unreadable():
                write_report(self.workspace, self.history, self.command, formats=("html",))
            self.watcher.picture(self.store.report_folder / "report.html")

    def finish(self, engine: "Engine") -> None:
        """Everything but the report is there: write it."""
        from workbench.execution.compute import compute
        from workbench.execution.schedule import Task
        from workbench.execution.stages.report import write_report

        self._current = "report"
        threads = getattr(engine, "threads", None)
        self.history |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")} | ({"threads": threads} if threads else {})
        computed = sum(s or 0 for s in self.seconds.values()) - self._earlier
        self.history["wall_seconds"] = self._earlier + (computed if engine.slots == 1 else min(computed, time.time() - self._began))
        with self.store.naming_unreadable():
            write_report(self.workspace, self.history, self.command)
        node = self.plan.node("report")
        if not self.store.has("report", node.shards[0].key):
            compute(self.workspace, Task(node.id, 0, "report", node.shards[0].key))
        self.write_manifest(now=True)
        self._done = self._of
        self._say("done", left_seconds=0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not hasattr(self, "_log"):
            return
        try:
            if error is not None:
                self._write(f"stopped in {self._current}: {error!r}")
                self.write_manifest(failed=None if isinstance(error, KeyboardInterrupt) else self._current, now=True)
                self._say("stopped", node=self._current, error=str(error))
        except OSError:
            pass  # the folder itself cannot be written; the first error says so
        finally:
            self._log.close()

    # files

    @property
    def _of(self) -> float:
        return self._todo.passes if self._todo else 0.0

    def _left(self) -> float | None:
        """Seconds left, from the pace so far."""
        if self._todo is None:
            return None
        return (time.time() - self._began) / self._done * (self._todo.passes - self._done) if self._done else self._todo.seconds

    def write_manifest(self, failed: str | None = None, now: bool = False) -> None:
        """Write manifest.json; of a large plan not after every node, unless `now`."""
        start = time.monotonic()
        if now or start - self._wrote >= RARELY * self._writing:
            self.store.write_manifest(self.plan, self.seconds, failed)
            self._wrote = time.monotonic()
            self._writing = self._wrote - start

    def _write(self, line: str) -> None:
        self._log.write(f"{line}\n")
        self._log.flush()

    def _say(self, state: str, **more: Any) -> None:
        self._said = time.monotonic()
        said: Mapping[str, Any] = {"node": None, "left_seconds": None} | more
        self.store.write_status(state=state, command=self.command, done=self._done, of=self._of, **said)
