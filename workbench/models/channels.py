"""Models with fewer channels than their architecture says: which channels a student keeps, and its two forms.

of          the groups of channels that pruning removes from a UNet: feed-forward neurons, attention heads, ResNet channels
removed     the channels whose weights are all exactly 0
slim, full  the tensors of a student without the removed channels, and in the shapes of the architecture
matched     which channels are kept, told by the weights of the base
checked     which channels are kept, as a file says it
words       how many channels are missing, for a reader

A student is loaded in the full form: a removed channel is one whose weights are all 0. It adds exactly nothing, and every other channel
has the number that it has in the base, so that recordings, scores, neuron sets and ablations speak of the same neuron. The slim form is
that of files. Both compute the same function; sums are taken in another order, so that they agree to rounding.

A layer is named by the module at which its channels are numbered, as at the sites: `...ff.net.2`, `...to_v`, `...resnets.N.conv1`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from workbench.errors import ModelError

ENTRY = "channels"  # in the header of a safetensors file; the file channels.json beside the weights holds the same
LEAST = 0.8
LEAD = 0.1
KINDS = {"ff.net.2": "feed-forward neurons", "to_v": "attention channels", "conv1": "ResNet channels"}
RESNET = re.compile(r"resnets\.\d+\.conv1$")


@dataclass(frozen=True)
class Channels:
    """The channels of one layer, and the parameters that hold their weights.

    layer     module path;  n   how many the architecture has;  together   how many are only removed as one: a head, a group of a norm
    rows      {parameter: how often each channel has a row in it}, as in GEGLU: all value rows, then all gate rows
    columns   the parameter with a column for each channel
    """

    layer: str
    n: int
    rows: dict[str, int]
    columns: str
    together: int = 1

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return (*self.rows, self.columns)

    def shape(self, parameter: str, full: torch.Size, kept: int) -> tuple[int, ...]:
        """The shape of a parameter when so many channels are kept."""
        return (full[0], kept, *full[2:]) if parameter == self.columns else (self.rows[parameter] * kept, *full[1:])

    def split(self, parameter: str, value: torch.Tensor) -> torch.Tensor:
        """(channel, ...) the weights of each channel in a parameter of any number of channels."""
        if parameter == self.columns:
            return value.transpose(0, 1)
        return value.unflatten(0, (self.rows[parameter], -1)).transpose(0, 1)

    def joined(self, parameter: str, weights: torch.Tensor) -> torch.Tensor:
        """A parameter from the weights of each channel: what undoes `split`."""
        together = weights.transpose(0, 1)
        return (together if parameter == self.columns else together.flatten(0, 1)).contiguous()


def of(unet: torch.nn.Module) -> dict[str, Channels]:
    """{layer: Channels} of a UNet, in the order of its modules; parameters with the prefix `unet.`"""
    modules, found = dict(unet.named_modules()), {}
    for path, module in modules.items():
        if path.endswith("ff.net.2"):
            made = _channels(path, module.in_features, (f"{path[:-1]}0.proj",), path, modules)
        elif path.endswith(".to_v"):
            start, n = path.removesuffix("to_v"), module.out_features
            heads = modules[start[:-1]].heads
            made = _channels(path, n, (f"{start}to_q", f"{start}to_k", path), f"{start}to_out.0", modules, n // heads)
        elif RESNET.search(path):
            start, n = path.removesuffix("conv1"), module.out_channels
            feeding = (path, f"{start}time_emb_proj", f"{start}norm2")
            made = _channels(path, n, feeding, f"{start}conv2", modules, n // modules[f"{start}norm2"].num_groups)
        else:
            continue
        found[path] = made
    return found


def _channels(layer: str, n: int, feeding: tuple[str, ...], reading: str, modules: dict[str, Any], together: int = 1) -> Channels:
    rows = {}
    for path in feeding:
        for leaf, value in modules[path].named_parameters(recurse=False) if modules.get(path) is not None else ():
            rows[f"unet.{path}.{leaf}"] = len(value) // n
    return Channels(layer, n, rows, f"unet.{reading}.weight", together)


def removed(groups: Mapping[str, Channels], tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """{layer: indices} of the channels whose weights are all exactly 0; layers of which a tensor is missing are left out."""
    found = {}
    for layer, group in groups.items():
        if all(name in tensors for name in group.parameters):
            zero = [(group.split(name, tensors[name].detach()) == 0).flatten(1).all(dim=1).cpu() for name in group.parameters]
            whole = torch.stack(zero).all(dim=0).unflatten(0, (-1, group.together)).all(dim=1)
            if whole.any():
                found[layer] = whole.repeat_interleave(group.together).nonzero()[:, 0]
    return found


def kept(groups: Mapping[str, Channels], without: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """{layer: indices that are kept} of the layers that lose some."""
    return {layer: sorted({*range(groups[layer].n)} - {*index.tolist()}) for layer, index in without.items()}


def slim(groups: Mapping[str, Channels], tensors: Mapping[str, torch.Tensor], keep: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """The tensors without the channels that are not kept; those of other layers as they are."""
    result = dict(tensors)
    for layer, index in keep.items():
        group = groups[layer]
        for name in group.parameters:
            result[name] = group.joined(name, group.split(name, tensors[name])[index])
    return result


def full(groups: Mapping[str, Channels], tensors: Mapping[str, torch.Tensor], keep: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """What undoes `slim`: the same tensors in the shapes of the architecture, 0 where a channel is missing."""
    result = dict(tensors)
    for layer, index in keep.items():
        group = groups[layer]
        for name in group.parameters:
            own = group.split(name, tensors[name])
            wide = own.new_zeros(group.n, *own.shape[1:])
            wide[index] = own
            result[name] = group.joined(name, wide)
    return result


def fewer(group: Channels, shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, torch.Tensor]) -> int | None:
    """How many channels tensors of these shapes keep; None where they are no slim form of the layer.

    shapes   {parameter: its shape in a file};  own   {parameter: tensor} of the architecture
    """
    if group.columns not in shapes or len(shapes[group.columns]) < 2:
        return None
    n = shapes[group.columns][1]
    fit = n < group.n and n % group.together == 0
    return n if fit and all(shapes.get(name) == group.shape(name, own[name].shape, n) for name in group.parameters) else None


def matched(group: Channels, tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: object, base: str) -> list[int]:
    """The channels that the tensors of a slim layer are, by the cosine of their weights with those of the base.

    Heads and groups of a norm are matched whole. Each must be nearest to another one of the base, at a cosine of LEAST or more, and by
    LEAD nearer than to the next.

    tensors, own   {parameter: tensor} of the slim layer and of the base
    Raises         ModelError when it cannot be told
    """
    names = [name for name in group.parameters if own[name].dim() > 1]
    there, here = (_directions(group, names, one) for one in (tensors, own))
    cosines = there @ here.T
    best = cosines.max(dim=1)
    second = cosines.scatter(1, best.indices[:, None], -math.inf).amax(dim=1)
    sure = (best.values >= LEAST) & (best.values - second >= LEAD)
    twice = best.indices.unique(return_counts=True)
    sure &= ~torch.isin(best.indices, twice[0][twice[1] > 1])
    if not sure.all():
        first = int((~sure).nonzero()[0])
        what = "channel" if group.together == 1 else f"group of {group.together} channels"
        raise ModelError(
            f'{path} has {len(there) * group.together} of the {group.n} channels of "{group.layer}", and does not say which. By their '
            f'weights it cannot be told: {what} {first} is nearest to {what} {int(best.indices[first])} of "{base}", at a cosine of '
            f"{best.values[first]:.2f} ({max(0.0, float(second[first])):.2f} to the next; {LEAST} and a lead of {LEAD} are needed). Put a "
            f'file {ENTRY}.json beside the weights: {{"{group.layer}": [indices of the channels that are kept]}}.'
        )
    return (best.indices[:, None] * group.together + torch.arange(group.together)).flatten().tolist()


def _directions(group: Channels, names: list[str], tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(channel or group of channels, weight), each brought to length 1."""
    weights = torch.cat([group.split(name, tensors[name].detach().cpu().float()).flatten(1) for name in names], dim=1)
    return torch.nn.functional.normalize(weights.unflatten(0, (-1, group.together)).flatten(1), dim=1)


