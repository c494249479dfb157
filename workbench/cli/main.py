"""The command `workbench`: its verbs, each a function of the file of its group. Starts without torch."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

from workbench import __version__
from workbench.cli import (
    ablate,
    archive,
    compare,
    doctor,
    erase,
    export,
    inspect,
    jobs,
    listing,
    masks,
    neuron_sets,
    pages,
    prompts,
    report,
    run,
    studies,
)
from workbench.cli.output import VisibleGroup, errors, safely
from workbench.errors import WorkbenchError

app = typer.Typer(
    cls=VisibleGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Is a concept really gone from a text-to-image diffusion model?",
)
VERBS: dict[str, Callable[..., None]] = {  # in the order of `workbench --help`
    "demo": run.demo,
    "run": run.run,
    "list": listing.list_,
    "show": listing.show,
    "report": report.report,
    "status": jobs.status,
    "logs": jobs.logs,
    "stop": jobs.stop,
    "verify": report.verify,
    "check": compare.check,
    "diff": compare.diff,
    "inspect": inspect.inspect,
    "ablate": ablate.ablate,
    "erase": erase.erase,
    "export": export.export,
    "export-run": archive.export_run,
    "import-run": archive.import_run,
    "init": studies.init,
    "import-prompts": prompts.import_prompts,
    "app": pages.app,
    "doctor": doctor.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(masks.app, name="mask")
app.add_typer(neuron_sets.app, name="sets")
# without torchvision transformers warns at every start that it uses its PIL processors, which is what we want
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


def main() -> None:
    """Entry point: expected errors become one message and exit code 2."""
    with safely():
        try:
            app()
        except WorkbenchError as error:
            errors.print(f"[bold red]workbench:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


if __name__ == "__main__":
    main()
