"""The command `workbench inspect`: what is this checkpoint, does it fit, and what did it change? Starts without torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from workbench.cli.output import console, say, shortened
from workbench.errors import ModelError, WorkbenchError

if TYPE_CHECKING:
    import torch

    from workbench.models.changes import Change
    from workbench.models.formats import Checkpoint
    from workbench.models.load import Model

SHOWN = 12
NAMED = 4


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="file or folder of a checkpoint")],
    model: Annotated[str, typer.Option("--model", help="the base model that it was made from")],
    multiplier: Annotated[float, typer.Option("--multiplier", help="multiplies the strength of a LoRA; -1 subtracts what it adds")] = 1.0,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings", help="write the token embeddings that it adds to a new .safetensors file, for `workbench import-prompts`"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON with every tensor, for scripts")] = False,
) -> None:
    """Show what a checkpoint is, whether it fits a base model, and what it changed. Exit code 2 when it cannot be used as a variant."""
    from workbench.models import formats, load
    from workbench.models import inspect as inspected
    from workbench.models.changes import receler_files, spm_files

    if embeddings is not None and (embeddings.exists() or embeddings.suffix != ".safetensors"):
        raise WorkbenchError(f"--embeddings {embeddings}: give a new file whose name ends in .safetensors; nothing is replaced.")
    base = load.load(model)
    if receler_files.is_one(checkpoint):
        _show_added(receler_files.read(checkpoint, base), checkpoint, as_json)
        return
    found = formats.read(checkpoint, base, multiplier)
    reason = None
    try:
        formats.check(found, base)
    except ModelError as error:
        reason = str(error)
    changes = [] if found.shapes else inspected.rows(found, base)
    about = {
        "checkpoint": found.path,
        "container": found.container,
        "formats": found.formats,
        "peeled": found.peeled,
        "declared": found.declared,
        "fit": len(found.tensors),
        "other_shape": len(found.shapes),
        "unexpected": found.unexpected,
        "ignored": found.ignored,
        "unfit": found.unfit,
        "not_finite": [{"parameter": name} | counts for name, counts in found.not_finite.items()],
        "added_tokens": {part: len(rows) for part, rows in found.added.items()},
        "adaptors": found.adaptors,
        "factors": found.factors,
        "multiplier": found.multiplier,
        "complete": found.complete,
        "changed": len(changes),
        "notes": found.notes,
        "like": inspected.like(changes),
        "base": inspected.base(found, changes),
        "fewer_channels": found.fewer,
        "spm": _membranes(checkpoint, base) if spm_files.is_one(checkpoint) else None,
        "usable": reason is None,
        "reason": reason,
    }
    places = inspected.by_place(changes, base)
    if embeddings is not None:
        _write_embeddings(formats.learned_embeddings(found), embeddings)
    if as_json:
        say(about | {"places": places, "parameters": changes}, True)
    else:
        _show(found, about, places, changes, checkpoint, model, embeddings)
    if reason:
        raise typer.Exit(2)


def _show_added(change: "Change", checkpoint: Path, as_json: bool) -> None:
    """What is said of a folder that adds modules and changes no weights."""
    about = {"checkpoint": str(checkpoint), "what": change.words, "added": change.n_parameters, "changed": 0, "usable": True}
    if as_json:
        say(about, True)
        return
    console.print(f"[bold]{escape(str(checkpoint))}[/]: Receler's files. {escape(change.words)}", soft_wrap=True, highlight=False)
    _line(f"{change.n_parameters:,} weights are added, none of the model's own is changed. It fits, and can be a variant.")


def _membranes(checkpoint: Path, base: "Model") -> dict[str, Any]:
    """{prompts, rank, alpha, layers, strength, usable, reason} of SPM's file, as a variant of SPM's own strength."""
    from workbench.models.changes import membrane, spm_files

    said = {"strength": "computed from the prompt"}
    try:
        change = spm_files.read(checkpoint, base)
    except ModelError as error:
        return dict.fromkeys(("prompts", "rank", "alpha", "layers")) | said | {"usable": False, "reason": str(error)}
    return change.settings | said | {"layers": len(membrane.places(change.tensors)), "usable": True, "reason": None}


def _write_embeddings(vectors: dict[str, "torch.Tensor"], path: Path) -> None:
    from workbench.storage import write_arrays

    write_arrays(path, vectors)


def _show(
    found: "Checkpoint",
    about: dict[str, Any],
    places: list[dict[str, Any]],
    changes: list[dict[str, Any]],
    checkpoint: Path,
    model: str,
    embeddings: Path | None,
) -> None:
    made = f"{found.container}, names as in {' and '.join(found.formats) or 'no known format'}"
    made += f", unpacked from {', '.join(found.peeled)}" if found.peeled else ""
    console.print(f"[bold]{escape(found.path)}[/]: {escape(made)}", soft_wrap=True, highlight=False)
    spm = about["spm"]
    if spm is not None and spm["usable"]:
        prompts = ", ".join(f'"{one}"' for one in spm["prompts"])
        _line(
            f"SPM: prompts {prompts}, rank {spm['rank']}, alpha {spm['alpha']:g}, {spm['layers']} layers, strength computed from the "
            "prompt. So it is read with transport = true; without, it is merged as a plain LoRA of constant strength, as below."
        )
    elif spm is not None:
        _line(f"SPM's file, but not usable at SPM's own strength: {spm['reason']}")
    if found.declared:
        _line(f"Declared by the file, not checked: {', '.join(f'{key} = {value}' for key, value in found.declared.items())}.")
    _line(
        f"{len(found.tensors)} tensors fit, {len(found.shapes)} have another shape, {len(found.unexpected)} are not in the model. "
        + _complete(found.complete)
    )
    for why, n in found.ignored.items():
        _line(f"Ignored: {n} of {why}.")
    for note in found.notes:
        _line(note)
    for problem in dict.fromkeys(row["problem"] for row in found.unfit):
        names = [row["parameter"] for row in found.unfit if row["problem"] == problem]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        _line(f"Not usable as weights, {problem}: {', '.join(names[:NAMED])}{more}.")
    if found.not_finite:
        _line("Tensors with numbers that are not finite:")
        _table([{"parameter": name} | counts for name, counts in found.not_finite.items()][:SHOWN], {"overflow": "too large here"})
        if len(found.not_finite) > SHOWN:
            _line(f"and {len(found.not_finite) - SHOWN} more tensors.")
    if places:
        _table([_place(row) for row in places])
        largest = sorted(changes, key=lambda row: -(row["relative_change"] or 0))[:SHOWN]
        _line(f"The {len(largest)} largest of {len(changes)} changes, by |W - W0| / |W0|:")
        _table([_change(row, any(one["zeroed"] for one in largest)) for row in largest])
    if found.tensors:
        _line(f"{about['like']} {about['base']}")
    if found.added:
        _line(
            f"Written: {embeddings}. Import it as an attack: workbench import-prompts {embeddings}"
            if embeddings
            else f"To use the added token embeddings as an attack: workbench inspect {checkpoint} --model {model} "
            "--embeddings tokens.safetensors, then: workbench import-prompts tokens.safetensors"
        )
    if about["reason"]:
        _line(f"Not usable as a variant: {about['reason']}")
        return
    path = json.dumps(str(checkpoint.resolve()), ensure_ascii=False)
    more = f", multiplier = {found.multiplier:g}" if found.multiplier != 1 else ""
    if spm is not None and spm["usable"]:
        _line(f'As a variant of a study, SPM: method = "from_checkpoint", parameters = {{ path = {path}, transport = true }}')
    plain = ", as a plain LoRA" if spm is not None else ""
    _line(f'As a variant of a study{plain}: method = "from_checkpoint", parameters = {{ path = {path}{more} }}')
    _line("The path is absolute and works from any folder; a relative path starts at the folder of the study file.")


def _complete(parts: Sequence[str]) -> str:
    """Which parts of the model a checkpoint replaces as a whole."""
    if not parts:
        return "It is partial: it replaces no part of the model as a whole."
    return f"It holds all weights of {' and '.join(parts)}."


def _line(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True, highlight=False)


def _place(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `by_place` in few columns."""
    weights = f"{row['weights_changed']:,} of {row['of_weights']:,}"
    return {
        "place": row["place"],
        "tensors": f"{row['tensors']} of {row['of']}",
        "weights changed": weights,
        "zeroed": f"{row['zeroed']:,}",
    }


