"""Engines: where the shards of a plan are computed. All give the same results; they differ in how many work at once.

inline      in this process, one after the other: the reference
processes   worker processes on this machine, one per core or per device
ray         actors of a Ray cluster (extra [cluster])

An engine has `slots`, the number of tasks it computes at once, and

open(workspace, tell)   start; `tell` is called with every event
submit(task)            compute a task; never more of them at once than slots
wait(seconds)           return after an event was told, or after that time
close()                 end; what is being computed is given up, as if the process had been killed

NAMES       of all engines
engine      the engine of a name
places      the devices that --device names
cores       how many cores this process may use
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workbench.errors import RunError, nearest

if TYPE_CHECKING:
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace

NAMES = ("inline", "processes", "ray")


@dataclass(frozen=True)
class Progress:
    """A task has done `step` of `of`."""

    task: "Task"
    step: float
    of: float
    note: str = ""


@dataclass(frozen=True)
class Finished:
    """A task's result is in the run folder.

    dropped   whether results made from an earlier result of it were set aside
    """

    task: "Task"
    seconds: float
    dropped: bool = False


@dataclass(frozen=True)
class Failed:
    """A task ended with an error that computing it again will not mend."""

    task: "Task"
    error: BaseException


@dataclass(frozen=True)
class Lost:
    """The worker of a task has died; another one takes its place."""

    task: "Task"
    why: str


@dataclass(frozen=True)
class Warned:
    """A sentence about damaged results and what was done with them."""

    sentence: str


Event = Progress | Finished | Failed | Lost | Warned
Tell = Callable[[Event], None]


class Engine(Protocol):
    """What every engine has; see the module."""

    name: str

    @property
    def slots(self) -> int:
        """How many tasks it computes at once, now."""

    def open(self, workspace: "Workspace", tell: Tell) -> None:
        """Start."""

    def submit(self, task: "Task") -> None:
        """Compute a task."""

    def wait(self, seconds: float) -> None:
        """Return after an event was told, or after that time."""

    def close(self) -> None:
        """End."""


def places(device: str) -> tuple[str, ...]:
    """The devices that a text names: one, several with commas, or auto, which means all GPUs there are, else cpu.

    Raises   RunError for an empty name, a device that is named twice, or cpu beside others
    """
    if device == "auto":
        import torch

        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or ("cpu",)
    found = tuple(one.strip() for one in device.split(","))
    if "" in found or len(set(found)) < len(found) or ("cpu" in found and len(found) > 1):
        raise RunError(f'--device "{device}" is no list of devices. Write one, as cpu or cuda:1, or several GPUs, as cuda:0,cuda:1.')
    return found


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def engine(name: str, workers: int | None = None, devices: tuple[str, ...] = ("cpu",)) -> Engine:
    """The engine of a name.

    workers   how many tasks at once; default: one per core, or per device
    Raises    RunError for an unknown name, or for workers and devices that do not go together
    """
    if workers is not None and workers < 1:
        raise RunError(f"--workers {workers} computes nothing. Give 1 or more.")
    if name == "inline":
        from workbench.execution.engines.inline import Inline

        if (workers or 1) > 1 or len(devices) > 1:
            raise RunError("The engine inline computes in one process on one device. For more, take --engine processes.")
        return Inline()
    if name == "processes":
        from workbench.execution.engines.processes import Processes

        return Processes(workers, devices)
    if name == "ray":
        from workbench.execution.engines.on_ray import OnRay

        return OnRay(workers, devices)
    raise RunError(f'There is no engine "{name}".{nearest(name, NAMES)} Possible: {", ".join(NAMES)}')
