"""The rest of a plan and its cost: UNet evaluations, seconds, disk, memory.

estimate           of a plan in its run folder
seconds_per_pass   measured time of one UNet evaluation
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from workbench.errors import StudyError
from workbench.execution import stages

if TYPE_CHECKING:
    from workbench.execution.plan import Plan
    from workbench.execution.run_folder import Store
    from workbench.execution.workspace import Workspace


MOST_MEASURED = 64  # rows of the UNet evaluation that is measured; more of them are not faster by the row


@dataclass
class Estimate:
    """The rest of a plan: nodes, UNet row passes, seconds, bytes to write, memory in MB, and warnings about the study."""

    nodes: int
    kept: int
    passes: float
    seconds: float
    bytes: int
    memory_mb: float
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    warnings: list = field(default_factory=list)


def seconds_per_pass(workspace: "Workspace", repeats: int = 2) -> float:
    """Measured time of one UNet row pass at the study's batch size."""
    import torch

    model, batch = workspace.model, min(workspace.study.sampling.batch, len(workspace.prompt_set("target")), MOST_MEASURED)
    timestep = torch.tensor(500, device=model.device)
    best = float("inf")
    try:
        latents = torch.randn(batch, *model.latent_shape, device=model.device, dtype=model.dtype)
        states = workspace.empty.expand(batch, -1, -1)
        with torch.no_grad():
            for _ in range(repeats + 1):
                began = time.perf_counter()
                model.run_unet(latents, timestep, states)
                best = min(best, time.perf_counter() - began)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise StudyError(
            f"sampling.batch = {workspace.study.sampling.batch} does not fit into the memory of {model.device}. Take less."
        ) from error
    return best / batch


def estimate(plan: "Plan", workspace: "Workspace") -> Estimate:
    """The rest of a plan, by stage; `seconds` from a measured UNet pass plus a fixed share for everything else."""
    from workbench.execution import preflight

    pace = seconds_per_pass(workspace) * 1.15
    rows: dict[str, dict[str, Any]] = {}
    left, kept = 0, 0
    for node in plan.nodes:
        missing = sum(not _looks_whole(workspace.store, node.stage, shard.key) for shard in node.shards)
        share = missing / len(node.shards)
        row = rows.setdefault(node.stage, {"stage": node.stage, "nodes": 0, "kept": 0, "passes": 0.0, "seconds": 0.0, "bytes": 0})
        row["nodes"] += 1
        row["kept"] += missing == 0
        row["passes"] += node.passes * share
        row["seconds"] += node.passes * share * pace + (stages.stage(node.stage).seconds if missing else 0)
        row["bytes"] += int(node.bytes * share)
        left, kept = left + (missing > 0), kept + (missing == 0)
    weights = sum(p.numel() * p.element_size() for p in workspace.model.parameters().values())
    memory = psutil.Process().memory_info().rss / 2**20 + 4 * weights / 2**20 + 300
    total = {key: sum(row[key] for row in rows.values()) for key in ("passes", "seconds", "bytes")}
    return Estimate(
        left, kept, memory_mb=memory, rows=list(rows.values()), notes=plan.notes, warnings=preflight.warnings(workspace), **total
    )


def _looks_whole(store: "Store", stage: str, key: str) -> bool:
    """Whether a result has all its files in their sizes; the run itself checks the bytes."""
    return store.has(stage, key) and not store.fault(stage, key, sizes_only=True)
