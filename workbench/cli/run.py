"""The commands that execute a study: demo and run. Starts without torch."""

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from workbench.cli.output import console, duration, errors, size
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.execution.cost import Estimate
    from workbench.execution.plan import Node
    from workbench.study.study import Study

StudyName = Annotated[str, typer.Argument(help="a study file, or the name of a bundled study")]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; default runs/<study>")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a value of the study, e.g. sampling.steps=10")]
Limit = Annotated[int | None, typer.Option("--limit", min=4, help="use only the first prompts of every prompt set")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps; several as cuda:0,cuda:1; auto: all GPUs, else cpu")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="inline: one process; processes: a worker per core or GPU; ray: a Ray cluster; auto: processes where they are faster",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", help="compute a share, beside other processes on the same run folder: 3/8, or auto under a scheduler"),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="how many workers; default: one per core or GPU")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only show what would be computed and what it costs")]
Detach = Annotated[bool, typer.Option("--detach", help="run it as a process of its own, which continues when this terminal is closed")]
CostAsJson = Annotated[bool, typer.Option("--json", help="with --dry-run: print JSON, for scripts")]
TakeFrom = Annotated[
    list[Path] | None, typer.Option("--take-from", help="another run folder; results that this study needs are copied from it")
]


def demo(out: Out = None, dry_run: DryRun = False, engine: Engine = "auto", workers: Workers = None) -> None:
    """Run the default study on the bundled emoji model, and say what to do next."""
    words = ["workbench", "demo", *(["--out", str(out)] if out else []), *_engine_words(engine, workers)]
    _run("emoji-ink-style", out, None, None, "cpu", dry_run, shlex.join(words), engine=engine, workers=workers)


def _engine_words(engine: str, workers: int | None) -> list[str]:
    return (["--engine", engine] if engine != "auto" else []) + (["--workers", str(workers)] if workers else [])


def run(
    study: StudyName,
    out: Out = None,
    set_: Sets = None,
    limit: Limit = None,
    device: Device = "cpu",
    dry_run: DryRun = False,
    take_from: TakeFrom = None,
    detach: Detach = False,
    as_json: CostAsJson = False,
    engine: Engine = "auto",
    workers: Workers = None,
    shard: Shard = None,
) -> None:
    """Run a study. Running it again resumes: only what is missing is computed."""
    if as_json and not dry_run:
        raise WorkbenchError("--json prints what --dry-run shows. Give both, or neither.")
    if shard and (detach or dry_run or take_from):
        raise WorkbenchError(
            "--shard is for processes that a scheduler has started; it goes with none of --detach, --dry-run and --take-from."
        )
    if detach and dry_run:
        raise WorkbenchError("--dry-run computes nothing, so there is nothing to detach. Give one of them.")
    words = ["workbench", "run", study, *(["--out", str(out)] if out else [])]
    words += [word for value in set_ or [] for word in ("--set", value)] + (["--limit", str(limit)] if limit else [])
    words += (["--device", device] if device != "cpu" else []) + _engine_words(engine, workers)
    words += [word for folder in take_from or [] for word in ("--take-from", str(folder))]
    if detach:
        _detach(study, out, set_, limit, words[1:])
        return
    _run(study, out, set_, limit, device, dry_run, shlex.join(words), take_from or (), as_json, engine, workers, shard)


def _changed(name: str, assignments: list[str] | None, limit: int | None) -> "Study":
    """The study with the values that the command line sets."""
    from workbench.study.study import load_study

    study = load_study(name)
    changes = list(assignments or []) + ([f"prompts.limit={limit}"] if limit else [])
    return study.with_values(changes) if changes else study