def checked(said: Mapping[str, Any], groups: Mapping[str, Channels], counts: Mapping[str, int], path: object) -> dict[str, list[int]]:
    """{layer: indices that are kept} as a file says it, of the layers that are slim in it.

    counts   {layer: how many channels its tensors have}, of the slim layers
    Raises   ModelError when a layer is unknown, an index is no channel, stands twice or cuts through a head, or their number is another
    """
    result = {}
    for layer, index in said.items():
        if layer not in groups:
            raise ModelError(f'{path} says which channels of "{str(layer)[:80]}" are kept; the model has no such layer.')
        group, n = groups[layer], counts.get(layer, groups[layer].n)
        whole = isinstance(index, list) and all(type(one) is int and 0 <= one < group.n for one in index)
        if not whole or len(set(index)) != len(index):
            raise ModelError(f'{path}: the channels that are kept of "{layer}" must be different whole numbers from 0 to {group.n - 1}.')
        if len(index) != n:
            raise ModelError(f'{path} says that {len(index)} channels of "{layer}" are kept; its tensors have {n}.')
        starts = index[:: group.together]
        if any(start % group.together for start in starts) or index != [one + i for one in starts for i in range(group.together)]:
            raise ModelError(f'{path}: channels of "{layer}" are removed {group.together} at a time (a head, a group of its norm).')
        if layer in counts:
            result[layer] = index
    return result


def read(text: str, path: object) -> dict[str, Any]:
    """The mapping of a header's entry.

    Raises   ModelError when it is none
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f'{path}: "{ENTRY}" in its header is no mapping of layers to the channels that are kept. Get the file again.')
    return found


def words(groups: Mapping[str, Channels], missing: Mapping[str, int]) -> str:
    """How many channels are missing, {layer: number}, by kind: "96 of 384 feed-forward neurons in 4 layers"."""
    said = []
    for end, kind in KINDS.items():
        layers = [layer for layer in missing if layer.endswith(end)]
        if layers:
            of_all = sum(groups[layer].n for layer in layers)
            where = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
            said.append(f"{sum(missing[layer] for layer in layers)} of {of_all} {kind} in {where}")
    return ", ".join(said)
