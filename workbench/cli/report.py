"""The verbs that write a report again and check the files of a run: report and verify. Starts without torch."""

from typing import Annotated

import typer

from workbench.cli.output import AsJson, RunName, console, say


def report(
    name: RunName,
    format_: Annotated[str, typer.Option("--format", help="html | md | csv | json")] = "html",
) -> None:
    """Render a run's report anew from its report.json; prints the path."""
    from workbench.execution.execute import open_run

    typer.echo(open_run(name).report(format_))


def verify(name: RunName, as_json: AsJson = False) -> None:
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
