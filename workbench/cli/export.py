"""The command that exports a variant of a run: export. Starts without torch."""

from typing import Annotated

import typer

from workbench.cli.masks import FILLS, Fill, OutFolder, Seed, one_of, warn
from workbench.cli.output import console

FORMS = ("diffusers", "partial", "mask", "student")


def export(
    name: Annotated[str, typer.Argument(help="a run: its folder, or its name under runs/")],
    variant: Annotated[str, typer.Option("--variant", help="the variant to export")],
    out: OutFolder,
    as_: Annotated[
        str,
        typer.Option(
            "--as",
            help="diffusers: a whole folder | partial: the changed weights | mask: the pruned weights | student: a UNet without the "
            "channels that were removed",
        ),
    ] = "diffusers",
    fill: Fill = "zeros",
    seed: Seed = 0,
) -> None:
    """Export a variant of a run as a diffusers folder, safetensors with the changed weights, a mask file, or a UNet with fewer channels."""
    from workbench.execution import export as export_variant

    one_of(as_, FORMS, "--as")
    one_of(fill, FILLS, "--fill")
    path, about = export_variant.export(name, variant, as_, out, fill, seed)
    console.print(f"Written  {path}", markup=False, soft_wrap=True)
    warn(about)
