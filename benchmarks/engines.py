"""Engines side by side: one process, and a worker per core.

  study      the default study with `--units` units (all 40 with --whole), engine processes over engine inline, each from an empty folder;
             with it, what the dry run had said for each, and the share of the time in which workers compute
  passes     UNet evaluations alone: one process with all cores, and as many at the same time as there are cores: what can be hoped for
  overhead   10,000 tiny nodes, of which each writes one small file: seconds per node beside computing it, in this process and with workers
  planner    1,000 workers on a clock that is only counted: time over the longer of the longest way through the plan and work / workers

`python benchmarks/engines.py --whole` takes some 30 minutes on two cores, without it some 6.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from on_device import DEVICE

from workbench.execution import cost, engines, execute
from workbench.execution.books import Books, Watcher
from workbench.execution.drive import drive
from workbench.execution.plan import Node, Plan, Shard
from workbench.execution.run_folder import Store
from workbench.execution.schedule import Schedule, simulate
from workbench.execution.workspace import Workspace
from workbench.study.study import load_study

STUDY, TINY, MANY = "emoji-ink-style", 10_000, 1_000
ROUNDS, SECONDS = 3, 4.0


def whole_study(units: int | None, device: str) -> None:
    """Compute the study with both engines and print what came out."""
    study = load_study(STUDY)
    study = study.with_values([f"prompts.limit={units}"]) if units else study
    places, took = engines.places(device), {}
    for engine in ("inline", "processes"):
        folder = Path(tempfile.mkdtemp(prefix="engines-")) / "run"
        try:
            said = []
            began = time.perf_counter()
            how = {"engine": engine, "device": places[0] if engine == "inline" else device, "watcher": Watcher(start=said.append)}
            run = execute.run(study, folder, **how)
            took[engine] = time.perf_counter() - began
            busy = sum(node["seconds"] or 0 for node in run.store.manifest()["nodes"])
            share = busy / (took[engine] * said[0].workers)
            sys.stdout.write(
                f"{engine:10} {took[engine]:7.1f} s with {said[0].workers} worker(s); the dry run said {said[0].seconds:.0f} s "
                f"({said[0].seconds / took[engine]:.2f} of it); workers computed in {share:.2f} of the time\n"
            )
            sys.stdout.flush()
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)
    sys.stdout.write(f"processes over inline: {took['processes'] / took['inline']:.2f}\n\n")


def tiny_plan(n: int) -> Plan:
    """Nodes of the stage `report`, which writes one small file, each reading up to two earlier ones."""
    rng, nodes = random.Random(0), []
    for number in range(n):
        names = [one.id for one in nodes[-50:]]
        inputs = tuple(rng.sample(names, min(len(names), rng.randrange(3))))
        nodes.append(Node(f"report{number}", "report", None, None, inputs, (Shard(0, 0, f"{number:024x}"),), {}, passes=1.0))
    return Plan(nodes, {}, [0], 1)


def overhead(engine: str, n: int) -> float:
    """Seconds per tiny node beside computing it."""
    study, plan = load_study(STUDY), tiny_plan(n)
    folder = Path(tempfile.mkdtemp(prefix="engines-")) / "run"
    try:
        store = Store(folder)
        workspace = Workspace(study, plan, store)
        made = engines.engine(engine)
        spent = [0.0]
        with store.lock(), Books(workspace, Watcher(), "a benchmark") as books:
            store.open_for(study)
            books.open()
            books.write_manifest(now=True)
            books.begin(cost.Estimate(n, 0, float(n), 1.0, 0, 0.0))
            hears = books.hears()
            heard = hears.shard

            def shard(node, task, done, said, took):
                spent[0] += took
                heard(node, task, done, said, took)

            hears.shard = shard
            schedule = Schedule(plan.nodes, store.has, None if engine == "inline" else dict.fromkeys((node.id for node in plan.nodes), 1.0))
            began = time.perf_counter()
            drive(workspace, schedule, made, hears)
            wall = time.perf_counter() - began
        return (wall - spent[0] / made.slots) / n
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


WAYS: dict[str, dict[str, Any]] = {
    "as the study has it": {},
    "half the batch": {"share": 0.5},
    "twice the batch": {"share": 2.0},
    "channels last": {"channels_last": True},
    "each on a core of its own": {"pinned": True},
}


def passes() -> None:
    """Print how many rows per second the UNet evaluates in one process with all cores, and with one core each at the same time."""
    n = engines.cores()
    with tempfile.TemporaryDirectory() as folder:
        _, workspace = execute.prepare(load_study(STUDY), Path(folder) / "run")
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                found[name].append((rows_per_second(workspace, 1, **way), rows_per_second(workspace, n, **way)))
    sys.stdout.write(
        f"UNet rows per second, {ROUNDS} rounds in turns: in one process; in {n} at once; time of these over that of the one\n"
    )
    for name, pairs in found.items():
        one, each = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
        ratios = [pair[0] / pair[1] for pair in pairs]
        sys.stdout.write(f"  {name}: {one:.0f}; {each:.0f}; {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})\n")


def rows_per_second(workspace: Workspace, beside: int, share: float = 1.0, channels_last: bool = False, pinned: bool = False) -> float:
    """UNet rows of so many threads of control at once, which share the cores; the model is the same, so its memory is too.

    share   of the study's batch;  pinned   each on cores of its own
    """
    model, threads = workspace.model, torch.get_num_threads()
    rows = max(1, round(share * workspace.study.sampling.batch))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.unet.to(memory_format=layout)
    latents = torch.randn(rows, *model.latent_shape).contiguous(memory_format=layout)
    states, timestep = workspace.empty.expand(rows, -1, -1), torch.tensor(500)
    begin = threading.Barrier(beside)

    def measured(number: int) -> float:
        own = os.sched_getaffinity(0)
        if pinned and beside > 1:
            os.sched_setaffinity(0, {sorted(own)[number]})  # of this thread
        torch.set_num_threads(max(1, engines.cores() // beside))  # of this thread
        with torch.no_grad():
            model.run_unet(latents, timestep, states)
            begin.wait()
            n, began = 0, time.perf_counter()
            while time.perf_counter() - began < SECONDS:
                model.run_unet(latents, timestep, states)
                n += rows
            took = time.perf_counter() - began
        os.sched_setaffinity(0, own)
        return n / took

    with ThreadPoolExecutor(beside) as pool:
        found = sum(pool.map(measured, range(beside)))
    torch.set_num_threads(threads)
    return found


def planner() -> None:
    """Print how far the plan of many workers is from the best that could be."""
    rng, nodes = random.Random(1), []
    for number in range(TINY):
        names = [one.id for one in nodes[-200:]]
        inputs = tuple(rng.sample(names, min(len(names), rng.randrange(3))))
        shards = tuple(Shard(place, place, f"{number:012x}{place:012x}") for place in range(rng.randrange(1, 60)))
        nodes.append(Node(f"n{number}", "report", None, None, inputs, shards, {}))
    weight = {node.id: rng.uniform(1, 300) for node in nodes}
    ends: dict[str, float] = {}
    for node in nodes:
        ends[node.id] = weight[node.id] + max((ends[name] for name in node.inputs), default=0.0)
    began = time.perf_counter()
    took, busy = simulate(nodes, weight, MANY)
    best = max(max(ends.values()), busy / MANY)
    n = sum(len(node.shards) for node in nodes)
    sys.stdout.write(
        f"planner: {n:,} shards on {MANY:,} workers take {took / best:.3f} of the best possible "
        f"(longest way {max(ends.values()):,.0f}, work / workers {busy / MANY:,.0f}); planned in {time.perf_counter() - began:.1f} s\n"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=8, help="units of the study")
    parser.add_argument("--whole", action="store_true", help="all units of the study")
    parser.add_argument("--device", default=DEVICE)
    parser.add_argument("--only", choices=("study", "passes", "overhead", "planner"))
    given = parser.parse_args()
    sys.stdout.write(f"{engines.cores()} cores, {torch.get_num_threads()} threads in this process\n")
    if given.only in (None, "passes"):
        passes()
    if given.only in (None, "planner"):
        planner()
    if given.only in (None, "overhead"):
        for engine in ("inline", "processes"):
            sys.stdout.write(f"overhead of {engine}: {overhead(engine, TINY) * 1000:.2f} ms per node\n")
            sys.stdout.flush()
    if given.only in (None, "study"):
        whole_study(None if given.whole else given.units, given.device)


if __name__ == "__main__":
    main()
