"""The commands that hand a run over as one file: export-run and import-run. Starts without torch."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import RunName, console


def export_run(
    name: RunName, out: Annotated[Path, typer.Option("--out", help="the archive to write, a zip file that is not there yet")]
) -> None:
    """Write a run as one archive with a digest of every file, to hand over or keep. Its study file and results are in it."""
    from workbench.execution.archive import pack

    path, n = pack(name, out)
    console.print(f"Written  {path}, {n} files", markup=False, soft_wrap=True)
    console.print(f"Next     open it elsewhere: workbench import-run {path.name}", markup=False, soft_wrap=True)


def import_run(
    archive: Annotated[Path, typer.Argument(help="an archive that export-run wrote")],
    runs: Annotated[Path, typer.Option("--runs", help="the folder that holds the runs")] = Path("runs"),
    name: Annotated[str | None, typer.Option("--name", help="name of the run; default: as it was called")] = None,
) -> None:
    """Make a run of an archive. Names, sizes and digests are checked first; nothing that is there is replaced."""
    from workbench.execution.archive import unpack

    folder = unpack(archive, runs, name)
    console.print(f"Imported {folder}", markup=False, soft_wrap=True)
    console.print(f"Next     open the pages: workbench app --runs {runs}", markup=False, soft_wrap=True)
