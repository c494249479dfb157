"""Run a study: plan, estimate, execute node by node, resume, report.

prepare   study -> (plan, room) in a run folder, nothing computed yet
estimate  what is left to do: seconds, disk, memory
run       do it; running again resumes
run_nodes some nodes of it only, without a report
open_run  a finished or running folder as a `Run`
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas
import psutil

from workbench.errors import RunError, StudyError, WorkbenchError
from workbench.memory import keep_freed_memory
from workbench.run.store import Store
from workbench.storage import digest, file_digest, read_json, write_json
from workbench.study.study import Study, load_study

DEFAULT_FOLDER = "runs"
MOST_MEASURED = 64  # rows of the UNet pass that is measured; more of them are not faster by the row
OTHER_SECONDS = {"measure": 8, "report": 8, "cluster": 20, "named_sets": 3}  # outside the UNet


@dataclass
class Estimate:
    """What is left of a plan: nodes, UNet row passes, seconds, bytes to write, the memory it will need, and what weakens the study."""

    nodes: int
    kept: int
    passes: float
    seconds: float
    bytes: int
    memory_mb: float
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    warnings: list = field(default_factory=list)


class Run:
    """A run folder. Tables of the report as data frames: `neurons`, `images`, `activity`, and `table(name)` for the others."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.store = Store(folder)
        self.store.manifest()

    @property
    def document(self):
        """report.json as a dict; RunError when there is none yet."""
        path = self.store.report_folder / "report.json"
        if not path.exists():
            raise RunError(f"{self.folder} has no report yet. Run its study again to finish it.")
        return read_json(path)

    def table(self, name):
        """A table of report.json as a data frame."""
        return pandas.DataFrame(self.document[name])

    @property
    def neurons(self):
        """One row per neuron: layer, index, scores, sets, D, R, delta."""
        path = self.store.report_folder / "neurons.parquet"
        if not path.exists():
            raise RunError(f"{self.folder} has no neuron table yet. Run its study again to finish it.")
        return pandas.read_parquet(path)

    @property
    def images(self):
        """One row per picture of the report."""
        return self.table("images")

    @property
    def activity(self):
        """Concept activity of every condition."""
        return self.table("activity")

    def report(self, format="html"):
        """Path of the report in a format (html, md, json, csv), rendered anew from report.json."""
        from workbench.report import render

        folder = self.store.report_folder
        if format == "json":
            return folder / "report.json"
        if format not in ("html", "md", "csv"):
            raise RunError(f'No report format "{format}". Possible: html, md, json, csv.')
        render.render(folder, (format,))
        return {"html": folder / "report.html", "md": folder / "report.md", "csv": folder / "tables"}[format]


def source_digest(name, beside="."):
    """Digest of a base model's files, without loading it; of the name alone for a hub id.

    beside   folder where it is looked for first: that of the study
    """
    from workbench.models.load import place

    where = place(name, beside)
    if where is None:
        return digest(["hub", name])
    if where.is_file():
        beside = where.with_suffix("")
        return digest([file_digest(where), source_digest(str(beside))]) if beside.is_dir() else file_digest(where)
    files = sorted(p for p in where.rglob("*") if p.suffix in (".safetensors", ".json", ".bin", ".txt") and p.is_file())
    return digest([[str(p.relative_to(where)), file_digest(p)] for p in files])


def folder_of(study, out=None):
    """The run folder of a study."""
    return Path(out) if out else Path(DEFAULT_FOLDER) / study.name


def prepare(study, out=None, device="cpu", model=None, command=None):
    """(plan, room) of a study in its run folder; the folder is not touched yet.

    Raises   WorkbenchError: everything that can be told before work begins, see `opening`
    """
    from workbench.diffusion.denoise import n_calls
    from workbench.neurons.sites import layers
    from workbench.run import naming, opening
    from workbench.run import plan as planning
    from workbench.run.stages import DTYPES, Room

    study = load_study(study)
    folder = folder_of(study, out)
    opening.check_folder(folder)
    planning.read_sets(study)
    if model is None:
        from workbench.models.load import load

        model = load(study.model.base, device, DTYPES[study.model.dtype], study.folder)
        source = source_digest(study.model.base, study.folder)
    else:
        source = model.digest()
    opening.check_steps(study, model)
    recorded = layers(model.unet, study.record.sites, model.text_encoder)
    naming.check(study, model, source, recorded)
    n_neurons = sum(layer.n_neurons for layer in recorded)
    channels, height, width = model.latent_shape
    size = {"image_bytes": 3 * height * width * model.vae_scale**2, "latent_bytes": 4 * channels * height * width}
    plan = planning.build(study, source, n_calls(model, study.sampling.steps), n_neurons, **size)
    room = Room(study, plan, Store(folder), device, model)
    opening.check(room)
    return plan, room


