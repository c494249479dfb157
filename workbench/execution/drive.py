"""Gives the ready tasks of a plan to an engine until nothing is left, and says what happens.

drive     a schedule and an engine -> every result in the run folder
Hears     what is told meanwhile
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import RunError
from workbench.execution.claims import Claims
from workbench.execution.engines import Engine, Event, Failed, Finished, Lost, Progress, Warned
from workbench.execution.schedule import Schedule, Task

if TYPE_CHECKING:
    from workbench.execution.plan import Node
    from workbench.execution.workspace import Workspace

MOST_LOST = 2  # times that a task is computed again after its worker has died
LOOK_AGAIN = 2.0  # seconds between two looks at what other processes have done


@dataclass
class Hears:
    """The functions that `drive` calls.

    progress   with (node, passes done of all, note), while a task is computed
    shard      with (node, task, passes done of all, "1/5 3.2 s", seconds), after each task
    complete   with a node, when its last missing shard is there
    idle       with nothing, every LOOK_AGAIN seconds when others work on the folder too
    """

    progress: Callable[["Node", float, str], object] = lambda node, done, note: None
    shard: Callable[["Node", Task, float, str, float], object] = lambda node, task, done, said, seconds: None
    complete: Callable[["Node"], object] = lambda node: None
    idle: Callable[[], object] = lambda: None


class _Drive:
    def __init__(self, workspace: "Workspace", schedule: "Schedule[Node]", engine: Engine, hears: Hears, claims: Claims | None) -> None:
        self.workspace, self.schedule, self.engine, self.hears, self.claims = workspace, schedule, engine, hears, claims
        self.parts = {name: node.passes / len(node.shards) for name, node in schedule.nodes.items()}
        self.missing = {name: schedule.n_missing(name) for name in schedule.nodes}
        self.left_before = sum(n * self.parts[name] for name, n in self.missing.items())
        self.counted = dict.fromkeys(self.missing, 0)
        self.shares: dict[Task, float] = {}
        self.lost: dict[Task, int] = {}
        self.refused: dict[Task, float] = {}
        self.looked = time.monotonic()
        self.whole = 0.0

    def done(self) -> float:
        """Passes that are done, of those that were missing at the start."""
        return self.whole + sum(share * self.parts[task.node] for task, share in self.shares.items())

    def refresh(self) -> None:
        """Look at all results again."""
        self.schedule.refresh()
        self.whole = self.left_before - sum(self.schedule.n_missing(name) * part for name, part in self.parts.items())

    def run(self) -> None:
        self.engine.open(self.workspace, self.heard)
        try:
            while self.schedule.left:
                if self.hand_out() or not self.engine.slots:  # no slot: workers that have died are being replaced
                    self.engine.wait(LOOK_AGAIN)
                elif self.claims is None:
                    raise RunError("The plan cannot be finished: what is left waits for results that nothing makes.")
                else:
                    time.sleep(LOOK_AGAIN)
                self.look_again()
        finally:
            self.engine.close()
            for task in self.schedule.running:  # whoever computed it has ended
                self.workspace.store.remove_half_written(task.stage, task.key)

    def hand_out(self) -> bool:
        """Give ready tasks to free workers. Whether any task is being computed."""
        while len(self.schedule.running) < self.engine.slots:
            task = self.schedule.next(self.may)
            if task is None:
                break
            if self.claims is not None and self.workspace.store.has(task.stage, task.key):  # another process was faster
                self.claims.release(task.claim)
                self.complete(self.schedule.finished(task))
                continue
            self.shares[task] = 0.0
            self.hears.progress(self.schedule.nodes[task.node], self.done(), "")
            self.engine.submit(task)
        return bool(self.schedule.running)

    def may(self, task: Task) -> bool:
        """Whether no other process computes this task; it is claimed then."""
        if self.claims is None:
            return True
        if time.monotonic() - self.refused.get(task, float("-inf")) < LOOK_AGAIN or not self.claims.take(task.claim):
            self.refused.setdefault(task, time.monotonic())
            return False
        self.refused.pop(task, None)
        return True

    def look_again(self) -> None:
        if self.claims is None or time.monotonic() - self.looked < LOOK_AGAIN:
            return
        self.looked = time.monotonic()
        self.refused.clear()
        before = {name for name in self.schedule.nodes if self.schedule.n_missing(name)}
        self.refresh()
        self.complete([name for name in self.schedule.nodes if name in before and not self.schedule.n_missing(name)])
        self.hears.idle()

    def heard(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.workspace.store.warn(event.sentence)
        elif isinstance(event, Progress):
            self.shares[event.task] = event.step / event.of if event.of else 0.0
            self.hears.progress(self.schedule.nodes[event.task.node], self.done(), event.note)
        elif isinstance(event, Finished):
            self.finished(event)
        elif isinstance(event, Lost):
            self.shares.pop(event.task, None)
            self.workspace.store.remove_half_written(event.task.stage, event.task.key)
            self.lost[event.task] = self.lost.get(event.task, 0) + 1
            if self.lost[event.task] > MOST_LOST:
                raise RunError(
                    f"{event.task.node} was given up: {self.lost[event.task]} workers died while they computed it (the last one: "
                    f"{event.why}). What was finished is kept. Run the same command with fewer --workers to continue."
                )
            self.workspace.store.warn(f"A worker died while it computed {event.task.node} ({event.why}). It is computed again.")
            self.schedule.again(event.task)
        elif isinstance(event, Failed):
            self.hears.progress(self.schedule.nodes[event.task.node], self.done(), "")  # what is written down as stopped is this node
            raise event.error

    def finished(self, event: Finished) -> None:
        task = event.task
        self.shares.pop(task, None)
        complete = self.schedule.finished(task)
        if self.claims is not None:
            self.claims.release(task.claim)
        self.whole += self.parts[task.node]
        if event.dropped:
            self.refresh()
        self.counted[task.node] += 1
        said = f"{self.counted[task.node]}/{max(self.missing[task.node], self.counted[task.node])} {event.seconds:.1f} s"
        self.hears.shard(self.schedule.nodes[task.node], task, self.done(), said, event.seconds)
        self.complete([name for name in complete if self.counted.get(name) or self.missing[name]])

    def complete(self, names: list[str]) -> None:
        for name in names:
            self.hears.complete(self.schedule.nodes[name])


def drive(
    workspace: "Workspace", schedule: "Schedule[Node]", engine: Engine, hears: Hears | None = None, claims: Claims | None = None
) -> None:
    """Compute what is missing.

    claims   where other processes work on the folder too: a task is computed only when it could be claimed
    Raises   what a task raises; RunError when the worker of one task has died more than MOST_LOST times
    """
    _Drive(workspace, schedule, engine, hears or Hears(), claims).run()
