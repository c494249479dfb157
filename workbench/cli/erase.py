"""The verb `erase`: one eraser on one model, without a study. Starts without torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.output import console, errors
from workbench.errors import StudyError, WorkbenchError

NEEDS_A_STUDY = ("neurons", "like", "spare")


def erase(
    method: Annotated[str, typer.Argument(help="an eraser, such as esd, uce, rece, ac; all: workbench list methods")],
    model: Annotated[str, typer.Option("--model", help="bundled name, diffusers folder, single file or hub id")],
    out: Annotated[Path, typer.Option("--out", help="folder to write; must be new or empty")],
    concept: Annotated[str | None, typer.Option("--concept", help="a prompt or name to erase")] = None,
    anchor: Annotated[str, typer.Option("--anchor", help="what the concept is to become; default: the empty prompt")] = "",
    pairs: Annotated[Path | None, typer.Option("--pairs", help="CSV with columns prompt and anchor, instead of --concept")] = None,
    retain: Annotated[
        Path | None, typer.Option("--retain", help="CSV with a column prompt: what must stay, for erasers that use it")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="a parameter, such as iterations=200; may be repeated")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="published, or published:TASK")] = None,
    kind: Annotated[str, typer.Option("--kind", help="of the concept, for the preset: style | object | group")] = "object",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Erase a concept from a model and write what changed as published: partial safetensors, text encoder, mask, added modules, student."""
    from workbench import registry
    from workbench.study import prompts, published

    eraser = registry.method("erasers", method)
    lacking = [name for name in NEEDS_A_STUDY if name in eraser.needs or (name != "neurons" and name in eraser.takes)]
    if "neurons" in eraser.needs or "like" in lacking:
        raise WorkbenchError(f"{method} needs what a study finds first ({', '.join(lacking)}). Make it a variant of a study instead.")
    if (concept is None) == (pairs is None) and not eraser.reads_files:
        raise WorkbenchError("Say what to erase: either --concept PROMPT, with --anchor, or --pairs FILE.csv.")
    if eraser.defends:
        kind = {"guidance": "rule of guidance", "transform": "prompt transform"}.get(eraser.defends, eraser.defends)
        raise WorkbenchError(f"{method} is a {kind}: it changes no weights, so there is no file. Make it a variant of a study.")
    try:
        given = published.settings(method, preset, kind) | _settings(settings or [])
        parameters = eraser.parameters(**given)
    except ValueError as error:
        raise StudyError(f"{method}: {error}") from None
    asked = prompts.read_pairs(pairs) if pairs else [(concept, anchor)] if concept is not None else []
    kept = list(dict.fromkeys(prompts.read_csv(retain)["prompt"])) if retain else []
    eraser.check_training(parameters, asked)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise WorkbenchError(f"{out} is there already and not empty; nothing is replaced. Choose another --out.")

    from rich.progress import Progress

    from workbench.models import export as exports
    from workbench.models import load
    from workbench.models.changes import Change, receler_files, spm_files
    from workbench.models.load import source_digest
    from workbench.models.variants import Variant

    base = load.load(model, device)
    log: list[Any] = []
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task(method, total=None)

        def tell(step: float, of: float, note: object = "") -> None:
            bar.update(task, completed=step, total=of, description=f"{method} {note if isinstance(note, str) else f'loss {note:.4g}'}")

        context: dict[str, Any] = {"progress": tell, "retained": kept, "log": log, "folder": Path("."), "spare": None}
        result = eraser.call(base, asked, parameters, **context)
    made = {"method": method, "parameters": parameters.model_dump(mode="json"), "pairs": len(asked), "preset": preset}
    if isinstance(result, Change):
        written = (spm_files if result.kind == "membrane" else receler_files).write(result, out)
        console.print(f"Written  {written}: {result.words}", markup=False, soft_wrap=True)
        console.print(f"Check    workbench inspect {written} --model {model}", markup=False, soft_wrap=True)
        return
    masked = eraser.is_mask
    variant = Variant(method, masks=dict(result)) if masked else Variant(method, weights=dict(result))
    about = exports.about(variant, model, source_digest(model), [made])
    if masked:
        path = exports.mask(variant, out, about)
    elif all(name.startswith("text_encoder.") for name in result):
        path = exports.text_encoder(base, exports.changed(base, variant), out, about)
    elif exports.removed(base, result):
        path = exports.student(base, exports.changed(base, variant), out, about)
    else:
        path = exports.partial(exports.changed(base, variant), out, about)
    console.print(f"Written  {path}: {len(result)} tensors changed", markup=False, soft_wrap=True)
    console.print(f"Check    workbench inspect {path} --model {model}", markup=False, soft_wrap=True)


def _settings(assignments: list[str]) -> dict[str, Any]:
    import tomllib

    found: dict[str, Any] = {}
    for one in assignments:
        name, equals, value = one.partition("=")
        if not equals:
            raise WorkbenchError(f'--set "{one}" is no assignment. Write --set iterations=200.')
        try:
            found[name.strip()] = tomllib.loads(f"v = {value}")["v"]
        except ValueError:
            found[name.strip()] = value
    return found
