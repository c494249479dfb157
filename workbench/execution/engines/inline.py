"""The engine `inline`: this process computes one task after the other. The reference for all others."""

from typing import TYPE_CHECKING

from workbench.execution.compute import compute
from workbench.execution.engines import Finished, Progress, Tell

if TYPE_CHECKING:
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace


class Inline:
    """Computes in `wait`. Errors and signals end it as they come."""

    name = "inline"
    slots = 1

    def __init__(self) -> None:
        self._task: Task | None = None

    def open(self, workspace: "Workspace", tell: Tell) -> None:
        """Nothing to start."""
        self._workspace, self._tell = workspace, tell

    def submit(self, task: "Task") -> None:
        """Keep it for `wait`."""
        self._task = task

    def wait(self, seconds: float) -> None:
        """Compute the task."""
        task, self._task = self._task, None
        if task is None:
            return
        self._workspace.progress = lambda step, of, note="": self._tell(Progress(task, step, of, note))
        self._tell(Finished(task, *compute(self._workspace, task)))

    def close(self) -> None:
        """Nothing to end."""
