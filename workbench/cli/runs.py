"""The verbs on a run that is there: report, status, logs, stop, verify, check, diff. Starts without torch."""

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import AsJson, RunName, console, duration, say
from workbench.errors import RunError


def report(
    name: RunName,
    format_: Annotated[str, typer.Option("--format", help="html | md | csv | json")] = "html",
):
    """Render a run's report anew from its report.json; prints the path."""
    from workbench.execution.execute import open_run

    typer.echo(open_run(name).report(format_))


def status(name: Annotated[str | None, typer.Argument(help="a run; default: all under runs/")] = None, as_json: AsJson = False):
    """What runs are doing: how far, how long still, and how to go on."""
    from workbench.execution import jobs
    from workbench.execution.execute import DEFAULT_FOLDER, list_runs, open_run

    found = [jobs.status(open_run(name).folder)] if name else jobs.statuses(Path(DEFAULT_FOLDER) / one for one in list_runs())
    if as_json:
        say(found, True)
        return
    for row in found:
        if row["nodes"] is None:
            console.print(f"{row['run']}: damaged. {row['note']}", markup=False, soft_wrap=True)
            continue
        far = "" if row["share"] is None or row["state"] == "finished" else f", {100 * row['share']:.0f} % of this start"
        left = "" if row["left_seconds"] is None else f", about {duration(row['left_seconds'])} left"
        console.print(f"{row['run']}: {row['state']}, {row['nodes_done']} of {row['nodes']} nodes{far}{left}", markup=False, soft_wrap=True)
        why = ": ".join(part for part in (row["node"], row["error"]) if part)
        if row["state"] == "stopped":
            console.print(f"  {f'in {why}; go' if why else 'go'} on with: {row['again']}", markup=False, soft_wrap=True)
        elif why:
            console.print(f"  in {why}", markup=False, soft_wrap=True)
        if row["note"]:
            console.print(f"  {row['note']}", markup=False, soft_wrap=True)
        if row["state"] == "damaged":
            console.print(f"  write the report anew with: {row['again']}", markup=False, soft_wrap=True)
    if not found:
        console.print("No runs under runs/ yet. Make the first one: workbench demo")


def logs(name: RunName, lines: Annotated[int, typer.Option("--lines", min=1, help="how many of the last lines")] = 20):
    """The last lines of a run's log."""
    from workbench.execution import jobs
    from workbench.execution.execute import open_run

    typer.echo("\n".join(jobs.log_tail(open_run(name).folder, lines)))


def stop(name: RunName):
    """Stop a running run; what it has finished is kept."""
    from workbench.execution import jobs
    from workbench.execution.execute import open_run

    folder = open_run(name).folder
    jobs.stop(folder)
    console.print(f"Stopped. What was finished is kept; go on with: {jobs.status(folder)['again']}", markup=False, soft_wrap=True)


def verify(name: RunName, as_json: AsJson = False):
    """Check every file of a run against what was written; exit code 1 when something is damaged."""
    from workbench.execution.execute import open_run
    from workbench.execution.verify import verify as verified

    found = verified(open_run(name).folder)
    if as_json:
        say(found, True)
    else:
        for row in found["damaged"]:
            console.print(f"{row['path']}: {row['why']}", markup=False, soft_wrap=True)
        unsealed = f" {found['unsealed']} of them have no digests yet; running the study again adds them." if found["unsealed"] else ""
        if found["whole"]:
            said = f"nothing is damaged; {found['results']} results were read.{unsealed}"
        else:
            said = f"{len(found['damaged'])} damaged. Running the study again mends it, and what is whole is kept: {found['again']}"
        console.print(f"{found['run']}: {said}", markup=False, soft_wrap=True)
    if not found["whole"]:
        raise typer.Exit(1)


def check(
    name: RunName,
    fail_if: Annotated[list[str], typer.Option("--fail-if", help="what must not be: 'asr > 0.2', 'near.low < 0.8', reactivated")],
):
    """Hold a report against limits; prints Markdown, exit code 1 when one is broken. For builds."""
    from workbench.execution.execute import open_run
    from workbench.report import compare

    document = open_run(name).document
    rows = {condition: compare.check(document, condition) for condition in fail_if}
    typer.echo(compare.markdown(rows))
    if any(row["broken"] for found in rows.values() for row in found):
        raise typer.Exit(1)


def diff(a: RunName, b: RunName, as_json: AsJson = False):
    """Two runs side by side: what their studies say differently, and every number that differs."""
    from workbench.execution.execute import open_run
    from workbench.report import compare

    one, two = open_run(a), open_run(b)
    found, note = {"numbers": compare.differences(one.document, two.document)}, None
    try:
        found = {"settings": compare.settings(one.store.study(), two.store.study())} | found
    except RunError as error:
        note = f"Settings cannot be compared. {error}"
    if as_json:
        typer.echo(json.dumps(found | ({"settings": None, "note": note} if note else {}), indent=1))
        return
    if note:
        console.print(note, markup=False, soft_wrap=True)
    for title, rows in found.items():
        console.print(f"[bold]{title}[/]: {len(rows) or 'nothing'} differ{'s' if len(rows) < 2 else ''}")
        if rows:
            say([{key: f"{cell:.3f}" if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows], False)


def listed():
    """Rows of `workbench list runs`: {run, state, done, running, note}; the note says what is damaged."""
    from workbench.execution import jobs
    from workbench.execution.execute import DEFAULT_FOLDER, list_runs

    rows = []
    for row in jobs.statuses(Path(DEFAULT_FOLDER) / name for name in list_runs()):
        done = "" if row["nodes"] is None else f"{row['nodes_done']}/{row['nodes']}"
        rows.append(
            {"run": row["run"], "state": row["state"], "done": done, "running": row["state"] == "running", "note": row["note"] or ""}
        )
    return rows
