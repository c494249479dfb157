"""The commands that write a report again and check the files of a run: report and verify. Starts without torch."""

from typing import Annotated

import typer

from workbench.cli.output import AsJson, RunName, console, say


def report(
    name: RunName,
    format_: Annotated[str, typer.Option("--format", help="html | md | csv | json")] = "html",
) -> None:
    """Write a run's report again from its report.json, and print its path."""
    from workbench.execution.execute import open_run

    typer.echo(open_run(name).report(format_))


def verify(name: RunName, as_json: AsJson = False) -> None:
    """Check the size and digest of every file of a run. Exit code 1 when a file is damaged."""
    from workbench.execution.execute import open_run
    from workbench.execution.verify import verify as verified

    found = verified(open_run(name).folder)
    if as_json:
        say(found, True)
    else:
        for row in found["damaged"]:
            console.print(f"{row['path']}: {row['why']}", markup=False, soft_wrap=True)
        unsealed = f" {found['unsealed']} of them have no digests yet. Running the study again adds them." if found["unsealed"] else ""
        if found["whole"]:
            result = f"nothing is damaged; {found['results']} results were checked.{unsealed}"
        else:
            result = (
                f"{len(found['damaged'])} damaged. Run the study again: damaged results are computed again, the others are kept: "
                f"{found['again']}"
            )
        console.print(f"{found['run']}: {result}", markup=False, soft_wrap=True)
    if not found["whole"]:
        raise typer.Exit(1)
