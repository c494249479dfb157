"""The commands for mask files: `workbench mask ...`. Starts without torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.output import console, say, shortened
from workbench.errors import WorkbenchError, nearest

if TYPE_CHECKING:
    import torch

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Mask files: show, import, compare, combine, invert, apply, undo.")

MaskFile = Annotated[Path, typer.Argument(help="a mask file")]
OutFile = Annotated[Path, typer.Option("--out", help="file to write")]
OutFolder = Annotated[Path, typer.Option("--out", help="folder to write; must be new or empty")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
Fill = Annotated[str, typer.Option("--fill", help="what replaces pruned weights: zeros | noise")]
Seed = Annotated[int, typer.Option("--seed", help="seed of the noise")]
ModelName = Annotated[str, typer.Argument(help="bundled name, diffusers folder, single file or hub id")]
Calls = Annotated[int | None, typer.Option("--calls", min=1, help="for folders of ConceptPrune: use the masks of the first N calls")]
SelectRatio = Annotated[
    float,
    typer.Option(
        "--select-ratio",
        min=0,
        max=1,
        help="for folders of ConceptPrune: prune weights that are in the masks of more than this share of the calls",
    ),
]
FILLS = ("zeros", "noise")
LAYERS = ("reads", "feeds", "key", "value", "text")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="a mask file, a folder of ConceptPrune's masks, or a saliency mask of SalUn")],
    calls: Calls = None,
    select_ratio: SelectRatio = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show how much a mask prunes in each layer, and how it was made."""
    import json

    from workbench.models import foreign_masks, masks

    kind = foreign_masks.kind(file)
    _for_folders(kind, calls, select_ratio)
    if kind == "ConceptPrune":
        found, about, note = _conceptprune(file, calls, select_ratio)
    elif kind == "saliency":
        found, about = foreign_masks.saliency(file), {"made": "a saliency mask as SalUn writes it", "marks": foreign_masks.TRAINED}
        note = "It marks the weights that were trained, not weights to prune."
    else:
        found, about = masks.load(file)
        note = "It marks the weights that were trained, not weights to prune." if about.get("marks") == foreign_masks.TRAINED else ""
    word = "pruned" if not note or kind == "ConceptPrune" else "marked"
    rows = [
        {
            "layer": name,
            "weights": mask.numel(),
            word: int(mask.sum()),
            "share": f"{100 * mask.float().mean().item() if mask.numel() else 0:.4f} %",
        }
        for name, mask in found.items()
    ]
    if as_json:
        say({"provenance": about, "layers": rows}, True)
        return
    say(_narrow(rows), False)
    console.print(f"{masks.count(found)} weights. Made by: {json.dumps(about)}", markup=False, soft_wrap=True)
    if note:
        console.print(note, markup=False, soft_wrap=True)


def _conceptprune(folder: Path, calls: int | None, select_ratio: float) -> "tuple[dict[str, torch.Tensor], dict[str, Any], str]":
    """({layer as its files number it: mask}, where it comes from, what to do next) of a folder, without a model."""
    import torch

    from workbench.models import foreign_masks

    found, n = foreign_masks.united(foreign_masks.calls(folder), folder, calls, select_ratio)
    named = {f"layer {number}, {mask.shape[0]} x {mask.shape[1]}": torch.from_numpy(mask) for number, mask in found.items()}
    note = (
        f"It prunes weights that are in the masks of more than {select_ratio:g} of {'the first' if calls else 'all'} "
        f"{n} calls. Published: the first 10 calls (9 for "
        "nudity). Layers are numbered in the order of their sorted names; their names come with a model: "
        f"workbench mask import {folder} --model BASE --calls 10 --out FILE"
    )
    return named, {"made": "ConceptPrune's masks", "calls": n, "select_ratio": select_ratio}, note


def _for_folders(kind: str | None, calls: int | None, select_ratio: float) -> None:
    if kind != "ConceptPrune" and (calls is not None or select_ratio):
        raise WorkbenchError("--calls and --select-ratio are for folders of ConceptPrune's masks, which hold one mask per call.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a folder of ConceptPrune's masks, or a saliency mask of SalUn")],
    model: Annotated[str, typer.Option("--model", help="the base model it was made from")],
    out: OutFile,
    calls: Calls = None,
    select_ratio: SelectRatio = 0.0,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            help="for folders of ConceptPrune: which layers the masks belong to, where their shapes do not say: reads "
            "| feeds | key | value | text",
        ),
    ] = None,
) -> None:
    """Convert a mask of another tool to a mask file with the parameter names of a base model."""
    from workbench.models import foreign_masks, load
    from workbench.models.load import source_digest

    kind = foreign_masks.kind(file)
    _for_folders(kind, calls, select_ratio)
    if kind is None:
        raise WorkbenchError(
            f"{file} is neither a folder of ConceptPrune's masks nor a saliency mask of SalUn. See what it is: workbench mask show"
        )
    if kind == "ConceptPrune" and calls is None:
        raise WorkbenchError(
            f"{file} has one mask per call. Give how many of the first calls to use: --calls 10, as published (9 for nudity)."
        )
    if layers is not None:
        one_of(layers, LAYERS, "--layers")
    _new(out)
    found, about = foreign_masks.read(file, load.load(model), calls, select_ratio, layers)
    _write(out, found, about | {"file": str(file), "base": model, "base_digest": source_digest(model)})
    if about.get("marks"):
        console.print("Warning  It marks the weights that were trained, not weights to prune.", markup=False, soft_wrap=True)


