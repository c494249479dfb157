"""The commands that write a report again and check the files of a run: report and verify. Starts without torch."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import AsJson, RunName, console, errors, say


def report(
    name: RunName,
    format_: Annotated[
        str, typer.Option("--format", help="html | md | json | csv | card (model card) | bib (BibTeX) | zip (everything)")
    ] = "html",
    sections: Annotated[
        str | None,
        typer.Option("--sections", help="sections of HTML and Markdown, separated by commas, such as verdict,rates,methods; default all"),
    ] = None,
    max_mb: Annotated[float, typer.Option("--max-mb", help="megabytes that the HTML file or the archive may have")] = 10,
    images: Annotated[str, typer.Option("--images", help="none | thumb (at most 256 pixels a side) | full")] = "thumb",
    reveal: Annotated[bool, typer.Option("--reveal", help="show images that may show the concept clearly, not blurred")] = False,
    variant: Annotated[str | None, typer.Option("--variant", help="whose model card; default the first changed variant")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="the file to write; default in the folder report of the run")] = None,
) -> None:
    """Write a run's report again from its report.json, whole or in part, and print its path."""
    from workbench.execution.open_run import open_run
    from workbench.report.renderers.options import Options, named

    run = open_run(name)
    chosen = Options(named(sections) if sections is not None else None, images, max_mb, variant)  # type: ignore[arg-type]  # it checks
    whole = chosen == Options() and not reveal and format_ in ("html", "md")
    if out is None and (whole or format_ in ("csv", "json")):
        typer.echo(run.report(format_))
        return
    from workbench.ui import report_files

    path, left_out = report_files.write(run.folder, format_, chosen, reveal, out)
    for sentence in left_out:
        errors.print(sentence, markup=False, soft_wrap=True)
    typer.echo(path)


def verify(name: RunName, as_json: AsJson = False) -> None:
    """Check the size and digest of every file of a run. Exit code 1 when a file is damaged."""
    from workbench.execution.open_run import open_run
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
