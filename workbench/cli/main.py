"""The command `workbench`. Starts without importing torch; every verb is one function."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from workbench import __version__, registry, resources
from workbench.cli import inspect, masks, sets
from workbench.cli import runs as run_verbs
from workbench.cli.output import AsJson, VisibleGroup, console, duration, errors, safely, say, size
from workbench.errors import WorkbenchError, nearest

app = typer.Typer(
    cls=VisibleGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Is a concept really gone from a text-to-image diffusion model?",
)
app.add_typer(masks.app, name="mask")
app.add_typer(sets.app, name="sets")
# without torchvision transformers warns at every start that it uses its PIL processors, which is what we want
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

StudyName = Annotated[str, typer.Argument(help="a study file, or the name of a bundled study")]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; default runs/<study>")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a value of the study: sampling.steps=10")]
Limit = Annotated[int | None, typer.Option("--limit", min=4, help="use only the first prompts of every set")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only show what would be done and what it costs")]
TakeFrom = Annotated[list[Path] | None, typer.Option("--take-from", help="run folder; what it has computed of this study is copied")]
LISTS = ("studies", "runs", "methods", "sites", "models", "prompts")


def main():
    """Entry point: expected errors become one message and exit code 2."""
    with safely():
        try:
            app()
        except WorkbenchError as error:
            errors.print(f"[bold red]workbench:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(2)


@app.command()
def demo(out: Out = None, dry_run: DryRun = False):
    """The default study on the bundled emoji model, with what to do next."""
    _run("emoji-ink-style", out, None, None, "cpu", dry_run, shlex.join(["workbench", "demo", *(["--out", str(out)] if out else [])]))


@app.command()
def run(
    study: StudyName,
    out: Out = None,
    set_: Sets = None,
    limit: Limit = None,
    device: Device = "cpu",
    dry_run: DryRun = False,
    take_from: TakeFrom = None,
):
    """Run a study, or what is left of it: running again resumes."""
    words = ["workbench", "run", study, *(["--out", str(out)] if out else [])]
    words += [word for value in set_ or [] for word in ("--set", value)] + (["--limit", str(limit)] if limit else [])
    words += ["--device", device] if device != "cpu" else []
    words += [word for folder in take_from or [] for word in ("--take-from", str(folder))]
    _run(study, out, set_, limit, device, dry_run, shlex.join(words), take_from or ())


def _run(name, out, assignments, limit, device, dry_run, command, others=()):
    from workbench.execution.signals import Terminated, heeding

    try:
        with heeding():
            _execute(name, out, assignments, limit, device, dry_run, command, others)
    except Terminated as error:
        errors.print(f"\nStopped: {error}. What was finished is kept; run the same command again to go on.")
        raise typer.Exit(error.exit_code) from None


def _execute(name, out, assignments, limit, device, dry_run, command, others):
    from workbench.study.study import load_study

    study = load_study(name)
    changes = list(assignments or []) + ([f"prompts.limit={limit}"] if limit else [])
    study = study.with_values(changes) if changes else study
    with console.status("Loading the model and planning"):
        from workbench.execution import cost, execute

        if dry_run:
            todo = cost.estimate(*execute.prepare(study, out, device))
    folder = execute.folder_of(study, out)
    if dry_run:
        _show_estimate(study, folder, todo)
        return
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=console
    ) as bar:
        task = bar.add_task("loading the model and planning", total=None, left="")

        def start(todo):
            _show_estimate(study, folder, todo)
            bar.update(task, total=max(todo.passes, 1e-9))

        def node(node, done, of, note=""):
            seconds = bar.tasks[0].elapsed or 0
            left = f"about {duration(seconds / done * (of - done))} left" if done > 0.02 * of else ""
            where = " ".join(part for part in (node.stage, node.variant, node.prompt_set) if part)
            bar.update(task, completed=done, description=f"{where} {note}".strip(), left=left)

        def picture(path):
            bar.console.print(f"First images: {path}", markup=False)

        def warning(sentence):
            bar.console.print(f"Warning  {sentence}", markup=False, soft_wrap=True)

        watcher = execute.Watcher(start, node, picture, warning=warning)
        finished = execute.run(study, out, device=device, model=None, watcher=watcher, command=command, others=others)
        bar.update(task, completed=bar.tasks[0].total or 1, description="done", left="")
    console.print(f"\n[bold]{escape(finished.document['verdict']['headline'])}[/]")
    report = finished.store.report_folder / "report.html"
    console.print(f"\nReport   {report}", soft_wrap=True, markup=False)
    console.print(f"Numbers  {report.with_name('report.json')}, tables/*.csv, neurons.parquet", soft_wrap=True, markup=False)
    console.print("Next     open the report in a browser, or the pages with: workbench app")
    console.print("         change something and run again, only what changed is computed: workbench run STUDY --set sampling.steps=20")


def _show_estimate(study, folder, todo):
    table = Table(title=escape(f"{study.title}  →  {folder}"), title_justify="left")
    for column in ("stage", "nodes", "kept", "UNet rows", "time", "disk"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in todo.rows:
        table.add_row(
            row["stage"], str(row["nodes"]), str(row["kept"]), f"{row['passes']:,.0f}", duration(row["seconds"]), size(row["bytes"])
        )
    console.print(table)
    for sentence in todo.warnings:
        console.print(f"Caveat  {sentence}", soft_wrap=True, markup=False, highlight=False)
    free = shutil.disk_usage(_existing(folder)).free
    console.print(
        f"About {duration(todo.seconds)}, {size(todo.bytes)} of disk ({size(free)} free), {todo.memory_mb:,.0f} MB of memory. "
        f"{todo.nodes} nodes to do, {todo.kept} kept from before.",
        soft_wrap=True,
    )
    from workbench.study import published

    for said in (*published.sentences(study), *todo.notes):
        console.print(said, soft_wrap=True, markup=False)


def _existing(folder):
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


@app.command("list")
def list_(what: Annotated[str, typer.Argument(help=" | ".join(LISTS))], as_json: AsJson = False):
    """List studies, runs, methods, sites, models or prompts."""
    if what not in LISTS:
        raise WorkbenchError(f'There is no list of "{what}".{nearest(what, LISTS)}')
    if what == "studies":
        from workbench.study.study import load_study

        rows = [{"study": name, "title": load_study(path, files=False).title} for name, path in resources.study_files().items()]
    elif what == "runs":
        rows = run_verbs.listed()
    elif what == "methods":
        rows = [
            {"kind": kind, "method": name, "what": method.help}
            for kind in registry.VERBS
            for name, method in registry.methods(kind).items()
        ]
        rows += [
            {"kind": kind, "method": name, "what": f"cannot be used: {why}"}
            for kind in registry.VERBS
            for name, why in registry.broken(kind).items()
        ]
    elif what == "sites":
        from workbench.neurons.sites import SITES

        rows = [{"site": site.name, "reads": site.reads, "what": site.help} for site in SITES.values()]
    elif what == "models":
        rows = [{"model": "emoji", "folder": str(resources.folder("data") / "emoji" / "model")}]
    else:
        rows = [{"prompts": path.name} for path in sorted((resources.folder("data") / "prompts").glob("*.csv"))]
    say(rows, as_json)


@app.command()
def show(name: Annotated[str, typer.Argument(help="a run, a study or a method")], as_json: AsJson = False):
    """Show a run's verdict, what a study says, or what a method can be set to."""
    from workbench.study import published

    for kind in registry.VERBS:
        if name in registry.methods(kind):
            method = registry.method(kind, name)
            fields = method.parameters.model_fields
            stated = published.column(method.module)
            rows = [{"parameter": k, "default": _default(f), "meaning": f.description or ""} for k, f in fields.items()]
            rows = [row | {"published": stated.get(row["parameter"], "")} if stated else row for row in rows]
            if not as_json:
                console.print(f"[bold]{name}[/] ({kind}): {escape(method.help)}")
                for said in published.about(method.module):
                    console.print(said, soft_wrap=True, markup=False)
            say(rows or [{"parameter": "none", "default": "", "meaning": ""}], as_json)
            return
        if name in registry.broken(kind):
            registry.method(kind, name)
    from workbench.execution.execute import find_run, list_runs, open_run

    if find_run(name):
        _show_run(open_run(name), as_json)
        return
    known = {*resources.study_files(), *list_runs()}
    known |= {m for kind in registry.VERBS for m in registry.methods(kind)}
    if not _is_file(name) and name not in resources.study_files():
        raise WorkbenchError(f'Nothing is called "{name}": no run, no study, no method.{nearest(name, known)}')
    from workbench.study.study import load_study

    study = load_study(name, files=False)
    typer.echo(json.dumps(study.model_dump(mode="json"), indent=1) if as_json else study.text)