def _detach(name: str, out: Path | None, assignments: list[str] | None, limit: int | None, words: list[str]) -> None:
    """Start the run as a process of its own, and say how to follow and stop it."""
    from workbench.execution import start
    from workbench.execution.open_run import folder_of

    folder = folder_of(_changed(name, assignments, limit), out)
    with console.status("Loading the model and planning"):
        started = start.start(words, folder)
    run = shlex.quote(str(out) if out else folder.name)
    how = "It is running" if started.began else "It is still planning"
    console.print(f"Started  process {started.pid}. {how} and continues when this terminal is closed.", soft_wrap=True, markup=False)
    console.print(f"Follow   workbench status {run}, workbench logs {run}, or the page Runs of workbench app", soft_wrap=True, markup=False)
    console.print(f"Stop     workbench stop {run}", soft_wrap=True, markup=False)
    console.print(f"Printed  {started.log}", soft_wrap=True, markup=False)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Says in one sentence that a signal stopped the run; the exit code is that of the signal."""
    from workbench.execution.signals import Terminated, heard, heeding

    try:
        with heeding(), heard():
            yield
    except Terminated as error:
        errors.print(f"\nStopped: {error}. Finished results are kept; run the same command again to continue.")
        raise typer.Exit(error.exit_code) from None


@_stoppable()
def _run(
    name: str,
    out: Path | None,
    assignments: list[str] | None,
    limit: int | None,
    device: str,
    dry_run: bool,
    command: str,
    others: Sequence[Path] = (),
    as_json: bool = False,
    engine: str = "auto",
    workers: int | None = None,
    shard: str | None = None,
) -> None:
    study = _changed(name, assignments, limit)
    with console.status("Loading the model and planning"):
        from workbench.execution import books, cost, engines, execute
        from workbench.execution.open_run import folder_of

        if dry_run:
            how = execute.How(engine, workers, engines.places(device))
            how.check(None)
            todo = cost.estimate(*execute.prepare(study, out, how.devices[0]), how.engine, how.workers, how.devices)
    folder = folder_of(study, out)
    if dry_run:
        if as_json:
            typer.echo(json.dumps(_cost(study, folder, todo), indent=1))
        else:
            _show_estimate(study, folder, todo)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=console
    ) as bar:
        task = bar.add_task("loading the model and planning", total=None, left="")

        def start(todo: "Estimate") -> None:
            _show_estimate(study, folder, todo)
            bar.update(task, total=max(todo.passes, 1e-9))

        def node(node: "Node", done: float, of: float, note: str = "") -> None:
            seconds = bar.tasks[0].elapsed or 0
            left = f"about {duration(seconds / done * (of - done))} left" if done > 0.02 * of else ""
            where = " ".join(part for part in (node.stage, node.variant, node.prompt_set) if part)
            bar.update(task, completed=done, description=f"{where} {note}".strip(), left=left)

        def picture(path: Path) -> None:
            bar.console.print(f"First images: {path}", markup=False)

        def warning(sentence: str) -> None:
            bar.console.print(f"Warning  {sentence}", markup=False, soft_wrap=True)

        watcher = books.Watcher(start, node, picture, warning=warning)
        finished = execute.run(
            study,
            out,
            device=device,
            watcher=watcher,
            command=command,
            others=others,
            engine=engine,
            workers=workers,
            shard=shard,
        )
        bar.update(task, completed=bar.tasks[0].total or 1, description="done", left="")
    console.print(f"\n[bold]{escape(finished.document['verdict']['headline'])}[/]")
    for caveat in finished.document["verdict"]["caveats"][:1]:
        console.print(escape(caveat))
    report = finished.store.report_folder / "report.html"
    console.print(f"\nReport   {report}", soft_wrap=True, markup=False)
    console.print(f"Numbers  {report.with_name('report.json')}, tables/*.csv, neurons.parquet", soft_wrap=True, markup=False)
    console.print("Next     open the report in a browser, or open the pages: workbench app")
    console.print("         change a setting and run again; only what changed is computed: workbench run STUDY --set sampling.steps=20")


def _cost(study: "Study", folder: Path, todo: "Estimate") -> dict[str, Any]:
    """What --dry-run shows, as data: the fields of `cost.Estimate`, the run folder, the bytes that are free there."""
    from workbench.study import published

    about = {"study": study.name, "folder": str(folder), "free_bytes": shutil.disk_usage(_existing(folder)).free}
    return about | asdict(todo) | {"notes": [*published.sentences(study), *todo.notes]}


def _show_estimate(study: "Study", folder: Path, todo: "Estimate") -> None:
    from rich.table import Table

    table = Table(title=escape(f"{study.title}  →  {folder}"), title_justify="left")
    for column in ("stage", "nodes", "kept", "UNet evaluations", "time", "disk"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in todo.rows:
        table.add_row(
            row["stage"], str(row["nodes"]), str(row["kept"]), f"{row['passes']:,.0f}", duration(row["seconds"]), size(row["bytes"])
        )
    console.print(table)
    for sentence in todo.warnings:
        console.print(f"Caveat  {sentence}", soft_wrap=True, markup=False, highlight=False)
    free = shutil.disk_usage(_existing(folder)).free
    memory = f"{todo.memory_mb:,.0f} MB of memory"
    if todo.workers > 1:
        memory += f" for {todo.workers} workers ({todo.worker_mb:,.0f} MB each; engine {todo.engine})"
    console.print(
        f"About {duration(todo.seconds)}, {size(todo.bytes)} of disk ({size(free)} free), {memory}. "
        f"{todo.nodes} nodes to do, {todo.kept} already done.",
        soft_wrap=True,
    )
    from workbench.study import published

    for sentence in (*published.sentences(study), *todo.notes):
        console.print(sentence, soft_wrap=True, markup=False)


def _existing(folder: str | Path) -> Path:
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
