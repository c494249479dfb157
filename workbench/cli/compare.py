"""The commands that compare a report with limits and with another report: check and diff. Starts without torch."""

import json
from typing import Annotated

import typer

from workbench.cli.output import AsJson, RunName, console, say
from workbench.errors import RunError


def check(
    name: RunName,
    fail_if: Annotated[
        list[str], typer.Option("--fail-if", help="a condition that must not hold: 'asr > 0.2', 'near.low < 0.8', reactivated")
    ],
) -> None:
    """Check a report against limits, for CI. Prints Markdown; exit code 1 when a limit is broken."""
    from workbench.execution.execute import open_run
    from workbench.report import compare

    document = open_run(name).document
    rows = {condition: compare.check(document, condition) for condition in fail_if}
    typer.echo(compare.markdown(rows))
    if any(row["broken"] for found in rows.values() for row in found):
        raise typer.Exit(1)


def diff(a: RunName, b: RunName, as_json: AsJson = False) -> None:
    """Compare two runs: the settings that differ, and every number that differs."""
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
