"""How many copies of the weights exist at once?

Each question is asked in a process of its own: python -m experiments.full_size.copies QUESTION RUN BASE DTYPE.

load       the base model, from float16 files into the study's number format
variant    an erased variant, read and applied, while the UNet is evaluated once
save       the weights of that variant, written as the eraser would
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from experiments.full_size.measured import watching
from workbench.execution.run_folder import Store
from workbench.execution.variant_files import merged, write_change
from workbench.memory import keep_freed_memory
from workbench.models import load, text
from workbench.models.variants import applied
from workbench.study.study import Study

QUESTIONS = ("load", "variant", "save")


def size(tensors):
    """Bytes of tensors."""
    return sum(one.numel() * one.element_size() for one in tensors)


def of_load(store, base, dtype):
    """Bytes while the base model is loaded; weights: its own."""
    with watching() as found:
        model = load.load(base, dtype=load.DTYPES[dtype])
    return found | {"weights": size(one for module in model.modules.values() for one in module.parameters())}


def of_variant(store, base, dtype):
    """Bytes while a variant is read, applied and evaluated; weights: those it changes."""
    model = load.load(base, dtype=load.DTYPES[dtype])
    with watching() as found:
        change, _ = merged(store, Study(**store.study()), "erased")
        with torch.no_grad(), applied(model, change):
            latents = torch.zeros(1, *model.latent_shape, dtype=model.dtype)
            model.run_unet(latents, torch.tensor(500), text.encode(model, [""]))
    return found | {"weights": size(change.weights.values())}


def of_save(store, base, dtype):
    """Bytes while the variant's weights are written, as they lie in memory after training; weights: they."""
    study = Study(**store.study())
    weights = {
        name: (one.clone(memory_format=torch.channels_last) if one.dim() == 4 else one.clone())
        for name, one in merged(store, study, "erased")[0].weights.items()
    }
    with tempfile.TemporaryDirectory(dir=store.folder) as folder, watching() as found:
        write_change(Path(folder), weights, {"method": study.variants[0].method})
        found["file"] = sum(path.stat().st_size for path in Path(folder).iterdir())
    return found | {"weights": size(weights.values())}


if __name__ == "__main__":
    what, run, base, dtype = sys.argv[1:]
    torch.set_num_threads(1)
    keep_freed_memory()
    answer = {"load": of_load, "variant": of_variant, "save": of_save}[what](Store(run), base, dtype)
    sys.stdout.write(json.dumps(answer) + "\n")