def _is_file(name):
    try:
        return Path(name).is_file()
    except OSError:  # too long to be a name
        return False


def _show_run(run, as_json):
    document = run.document
    if as_json:
        typer.echo(json.dumps(document["verdict"], indent=1))
        return
    title, headline = (escape(text) for text in (document["study"]["title"], document["verdict"]["headline"]))
    console.print(f"[bold]{title}[/]\n{headline}\n", soft_wrap=True)
    for word in document["verdict"]["words"]:
        console.print(f"[bold]{escape(word['subject'])}[/]: {escape(word['sentence'])}", soft_wrap=True)
    console.print(f"\nReport: {run.store.report_folder / 'report.html'}", soft_wrap=True, markup=False)


for verb in (
    run_verbs.report,
    run_verbs.status,
    run_verbs.logs,
    run_verbs.stop,
    run_verbs.verify,
    run_verbs.check,
    run_verbs.diff,
    inspect.inspect,
    masks.export,
):
    app.command()(verb)


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="what the study is called; writes NAME.toml and the prompts it names")],
    like: Annotated[str, typer.Option("--like", help="the study to start from: a file, or the name of a bundled one")] = "emoji-ink-style",
    out: Annotated[Path, typer.Option("--out", help="folder to write into")] = Path("."),
):
    """Start a study of your own: a copy of a bundled one and its prompt files, to be changed."""
    from workbench.study.scaffold import scaffold

    study, *prompts = scaffold(name, like, out)
    console.print(f"Study    {study}\nPrompts  {', '.join(map(str, prompts))}", soft_wrap=True, markup=False)
    console.print(f"Next     change them, then see what it costs: workbench run {study} --dry-run", soft_wrap=True, markup=False)


