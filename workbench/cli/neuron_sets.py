"""The commands for files of neuron sets: `workbench sets ...`. Starts without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.output import AsJson, console, say, shortened
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.neurons.sets import NeuronSet

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Files of neuron sets: show, combine, compare.")

SetFile = Annotated[Path, typer.Argument(help="a neuron set, e.g. runs/RUN/report/neuron-sets/concept.safetensors")]
SetFiles = Annotated[list[Path], typer.Argument(help="two or more neuron sets")]
OutFile = Annotated[Path, typer.Option("--out", help="file to write")]
Name = Annotated[str | None, typer.Option("--name", help="name of the new set; default: the name of its file")]


@app.command()
def show(file: SetFile, as_json: AsJson = False) -> None:
    """Show which neurons a set has in each layer, and how it was made."""
    import json

    from workbench.neurons.combining import SHORT, widths_of
    from workbench.neurons.sets import NeuronSet

    found = NeuronSet.load(file)
    widths = widths_of([found])
    rows = [{"layer": layer, "n": len(index), "of": widths.get(layer), "highest": int(index[-1])} for layer, index in found.neurons.items()]
    if as_json:
        neurons = {layer: index.tolist() for layer, index in found.neurons.items()}
        about = {"name": found.name, "model": found.model, "digest": found.digest, "provenance": found.provenance}
        say(about | {"n": len(found), "layers": rows, "neurons": neurons}, True)
        return
    names = shortened([row["layer"] for row in rows], max(16, console.width - 45))
    shown = zip(names, rows, strict=True)
    say([row | {"layer": name, "of": "not known" if row["of"] is None else row["of"]} for name, row in shown], False)
    made = {key: value for key, value in found.provenance.items() if key not in SHORT}
    console.print(
        f"{found.name}: {len(found)} neurons in {len(found.neurons)} layers of the model {found.model[:12]}", markup=False, soft_wrap=True
    )
    console.print(f"Made by: {json.dumps(made)}", markup=False, soft_wrap=True)


@app.command()
def union(files: SetFiles, out: OutFile, name: Name = None) -> None:
    """Write a set of the neurons that are in any of the sets."""
    _combine("union", files, out, name)


@app.command()
def intersection(files: SetFiles, out: OutFile, name: Name = None) -> None:
    """Write a set of the neurons that are in all of the sets."""
    _combine("intersection", files, out, name)


@app.command()
def difference(files: SetFiles, out: OutFile, name: Name = None) -> None:
    """Write a set of the neurons that are in the first set and in none of the others."""
    _combine("difference", files, out, name)


@app.command()
def compare(
    files: SetFiles,
    model: Annotated[str | None, typer.Option("--model", help="base model that gives the widths of layers, where the sets do not")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare sets: how much they overlap, in each layer and in total, and how much random sets would."""
    from workbench.analysis.overlap import overlaps
    from workbench.neurons.combining import same_base, widths_of

    found = _loaded(files)
    sets = list(found.values())
    same_base(sets)
    widths = (_widths(model) if model else {}) | widths_of(sets)
    table = overlaps(found, widths)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    if as_json:
        say(rows, True)
        return
    for pair in dict.fromkeys((row["first"], row["second"]) for row in rows):
        console.print(f"{pair[0]} and {pair[1]}", markup=False, soft_wrap=True)
        for row in rows:
            if (row["first"], row["second"]) == pair:
                console.print(f"  {row['layer']}: {_overlap(row)}", markup=False, soft_wrap=True)
    console.print(
        "IoU: neurons in both / neurons in either. By chance, with its 95 % interval: random sets with as many neurons in every layer; "
        "p: how often random sets overlap at least as much.",
        soft_wrap=True,
    )


def _combine(how: str, files: list[Path], out: Path, name: str | None) -> None:
    from workbench.neurons.combining import combine

    if out.exists():
        raise WorkbenchError(f"{out} exists already, and nothing is replaced. Choose another name.")
    made = combine(how, list(_loaded(files).values()), name or out.stem)
    if not len(made):
        raise WorkbenchError(f"This {how} is empty, so no set is written.")
    made.save(out)
    console.print(f"Set      {out}: {len(made)} neurons in {len(made.neurons)} layers", markup=False, soft_wrap=True)


def _loaded(files: list[Path]) -> "dict[str, NeuronSet]":
    """{label: NeuronSet}; the label is the set's own name, or its file where two have the same."""
    from workbench.neurons.sets import NeuronSet

    if len(files) < 2:
        raise WorkbenchError(f"{len(files)} neuron set was given; two or more are needed.")
    if len({str(file) for file in files}) < len(files):
        raise WorkbenchError("The same file was given twice.")
    sets = [NeuronSet.load(file) for file in files]
    names = [one.name for one in sets]
    return {name if names.count(name) == 1 else str(file): one for name, file, one in zip(names, files, sets, strict=True)}


def _widths(name: str) -> dict[str, int]:
    from workbench.models import load
    from workbench.neurons.sites import SITES, layers

    model = load.load(name)
    found = [layer for site in SITES for layer in layers(model.unet, [site], model.text_encoder)]
    return {layer.path: layer.n_neurons for layer in found}


def _overlap(row: dict[str, Any]) -> str:
    """What a row of `overlaps` says, in words."""
    text = f"{row['n_first']} and {row['n_second']} neurons" + (f" of {row['n']}" if row["n"] is not None else "")
    if row["iou"] is not None:
        text += f", IoU {row['iou']:.4f}"
    if row["chance"] is not None:
        text += f", by chance {row['chance']:.4f} ({row['chance_low']:.4f} to {row['chance_high']:.4f}), p {row['p_random']:.4f}"
    return text + (f"; {row['reason']}" if row["reason"] else "")
