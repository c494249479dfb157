"""The verb that brings prompts from outside: import-prompts. Starts without torch."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import AsJson, console


def import_prompts(
    file: Annotated[Path, typer.Argument(help="CSV, text, JSON, learned_embeds.bin or .safetensors, or a Diffusion-MU-Attack log folder")],
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default <name>-imported.csv here")] = None,
    provenance: Annotated[str | None, typer.Option("--provenance", help="static | transferred | optimised; asked when missing")] = None,
    against: Annotated[str | None, typer.Option("--against", help="what they were made against: a variant's name, or words")] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column with the prompts, when it is not found")] = None,
    word: Annotated[str | None, typer.Option("--word", help="what a bare vector stands for, as prompts say it: <church>")] = None,
    swap: Annotated[list[str] | None, typer.Option("--swap", help="old=new in every prompt, for reference and retained sets")] = None,
    expect: Annotated[str | None, typer.Option("--expect", help="the label every image should show, for retained sets")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="diffusers folder whose tokenizer counts what is cut")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="a name of the concept: how many prompts say it?")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring prompts or embeddings from outside: recognise, check, write what studies read."""
    from workbench.study import imports

    asking = not as_json and sys.stdin.isatty()
    try:
        found = imports.recognise(file, column, word)
    except imports.Undecided as error:
        if not asking:
            raise
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
        found = imports.recognise(file, typer.prompt(f"Which column ({', '.join(error.columns)})?").strip(), word)
    except imports.Nameless as error:
        if not asking:
            raise
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
        found = imports.recognise(file, column, typer.prompt("Which word?"))
    found = imports.swapped(found, file, swap or (), expect)
    if provenance is None and found.kind != "pairs" and not found.provenance and asking:
        for word, meaning in imports.MEANING.items():
            console.print(f"  [bold]{word}[/]: {meaning}")
        provenance = typer.prompt("How were these prompts made?").strip()
        if provenance in ("transferred", "optimised") and against is None:
            against = typer.prompt("Against which model?", default=found.made)
    source = file.absolute().parent if file.name == "log.json" else file.absolute()
    about = imports.write(found, file, out or Path(f"{source.stem}-imported"), provenance, against, model, force, name or ())
    if as_json:
        typer.echo(json.dumps(about, indent=1))
        return
    for line in imports.sentences(about):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
