"""The verb `workbench inspect`: what is this checkpoint, does it fit, and what did it change? Starts without torch."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from workbench.cli_say import console, say
from workbench.errors import ModelError

SHOWN = 12


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="file or folder of an erased model")],
    model: Annotated[str, typer.Option("--model", help="the base model it was made from")],
    as_json: Annotated[bool, typer.Option("--json", help="for scripts, every tensor")] = False,
):
    """What a checkpoint is, whether it fits a base model, and what it changed."""
    from workbench.models import formats, load
    from workbench.models import inspect as inspected

    base = load.load(model)
    found = formats.read(checkpoint, base)
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
        "fit": len(found.tensors),
        "other_shape": len(found.shapes),
        "unexpected": found.unexpected,
        "ignored": found.ignored,
        "complete": found.complete,
        "changed": len(changes),
        "notes": found.notes,
        "like": inspected.like(changes),
        "base": inspected.base(found, changes),
        "usable": reason is None,
        "reason": reason,
    }
    places = inspected.by_place(changes, base)
    if as_json:
        say(about | {"places": places, "parameters": changes}, True)
        return
    made = f"{found.container}, names as in {' and '.join(found.formats) or 'no known format'}"
    made += f", taken out of {', '.join(found.peeled)}" if found.peeled else ""
    console.print(f"[bold]{escape(found.path)}[/]: {escape(made)}", soft_wrap=True, highlight=False)
    console.print(
        f"{len(found.tensors)} tensors fit, {len(found.shapes)} have another shape, {len(found.unexpected)} have no place in the model; "
        f"complete: {', '.join(found.complete) or 'no part, a partial checkpoint'}.",
        soft_wrap=True,
        markup=False,
    )
    for why, n in found.ignored.items():
        console.print(f"Left aside: {n} of {why}.", markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    if places:
        say(places, False)
        largest = sorted(changes, key=lambda row: -(row["relative_change"] or 0))[:SHOWN]
        say([{key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()} for row in largest], False)
    console.print(f"{about['like']} {about['base']}", markup=False, soft_wrap=True)
    if reason:
        console.print(f"Not usable as a variant: {reason}", markup=False, soft_wrap=True)
        return
    console.print(
        f'As a variant of a study: method = "from_checkpoint", parameters = {{ path = "{checkpoint}" }}', markup=False, soft_wrap=True
    )