def seconds_per_pass(room, repeats=2):
    """Measured time of one UNet row pass at the study's batch size."""
    import torch

    model, batch = room.model, min(room.study.sampling.batch, len(room.prompt_set("target")), MOST_MEASURED)
    timestep = torch.tensor(500, device=model.device)
    best = float("inf")
    try:
        latents = torch.randn(batch, *model.latent_shape, device=model.device, dtype=model.dtype)
        states = room.empty.expand(batch, -1, -1)
        with torch.no_grad():
            for _ in range(repeats + 1):
                began = time.perf_counter()
                model.run_unet(latents, timestep, states)
                best = min(best, time.perf_counter() - began)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise StudyError(
            f"sampling.batch = {room.study.sampling.batch} does not fit into the memory of {model.device}. Take less."
        ) from error
    return best / batch


def estimate(plan, room):
    """What is left to do, by stage; `seconds` from a measured UNet pass plus a fixed share for everything else."""
    from workbench.run import opening

    pace = seconds_per_pass(room) * 1.15
    rows, left, kept = {}, 0, 0
    for node in plan.nodes:
        missing = sum(not room.store.has(node.stage, shard.key) for shard in node.shards)
        share = missing / len(node.shards)
        row = rows.setdefault(node.stage, {"stage": node.stage, "nodes": 0, "kept": 0, "passes": 0.0, "seconds": 0.0, "bytes": 0})
        row["nodes"] += 1
        row["kept"] += missing == 0
        row["passes"] += node.passes * share
        row["seconds"] += node.passes * share * pace + (OTHER_SECONDS.get(node.stage, 0) if missing else 0)
        row["bytes"] += int(node.bytes * share)
        left, kept = left + (missing > 0), kept + (missing == 0)
    weights = sum(p.numel() * p.element_size() for p in room.model.parameters().values())
    memory = psutil.Process().memory_info().rss / 2**20 + 4 * weights / 2**20 + 300
    total = {key: sum(row[key] for row in rows.values()) for key in ("passes", "seconds", "bytes")}
    return Estimate(left, kept, memory_mb=memory, rows=list(rows.values()), notes=plan.notes, warnings=opening.warnings(room), **total)


@dataclass
class Watcher:
    """What `run` tells about itself; every function may be replaced."""

    start: Callable = lambda estimate: None
    node: Callable = lambda node, done_passes, of_passes, note="": None
    picture: Callable = lambda path: None
    finish: Callable = lambda path: None


def run(study, out=None, *, device="cpu", model=None, watcher=None, command=None, others=()):
    """Execute a study, or what is left of it; returns the Run.

    others   run folders whose results of the same key are copied instead of computed anew
    Raises   WorkbenchError for everything a user can mend; what was finished stays, and running again resumes
    """
    watcher, study = watcher or Watcher(), load_study(study)
    for folder in others:
        Store(folder).manifest()  # refuses what is no run folder
    if device == "cpu":
        keep_freed_memory()
    plan, room = prepare(study, out, device, model)
    store = room.store
    with store.lock():
        store.open_for(study)
        _take(plan.nodes, store, others)
        try:
            return _execute(plan, room, watcher, command or f"workbench run {shlex.quote(study.name)}")
        except OSError as error:
            raise RunError(
                f"The run folder {store.folder} cannot be written: {error}. What was finished is kept; make room and run the same "
                "command again."
            ) from error


def _execute(plan, room, watcher, command):
    from workbench.run.reporting import write_report

    store, began = room.store, time.time()
    seconds = _earlier_seconds(store)
    history = {"seconds": seconds, "started": datetime.now(UTC).isoformat(timespec="seconds"), "finished": None, "wall_seconds": None}
    store.write_manifest(plan, seconds)
    write_json(store.folder / "where.json", {"study_folder": str(room.study.folder.absolute())})
    todo = estimate(plan, room)
    watcher.start(todo)
    log = (store.folder / "run.log").open("a")
    log.write(f"{history['started']} {command}: {todo.nodes} nodes to do, {todo.kept} kept\n")
    log.flush()
    store.write_status(state="running", node=None, done=0, of=todo.passes, left_seconds=todo.seconds)
    done = 0.0
    first_picture = True
    current = None
    try:
        for node in plan.nodes:
            current = node.id
            if node.stage == "report":
                continue
            missing = False
            for reached, note in _compute(node, room, seconds, watcher, done, todo.passes):
                missing, done = True, reached
                log.write(f"{node.id} {note}\n")
                log.flush()
                store.write_status(state="running", node=node.id, done=done, of=todo.passes, left_seconds=_left(began, done, todo))
            if missing:
                store.write_manifest(plan, seconds)
            if node.stage == "detect" and first_picture:
                first_picture = False
                if missing:
                    history["wall_seconds"] = time.time() - began
                    write_report(room, history, command, formats=("html",))
                    watcher.picture(store.report_folder / "report.html")
        current = "report"
        history |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "wall_seconds": sum(s or 0 for s in seconds.values())}
        write_report(room, history, command)
        node = plan.node("report")
        if not store.has("report", node.shards[0].key):
            with store.writing("report", node.shards[0].key) as folder:
                room.run(node, node.shards[0], folder)
        store.write_manifest(plan, seconds)
        store.write_status(state="done", node=None, done=todo.passes, of=todo.passes, left_seconds=0)
    except BaseException as error:
        log.write(f"stopped in {current}: {error!r}\n")
        try:
            expected = isinstance(error, WorkbenchError | KeyboardInterrupt)
            store.write_manifest(plan, seconds, failed=None if expected and isinstance(error, KeyboardInterrupt) else current)
            store.write_status(state="stopped", node=current, done=done, of=todo.passes, left_seconds=None, error=str(error))
        except OSError:
            pass  # the folder itself cannot be written; the first error says so
        raise
    finally:
        log.close()
    watcher.finish(store.report_folder / "report.html")
    return Run(store.folder)


