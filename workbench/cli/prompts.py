"""The command that imports prompts: import-prompts. Starts without torch."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import AsJson, console


def import_prompts(
    file: Annotated[Path, typer.Argument(help="CSV, text, JSON, learned_embeds.bin or .safetensors, or a Diffusion-MU-Attack log folder")],
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default: <name>-imported.csv in this folder")] = None,
    provenance: Annotated[str | None, typer.Option("--provenance", help="static | transferred | optimised; asked for when missing")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="what they were optimised against: the name of a variant, or a description")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column that holds the prompts, when it is not recognised")] = None,
    word: Annotated[
        str | None, typer.Option("--word", help="the word that a bare vector stands for, as prompts write it: <church>")
    ] = None,
    swap: Annotated[
        list[str] | None, typer.Option("--swap", help="replace words in every prompt, old=new: for reference and retained prompts")
    ] = None,
    expect: Annotated[str | None, typer.Option("--expect", help="the label that every image should show, for retained prompts")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="diffusers folder whose tokenizer counts prompts that are too long")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="a name of the concept: count the prompts that contain it")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
    as_json: AsJson = False,
) -> None:
    """Import prompts or embeddings: recognise the format, check them, and write a file that studies read."""
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
