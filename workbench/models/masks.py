"""Pruning masks: boolean, True = pruned; bit-packed on disk with their provenance; exact undo.

cut_incoming   the mask of the incoming weights of a neuron set
save, load     bit-packed safetensors; with the values cut it is an undo file
count          how many weights a mask prunes
combine, inverted, compare   masks as sets
check_fit      does a mask belong to a model?
prune, undo    in the weights themselves, with zeros or noise, and back bit for bit

A mask says where the concept was: the places of its zeros are sensitive, and what is left can be completed (the eraser `revive`).
Noise in their place hides them from whoever has not got the mask.
"""

import json
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from workbench.errors import ModelError, nearest
from workbench.foreign import refuse_no_data
from workbench.storage import tensors_digest, write_arrays

HOW = ("union", "intersection", "difference")
Fill = Literal["zeros", "noise"]
LEAK = (
    "Exact zeros show where the concept was, and what was cut can be guessed from what is left (the eraser revive). Give the model away "
    "with noise in their place (--fill noise), and keep the mask file to yourself."
)
VALUES = "|values"


def save(path, masks, provenance, values=None):
    """Write {parameter name: bool tensor} bit-packed; `provenance` is any JSON-able mapping.

    values   {parameter name: what was cut, (n,)} as `prune` returns it: then the file undoes the cut
    """
    packed = {name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1))) for name, mask in masks.items()}
    header = {"shapes": json.dumps({name: list(mask.shape) for name, mask in masks.items()}), "provenance": json.dumps(provenance)}
    header["digest"] = tensors_digest(packed)
    cut = {name + VALUES: value for name, value in (values or {}).items()}
    header |= {"values_digest": tensors_digest(cut)} if cut else {}
    write_arrays(path, packed | cut, header)