def _compute(node, room, seconds, watcher, done, of):
    """Compute the missing shards of a node one by one; after each, yields (passes done so far, "1/5 3.2 s").

    seconds   {node id: seconds}, kept up to date; the time of shards that were there before stays in it
    """
    store, part = room.store, node.passes / len(node.shards)
    missing = [shard for shard in node.shards if not store.has(node.stage, shard.key)]
    before = (seconds.get(node.id) or 0.0) if len(missing) < len(node.shards) else 0.0
    for number, shard in enumerate(missing, start=1):
        room.progress = lambda step, of_steps, note="", done=done: watcher.node(node, done + part * step / of_steps, of, note)
        watcher.node(node, done, of)
        start = time.time()
        with store.writing(node.stage, shard.key) as folder:
            room.run(node, shard, folder)
        took = time.time() - start
        before, done = before + took, done + part
        seconds[node.id] = before
        yield done, f"{number}/{len(missing)} {took:.1f} s"


def run_nodes(room, nodes, *, watcher=None, others=()):
    """Compute what is missing of some nodes of a plan, in their order, and write no report.

    room     from `prepare`, which also gives the plan that `nodes` are picked from. Keys are those of `run`: what either has
             computed in this folder the other finds
    others   run folders whose results of the same key are copied instead of computed anew
    Raises   RunError when a node needs the result of one that is neither picked nor there
    """
    watcher, store, plan = watcher or Watcher(), room.store, room.plan
    if room.device == "cpu":
        keep_freed_memory()
    with store.lock():
        store.open_for(room.study)
        _take(nodes, store, others)
        _check_inputs(plan, store, nodes)
        seconds, done = _earlier_seconds(store), 0.0
        store.write_manifest(plan, seconds)  # first: a folder with results and no manifest is refused as not ours
        of = sum(node.passes for node in nodes if not all(store.has(node.stage, shard.key) for shard in node.shards))
        try:
            for node in nodes:
                for reached, _ in _compute(node, room, seconds, watcher, done, of):
                    done = reached
                    store.write_manifest(plan, seconds)
        finally:
            store.write_manifest(plan, seconds)


def _take(nodes, store, others):
    """Copy what other runs have of some nodes."""
    for node in nodes:
        for shard in node.shards:
            any(store.take(node.stage, shard.key, Store(folder)) for folder in others)


def _check_inputs(plan, store, nodes):
    picked = {node.id for node in nodes}
    for node in nodes:
        for name in node.inputs:
            other = plan.node(name)
            if name not in picked and not all(store.has(other.stage, shard.key) for shard in other.shards):
                raise RunError(f"{node.id} needs the result of {name}, which is neither picked nor in {store.folder}. Pick it too.")


def _left(began, done, todo):
    """Seconds left, from the pace so far."""
    return (time.time() - began) / done * (todo.passes - done) if done else todo.seconds


def _earlier_seconds(store):
    """{node id: seconds} of an earlier run in this folder."""
    path = store.folder / "manifest.json"
    return {n["id"]: n["seconds"] for n in read_json(path)["nodes"]} if path.exists() else {}


def open_run(name):
    """A run by folder, or by its name under runs/.

    Raises   RunError that lists the runs there are
    """
    for folder in (Path(name), Path(DEFAULT_FOLDER) / str(name)):
        if (folder / "manifest.json").exists():
            return Run(folder)
    from workbench.errors import nearest

    raise RunError(f'No run "{name}".{nearest(name, list_runs())}')


def list_runs(folder=DEFAULT_FOLDER):
    """Names of the run folders under a folder."""
    return sorted(p.parent.name for p in Path(folder).glob("*/manifest.json")) if Path(folder).is_dir() else []


__all__ = ["Estimate", "Run", "Study", "Watcher", "estimate", "list_runs", "open_run", "prepare", "run", "run_nodes"]
