"""Run a study: plan, estimate, execute node by node, resume, report.

prepare   study -> (plan, workspace) in a run folder, nothing computed yet
run       do it; running again resumes
run_nodes some nodes of it only, without a report
open_run  a finished or running folder as a `Run`;  find_run  the folder alone;  list_runs  names of the run folders there are
"""

import shlex
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from workbench.errors import RunError
from workbench.execution import digests
from workbench.execution.cost import estimate
from workbench.execution.run_folder import SET_ASIDE, Store
from workbench.execution.signals import heeding
from workbench.memory import keep_freed_memory
from workbench.report import document
from workbench.storage import DamagedFile, digest, file_digest, read_table
from workbench.study.study import Study, load_study

DEFAULT_FOLDER = "runs"


class Run:
    """A run folder. Tables of the report as data frames: `neurons`, `images`, `activity`, and `table(name)` for the others."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.store = Store(folder)
        self.store.refuse_other_layout()
        if not self.store.is_run():
            self.store.manifest()

    @property
    def document(self):
        """report.json as a dict, read as `report.document.load` does: checked, and an older one brought up to date.

        Raises   RunError when there is none yet, or it is damaged or of another version
        """
        if not (self.store.report_folder / "report.json").exists():
            raise RunError(f"{self.folder} has no report yet. Go on with the run to finish it: {self.store.command()}")
        return document.load(self.store.report_folder)

    def table(self, name):
        """A table of report.json as a data frame."""
        import pandas

        return pandas.DataFrame(self.document[name])

    @property
    def neurons(self):
        """One row per neuron: layer, index, scores, sets, D, R, delta."""
        path = self.store.report_folder / "neurons.parquet"
        if not path.exists():
            raise RunError(f"{self.folder} has no neuron table yet. Go on with the run to finish it: {self.store.command()}")
        try:
            return read_table(path)
        except DamagedFile as error:
            raise RunError(f"{path} is damaged ({error.why}). Running the study again writes it anew: {self.store.command()}") from None

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
        from workbench.report.renderers import render

        folder = self.store.report_folder
        if format == "json":
            document.load(folder)
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
    """(plan, workspace) of a study in its run folder; the folder is not touched yet.

    Raises   WorkbenchError: everything that can be told before work begins, see `opening`
    """
    from workbench.diffusion.denoise import n_calls
    from workbench.execution import named_set_files, preflight
    from workbench.execution import plan as planning
    from workbench.execution.workspace import Workspace
    from workbench.neurons.sites import layers

    study = load_study(study)
    folder = folder_of(study, out)
    preflight.check_folder(folder)
    store = Store(folder)
    store.look()
    planning.read_sets(study)
    if model is None:
        from workbench.models.load import DTYPES, load

        model = load(study.model.base, device, DTYPES[study.model.dtype], study.folder)
        source = source_digest(study.model.base, study.folder)
    else:
        source = model.digest()
    preflight.check_steps(study, model)
    recorded = layers(model.unet, study.record.sites, model.text_encoder)
    named_set_files.check(study, model, source, recorded)
    n_neurons = sum(layer.n_neurons for layer in recorded)
    channels, height, width = model.latent_shape
    size = {"image_bytes": 3 * height * width * model.vae_scale**2, "latent_bytes": 4 * channels * height * width}
    plan = planning.build(study, source, n_calls(model, study.sampling.steps), n_neurons, **size)
    workspace = Workspace(study, plan, store, device, model)
    preflight.check(workspace)
    return plan, workspace


@dataclass
class Watcher:
    """What `run` tells about itself; every function may be replaced.

    warning   called with a sentence about what was found damaged, and what became of it
    """

    start: Callable = lambda estimate: None
    node: Callable = lambda node, done_passes, of_passes, note="": None
    picture: Callable = lambda path: None
    finish: Callable = lambda path: None
    warning: Callable = lambda sentence: warnings.warn(sentence, stacklevel=2)


def run(study, out=None, *, device="cpu", model=None, watcher=None, command=None, others=()):
    """Execute a study, or what is left of it; returns the Run.

    others   run folders whose results of the same key are copied instead of computed anew
    Raises   WorkbenchError for everything a user can mend; what was finished stays, and running again resumes. KeyboardInterrupt after
             Ctrl-C and, as `Terminated`, after SIGTERM: the run is stopped then as well, and resumes
    """
    watcher, study = watcher or Watcher(), load_study(study)
    _check_others(others)
    if device == "cpu":
        keep_freed_memory()
    with heeding():
        plan, workspace = prepare(study, out, device, model)
        store = workspace.store
        with store.lock():
            store.open_for(study)
            try:
                return _execute(plan, workspace, watcher, command or f"workbench run {shlex.quote(study.name)}", others)
            except OSError as error:
                raise RunError(
                    f"The run folder {store.folder} cannot be written: {error}. What was finished is kept; make room and run the same "
                    "command again."
                ) from error


def _check_others(others):
    """RunError for a folder to take results from that has none, or is of another layout; nothing in it is touched."""
    for folder in others:
        other = Store(folder)
        other.refuse_other_layout()
        if not other.has_results():
            raise RunError(f"{folder} is no run folder: it has no results to take (no nodes/STAGE/KEY). List runs: workbench list runs")


def _execute(plan, workspace, watcher, command, others=()):
    from workbench.execution.stages.report import write_report

    store, began = workspace.store, time.time()
    seconds = store.earlier_seconds()
    history = {"seconds": seconds, "started": datetime.now(UTC).isoformat(timespec="seconds"), "finished": None, "wall_seconds": None}
    store.write_study_folder(workspace.study.folder)
    log = (store.folder / "run.log").open("a", encoding="utf-8")

    def warn(sentence):
        log.write(f"warning: {sentence}\n")
        log.flush()
        watcher.warning(sentence)

    done, todo = 0.0, None
    first_picture = True
    current = None

    def say(state, **more):
        passes = todo.passes if todo else 0.0
        store.write_status(state=state, command=command, done=done, of=passes, **{"node": None, "left_seconds": None} | more)

    try:
        say("running")
        store.warn = warn
        _mend(plan, plan.nodes, store, others)
        store.write_manifest(plan, seconds)
        todo = estimate(plan, workspace)
        watcher.start(todo)
        log.write(f"{history['started']} {command}: {todo.nodes} nodes to do, {todo.kept} kept\n")
        log.flush()
        say("running", left_seconds=todo.seconds)
        for node in plan.nodes:
            current = node.id
            if node.stage == "report":
                continue
            missing = False
            for reached, note in _compute(node, workspace, seconds, watcher, done, todo.passes):
                missing, done = True, reached
                log.write(f"{node.id} {note}\n")
                log.flush()
                say("running", node=node.id, left_seconds=_left(began, done, todo))
            if missing:
                store.write_manifest(plan, seconds)
            if node.stage == "detect" and first_picture:
                first_picture = False
                if missing:
                    history["wall_seconds"] = time.time() - began
                    with store.naming_unreadable():
                        write_report(workspace, history, command, formats=("html",))
                    watcher.picture(store.report_folder / "report.html")
        current = "report"
        history |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "wall_seconds": sum(s or 0 for s in seconds.values())}
        with store.naming_unreadable():
            write_report(workspace, history, command)
        node = plan.node("report")
        if not store.has("report", node.shards[0].key):
            with store.writing("report", node.shards[0].key) as folder:
                workspace.run(node, node.shards[0], folder)
        store.write_manifest(plan, seconds)
        done = todo.passes
        say("done", left_seconds=0)
    except BaseException as error:
        try:
            log.write(f"stopped in {current}: {error!r}\n")
            store.write_manifest(plan, seconds, failed=None if isinstance(error, KeyboardInterrupt) else current)
            say("stopped", node=current, error=str(error))
        except OSError:
            pass  # the folder itself cannot be written; the first error says so
        raise
    finally:
        log.close()
    watcher.finish(store.report_folder / "report.html")
    return Run(store.folder)


def _mend(plan, nodes, store, others):
    """Set damaged results of these nodes aside, and copy what other runs have of them; a damaged result is not taken."""
    for damage in store.mend(nodes):
        store.warn(str(damage))
    for node in nodes:
        for shard in node.shards:
            for other in map(Store, others):
                if store.has(node.stage, shard.key) or not other.has(node.stage, shard.key):
                    continue
                if not store.take(node.stage, shard.key, other, partial(drop_derived, plan, node, shard, store)):
                    store.warn(f"The result {node.stage}/{shard.key} of {other.folder} is damaged and was not taken from there.")


def drop_derived(plan, node, shard, store, seal):
    """Set aside what was made from a result that was damaged, when it comes back with other bytes. See `Store`.

    seal   of the new result, which is not in its place yet: whoever is killed in between does this again
    """
    old = store.seal_of_set_aside(node.stage, shard.key)
    if old is None or digests.same(old, seal):
        return
    derived, aside = {node.id}, 0
    for other in plan.nodes:
        if derived & set(other.inputs):
            derived.add(other.id)
            for one in other.shards:
                if store.has(other.stage, one.key):
                    store.set_aside(other.stage, one.key)
                    aside += 1
    if aside:
        store.warn(
            f"The damaged result {node.stage}/{shard.key} was made again and is not the same as it was, so {aside} results that were "
            f"made from it were set aside too (in {store.folder / SET_ASIDE}) and are computed again."
        )


def _compute(node, workspace, seconds, watcher, done, of):
    """Compute the missing shards of a node one by one; after each, yields (passes done so far, "1/5 3.2 s").

    seconds   {node id: seconds}, kept up to date; the time of shards that were there before stays in it
    """
    store, part = workspace.store, node.passes / len(node.shards)
    missing = [shard for shard in node.shards if not store.has(node.stage, shard.key)]
    before = (seconds.get(node.id) or 0.0) if len(missing) < len(node.shards) else 0.0
    for number, shard in enumerate(missing, start=1):
        workspace.progress = lambda step, of_steps, note="", done=done: watcher.node(node, done + part * step / of_steps, of, note)
        watcher.node(node, done, of)
        start = time.time()
        made = partial(drop_derived, workspace.plan, node, shard, store)
        with store.writing(node.stage, shard.key, made) as folder, store.naming_unreadable():
            workspace.run(node, shard, folder)
        took = time.time() - start
        before, done = before + took, done + part
        seconds[node.id] = before
        yield done, f"{number}/{len(missing)} {took:.1f} s"


def run_nodes(workspace, nodes, *, watcher=None, others=()):
    """Compute what is missing of some nodes of a plan, in their order, and write no report.

    workspace     from `prepare`, which also gives the plan that `nodes` are picked from. Keys are those of `run`: what either has
             computed in this folder the other finds
    others   run folders whose results of the same key are copied instead of computed anew
    Raises   RunError when a node needs the result of one that is neither picked nor there
    """
    watcher, store, plan = watcher or Watcher(), workspace.store, workspace.plan
    if workspace.device == "cpu":
        keep_freed_memory()
    with heeding(), store.lock():
        store.open_for(workspace.study)
        store.warn = watcher.warning
        seconds, done = store.earlier_seconds(), 0.0
        _mend(plan, _with_inputs(plan, nodes), store, others)
        _check_inputs(plan, store, nodes)
        store.write_manifest(plan, seconds)  # first: a folder with results and no manifest is refused as not ours
        of = sum(node.passes for node in nodes if not all(store.has(node.stage, shard.key) for shard in node.shards))
        try:
            for node in nodes:
                for reached, _ in _compute(node, workspace, seconds, watcher, done, of):
                    done = reached
                    store.write_manifest(plan, seconds)
        finally:
            store.write_manifest(plan, seconds)


def _with_inputs(plan, nodes):
    """The nodes and those whose results they read, in the plan's order."""
    wanted = {node.id for node in nodes} | {name for node in nodes for name in node.inputs}
    return [node for node in plan.nodes if node.id in wanted]


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


def find_run(name):
    """The folder of a run, given as a folder or as a name under runs/; None when there is none."""
    return next((folder for folder in (Path(name), Path(DEFAULT_FOLDER) / str(name)) if Store(folder).is_run()), None)


def open_run(name):
    """A run by folder, or by its name under runs/.

    Raises   RunError that lists the runs there are, or that says the run is of another layout
    """
    folder = find_run(name)
    if folder is not None:
        return Run(folder)
    from workbench.errors import nearest

    raise RunError(f'No run "{name}".{nearest(name, list_runs())}')


def list_runs(folder=DEFAULT_FOLDER):
    """Names of the run folders under a folder; a damaged run is among them."""
    return sorted(path.name for path in Path(folder).glob("*") if Store(path).is_run())


__all__ = ["Run", "Study", "Watcher", "find_run", "list_runs", "open_run", "prepare", "run", "run_nodes"]
