"""Variants: base + one change, applied as a context manager and restored bit for bit.

A variant holds replaced weights (erasers) and masks (pruning) by parameter name ("unet.<name>", "text_encoder.<name>",
"text_encoder_2.<name>"), and changes that are no weights (`models/changes`).
A chain of variants, parent first, is merged before it is applied: later weights replace earlier ones, masks and other changes add up.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import torch

from workbench.errors import ModelError
from workbench.models import changes as no_weights
from workbench.models import channels
from workbench.storage import digest, tensors_digest


@dataclass
class Variant:
    """name, parent (None = base), weights {parameter: tensor}, masks {parameter: bool tensor, True = pruned}.

    lifts_masks   its weights hold as they are, also where a parent pruned
    changes       tuple of Change: what is no weights
    """

    name: str
    parent: str | None = None
    weights: dict = field(default_factory=dict)
    masks: dict = field(default_factory=dict)
    lifts_masks: bool = False
    changes: tuple = ()

    def over(self, parent):
        """This change on top of a parent's: the merged variant.

        A mask prunes what it finds; weights given later start from the parent's pruned ones, so both are kept,
        unless they lift the masks.
        """
        masks = {name: mask for name, mask in parent.masks.items() if not (self.lifts_masks and name in self.weights)}
        for name, mask in self.masks.items():
            masks[name] = masks[name] | mask if name in masks else mask
        return Variant(self.name, parent.parent, {**parent.weights, **self.weights}, masks, changes=(*parent.changes, *self.changes))


def tensors(model, variant):
    """{parameter: the tensor it gets} for everything the variant changes, in the model's dtype and device.

    Raises   ModelError when a name or shape does not fit the model
    """
    parameters = model.parameters()
    result = {}
    for name in sorted({*variant.weights, *variant.masks}):
        if name not in parameters:
            raise ModelError(f'The variant "{variant.name}" changes "{name}", which "{model.name}" does not have.')
        own = parameters[name]
        value = variant.weights.get(name, own.detach())
        if value.shape != own.shape:
            raise ModelError(
                f'The variant "{variant.name}" gives "{name}" the shape {tuple(value.shape)}; "{model.name}" has {tuple(own.shape)}.'
            )
        value = value.to(own.device, own.dtype)
        if name in variant.masks:
            value = value.masked_fill(variant.masks[name].to(own.device), 0)
        result[name] = value
    return result


@contextmanager
def applied(model, variant):
    """While open, the model computes with the variant's weights; afterwards its own tensors are back, untouched.

    Only the storage behind each parameter is exchanged, so that entering and leaving cost nothing and are exact.
    """
    with ExitStack() as stack:
        stack.enter_context(_exchanged(model.parameters(), tensors(model, variant) if variant else {}))
        for change in variant.changes if variant else ():
            stack.enter_context(no_weights.installed(model, change))
        yield model


@contextmanager
def base_again(model, own):
    """While open, inside a variant, the model computes as the base model; own {parameter: the base model's tensor}."""
    before = model.as_base
    model.as_base = True
    try:
        with _exchanged(model.parameters(), own):
            yield model
    finally:
        model.as_base = before


@contextmanager
def _exchanged(parameters, data):
    """While open, these parameters {name: parameter} hold these tensors {name: tensor}."""
    now = {name: parameters[name].data for name in data}
    try:
        for name, value in data.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in now.items():
            parameters[name].data = value


class SideBySide:
    """Context manager: each row of a batch is computed with the weights of its own variant.

    Only what differs is computed apart, so one batch with three variants takes less than three batches.
    variants   merged variants, None = the base model; each must be `plain`
    owner      (row,) which of `variants` each row of the next UNet calls has; a batch of a multiple of that many rows repeats it
    Raises     ModelError for a variant that is not plain
    """

    def __init__(self, model, variants):
        for variant in variants:
            if not plain(variant):
                raise ModelError(f'The variant "{variant.name}" changes more than weights of the UNet, so it needs a batch of its own.')
        self.owner = torch.zeros(1, dtype=torch.long)
        changed = [tensors(model, variant) if variant else {} for variant in variants]
        modules, parameters = dict(model.unet.named_modules()), model.parameters()
        data = {}
        for name in sorted({name for one in changed for name in one}):
            path, _, own = name.removeprefix("unet.").rpartition(".")
            for place, one in enumerate(changed):
                data.setdefault(path, {}).setdefault(place, {})[own] = one.get(name, parameters[name].data)
        self.parts = [(modules[path], *_alike(of_places)) for path, of_places in data.items()]
        self.before = []

    def __enter__(self):
        for module, of, groups in self.parts:
            self.before.append((module, module.__dict__.get("forward")))  # a module may have one of its own already
            module.forward = self._forward(module, module.forward, of, groups)
        return self

    def __exit__(self, *exception):
        while self.before:
            module, own = self.before.pop()
            del module.forward
            if own is not None:
                module.forward = own

    def _forward(self, module, forward, of, groups):
        def computed(rows, *args, **kwargs):
            if len(rows) % len(self.owner):
                raise ModelError(f"{len(rows)} rows cannot be shared out as {len(self.owner)} are.")
            of_rows, start, found = [of[place] for place in self.owner.tolist()] * (len(rows) // len(self.owner)), 0, []
            for group, run in groupby(of_rows):  # neighbours with the same weights in one piece
                end = start + len(list(run))
                with _exchanged(dict(module.named_parameters(recurse=False)), groups[group]):
                    found.append(forward(rows[start:end], *args, **kwargs))
                start = end
            return found[0] if len(found) == 1 else torch.cat(found)

        return computed


def plain(variant):
    """Whether a merged variant (None = base) changes weights of the UNet and nothing else."""
    return variant is None or (not variant.changes and all(name.startswith("unet.") for name in {*variant.weights, *variant.masks}))


def _alike(groups):
    """({place: which of the data}, [data {parameter: tensor}]) of {place: {parameter: tensor}}; equal tensors are kept once."""
    of, kept = {}, []
    for place, data in groups.items():
        for number, other in enumerate(kept):
            if all(torch.equal(data[name], other[name]) for name in data):
                of[place] = number
                break
        else:
            of[place] = len(kept)
            kept.append(data)
    return of, kept


def describe(model, variant, n_largest=8):
    """What a merged variant changed, for the report.

    returns   digest, parameters_changed (tensors), share_changed (of all weights of UNet and text encoders),
              others (what is no weights, and how many channels were removed, in words), pruned (weights masked),
              largest_changes [{module, relative_change = |dW| / |W|}]
    """
    parameters = model.parameters()
    changed = tensors(model, variant) if variant else {}
    rows, n_changed = [], 0
    for name, value in changed.items():
        own = parameters[name].detach()
        difference = (value - own).float()
        n_changed += int(torch.count_nonzero(difference))
        scale = own.float().norm().item()
        rows.append({"module": name, "relative_change": difference.norm().item() / scale if scale else None})
    rows.sort(key=lambda row: -(row["relative_change"] or 0))
    others = variant.changes if variant else ()
    with applied(model, variant):
        made = tensors_digest(model.parameters())
    return {
        "digest": digest([made, *(change.digest for change in others)]) if others else made,
        "others": [*_missing(model, changed), *(change.words for change in others)],
        "parameters_changed": len(changed),
        "share_changed": n_changed / sum(p.numel() for p in parameters.values()),
        "pruned": int(sum(mask.sum() for mask in variant.masks.values())) if variant else 0,
        "largest_changes": rows[:n_largest],
    }


def _missing(model, changed):
    """[words] on the channels that the changed tensors have removed; none where no channel is."""
    groups = channels.of(model.unet) if changed else {}
    touched = {layer: group for layer, group in groups.items() if any(name in changed for name in group.parameters)}
    gone = channels.removed(touched, model.parameters() | changed)
    return [f"without {channels.words(groups, {layer: len(index) for layer, index in gone.items()})}"] if gone else []
