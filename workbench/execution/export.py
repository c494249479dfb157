"""Take a finished variant out of a run folder: diffusers folder, partial safetensors, mask file, UNet with fewer channels."""

from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.execution.open_run import open_run
from workbench.execution.variant_files import merged
from workbench.models import export as exports
from workbench.models import load
from workbench.models.load import source_digest


def export(name: str | Path, variant: str, form: str, out: str | Path, fill: str = "zeros", seed: int = 0) -> tuple[Path, dict[str, Any]]:
    """Write a variant of a run in one of the forms of `models/export.py`; returns (path, its provenance).

    name     a run folder, or a name under runs/;  fill, seed   what replaces pruned weights
    Raises   RunError for an unknown or unfinished variant; ModelError when it has no mask, or the base model is gone
    """
    run = open_run(name)
    study = run.study
    beside = run.store.study_folder()
    change, chain = merged(run.store, study, variant)
    made_by = [part.model_dump(mode="json") for part, _ in chain]
    about = exports.about(change, study.model.base, source_digest(study.model.base, beside), made_by, fill, seed)
    if form == "mask":
        if fill != "zeros":
            raise RunError("A mask file says which weights are pruned, not what replaces them: --fill is for diffusers and partial.")
        return exports.mask(change, out, about), about
    model = load.of_study(study.model, beside=beside)
    tensors = exports.changed(model, change, fill, seed)
    if form == "partial":
        return exports.partial(tensors, out, about), about
    write = exports.student if form == "student" else exports.folder
    return write(model, tensors, out, about), about
