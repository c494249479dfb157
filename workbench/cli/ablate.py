"""The verb `ablate`: what the Ablation lab shows, as a process of its own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.output import console
from workbench.errors import WorkbenchError


def ablate(
    run: Annotated[str, typer.Argument(help="run folder, or name of a run under runs/")],
    prompt: Annotated[str, typer.Option("--prompt", help="the prompt to draw")],
    out: Annotated[Path, typer.Option("--out", help="folder for pictures and numbers.json; must not exist")],
    pick: Annotated[str, typer.Option("--pick", help="which neurons, such as concept, cluster:2, top:score:50, list:NAME")] = "concept",
    mode: Annotated[str, typer.Option("--mode", help="zero | mean | scale | clamp | patch")] = "zero",
    strength: Annotated[float, typer.Option("--strength", help="how much of it; 1 = wholly")] = 1.0,
    calls: Annotated[str | None, typer.Option("--calls", help="FIRST-LAST call of the UNet, from 0; default: all")] = None,
    branch: Annotated[str, typer.Option("--branch", help="cond | uncond | both")] = "cond",
    seeds: Annotated[str, typer.Option("--seeds", help="seeds of the noise, with commas")] = "1",
    variants: Annotated[str | None, typer.Option("--variants", help="with commas; default: base and all variants of the run")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Ablate neurons of a finished run and write the images before and after, with detector, target and activity."""
    from workbench.execution.open_run import open_run
    from workbench.ui import lab_state
    from workbench.ui import pick as picks
    from workbench.ui.run_list import look

    if out.exists():
        raise WorkbenchError(f"{out} exists already, and nothing is replaced. Choose another --out.")
    state = look(open_run(run).folder)
    neurons = picks.resolve(state, pick)
    window = None if calls is None else _window(calls)
    prompt, noise = lab_state.prompt_of(prompt), lab_state.seeds_of(seeds)

    from workbench.lab import Lab, NeuronAblation

    ablation = NeuronAblation(neurons, mode, strength, window, branch)  # type: ignore[arg-type]  # checked there
    lab = Lab(state.folder, device)
    names = variants.split(",") if variants else lab.variants
    rows: list[dict[str, Any]] = []
    asked = lab_state.Asked(pick, mode, strength, window, branch, prompt, noise, tuple(names))
    console.print(f"{lab_state.described(asked, neurons)}.", markup=False, soft_wrap=True)
    for name in names:
        rows += _variant(lab, name.strip(), asked, ablation, out)
    from workbench.storage import write_json

    write_json(out / "numbers.json", {"asked": lab_state.as_plain(asked), "neurons": neurons, "rows": rows})
    for row in rows:
        found = "  ".join(
            f"{key} {row[key][0]:.2f} -> {row[key][1]:.2f}" for key in ("score", "target", "activity") if row[key] is not None
        )
        console.print(f"{row['variant']}, seed {row['seed']}: {found}", markup=False, soft_wrap=True)
    console.print(f"Written  {out}", markup=False, soft_wrap=True)


def _window(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise WorkbenchError(f'--calls "{text}" is no window. Write FIRST-LAST, such as 0-4.')
    return int(first), int(last)


def _variant(lab: Any, name: str, asked: Any, ablation: Any, out: Path) -> list[dict[str, Any]]:
    """Pictures of a variant before and after, and rows {variant, seed, score, concept, target, activity}: each (before, after)."""
    from PIL import Image

    from workbench.storage import atomic

    rows = []
    for seed in asked.seeds:
        both = [lab.images(asked.prompt, seed, name, change) for change in (None, ablation)]
        found = [lab.found(images) for images in both]
        for when, images in zip(("before", "after"), both, strict=True):
            picture = Image.fromarray((images[0].permute(1, 2, 0).nan_to_num().numpy() * 255).round().astype("uint8"))
            with atomic(out / f"{name}-{seed}-{when}.png") as temporary:
                picture.save(temporary, format="PNG")
        row: dict[str, Any] = {"variant": name, "seed": seed, "concept": [bool(one[0][0]) for one in found]}
        row |= {"score": [float(one[1][0]) for one in found], "target": None, "activity": None, "reason": None}
        try:
            row["target"] = [float(lab.target(asked.prompt, seed, name, change)[0]) for change in (None, ablation)]
            row["activity"] = [lab.activity(ablation.neurons, asked.prompt, seed, name, change) for change in (None, ablation)]
        except WorkbenchError as error:
            row["reason"] = str(error)
        rows.append(row)
    return rows