@app.command("import-prompts")
def import_prompts(
    file: Annotated[Path, typer.Argument(help="CSV, text, JSON, learned_embeds.bin or .safetensors, or a Diffusion-MU-Attack log folder")],
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default <name>-imported.csv here")] = None,
    provenance: Annotated[str | None, typer.Option("--provenance", help="static | transferred | optimised; asked when missing")] = None,
    against: Annotated[str | None, typer.Option("--against", help="what they were made against: a variant's name, or words")] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column with the prompts, when it is not found")] = None,
    word: Annotated[str | None, typer.Option("--word", help="what a bare vector stands for, as prompts say it: <church>")] = None,
    swap: Annotated[list[str] | None, typer.Option("--swap", help="old=new in every prompt, for reference and retained sets")] = None,
    expect: Annotated[str | None, typer.Option("--expect", help="the label every image should show, for retained sets")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="diffusers folder whose tokenizer counts what is cut")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="a name of the concept: how many prompts say it?")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    as_json: AsJson = False,
):
    """Bring prompts or embeddings from outside: recognise, check, write what studies read."""
    from workbench.study import imports

    asking = not as_json and sys.stdin.isatty()
    try:
        found = imports.recognise(file, column, word)
    except imports.Undecided as error:
        if not asking:
            raise
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
        found = imports.recognise(file, typer.prompt(f"Which column ({', '.join(error.columns)})?").strip(), word)
    except imports.Nameless as error:
        if not asking:
            raise
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
        found = imports.recognise(file, column, typer.prompt("Which word?"))
    found = imports.swapped(found, file, swap or (), expect)
    if provenance is None and found.kind != "pairs" and not found.provenance and asking:
        for word, meaning in imports.MEANING.items():
            console.print(f"  [bold]{word}[/]: {meaning}")
        provenance = typer.prompt("How were these prompts made?").strip()
        if provenance in ("transferred", "optimised") and against is None:
            against = typer.prompt("Against which model?", default=found.made)
    source = file.absolute().parent if file.name == "log.json" else file.absolute()
    about = imports.write(found, file, out or Path(f"{source.stem}-imported"), provenance, against, model, force, name or ())
    if as_json:
        typer.echo(json.dumps(about, indent=1))
        return
    for line in imports.sentences(about):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


@app.command("app")
def app_(
    runs: Annotated[Path, typer.Option("--runs", help="the folder that holds the runs")] = Path("runs"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="port on 127.0.0.1")] = 8501,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="only print the address")] = False,
):
    """Open the pages on the runs of a folder, on this machine only; stop with Ctrl-C."""
    from workbench.ui.launch import serve

    serve(runs, port, not no_browser, lambda words: console.print(words, soft_wrap=True, markup=False))


def _default(field):
    return "required" if field.is_required() else field.get_default(call_default_factory=True)


@app.command()
def doctor(as_json: AsJson = False):
    """Versions, devices, bundled data, free disk: what a bug report needs."""
    from workbench.cli.doctor import findings

    say(findings(), as_json)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version")] = False):
    if version:
        typer.echo(__version__)
        raise typer.Exit


if __name__ == "__main__":
    main()
