"""The rest of a plan and its cost: UNet evaluations, seconds, disk, memory.

estimate           of a plan in its run folder
seconds_per_pass   measured time of one UNet evaluation
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from workbench.execution import engines, stages
from workbench.execution.schedule import simulate
from workbench.execution.stages.generate import branches
from workbench.study.study import BASE

if TYPE_CHECKING:
    from workbench.execution.plan import Plan
    from workbench.execution.run_folder import Store
    from workbench.execution.workspace import Workspace


MOST_MEASURED = 64  # rows of the UNet evaluation that is measured; more of them are not faster by the row
START_SECONDS = 10.0  # until a worker has imported everything and loaded its model
WORTH_WORKERS = 60.0  # seconds of work below which `auto` starts no workers
BESIDE_UNET = 1.15  # what everything else costs, as a factor


@dataclass
class Estimate:
    """The rest of a plan: nodes, UNet row passes, seconds, bytes to write, memory in MB, and warnings about the study.

    seconds    until the end, with this engine and so many workers; rows have those of one process, by stage
    memory_mb  of all processes;  worker_mb  of one worker
    """

    nodes: int
    kept: int
    passes: float
    seconds: float
    bytes: int
    memory_mb: float
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    engine: str = "inline"
    workers: int = 1
    worker_mb: float = 0.0


def seconds_per_pass(workspace: "Workspace", repeats: int = 2, beside: int = 1) -> float:
    """Measured time of one UNet row pass at the study's batch size.

    beside   so many evaluations at the same time, on a CPU each with its share of the cores: what workers do to one another
    """
    import torch

    model, study = workspace.model, workspace.study
    images = min(study.sampling.batch, len(workspace.prompt_set("target")))
    batch = min(images * branches(study, BASE), MOST_MEASURED)  # as many rows as an evaluation has while images are sampled
    timestep, threads = torch.tensor(500, device=model.device), torch.get_num_threads()
    own = max(1, engines.cores() // beside) if beside > 1 else threads

    def measured(start: int, stop: int) -> list[float]:
        latents = torch.randn(stop - start, *model.latent_shape, device=model.device, dtype=model.dtype)
        states, found = workspace.empty.expand(stop - start, -1, -1), []
        torch.set_num_threads(own)  # of this thread
        with torch.no_grad():
            for _ in range(repeats + 1):
                began = time.perf_counter()
                model.run_unet(latents, timestep, states)
                if model.device.type == "cuda":
                    torch.cuda.synchronize(model.device)
                found.append((time.perf_counter() - began) / (stop - start))
        return found

    if beside == 1:
        return min(workspace.in_pieces(batch, measured)[0])
    with ThreadPoolExecutor(beside) as pool:
        at_once = [one for found in pool.map(lambda _: measured(0, batch), range(beside)) for one in found]
    torch.set_num_threads(threads)
    return statistics.median(at_once)  # they slow one another, so not the fastest


def estimate(
    plan: "Plan", workspace: "Workspace", engine: str = "inline", workers: int | None = None, devices: tuple[str, ...] = ("cpu",)
) -> Estimate:
    """The rest of a plan, by stage; `seconds` from a measured UNet pass plus a fixed share for everything else.

    engine   of `engines.NAMES`, or auto: processes where there is enough to do, more than one core or GPU, and memory for the workers
    """
    from workbench.execution import preflight

    pace = seconds_per_pass(workspace) * BESIDE_UNET
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
    worker_mb = psutil.Process().memory_info().rss / 2**20 + 4 * weights / 2**20 + 300
    total = {key: sum(row[key] for row in rows.values()) for key in ("passes", "seconds", "bytes")}
    engine, workers = _chosen(engine, workers, devices, total["seconds"], worker_mb, left)
    memory = worker_mb
    if workers > 1:
        memory = worker_mb * workers + psutil.Process().memory_info().rss / 2**20
        if devices == ("cpu",) and left:
            pace = seconds_per_pass(workspace, beside=workers) * BESIDE_UNET
        cost = {node.id: node.passes * pace / len(node.shards) + stages.stage(node.stage).seconds for node in plan.nodes}
        total["seconds"] = simulate(plan.nodes, cost, workers, workspace.store.has)[0] + START_SECONDS if left else 0.0
    return Estimate(
        left,
        kept,
        memory_mb=memory,
        rows=list(rows.values()),
        notes=plan.notes,
        warnings=preflight.warnings(workspace),
        engine=engine,
        workers=workers,
        worker_mb=worker_mb,
        **total,
    )


def _chosen(engine: str, workers: int | None, devices: tuple[str, ...], seconds: float, worker_mb: float, left: int) -> tuple[str, int]:
    """(engine, number of workers), `auto` decided."""
    if engine == "auto":
        fit = int(psutil.virtual_memory().available / 2**20 / worker_mb)
        n = len(devices) if devices != ("cpu",) else min(engines.cores(), fit)
        engine = "processes" if (workers or n) > 1 and (seconds > WORTH_WORKERS or workers) and left else "inline"
        workers = (workers or n) if engine == "processes" else None
    return engine, engines.engine(engine, workers, devices).slots


def _looks_whole(store: "Store", stage: str, key: str) -> bool:
    """Whether a result has all its files in their sizes; the run itself checks the bytes."""
    return store.has(stage, key) and not store.fault(stage, key, sizes_only=True)
