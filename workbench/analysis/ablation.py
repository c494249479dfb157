"""Ablations: what is done to a set of neurons while the model runs, as data.

Definitions: docs/reference/definitions.md#ablation.

Ablation   neurons, kind, calls, branch; combinations that mean nothing are refused when it is made
gating     several of them as the gate rows of one batch, for `Taps`
check      that they do something, and pair with the prompts they are used on
derangement   for `resampled`: from which prompt each prompt takes its values

    a' = a f + (1 - f) v        f the factor, v by kind; zero is off-manifold where the mean is not zero

Results come from one_step.py (a scalar of the predicted noise) and ablation_images.py (a detector on the images); what is
concluded from them from ablation_effects.py.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from workbench.errors import MethodError, RecordingMismatch, nearest
from workbench.neurons import sites
from workbench.neurons.columns import Columns, Held
from workbench.neurons.taps import Limit

Kind = Literal["zero", "scaled", "mean", "resampled", "held"]
Branch = Literal["cond", "uncond", "both"]


@dataclass(frozen=True)
class Ablation:
    """A change of a set of neurons.

    neurons   {layer path: (chosen,) indices}
    kind      zero       v = 0, f = 0
              scaled     v = 0
              mean       v = the source's mean over prompts and tokens at the same call, e.g. of the reference prompts
              resampled  v = another prompt of the source, token by token; `draw` says which
              held       v = the same prompt of the source, token by token: cross-patching from another condition
    factor    f, what is left of the own activation
    source    Columns of the condition that gives v
    draw      (prompt,) long, the source prompt of each prompt
    calls     calls in which it works; None = all
    branch    the half it works on
    """

    neurons: dict
    kind: Kind = "zero"
    factor: float = 0.0
    source: Columns | None = None
    draw: torch.Tensor | None = None
    calls: frozenset | None = None
    branch: Branch = "cond"
    name: str = ""

    def __post_init__(self):
        for value, possible, what in ((self.kind, Kind, "kind of ablation"), (self.branch, Branch, "branch")):
            if value not in get_args(possible):
                raise MethodError(f'No {what} is called "{value}".{nearest(value, get_args(possible))}')
        if self.kind == "zero" and self.factor != 0:
            raise MethodError(f'A zero ablation leaves nothing, but a factor of {self.factor} was given. Take the kind "scaled".')
        if (self.source is not None) != (self.kind in ("mean", "resampled", "held")):
            wants = "needs a source, the recorded Columns of a condition" if self.source is None else "takes no source"
            raise MethodError(f'The ablation "{self.kind}" {wants}.')
        if (self.draw is not None) != (self.kind == "resampled"):
            raise MethodError(f'"resampled" needs a draw and no other kind takes one; this is "{self.kind}". See derangement().')
        if self.calls is not None and not self.calls:
            raise MethodError("The window of calls is empty, so the ablation would do nothing. Give calls, or None for all.")

    @property
    def layers(self):
        """Paths of the layers in which it changes neurons."""
        return [path for path, chosen in self.neurons.items() if len(chosen)]

    @property
    def limit(self):
        """Where it works, as `Taps` wants it."""
        return Limit(None if self.calls is None else frozenset(self.calls), None if self.branch == "both" else self.branch)


@dataclass
class Gating:
    """Gate rows of several ablations; row 0 leaves everything as it is, row k + 1 is ablation k. Arguments of `Taps`."""

    layers: list
    gates: dict = field(default_factory=dict)
    limits: list = field(default_factory=list)
    held: dict = field(default_factory=dict)


def gating(unet, ablations):
    """Gating of a list of ablations.

    Raises   MethodError for a set without neurons, a layer the UNet does not have, or a neuron the layer does not have
    """
    layers = layers_of(unet, {path for one in ablations for path in one.layers})
    size = {layer.path: layer.n_neurons for layer in layers}
    made = Gating(layers, {path: torch.ones(len(ablations) + 1, n) for path, n in size.items()}, [Limit(frozenset())])
    for row, one in enumerate(ablations, start=1):
        if not one.layers:
            raise MethodError(f'The ablation "{one.name or one.kind}" names no neurons.')
        made.limits.append(one.limit)
        for path in one.layers:
            chosen = torch.as_tensor(np.asarray(one.neurons[path]), dtype=torch.long)
            if int(chosen.min()) < 0 or int(chosen.max()) >= size[path]:
                raise MethodError(f'Layer "{path}" has neurons 0 to {size[path] - 1}; {int(chosen.max())} was named.')
            made.gates[path][row, chosen] = one.factor
            if one.source is not None:
                made.held.setdefault(path, {})[row] = Held(one.source, path, chosen, one.draw, one.kind == "mean")
    return made


def check(ablations, units, guidance):
    """Refuse ablations that would do nothing or mix up prompts on a prompt set with these units (prompt,).

    Raises   MethodError for the uncond half without guidance; RecordingMismatch for values held from other prompts
    """
    for one in ablations:
        if one.branch == "uncond" and guidance == 1:
            raise MethodError("An ablation of the uncond branch does nothing at guidance 1, which runs the cond branch alone.")
        if one.kind == "held" and one.source.units is not None and one.source.units != list(units):
            raise RecordingMismatch(
                f"Neurons are to be held at values of {len(one.source.units)} other prompts ({one.source.units[0]}, ...), but these are "
                f"{len(units)} ({list(units)[0]}, ...). Record the source on the same units in the same order, and run that set alone."
            )


def layers_of(unet, paths):
    """The layers with these paths, in order of module name.

    Raises   MethodError for a path that is no layer of any site
    """
    found = {}
    for name, site in sites.SITES.items():
        if site.part == "unet" and any(re.search(site.pattern, path) for path in paths):
            found |= {layer.path: layer for layer in sites.layers(unet, [name]) if layer.path in paths}
    for path in sorted(set(paths) - found.keys()):
        raise MethodError(f'The UNet has no layer "{path}" where neurons are recorded.{nearest(path, dict(unet.named_modules()))}')
    return list(found.values())


def derangement(n, seed):
    """(prompt,) long: for each of n prompts another one, every prompt once.

    Raises   MethodError for fewer than 2 prompts
    """
    if n < 2:
        raise MethodError(f"{n} prompt cannot take another prompt's values; at least 2 are needed.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    draw = torch.empty(n, dtype=torch.long)
    draw[order] = order.roll(1)
    return draw
