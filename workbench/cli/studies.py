"""The command that starts a study of your own: init. Starts without torch."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import console


def init(
    name: Annotated[str, typer.Argument(help="name of the new study; writes NAME.toml and its prompt files")],
    like: Annotated[str, typer.Option("--like", help="the study to copy: a file, or the name of a bundled study")] = "emoji-ink-style",
    out: Annotated[Path, typer.Option("--out", help="folder to write into")] = Path("."),
) -> None:
    """Start your own study: copy a bundled one and its prompt files, to edit."""
    from workbench.study.scaffold import scaffold

    study, *prompts = scaffold(name, like, out)
    said = ", ".join(map(str, prompts)) or f"none are shipped; the first lines of {study} say how to make them"
    console.print(f"Study    {study}\nPrompts  {said}", soft_wrap=True, markup=False)
    console.print(f"Next     edit them, then see what the study costs: workbench run {study} --dry-run", soft_wrap=True, markup=False)
