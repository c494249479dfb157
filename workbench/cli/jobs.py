"""The commands for runs in progress: status, logs, stop. Starts without torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.output import AsJson, RunName, console, duration, say


def status(
    name: Annotated[str | None, typer.Argument(help="a run; default: all runs under runs/")] = None, as_json: AsJson = False
) -> None:
    """Show the state of runs: progress, time left, and the command that continues them."""
    from workbench.execution import jobs
    from workbench.execution.open_run import DEFAULT_FOLDER, list_runs, open_run

    found = [jobs.status(open_run(name).folder)] if name else jobs.statuses(Path(DEFAULT_FOLDER) / one for one in list_runs())
    if as_json:
        say(found, True)
        return
    for row in found:
        if row["nodes"] is None:
            console.print(f"{row['run']}: {row['state']}. {row['note']}", markup=False, soft_wrap=True)
            continue
        far = "" if row["share"] is None or row["state"] == "finished" else f", {100 * row['share']:.0f} % of this start"
        left = "" if row["left_seconds"] is None else f", about {duration(row['left_seconds'])} left"
        console.print(
            f"{row['run']}: {row['state']}, {row['nodes_done']} of {row['nodes']} nodes done{far}{left}", markup=False, soft_wrap=True
        )
        why = ": ".join(part for part in (row["node"], row["error"]) if part)
        if row["state"] == "stopped":
            console.print(f"  {f'in {why}; ' if why else ''}continue with: {row['again']}", markup=False, soft_wrap=True)
        elif why:
            console.print(f"  in {why}", markup=False, soft_wrap=True)
        if row["note"]:
            console.print(f"  {row['note']}", markup=False, soft_wrap=True)
        if row["state"] == "damaged":
            console.print(f"  write the report again with: {row['again']}", markup=False, soft_wrap=True)
    if not found:
        console.print("No runs under runs/ yet. Start the first one: workbench demo")


def logs(name: RunName, lines: Annotated[int, typer.Option("--lines", min=1, help="how many lines")] = 20) -> None:
    """Print the last lines of a run's log."""
    from workbench.execution import jobs
    from workbench.execution.open_run import open_run

    typer.echo("\n".join(jobs.log_tail(open_run(name).folder, lines)))


def stop(name: RunName) -> None:
    """Stop a run in progress; finished results are kept."""
    from workbench.execution import jobs
    from workbench.execution.open_run import open_run
    from workbench.execution.run_folder import Store

    folder = open_run(name).folder
    jobs.stop(folder)
    console.print(f"Stopped. Finished results are kept; continue with: {Store(folder).command()}", markup=False, soft_wrap=True)


def listed() -> list[dict[str, Any]]:
    """Rows of `workbench list runs`: {run, state, done, running, note}; the note says what is damaged."""
    from workbench.execution import jobs
    from workbench.execution.open_run import DEFAULT_FOLDER, list_runs

    rows = []
    for row in jobs.statuses(Path(DEFAULT_FOLDER) / name for name in list_runs()):
        done = "" if row["nodes"] is None else f"{row['nodes_done']}/{row['nodes']}"
        rows.append(
            {"run": row["run"], "state": row["state"], "done": done, "running": row["state"] == "running", "note": row["note"] or ""}
        )
    return rows
