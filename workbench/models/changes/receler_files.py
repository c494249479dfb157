"""Receler's own files: a folder with eraser_weights.pt and eraser_config.json.

eraser_weights.pt   {"down_blocks.0.attentions.0": {"down.weight", "down.bias", "up.weight", "up.bias"}, ...}, a torch file
eraser_config.json  {"eraser_type": "adapter", "eraser_rank": rank}

Source   jasper0314-huang/Receler at 3ccedc9, receler/erasers/utils.py
"""

from pathlib import Path

import torch

from workbench.errors import ModelError
from workbench.foreign import read_mapping, torch_content
from workbench.models.changes import Change, adapter
from workbench.storage import write_json

CONFIG, WEIGHTS = "eraser_config.json", "eraser_weights.pt"
BEHIND = ".transformer_blocks.0.attn2"


def is_one(path):
    """Whether a path is a folder of Receler's."""
    return (Path(path) / CONFIG).is_file()


def read(path, model):
    """The Change of a folder; it fits the model.

    Raises   ModelError when a file is missing, damaged, of another kind, holds numbers that are not finite, or does not fit the model
    """
    folder = Path(path)
    kind = read_mapping(folder / CONFIG).get("eraser_type")
    if kind != "adapter":
        raise ModelError(f'{folder / CONFIG} says eraser_type {kind!r}; only "adapter" is read here.')
    content = torch_content(folder / WEIGHTS)
    tensors = {}
    for prefix, parts in content.items() if isinstance(content, dict) else ():
        for part in adapter.PARTS:
            value = parts.get(part) if isinstance(parts, dict) else None
            if not torch.is_tensor(value) or not value.is_floating_point() or value.ndim != (2 if part.endswith("weight") else 1):
                raise ModelError(f'{folder / WEIGHTS}: "{prefix}" has no {part} that is a weight of an added module.')
            if not value.isfinite().all():
                raise ModelError(f'{folder / WEIGHTS}: {part} of "{prefix}" holds numbers that are not finite.')
            tensors[f"{prefix}{BEHIND}.{part}"] = value.detach().float().cpu().clone()
    if not tensors:
        raise ModelError(f"{folder / WEIGHTS} holds no added modules.")
    ranks = {len(value) for name, value in tensors.items() if name.endswith("down.bias")}
    if len(ranks) != 1:
        raise ModelError(f"{folder / WEIGHTS}: the added modules differ in width ({sorted(ranks)}).")
    change = Change("adapter", {"rank": ranks.pop()}, tensors)
    with adapter.installed(model, change):
        pass
    return change


def write(change, out):
    """Write a Change as such a folder; returns its path.

    Raises   ModelError where the change is another one, or the layout has no place for a module
    """
    places = adapter.places(change.tensors) if change.kind == "adapter" else []
    strange = [place for place in places if not place.endswith(BEHIND)]
    if not places or strange:
        raise ModelError(f"Receler's files hold one added module for each attention; they have no place for {strange or change.kind}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    content = {place.removesuffix(BEHIND): {part: change.tensors[f"{place}.{part}"] for part in adapter.PARTS} for place in places}
    torch.save(content, out / WEIGHTS)
    write_json(out / CONFIG, {"eraser_type": "adapter", "eraser_rank": change.settings["rank"]})
    return out
