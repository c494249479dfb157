"""Take a variant out of the workbench: as a diffusers folder, as partial safetensors, as a mask file.

folder    a whole pipeline that plain diffusers loads with `from_pretrained`
partial   only the tensors that changed, under diffusers' names
text_encoder   a changed text encoder as a transformers folder
student   a UNet with fewer channels, as a diffusers UNet folder without what was removed
mask      only which weights are pruned
about     what every export says of itself; also written as workbench.json, or into the header

A pruned variant may be filled with noise: zeros show where the concept was.
"""

import copy
import json
from pathlib import Path

import torch

from workbench import __version__
from workbench.errors import ModelError
from workbench.models import channels, masks
from workbench.models.load import pipeline
from workbench.models.variants import tensors
from workbench.storage import write_arrays, write_json


def changed(model, variant, fill="zeros", seed=0):
    """{parameter: tensor} of what a merged variant changes in the model; where it prunes, zeros or noise.

    Raises   ModelError when it does not fit the model, or has a change that is no weights
    """
    if variant.changes:
        said = "; ".join(change.words for change in variant.changes)
        raise ModelError(f'The variant "{variant.name}" has what no checkpoint of weights can hold: {said}.')
    result = tensors(model, variant)
    if fill == "noise":
        generator = torch.Generator().manual_seed(seed)
        for name in sorted(variant.masks):
            mask = variant.masks[name].to(result[name].device)
            result[name][mask] = masks.filling(result[name], mask, generator)
    return result


def folder(model, tensors_by_name, out, about):
    """Write base model and changes as a diffusers folder, beside it workbench.json; returns the path.

    Raises   ModelError when the folder is not empty
    """
    out = _free(out)
    whole = pipeline(model.name, model.dtype)
    parameters = {
        f"{part}.{name}": parameter
        for part in model.modules
        if part != "vae"
        for name, parameter in getattr(whole, part).named_parameters()
    }
    with torch.no_grad():
        for name, value in tensors_by_name.items():
            parameters[name].copy_(value)
    whole.save_pretrained(out)
    write_json(out / "workbench.json", about)
    return out


def partial(tensors_by_name, out, about):
    """Write <out>/partial.safetensors; names of the UNet without prefix, as published partial checkpoints have them.

    When text encoders are changed too, every name keeps its `unet.`, `text_encoder.` or `text_encoder_2.`
    """
    only_unet = all(name.startswith("unet.") for name in tensors_by_name)
    named = {name.removeprefix("unet.") if only_unet else name: value for name, value in tensors_by_name.items()}
    path = _free(out) / "partial.safetensors"
    write_arrays(path, named, {"format": "pt", "workbench": json.dumps(about)})
    return path


def text_encoder(model, tensors_by_name, out, about):
    """Write a changed text encoder as a transformers folder, as AdvUnlearn's are published, beside it workbench.json; returns the path."""
    out, encoder = _free(out), copy.deepcopy(model.text_encoder)
    own = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, value in tensors_by_name.items():
            own[name.removeprefix("text_encoder.")].copy_(value)
    encoder.save_pretrained(out)
    write_json(out / "workbench.json", about)
    return out


def removed(model, tensors_by_name):
    """{layer: indices} of the channels that a variant's tensors remove, see `channels`."""
    return channels.removed(channels.of(model.unet), tensors_by_name)


def student(model, tensors_by_name, out, about):
    """Write a UNet whose removed channels are left out, with the indices of those that are kept; returns the path of the folder.

    config.json                           the full architecture's, as published students have it
    diffusion_pytorch_model.safetensors   every tensor of the UNet, slim; `channels` in its header
    channels.json                         {layer: indices of the channels that are kept}

    Raises   ModelError when no channel was removed, or something else than the UNet changed
    """
    groups = channels.of(model.unet)
    own = {name: value.detach() for name, value in model.parameters().items() if name.startswith("unet.")} | dict(tensors_by_name)
    without = channels.removed(groups, own)
    others = sorted(name for name in tensors_by_name if not name.startswith("unet."))
    if not without or others:
        why = f'it changes "{others[0]}", too' if others else "no channel was removed: none has all its weights at exactly 0"
        raise ModelError(f"A student's folder holds a UNet with fewer channels; {why}. Export it as diffusers or partial.")
    keep = channels.kept(groups, without)
    slim = channels.slim(groups, own, keep)
    out = _free(out)
    model.unet.save_config(out)
    named = {name.removeprefix("unet."): value for name, value in slim.items()}
    write_arrays(out / "diffusion_pytorch_model.safetensors", named, {"format": "pt", channels.ENTRY: json.dumps(keep)})
    write_json(out / f"{channels.ENTRY}.json", keep)
    write_json(out / "workbench.json", about)
    return out


def mask(variant, out, about):
    """Write <out>/mask.safetensors.

    Raises   ModelError when the variant prunes nothing
    """
    if not variant.masks:
        raise ModelError(f'The variant "{variant.name}" prunes nothing, so it has no mask. Export it as diffusers or partial.')
    path = _free(out) / "mask.safetensors"
    masks.save(path, variant.masks, about)
    return path


def about(variant, base, digest, chain, fill="zeros", seed=0):
    """{workbench, base, base_digest, variant, made_by, pruned, fill, seed, warning}; `chain` the variants from the first ancestor on,
    as a study describes them."""
    pruned = masks.count(variant.masks)
    return {
        "workbench": __version__,
        "base": base,
        "base_digest": digest,
        "variant": variant.name,
        "made_by": chain,
        "pruned": pruned,
        "fill": fill if pruned else None,
        "seed": seed if pruned and fill == "noise" else None,
        "warning": masks.LEAK if pruned and fill == "zeros" else None,
    }


def _free(out):
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ModelError(f"{out} is there already and not empty; nothing is replaced. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    return out
