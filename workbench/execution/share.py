"""Which share of a run this process computes, where a scheduler has started several: `--shard 3/8` or `--shard auto`.

A share says what a process computes first, not what it may compute: when its own is done, it helps with the rest, so a share that was
never started, or that died, delays a run and does not stop it.

Share      number `number` of `of`, and which of the machine's GPUs is meant for it
share      the share that a text names; auto reads what the scheduler has put into the environment
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import RunError

if TYPE_CHECKING:
    from workbench.execution.schedule import Task

# (rank, how many, rank on this machine) of what starts processes: torchrun and accelerate, Open MPI, MPICH and Intel MPI, srun
RANKS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
KNOWN = "torchrun, accelerate launch, mpirun, srun, sbatch --array, a Kubernetes indexed job"


@dataclass(frozen=True)
class Share:
    """number   1 to of;  local   which process of this machine it is, from 0; None where that is not known"""

    number: int
    of: int
    local: int | None = None

    def has(self, task: "Task") -> bool:
        """Whether a task belongs to it."""
        return int(task.key, 16) % self.of == self.number - 1

    def device(self, devices: tuple[str, ...]) -> tuple[str, ...]:
        """Its own one of the GPUs that all processes of this machine share."""
        return devices if self.local is None or len(devices) == 1 else (devices[self.local % len(devices)],)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def share(text: str, environment: Mapping[str, str] = os.environ) -> Share:
    """The share that `text` names: "3/8", or "auto".

    A process of a job array that starts several itself (sbatch --array with srun) is one of all of them.

    Raises   RunError for another text, and for auto outside of a scheduler
    """
    if text != "auto":
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise RunError(f'--shard "{text}" is no share. Write which of how many, from 1/8 to 8/8 for eight processes, or auto.')
        return Share(number, of)
    rank, of, local = 0, 0, None
    for names in RANKS:
        if names[0] in environment and names[1] in environment:
            rank, of = _number(environment, names[0]), _number(environment, names[1])
            local = _number(environment, names[2]) if names[2] in environment else None
            break
    if "SLURM_ARRAY_TASK_ID" in environment:
        first, step = _number(environment, "SLURM_ARRAY_TASK_MIN", 0), _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
        place = (_number(environment, "SLURM_ARRAY_TASK_ID") - first) // max(step, 1)
        rank, of = place * max(of, 1) + rank, max(_number(environment, "SLURM_ARRAY_TASK_COUNT", place + 1), place + 1) * max(of, 1)
    elif "JOB_COMPLETION_INDEX" in environment:
        rank = _number(environment, "JOB_COMPLETION_INDEX")
        of = max(_number(environment, "JOB_COMPLETIONS", rank + 1), rank + 1)  # a job does not tell its size unless its manifest does
    if not of:
        raise RunError(f"--shard auto found no scheduler ({KNOWN}). Say which of how many: --shard 1/8")
    if rank >= of:
        raise RunError(f"--shard auto: the environment says process {rank} (from 0) of {of}. Say it yourself: --shard 1/8")
    return Share(rank + 1, of, local)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    try:
        return int(environment[name])
    except KeyError:
        if default is not None:
            return default
        raise RunError(f"--shard auto: {name} is not set. Say it yourself: --shard 1/8") from None
    except ValueError:
        raise RunError(f'--shard auto: {name} is "{environment[name]}", which is no number. Say it yourself: --shard 1/8') from None
