"""The commands that list and show things: list and show. Starts without torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from workbench import resources
from workbench.cli import jobs
from workbench.cli.output import AsJson, console, say
from workbench.errors import WorkbenchError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from workbench.execution.open_run import Run

LISTS = ("studies", "runs", "methods", "sites", "models", "prompts")


def list_(what: Annotated[str, typer.Argument(help=" | ".join(LISTS))], as_json: AsJson = False) -> None:
    """List studies, runs, methods, sites, models or prompts."""
    from workbench import registry

    if what not in LISTS:
        raise WorkbenchError(f'There is no list of "{what}".{nearest(what, LISTS)}')
    if what == "studies":
        from workbench.study.study import load_study

        rows = [{"study": name, "title": load_study(path, files=False).title} for name, path in resources.study_files().items()]
    elif what == "runs":
        rows = jobs.listed()
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


def show(name: Annotated[str, typer.Argument(help="a run, a study, a method, or report-schema")], as_json: AsJson = False) -> None:
    """Show the verdict of a run, the text of a study, the parameters of a method, or the JSON Schema of report.json."""
    from workbench import registry
    from workbench.study import published

    if name == "report-schema":
        from workbench.report.json_schema import json_schema

        typer.echo(json.dumps(json_schema(), indent=1, ensure_ascii=False))
        return

    for kind in registry.VERBS:
        if name in registry.methods(kind):
            method = registry.method(kind, name)
            fields = method.parameters.model_fields
            published_values = published.column(method)
            rows = [{"parameter": k, "default": _default(f), "meaning": f.description or ""} for k, f in fields.items()]
            rows = [row | {"published": published_values.get(row["parameter"], "")} if published_values else row for row in rows]
            if not as_json:
                console.print(f"[bold]{name}[/] ({kind}): {escape(method.help)}")
                for sentence in published.about(method):
                    console.print(sentence, soft_wrap=True, markup=False)
            say(rows or [{"parameter": "none", "default": "", "meaning": ""}], as_json)
            return
        if name in registry.broken(kind):
            registry.method(kind, name)
    from workbench.execution.open_run import find_run, list_runs, open_run

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


def _default(field: "FieldInfo") -> Any:
    return "required" if field.is_required() else field.get_default(call_default_factory=True)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # too long to be a name
        return False


def _show_run(run: "Run", as_json: bool) -> None:
    document = run.document
    if as_json:
        typer.echo(json.dumps(document["verdict"], indent=1))
        return
    title, headline = (escape(text) for text in (document["study"]["title"], document["verdict"]["headline"]))
    console.print(f"[bold]{title}[/]\n{headline}\n", soft_wrap=True)
    for caveat in document["verdict"]["caveats"][:1]:
        console.print(f"{escape(caveat)}\n", soft_wrap=True)
    for word in document["verdict"]["words"]:
        console.print(f"[bold]{escape(word['subject'])}[/]: {escape(word['sentence'])}", soft_wrap=True)
    console.print(f"\nReport: {run.store.report_folder / 'report.html'}", soft_wrap=True, markup=False)
