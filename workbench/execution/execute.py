"""Run a study: plan, estimate, execute node by node, resume, report.

prepare   study -> (plan, workspace) in a run folder, nothing computed yet
run       do it; running again resumes
run_nodes some nodes of it only, without a report
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import RunError
from workbench.execution import engines
from workbench.execution.books import Books, Seconds, Watcher
from workbench.execution.claims import Claims
from workbench.execution.compute import mend
from workbench.execution.cost import estimate
from workbench.execution.drive import Hears, drive
from workbench.execution.open_run import Run, folder_of
from workbench.execution.part import Part
from workbench.execution.run_folder import Store
from workbench.execution.schedule import Schedule
from workbench.execution.share import Share, share
from workbench.execution.signals import heard, heeding
from workbench.memory import keep_freed_memory
from workbench.study.study import load_study

if TYPE_CHECKING:
    from workbench.execution.engines import Engine
    from workbench.execution.plan import Node, Plan
    from workbench.execution.schedule import Task
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
        from workbench.models.load import of_study, source_digest

        model = of_study(study.model, device, study.folder)
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


def run(
    study: "str | Path | Study",
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    model: "Model | None" = None,
    watcher: Watcher | None = None,
    command: str | None = None,
    others: Sequence[str | Path] = (),
    engine: str = "inline",
    workers: int | None = None,
    shard: str | None = None,
) -> Run:
    """Execute a study, or the missing rest of it; returns the Run.

    device   cpu, cuda, mps; several with commas, as cuda:0,cuda:1, for an engine with workers; auto: all GPUs there are, else cpu
    engine   inline, processes or ray, see `engines`; auto: processes where they are faster and memory allows
    workers  how many of them; default: one per core, or per device
    shard    "3/8" or "auto", see `share`: other processes compute the same study in this folder at the same time
    others   run folders whose results of the same key are copied instead of computed
    Raises   WorkbenchError for everything a user can mend; what was finished stays, and running again resumes. KeyboardInterrupt after
             Ctrl-C and, as `Terminated`, after SIGTERM: the run is stopped then as well, and resumes
    """
    watcher, study = watcher or Watcher(), load_study(study)
    _check_others(others)
    places, own = engines.places(device), share(shard) if shard else None
    if own:
        places = own.device(places)
        engine = "inline" if engine == "auto" and len(places) == 1 and not workers else engine
    if model is not None and engine == "auto":
        engine = "inline"  # workers would load the study's own base model
    how = How(engine, workers, places)
    how.check(model)
    if places == ("cpu",):
        keep_freed_memory()
    with heeding(), heard():
        plan, workspace = prepare(study, out, places[0], model)
        store, command = workspace.store, command or f"workbench run {shlex.quote(study.name)}"
        try:
            if own:
                with Claims(store.folder) as claims:
                    store.join(study, claims)
                    return _share(plan, workspace, watcher, command, how, own, claims)
            with store.lock():
                store.open_for(study)
                return _execute(plan, workspace, watcher, command, others, how)
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


def _share(plan: "Plan", workspace: "Workspace", watcher: Watcher, command: str, how: "How", own: Share, claims: Claims) -> Run:
    """Compute what can be claimed until everything is there. One of the processes leads: it writes the manifest and, at the end, the
    report. When it dies, another one leads.
    """
    store = workspace.store
    todo = estimate(plan, workspace, how.engine, how.workers, how.devices)
    engine = engines.engine(todo.engine, todo.workers, how.devices)
    nodes = [node for node in plan.nodes if node.stage != "report"]
    with Part(workspace, watcher, command, todo, claims) as part:
        part.lead()
        drive(workspace, schedule_of(nodes, store, engine, own.has), engine, part.hears(), claims)
        part.finish(engine)
    watcher.finish(store.report_folder / "report.html")
    return Run(store.folder)


@dataclass(frozen=True)
class How:
    """With what a study is computed; see `engines`.

    engine    one of engines.NAMES, or auto
    workers   how many tasks at once; default: one per core, or per device
    devices   on which
    """

    engine: str = "inline"
    workers: int | None = None
    devices: tuple[str, ...] = ("cpu",)

    def check(self, model: "Model | None") -> None:
        """Refuse what does not go together, before anything is loaded.

        Raises   RunError
        """
        if self.engine != "auto":
            engines.engine(self.engine, self.workers, self.devices)
        if model is not None and self.engine != "inline":
            raise RunError(f"The engine {self.engine} loads the base model in each worker, so it takes no `model` that is loaded already.")


def _execute(
    plan: "Plan",
    workspace: "Workspace",
    watcher: Watcher,
    command: str,
    others: Sequence[str | Path] = (),
    how: How = How(),
) -> Run:
    store = workspace.store
    books = Books(workspace, watcher, command)
    with books, heard():
        books.open()
        store.warn = books.warn
        mend(plan, plan.nodes, store, others)
        books.write_manifest(now=True)
        todo = estimate(plan, workspace, how.engine, how.workers, how.devices)
        books.begin(todo)
        engine = engines.engine(todo.engine, todo.workers, how.devices)
        nodes = [node for node in plan.nodes if node.stage != "report"]
        drive(workspace, schedule_of(nodes, store, engine), engine, books.hears())
        books.finish(engine)
    watcher.finish(store.report_folder / "report.html")
    return Run(store.folder)


def schedule_of(
    nodes: "Sequence[Node]", store: Store, engine: "Engine", mine: "Callable[[Task], bool]" = lambda task: True
) -> "Schedule[Node]":
    """The schedule of the missing results of some nodes: in their order for one worker, what has most behind it first for several."""
    cost = None if engine.slots == 1 else {node.id: node.passes / len(node.shards) for node in nodes}
    return Schedule(nodes, store.has, cost, mine)


def run_nodes(
    workspace: "Workspace",
    nodes: "Sequence[Node]",
    *,
    watcher: Watcher | None = None,
    others: Sequence[str | Path] = (),
    how: How = How(),
) -> None:
    """Compute the missing results of some nodes of a plan; write no report.

    workspace     from `prepare`, which also gives the plan that `nodes` are picked from. Keys are those of `run`: each finds
             the results that the other computed in this folder
    others   run folders whose results of the same key are copied instead of computed
    how      the engine; with `inline` the nodes are computed in their order
    Raises   RunError when a node needs the result of another node that is neither picked nor computed
    """
    watcher, store, plan = watcher or Watcher(), workspace.store, workspace.plan
    if workspace.device == "cpu":
        keep_freed_memory()
    with heeding(), heard(), store.lock():
        store.open_for(workspace.study)
        store.warn = watcher.warning
        seconds = store.earlier_seconds()
        mend(plan, _with_inputs(plan, nodes), store, others)
        _check_inputs(plan, store, nodes)
        store.write_manifest(plan, seconds)  # first: a folder with results and no manifest is refused as not ours
        of = sum(node.passes for node in nodes if not all(store.has(node.stage, shard.key) for shard in node.shards))
        taken = Seconds(nodes, store, seconds)

        def shard(node: "Node", task: "Task", done: float, said: str, took: float) -> None:
            taken.add(node, took)
            store.write_manifest(plan, seconds)

        hears = Hears(progress=lambda node, done, note: watcher.node(node, done, of, note), shard=shard)
        try:
            engine = engines.engine(how.engine, how.workers, how.devices)
            drive(workspace, schedule_of(nodes, store, engine), engine, hears)
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