def load(path):
    """Read what `save` wrote: ({parameter name: bool tensor}, provenance).

    Raises   ModelError when the file is no mask, or not as it was written
    """
    header, arrays = _read(path)
    masks, shapes, provenance = {}, _mapping(path, header, "shapes"), _mapping(path, header, "provenance")
    packed = {name: arrays[name] for name in shapes if name in arrays}
    if len(packed) < len(shapes) or ("digest" in header and tensors_digest(packed) != header["digest"]):
        raise ModelError(f"{path} is not as it was written: its bits do not fit its header. Get the file again.")
    for name, shape in shapes.items():
        sides = shape if isinstance(shape, list) else [None]
        if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in sides):
            raise ModelError(f'{path} is no mask file: the shape of "{name}" in its header is {json.dumps(shape)[:60]}. Get it again.')
        n = math.prod(sides)
        if packed[name].dtype != torch.uint8 or packed[name].numel() != -(-n // 8):
            raise ModelError(f'{path} is no mask file: "{name}" has {packed[name].numel()} bytes, {n} bits need {-(-n // 8)}.')
        masks[name] = torch.from_numpy(np.unpackbits(packed[name].numpy(), count=n).astype(bool)).reshape(shape)
    return masks, provenance


def load_values(path):
    """{parameter name: what was cut, (n,)} of an undo file.

    Raises   ModelError when the file holds a mask alone, or is not as it was written
    """
    header, arrays = _read(path)
    values = {name: value for name, value in arrays.items() if name.endswith(VALUES)}
    if not values:
        raise ModelError(
            f"{path} holds no weights that were cut, so nothing can be put back. It is written by: workbench mask apply --undo"
        )
    if "values_digest" in header and tensors_digest(values) != header["values_digest"]:
        raise ModelError(f"{path} is not as it was written: the weights that were cut do not fit its header. Get the file again.")
    return {name.removesuffix(VALUES): value for name, value in values.items()}


def _read(path):
    """(header, {name: tensor}) of a file."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path} is a folder, no mask file. Masks of other tools are brought in with: workbench mask import")
    if not path.is_file():
        raise ModelError(f"There is no mask file {path}.{nearest(path.name, (p.name for p in path.parent.glob('*.safetensors')))}")
    refuse_no_data(path)
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
        if "shapes" not in header:
            raise ModelError(
                f"{path} is no mask file: its header has no shapes. Masks are written by the erasers that prune and by `workbench mask`; "
                "those of other tools are brought in with: workbench mask import"
            )
        return header, load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path} is no mask file: {str(error)[:200]}.") from error


def _no_number(word):
    raise ValueError(f"{word} is no JSON")


def _mapping(path, header, key):
    """The mapping that an entry of the header holds as JSON."""
    try:
        found = json.loads(header[key], parse_constant=_no_number)
    except (KeyError, ValueError, RecursionError) as error:
        what = "is missing" if key not in header else "is no JSON"
        raise ModelError(f"{path} is no mask file: {key} {what} in its header. Get the file again, or make the mask again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no mask file: {key} in its header is no mapping. Get the file again, or make the mask again.")
    return found


def count(masks):
    """Number of pruned weights over all tensors."""
    return int(sum(mask.sum() for mask in masks.values()))


def combine(one, other, how):
    """The union, the intersection, or the difference (in the first, not in the second) of two masks.

    A layer that a mask does not name is not pruned by it.
    Raises   ModelError when a layer has two shapes, or for another word
    """
    if how not in HOW:
        raise ModelError(f'Masks cannot be combined by "{how}".{nearest(how, HOW)}')
    result = {}
    for name in sorted({*one, *other}):
        a, b = _both(name, one, other)
        result[name] = {"union": a | b, "intersection": a & b, "difference": a & ~b}[how]
    return {name: mask for name, mask in result.items() if mask.any()}


def inverted(masks):
    """In the layers it names, the weights that the mask keeps."""
    return {name: ~mask for name, mask in masks.items()}


def compare(one, other):
    """How far two masks are the same: [{layer, n, first, second, both, iou, chance, chance_low, chance_high}], all layers last.

    n        weights of the layer;  first, second, both   weights pruned by each and by both
    iou      both / (first + second - both); None where neither prunes
    chance   the same of two masks that prune as many weights by lot, and its 95 % band (hypergeometric); of all layers together
             only the expected value, by expected counts
    """
    from scipy.stats import hypergeom

    rows, totals = [], np.zeros(5)
    for name in sorted({*one, *other}):
        a, b = _both(name, one, other)
        n, first, second, both = a.numel(), int(a.sum()), int(b.sum()), int((a & b).sum())
        expected = first * second / n
        low, high = (hypergeom.ppf(q, n, first, second) for q in (0.025, 0.975))
        row = {"layer": name, "n": n, "first": first, "second": second, "both": both, "iou": _iou(first, second, both)}
        row |= {key: _iou(first, second, x) for key, x in (("chance", expected), ("chance_low", low), ("chance_high", high))}
        rows.append(row)
        totals += [n, first, second, both, expected]
    n, first, second, both, expected = totals
    total = {"layer": "all layers", "n": int(n), "first": int(first), "second": int(second), "both": int(both)}
    total |= {"iou": _iou(first, second, both), "chance": _iou(first, second, expected), "chance_low": None, "chance_high": None}
    return [*rows, total]


def _iou(first, second, both):
    return float(both / (first + second - both)) if first + second else None


def _both(name, one, other):
    present = [masks[name] for masks in (one, other) if name in masks]
    if len({tuple(mask.shape) for mask in present}) > 1:
        shapes = " and ".join(str(tuple(mask.shape)) for mask in present)
        raise ModelError(f'The two masks do not belong to one model: "{name}" has the shapes {shapes}.')
    return tuple(masks.get(name, torch.zeros_like(present[0])) for masks in (one, other))


def check_fit(masks, parameters, what):
    """Check that a mask names weights of a model, by {name: parameter}, in their shapes.

    Raises   ModelError that counts what fits, and names the first that does not
    """
    missing = sorted(name for name in masks if name not in parameters)
    wrong = sorted(name for name in masks if name in parameters and masks[name].shape != parameters[name].shape)
    if missing or wrong:
        first = (
            f'"{wrong[0]}" has the shape {tuple(masks[wrong[0]].shape)}, the model {tuple(parameters[wrong[0]].shape)}'
            if wrong
            else f'the model has no "{missing[0]}"'
        )
        raise ModelError(
            f"{what} was made for another kind of model: of its {len(masks)} layers {len(masks) - len(missing) - len(wrong)} fit, "
            f"{len(missing)} are not there, {len(wrong)} have another shape; {first}."
        )


def filling(weight, mask, generator):
    """What stands in the place of cut weights: (n,) of N(0, sigma^2), sigma the standard deviation of the weights that are kept."""
    kept = weight[~mask].float()
    sigma = kept.std(correction=0) if kept.numel() else weight.new_zeros(()).float()
    noise = torch.randn(int(mask.sum()), generator=generator).to(weight.device)
    return (noise * sigma).to(weight.dtype)


@torch.no_grad()
def prune(parameters, masks, fill: Fill = "zeros", seed=0):
    """Cut weights where they are, {name: parameter}; returns what was there, {name: (n,)} in the order of the mask.

    fill     zeros, or noise of the size of the kept weights of the same tensor, from one generator in the order of names
    Raises   ModelError when the mask does not fit; nothing is changed then
    """
    check_fit(masks, parameters, "The mask")
    generator, values = torch.Generator().manual_seed(seed), {}
    for name in sorted(masks):
        own, mask = parameters[name].data, masks[name].to(parameters[name].device)
        values[name] = own[mask].clone()
        own[mask] = filling(own, mask, generator) if fill == "noise" else torch.zeros((), dtype=own.dtype, device=own.device)
    return values


@torch.no_grad()
def undo(parameters, masks, values):
    """Put back what `prune` returned: every weight is bit for bit what it was.

    Raises   ModelError when mask, values and model do not belong together; nothing is changed then
    """
    check_fit(masks, parameters, "The mask")
    for name, mask in masks.items():
        if name not in values or values[name].numel() != int(mask.sum()):
            raise ModelError(f'The pruned weights do not belong to this mask: "{name}" needs {int(mask.sum())} of them.')
        if values[name].dtype != parameters[name].dtype:
            raise ModelError(f'The weights pruned from "{name}" are {values[name].dtype}, the model is {parameters[name].dtype}.')
    for name, mask in masks.items():
        parameters[name].data[mask.to(parameters[name].device)] = values[name].to(parameters[name].device)


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