def _change(row: dict[str, Any], zeroed: bool) -> dict[str, Any]:
    """A row of `rows` in few columns."""
    shown = {"parameter": row["parameter"], "changed": f"{100 * row['changed'] / row['n']:.1f} %"}
    shown |= {"relative": _short(row["relative_change"]), "rank 1": _short(row["rank_one"])}
    return shown | ({"zeroed": f"{row['zeroed']:,}"} if zeroed else {})


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}" if value < 1000 else f"{value:.1e}"


def _table(rows: list[dict[str, Any]], titles: dict[str, str] | None = None) -> None:
    """Print rows; names in the first column are shortened in the middle to fit, and stay distinct."""
    first, *others = rows[0]
    titles = {key: key for key in others} | (titles or {})
    taken = sum(max(*map(len, titles[key].split()), *(len(str(row[key])) for row in rows)) for key in others)
    width = max(16, console.width - taken - 3 * len(rows[0]) - 1)
    names = [row[first] for row in rows]
    same = all(name.startswith("unet.") for name in names)
    names = shortened([name.removeprefix("unet.") for name in names] if same else names, width)
    first_title = f"{first} of the UNet" if same and first == "parameter" else first
    shown = [{first_title: name} | {titles[key]: row[key] for key in others} for name, row in zip(names, rows, strict=True)]
    say(shown, False)
