"""Published checkpoints of erased models -> tensors under the names of a base model.

read       a file or folder -> Checkpoint
check      refuse what does not fit, or changes nothing
FORMATS    the published ways of naming tensors, one file each: `names(model)` {name in the file: parameter}, `IGNORED`
           {beginning of a name: why it is left aside}

A file is told by the names of its tensors, looked up in tables made from the model's own names; nothing is guessed from its own name.
"""

from dataclasses import dataclass, field

import torch

from workbench.errors import ModelError
from workbench.models.formats import compvis, container, diffusers_unet, lora, text_encoder

FORMATS = {"diffusers": diffusers_unet, "CompVis": compvis, "text encoder": text_encoder}
WRAPPERS = ("state_dict", "model")
PARTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass
class Checkpoint:
    """What a file says about a base model.

    container    how it is packed;  formats   whose names it uses;  peeled   wrappers and prefixes that were taken off
    tensors      {parameter: tensor, in the file's dtype and the parameter's shape}
    shapes       [(parameter, shape in the file, shape in the model)] of what does not fit
    unexpected   names the model has no place for;  ignored   {why: how many}
    complete     parts of the model (unet, text_encoder ...) of which every tensor is in the file
    notes        sentences for the report
    """

    path: str
    container: str
    formats: list = field(default_factory=list)
    peeled: list = field(default_factory=list)
    tensors: dict = field(default_factory=dict)
    shapes: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    ignored: dict = field(default_factory=dict)
    complete: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def changed(self, model):
        """{parameter: tensor} of what differs from the model once the model is in the file's dtype.

        So rounding of a half precision file counts as no change, and those parameters keep the model's precision.
        """
        own = model.parameters()
        return {
            name: value for name, value in self.tensors.items() if not torch.equal(own[name].detach().cpu().to(value.dtype), value.cpu())
        }


def read(path, model):
    """Read a checkpoint for a model; nothing is refused here that was understood.

    Raises   ModelError when the file cannot be read without running code from it, or is of a kind that is no set of weights
    """
    content, kind = container.contents(path)
    found = Checkpoint(str(path), kind)
    flat = _flat(_unwrapped(content, found), found)
    own = model.parameters()
    tables = {name: fmt.names(model) for name, fmt in FORMATS.items()}
    table = {given: parameter for one in tables.values() for given, parameter in one.items()}
    flat = _without_prefix(flat, table, found)
    merged, used = lora.merged(flat, own, found)
    found.tensors |= merged
    for name, value in flat.items():
        if name in used:
            continue
        parameter, why = table.get(name), _ignored(name)
        if parameter is None and why:
            found.ignored[why] = found.ignored.get(why, 0) + 1
        elif parameter is None:
            found.unexpected.append(name)
        else:
            _place(found, parameter, value.detach(), own[parameter])
    found.formats += [name for name, one in tables.items() if any(given in one for given in flat)]
    _describe(found, own)
    return found


def check(found, model, allow_unexpected=False):
    """Refuse a checkpoint that is none of this model's.

    Raises   ModelError when no name fits, a shape does not, the file holds more than the model has, or changes nothing
    """
    if not found.tensors and not found.shapes:
        some = ", ".join(found.unexpected[:3]) or "no tensors at all"
        raise ModelError(
            f'{found.path} ({found.container}) has nothing for "{model.name}": of {len(found.unexpected)} names none fits, e.g. {some}. '
            "Is it a checkpoint of another kind of model?"
        )
    if found.shapes:
        name, there, here = found.shapes[0]
        raise ModelError(
            f'{found.path} is for another base than "{model.name}": {len(found.shapes)} of its {len(found.shapes) + len(found.tensors)} '
            f'tensors have another shape, e.g. "{name}" {there} in the file, {here} in the model.{_base_hint(found.shapes)}'
        )
    if found.unexpected and not allow_unexpected:
        raise ModelError(
            f'{found.path} has {len(found.unexpected)} tensors that "{model.name}" has no place for, e.g. "{found.unexpected[0]}"; '
            f"{len(found.tensors)} fit. Look with `workbench inspect`; set allow_unexpected = true to leave them out."
        )
    if not found.changed(model):
        ema = " Its EMA copy was not read; such files often hold the original model there." if "EMA copy" in found.ignored else ""
        raise ModelError(
            f'{found.path} equals "{model.name}" in all {len(found.tensors)} tensors: nothing was erased in it, or it is a copy of the '
            f"base (as converters that take the EMA weights make it).{ema}"
        )


def _unwrapped(content, found):
    """The mapping inside wrappers; {'unet': {...}, 'text_encoder': {...}} becomes one with these prefixes."""
    while True:
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapper is None:
            break
        outside = {key: value for key, value in content.items() if key != wrapper and key not in PARTS}
        found.peeled.append(wrapper)
        content = content[wrapper] | {key: value for key, value in outside.items() if torch.is_tensor(value)}
    parts = [part for part in PARTS if isinstance(content.get(part), dict)]
    found.peeled += parts
    rest = {key: value for key, value in content.items() if key not in parts}
    return rest | {f"{part}.{name}": value for part in parts for name, value in content[part].items()}


def _flat(content, found):
    others = [name for name, value in content.items() if not torch.is_tensor(value)]
    if others:
        found.ignored[f"no tensor ({', '.join(map(str, others[:4]))})"] = len(others)
    return {str(name): value for name, value in content.items() if torch.is_tensor(value)}


def _without_prefix(flat, table, found):
    if flat and all(name.startswith("module.") for name in flat) and not any(name in table for name in flat):
        found.peeled.append("module.")
        return {name.removeprefix("module."): value for name, value in flat.items()}
    return flat


def _ignored(name):
    for fmt in FORMATS.values():
        for start, why in fmt.IGNORED.items():
            if name.startswith(start):
                return why
    return None


def _place(found, parameter, value, own):
    if value.shape != own.shape and value.squeeze().shape == own.squeeze().shape and value.numel() == own.numel():
        value = value.reshape(own.shape)  # a 1 x 1 convolution is a linear layer
    if value.shape != own.shape:
        found.shapes.append((parameter, tuple(value.shape), tuple(own.shape)))
    elif parameter in found.tensors and not torch.equal(found.tensors[parameter], value):
        raise ModelError(f'{found.path} says "{parameter}" twice, with different values. It cannot be told which one is meant.')
    else:
        found.tensors[parameter] = value


def _describe(found, own):
    for part in PARTS:
        names = {name for name in own if name.startswith(part + ".")}
        if names and names <= set(found.tensors):
            found.complete.append(part)
    dtypes = {value.dtype for value in found.tensors.values()}
    wanted = {parameter.dtype for parameter in own.values()}
    if dtypes - wanted:
        listed = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        found.notes.append(f"The file is in {listed}; compared in that, cast to {str(next(iter(wanted))).removeprefix('torch.')}.")
    if "EMA copy" in found.ignored:
        found.notes.append(f"{found.ignored['EMA copy']} tensors of an EMA copy were left aside: after erasing it often is the original.")


def _base_hint(shapes):
    for name, there, here in shapes:
        if name.endswith("attn2.to_k.weight") and there[-1] != here[-1]:
            kinds = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
            kind = f", as in {kinds[there[-1]]}" if there[-1] in kinds else ""
            return f" Its text states are {there[-1]} wide{kind}; the model's {here[-1]}."
    return ""