@app.command()
def compare(a: MaskFile, b: MaskFile, as_json: AsJson = False) -> None:
    """Compare two masks: how much they prune the same weights in each layer, and how much random masks would."""
    from workbench.models import masks

    rows = masks.compare(masks.load(a)[0], masks.load(b)[0])
    if not as_json:
        rows = _narrow([{key: _short(value) for key, value in row.items()} for row in rows])
    say(rows, as_json)
    if not as_json:
        console.print(
            "iou: weights pruned by both masks / weights pruned by either. chance, with its 95 % interval: two random "
            "masks of the same size."
        )


@app.command()
def combine(
    a: MaskFile, b: MaskFile, out: OutFile, how: Annotated[str, typer.Option("--how", help="union | intersection | difference")]
) -> None:
    """Combine two masks: what either of them, both of them, or only the first one prunes."""
    from workbench.models import masks

    (one, first), (other, second) = masks.load(a), masks.load(b)
    made = masks.combine(one, other, how)
    about = {"how": how, "of": [first, second]}
    if first.get("base_digest") == second.get("base_digest"):
        about |= {key: first[key] for key in ("base", "base_digest") if key in first}
    _write(out, made, about)


@app.command()
def invert(file: MaskFile, out: OutFile) -> None:
    """Write a mask of the weights that this mask keeps, in the layers it names."""
    from workbench.models import masks

    found, about = masks.load(file)
    kept = {key: about[key] for key in ("base", "base_digest") if key in about}
    _write(out, masks.inverted(found), {"how": "inverted", "of": [about]} | kept)


@app.command()
def apply(
    model: ModelName,
    file: MaskFile,
    out: OutFolder,
    fill: Fill = "zeros",
    seed: Seed = 0,
    undo: Annotated[Path | None, typer.Option("--undo", help="file to keep the pruned weights in, for `workbench mask undo`")] = None,
) -> None:
    """Prune a model by a mask and write it as a diffusers folder."""
    from workbench.models import export as exports
    from workbench.models import load, masks
    from workbench.models.load import source_digest
    from workbench.models.variants import Variant

    one_of(fill, FILLS, "--fill")
    _new(undo)
    found, made = masks.load(file)
    base = load.load(model)
    masks.check_fit(found, base.parameters(), str(file))
    variant = Variant(file.stem, masks=found)
    about = exports.about(variant, model, source_digest(model), [made], fill, seed)
    exports.folder(base, exports.changed(base, variant, fill, seed), out, about)
    console.print(f"Model    {out}", markup=False, soft_wrap=True)
    if undo:
        masks.save(undo, found, about, masks.prune(base.parameters(), found))
        console.print(
            f"Undo     {undo} holds the pruned weights, with which the pruning can be undone: do not publish it",
            markup=False,
            soft_wrap=True,
        )
    warn(about)


@app.command("undo")
def undo_(
    folder: Annotated[Path, typer.Argument(help="diffusers folder of the pruned model")],
    file: Annotated[Path, typer.Argument(help="the file that `workbench mask apply --undo` wrote")],
    out: OutFolder,
) -> None:
    """Restore pruned weights, bit for bit."""
    from workbench.models import export as exports
    from workbench.models import load, masks

    found, about = masks.load(file)
    values, model = masks.load_values(file), load.load(str(folder))
    masks.undo(model.parameters(), found, values)
    given = {name: model.parameters()[name].detach() for name in found}
    exports.folder(model, given, out, {"how": "undone", "of": about})
    console.print(f"Model    {out}", markup=False, soft_wrap=True)


def _write(out: Path, found: "dict[str, torch.Tensor]", about: dict[str, Any]) -> None:
    from workbench.models import masks

    _new(out)
    if not masks.count(found):
        raise WorkbenchError("This mask would prune nothing, so it is not written.")
    masks.save(out, found, about)
    console.print(f"Mask     {out}: {masks.count(found)} weights in {len(found)} layers", markup=False, soft_wrap=True)


def _new(path: Path | None) -> None:
    if path is not None and path.exists():
        raise WorkbenchError(f"{path} exists already, and nothing is replaced. Choose another name.")


def warn(about: dict[str, Any]) -> None:
    if about["warning"]:
        console.print(f"Warning  {about['warning']}", markup=False, soft_wrap=True)


def one_of(word: str, possible: Iterable[str], option: str) -> None:
    if word not in possible:
        raise WorkbenchError(f'{option} "{word}" is not possible.{nearest(word, possible)}')


def _narrow(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose layers are shortened in the middle to what the width leaves, so that they can be told apart."""
    if not rows:
        return rows
    taken = sum(max(len(key), *(len(str(row[key])) for row in rows)) for key in rows[0] if key != "layer")
    names = shortened([row["layer"] for row in rows], max(16, console.width - taken - 3 * len(rows[0]) - 1))
    return [row | {"layer": name} for row, name in zip(rows, names, strict=True)]


def _short(value: Any) -> Any:
    return "none" if value is None else f"{value:.4f}" if isinstance(value, float) else value
