"""The verb that starts a study of one's own: init. Starts without torch."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import console


def init(
    name: Annotated[str, typer.Argument(help="what the study is called; writes NAME.toml and the prompts it names")],
    like: Annotated[str, typer.Option("--like", help="the study to start from: a file, or the name of a bundled one")] = "emoji-ink-style",
    out: Annotated[Path, typer.Option("--out", help="folder to write into")] = Path("."),
) -> None:
    """Start a study of your own: a copy of a bundled one and its prompt files, to be changed."""
    from workbench.study.scaffold import scaffold

    study, *prompts = scaffold(name, like, out)
    console.print(f"Study    {study}\nPrompts  {', '.join(map(str, prompts))}", soft_wrap=True, markup=False)
    console.print(f"Next     change them, then see what it costs: workbench run {study} --dry-run", soft_wrap=True, markup=False)
