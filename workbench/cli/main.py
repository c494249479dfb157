"""The command `workbench`: its verbs, each a function of the file of its group. Starts without torch."""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.markup import escape

from workbench import __version__
from workbench.cli.output import VisibleGroup, errors, safely
from workbench.errors import WorkbenchError

VERBS = {  # where the function of each is, or the app of a group of verbs; in the order of `workbench --help`
    "demo": "run.demo",
    "run": "run.run",
    "list": "listing.list_",
    "show": "listing.show",
    "report": "report.report",
    "status": "jobs.status",
    "logs": "jobs.logs",
    "stop": "jobs.stop",
    "verify": "report.verify",
    "check": "compare.check",
    "diff": "compare.diff",
    "inspect": "inspect.inspect",
    "ablate": "ablate.ablate",
    "erase": "erase.erase",
    "export": "export.export",
    "export-run": "archive.export_run",
    "import-run": "archive.import_run",
    "init": "studies.init",
    "import-prompts": "prompts.import_prompts",
    "app": "pages.app",
    "doctor": "doctor.doctor",
    "mask": "masks.app",
    "sets": "neuron_sets.app",
}


class Commands(Mapping[str, Any]):
    """{verb: its command}; the file of a verb is imported when the verb is looked up, so that a start costs no other verb's."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, place = VERBS[name].partition(".")
            found = getattr(import_module(f"workbench.cli.{module}"), place)
            if not isinstance(found, typer.Typer):
                alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
                alone.command(name)(found)
                found = alone
            command = typer.main.get_command(found)
            command.name = name
            self._made[name] = command
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class Verbs(VisibleGroup):
    """The verbs of the command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Commands()  # type: ignore[assignment]  # it can be read only, and nothing writes it


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Is a concept really gone from a text-to-image diffusion model?",
)
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
