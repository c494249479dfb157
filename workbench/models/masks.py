"""Pruning masks: boolean, True = pruned; bit-packed on disk with their provenance; exact undo.

cut            the mask of the incoming weights of a neuron set
save, load     bit-packed safetensors
count          how many weights a mask prunes
"""

import json

import numpy as np
import torch

from workbench.errors import ModelError
from workbench.storage import read_arrays, read_metadata, write_arrays


def save(path, masks, provenance):
    """Write {parameter name: bool tensor} bit-packed; `provenance` is any JSON-able mapping."""
    packed = {name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1))) for name, mask in masks.items()}
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    write_arrays(path, packed, {"shapes": json.dumps(shapes), "provenance": json.dumps(provenance)})


def load(path):
    """Read what `save` wrote: ({parameter name: bool tensor}, provenance).

    Raises   ModelError when the file is no mask
    """
    header = read_metadata(path)
    if "shapes" not in header:
        raise ModelError(f"{path} is no mask file: its header has no shapes.")
    masks = {}
    for name, shape in json.loads(header["shapes"]).items():
        bits = np.unpackbits(read_arrays(path)[name].numpy(), count=int(np.prod(shape)))
        masks[name] = torch.from_numpy(bits.astype(bool)).reshape(shape)
    return masks, json.loads(header["provenance"])


def count(masks):
    """Number of pruned weights over all tensors."""
    return int(sum(mask.sum() for mask in masks.values()))


def cut_incoming(unet, neurons):
    """Mask of the weights that feed `ff` neurons: their value and gate rows of `ff.net.0.proj`, biases included.

    GEGLU computes value * gelu(gate) from one linear layer of twice the width, value rows first, so that neuron i is fed by
    rows i and i + width. With both cut it is exactly 0.

    neurons   {layer path ending in `ff.net.2`: index array}
    returns   {"unet.<parameter name>": bool tensor}
    """
    parameters = dict(unet.named_parameters())
    masks = {}
    for layer, index in neurons.items():
        if not layer.endswith("ff.net.2"):
            raise ModelError(f'Incoming weights can be cut at the site ff only, not at "{layer}".')
        for leaf in ("weight", "bias"):
            name = layer.removesuffix("net.2") + f"net.0.proj.{leaf}"
            if name not in parameters:
                continue
            mask = torch.zeros(parameters[name].shape, dtype=torch.bool)
            width = mask.shape[0] // 2
            rows = torch.as_tensor(np.asarray(index), dtype=torch.long)
            mask[rows] = True
            mask[rows + width] = True
            masks[f"unet.{name}"] = mask
    return masks
