"""Run a study: plan, estimate, execute node by node, resume, report.

prepare   study -> (plan, workspace) in a run folder, nothing computed yet
run       do it; running again resumes
run_nodes some nodes of it only, without a report
"""

import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError
from workbench.execution import digests
from workbench.execution.cost import estimate
from workbench.execution.open_run import Run, folder_of
from workbench.execution.run_folder import SET_ASIDE, Store
from workbench.execution.signals import heeding
from workbench.memory import keep_freed_memory
from workbench.study.study import load_study

if TYPE_CHECKING:
    from workbench.execution.cost import Estimate
    from workbench.execution.plan import Node, Plan, Shard
    from workbench.execution.workspace import Workspace
    from workbench.models.load import Model
    from workbench.study.study import Study


def prepare(
    study: "str | Path | Study", out: str | Path | None = None, device: str = "cpu", model: "Model | None" = None
) -> "tuple[Plan, Workspace]":
    """(plan, workspace) of a study in its run folder; the folder is not touched yet.

    Raises   WorkbenchError: everything that can be found before work begins, see `preflight`
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
        from workbench.models.load import DTYPES, load, source_digest

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
    """The functions that `run` calls while it works; each may be replaced.

    warning   called with a sentence about damaged results and what was done with them
    """

    start: Callable = lambda estimate: None
    node: Callable = lambda node, done_passes, of_passes, note="": None
    picture: Callable = lambda path: None
    finish: Callable = lambda path: None
    warning: Callable = lambda sentence: warnings.warn(sentence, stacklevel=2)


def run(
    study: "str | Path | Study",
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    model: "Model | None" = None,
    watcher: Watcher | None = None,
    command: str | None = None,
    others: Sequence[str | Path] = (),
) -> Run:
    """Execute a study, or the missing rest of it; returns the Run.

    others   run folders whose results of the same key are copied instead of computed
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


def _check_others(others: Sequence[str | Path]) -> None:
    """Refuse a folder without results, or of another layout, as a source of results. Nothing in the folder is changed.

    Raises   RunError
    """
    for folder in others:
        other = Store(folder)
        other.refuse_other_layout()
        if not other.has_results():
            raise RunError(f"{folder} is no run folder: it has no results to take (no nodes/STAGE/KEY). List runs: workbench list runs")


def _execute(plan: "Plan", workspace: "Workspace", watcher: Watcher, command: str, others: Sequence[str | Path] = ()) -> Run:
    from workbench.execution.stages.report import write_report

    store, began = workspace.store, time.time()
    seconds = store.earlier_seconds()
    history: dict[str, Any] = {
        "seconds": seconds,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "wall_seconds": None,
    }
    store.write_study_folder(workspace.study.folder)
    log = (store.folder / "run.log").open("a", encoding="utf-8")

    def warn(sentence: str) -> None:
        log.write(f"warning: {sentence}\n")
        log.flush()
        watcher.warning(sentence)

    done = 0.0
    todo: Estimate | None = None
    first_picture = True
    current: str | None = None

    def say(state: str, **more: Any) -> None:
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


def _mend(plan: "Plan", nodes: "Sequence[Node]", store: Store, others: Sequence[str | Path]) -> None:
    """Set the damaged results of these nodes aside, and copy from other runs the results that are undamaged."""
    for damage in store.mend(nodes):
        store.warn(str(damage))
    for node in nodes:
        for shard in node.shards:
            for other in map(Store, others):
                if store.has(node.stage, shard.key) or not other.has(node.stage, shard.key):
                    continue
                if not store.take(node.stage, shard.key, other, partial(drop_derived, plan, node, shard, store)):
                    store.warn(f"The result {node.stage}/{shard.key} of {other.folder} is damaged and was not taken from there.")


def drop_derived(plan: "Plan", node: "Node", shard: "Shard", store: Store, seal: digests.Seal) -> None:
    """Set aside the results made from a damaged result, when computing it again gave other bytes. See `Store`.

    seal   of the new result, which is not in its place yet: a run that is killed in between repeats this step
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


def _compute(
    node: "Node", workspace: "Workspace", seconds: dict[str, float | None], watcher: Watcher, done: float, of: float
) -> Iterator[tuple[float, str]]:
    """Compute the missing shards of a node one by one; yields (passes done so far, "1/5 3.2 s") after each shard.

    seconds   {node id: seconds}, updated here; it includes the time of shards from earlier runs
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


def run_nodes(
    workspace: "Workspace", nodes: "Sequence[Node]", *, watcher: Watcher | None = None, others: Sequence[str | Path] = ()
) -> None:
    """Compute the missing results of some nodes of a plan, in their order; write no report.

    workspace     from `prepare`, which also gives the plan that `nodes` are picked from. Keys are those of `run`: each finds
             the results that the other computed in this folder
    others   run folders whose results of the same key are copied instead of computed
    Raises   RunError when a node needs the result of another node that is neither picked nor computed
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


def _with_inputs(plan: "Plan", nodes: "Sequence[Node]") -> "list[Node]":
    """The nodes and those whose results they read, in the plan's order."""
    wanted = {node.id for node in nodes} | {name for node in nodes for name in node.inputs}
    return [node for node in plan.nodes if node.id in wanted]


def _check_inputs(plan: "Plan", store: Store, nodes: "Sequence[Node]") -> None:
    picked = {node.id for node in nodes}
    for node in nodes:
        for name in node.inputs:
            other = plan.node(name)
            if name not in picked and not all(store.has(other.stage, shard.key) for shard in other.shards):
                raise RunError(f"{node.id} needs the result of {name}, which is neither picked nor in {store.folder}. Pick it too.")


def _left(began: float, done: float, todo: "Estimate") -> float:
    """Seconds left, from the pace so far."""
    return (time.time() - began) / done * (todo.passes - done) if done else todo.seconds
