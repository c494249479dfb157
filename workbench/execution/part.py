"""One of several processes that compute a study in one run folder. One of them leads, see `execute._share`.

Part   what this process writes: everything when it leads, else only its results and how long they took
"""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from workbench.execution.books import Books, Watcher
from workbench.execution.compute import mend
from workbench.execution.drive import LOOK_AGAIN, Hears
from workbench.execution.schedule import Task

if TYPE_CHECKING:
    from workbench.execution.claims import Claims
    from workbench.execution.cost import Estimate
    from workbench.execution.engines import Engine
    from workbench.execution.plan import Node
    from workbench.execution.workspace import Workspace


class Part:
    """A context manager: what leaves it gives everything back that this process holds."""

    def __init__(self, workspace: "Workspace", watcher: Watcher, command: str, todo: "Estimate", claims: "Claims") -> None:
        self.workspace, self.watcher, self.command, self.todo, self.claims = workspace, watcher, command, todo, claims
        self.store, self._stack = workspace.store, ExitStack()
        self.books: Books | None = None
        self._nodes = {
            Task(node.id, place, node.stage, shard.key).claim: node
            for node in workspace.plan.nodes
            for place, shard in enumerate(node.shards)
        }

    def __enter__(self) -> "Part":
        self.watcher.start(self.todo)
        self.store.warn = self.watcher.warning
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def lead(self) -> bool:
        """Lead, if nobody does. Whether this process leads now."""
        if self.books is not None:
            return True
        if not self._stack.enter_context(self.store.lead(self.claims)):
            return False
        books = self._stack.enter_context(Books(self.workspace, self._quiet(), self.command))
        self.store.open_for(self.workspace.study)
        books.open()
        self.store.warn = books.warn
        mend(self.workspace.plan, self.workspace.plan.nodes, self.store, ())
        books.write_manifest(now=True)
        books.begin(self.todo)
        self.books = books
        return True

    def _quiet(self) -> Watcher:
        """The watcher, which was told of the start already."""
        told = self.watcher
        return Watcher(node=told.node, picture=told.picture, warning=told.warning)

    def hears(self) -> Hears:
        """What `drive` calls."""
        return Hears(self._progress, self._shard, self._complete, self._idle)

    def _progress(self, node: "Node", done: float, note: str) -> None:
        if self.books is not None:
            self.books.progress(node, done, note)
        else:
            self.watcher.node(node, done, self.todo.passes, note)

    def _shard(self, node: "Node", task: Task, done: float, said: str, took: float) -> None:
        if self.books is not None:
            self.books.shard(node, task, done, said, took)
        else:
            self.claims.note(task.claim, took)

    def _complete(self, node: "Node") -> None:
        if self.books is not None:
            self._read_notes()
            self.books.complete(node)

    def _idle(self) -> None:
        if self.lead():
            self._read_notes()

    def _read_notes(self) -> None:
        assert self.books is not None, "only the leader reads what others have told"
        for name, seconds in self.claims.notes():
            if node := self._nodes.get(name):
                self.books.elsewhere(node, seconds)

    def finish(self, engine: "Engine") -> None:
        """Everything but the report is there: write it, or wait until the leader has."""
        report = self.workspace.plan.node("report").shards[0].key
        while not self.lead():
            if self.store.has("report", report):
                return
            time.sleep(LOOK_AGAIN)
        self._read_notes()
        assert self.books is not None, "this process leads"
        self.books.finish(engine)
