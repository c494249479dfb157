"""SPM's own files: safetensors with kohya's names, and rank, alpha and prompts in the header, as text.

lora_unet_<path with _>.lora_down.weight, .lora_up.weight, .alpha

Source   Con6924/SPM at 7dcfd21, src/models/spm.py and train_spm.py
"""

from pathlib import Path

import torch

from workbench.errors import ModelError
from workbench.models import text
from workbench.models.changes import Change, membrane
from workbench.storage import read_arrays, read_metadata, write_arrays

PREFIX = "lora_unet_"


def is_one(path):
    """Whether a path is a file of SPM's: kohya's names, with the concept's prompts in the header."""
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    said = read_metadata(path) or {}
    return {"prompts", "rank", "alpha"} <= said.keys()


def read(path, model):
    """The Change of a file, at the strength that SPM gives it; it fits the model.

    Raises   ModelError when what the header says is no number, a tensor is missing or not finite, or does not fit the model
    """
    said, content = read_metadata(path), read_arrays(path)
    try:
        rank, alpha = int(float(said["rank"])), float(said["alpha"])
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{path}: rank and alpha in the header are no numbers; it is no file of SPM's.") from None
    spelt = {PREFIX + name.replace(".", "_"): name for name in membrane.layers(model.unet)}
    tensors, used = {}, set()
    for short, name in spelt.items():
        for part in ("down", "up"):
            value = content.get(f"{short}.lora_{part}.weight")
            if value is not None:
                if not value.is_floating_point() or not value.isfinite().all():
                    raise ModelError(f"{path}: {short}.lora_{part}.weight holds numbers that are not finite.")
                tensors[f"{name}.{part}"] = value.float()
                used |= {f"{short}.lora_{part}.weight", f"{short}.alpha"}
    strange = sorted(set(content) - used)
    halves = [name for name in membrane.places(tensors) if f"{name}.up" not in tensors]
    if strange or halves or not tensors:
        raise ModelError(f"{path} does not fit the model: {(strange or halves or ['no membranes'])[0]}.")
    prompts = [one.strip() for one in said["prompts"].split(",") if one.strip()]
    return made(model, prompts, rank, alpha, tensors)


def made(model, prompts, rank, alpha, tensors):
    """The Change of membranes for the prompts of a concept.

    Raises   ModelError when they do not fit the model, or there are no prompts
    """
    if not prompts:
        raise ModelError("Membranes need the prompts of the concept, by which their strength is found; there are none.")
    with torch.no_grad():
        states = text.plain(model, text.encode(model, prompts)).float().cpu()
    change = Change("membrane", {"prompts": list(prompts), "rank": rank, "alpha": alpha}, tensors | {"concept": states})
    with membrane.added(model, change, lambda: None):
        pass
    return change


def write(change, out):
    """Write a Change as SPM's file in a folder of this name; returns its path.

    Raises   ModelError where the change is another one
    """
    if change.kind != "membrane":
        raise ModelError(f"SPM's files hold membranes; they have no place for {change.kind}.")
    out, said, content = Path(out), change.settings, {}
    for name in membrane.places(change.tensors):
        short = PREFIX + name.replace(".", "_")
        content |= {f"{short}.lora_{part}.weight": change.tensors[f"{name}.{part}"].contiguous() for part in ("down", "up")}
        content[f"{short}.alpha"] = torch.tensor(float(said["alpha"]))
    path = out / f"{out.name}_last.safetensors"
    write_arrays(path, content, {"rank": str(said["rank"]), "alpha": str(said["alpha"]), "prompts": ",".join(said["prompts"])})
    return path
