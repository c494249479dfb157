"""Conductance of every neuron over the text embedding: how much of what the text changes in a target flows through each neuron.

Definitions: docs/reference/definitions.md#conductance.

conductance   per neuron, averaged over calls and units, with intervals; an Attribution like those of analysis/attribution.py
by_neuron, module_of   where a layer is read

The text state moves on a straight line from that of the prompt the target compares with to that of the prompt. Captum's
LayerConductance goes that line once for every layer; here all layers share the passes, by the trapezoid rule, and a test holds the
two equal.
"""

import numpy as np
import pandas
import torch

from workbench.analysis.attribution import Attribution, ByUnit
from workbench.diffusion.targets import predict
from workbench.errors import MethodError
from workbench.models import text

N_STEPS = 16


def conductance(model, layers, items, target, empty, *, n_steps=N_STEPS, watch=(), batch=8):
    """Attribute a target to neurons along the line of text states.

    conductance of neuron i = sum over image tokens k of the integral of dJ/da_ik da_ik along  e(s) = start + s (prompt - start)

    start = the prompt the target compares with: of T2 the reference, of T1 and T3 the empty one, so that the target is 0 there and its
    whole value is followed; of T4, which compares with none, the empty one

    items     `Items`: prompts at calls, on the latents of the shared regime;  layers   of the site ff, or another that is what a
              module takes or gives
    empty     (1, token, channel) text state of the empty prompt, by the same model, for a target that compares with no prompt
    watch     neurons, through all layers in their order, whose scores per unit are kept;  batch   prompts at once
    returns   Attribution: scores by neuron; of its items `off` is the target at the start, `explained` the same integral over
              the text state itself, which must add up to value - off (delta = 0 up to the step), as nothing goes round the text.
              The neurons' own sums must not: layers feed each other, so a path through two of them counts in both, and one
              that passes a layer by in the residual stream counts in none. Compare neurons, or sets, within their layers.
    Raises    MethodError for a layer of another kind, or fewer than 1 step
    Source    Dhamdhere, Sundararajan and Yan 2019 (arXiv 1805.12233)
    """
    if n_steps < 1:
        raise MethodError(f"Conductance over {n_steps} steps was asked for; at least 1 is needed, {N_STEPS} is the default.")
    modules = [module_of(model, layer) for layer in layers]
    kept, rows = None, []
    order = np.argsort(np.asarray(items.units), kind="stable")
    for prompts in np.array_split(order, -(-len(order) // batch)):
        total = 0.0
        for part in items.batches(prompts):
            found, sums = _along(model, layers, modules, part, target.at(model, part), empty, n_steps)
            total = total + found / len(items.trajectory.calls)
            units = [items.units[int(prompt)] for prompt in part.prompt]
            rows.append(pandas.DataFrame({"prompt": part.prompt.numpy(), "unit": units, "call": part.call, **sums}))
        kept = kept or ByUnit(1, total.shape[1], watch)
        for position, prompt in enumerate(prompts):
            kept.add(items.units[prompt], total[position][None].numpy())
    scores, watched = kept.result()
    return Attribution(
        "conductance",
        target.name,
        {"n_steps": n_steps},
        scores,
        pandas.concat(rows, ignore_index=True),
        watched,
        True,
        list(items.trajectory.calls),
        len(items),
        kept.n,
        {"forward": n_steps + 1.0, "backward": n_steps + 1.0, "setup": target.setup},
    )


def _along(model, layers, modules, part, bound, empty, n_steps):
    """((row, neuron) float64, {value, off, explained, delta} (row,)) of one batch."""
    end = part.states.to(model.device, model.dtype)
    start = text.along(model, (empty if bound.other is None else bound.other).to(end).expand_as(end), end)
    before, found, text_slope, values = None, 0.0, 0.0, []
    for step in range(n_steps + 1):
        share, half = step / n_steps, 0.5 if step in (0, n_steps) else 1.0
        states = (start + share * (end - start)).requires_grad_()
        seen = _Seen(layers, modules)
        with seen:
            value = bound.value(predict(model, part, states))
        slopes = torch.autograd.grad(value.sum(), [states, *seen.activations], allow_unused=True, materialize_grads=True)
        text_slope = text_slope + half / n_steps * slopes[0].double()
        values.append(value.detach().double().cpu())
        pairs = zip(layers, seen.activations, slopes[1:], strict=True)
        now = [(by_neuron(layer, activation.detach()), by_neuron(layer, slope)) for layer, activation, slope in pairs]
        if before is not None:
            found = found + torch.cat(
                [((g + h) / 2 * (a - b)).double().sum(dim=1) for (a, g), (b, h) in zip(now, before, strict=True)], dim=1
            )
        before = now
    explained = (text_slope * (end - start).double()).flatten(1).sum(dim=1).cpu()
    sums = {"value": values[-1], "off": values[0], "explained": explained, "delta": explained - (values[-1] - values[0])}
    return found.cpu(), {name: one.numpy() for name, one in sums.items()}


class _Seen:
    """Context manager: what the layers' modules take or give in one pass, with its graph; hooks go away after any exception."""

    def __init__(self, layers, modules):
        self.layers, self.modules, self.handles = layers, modules, []
        self.activations = [None] * len(layers)

    def __enter__(self):
        for place, (layer, module) in enumerate(zip(self.layers, self.modules, strict=True)):
            if layer.site.reads == "input":
                self.handles.append(module.register_forward_pre_hook(self._taking(place)))
            else:
                self.handles.append(module.register_forward_hook(self._giving(place)))
        return self

    def __exit__(self, *exception):
        for handle in self.handles:
            handle.remove()

    def _taking(self, place):
        def hook(module, args):
            self.activations[place] = args[0]

        return hook

    def _giving(self, place):
        def hook(module, args, output):
            self.activations[place] = output

        return hook


def by_neuron(layer, activation):
    """(row, token, neuron) of what the layer's module takes or gives."""
    return activation if layer.site.neuron_axis == -1 else activation.flatten(2).transpose(1, 2)


def module_of(model, layer):
    """The module of a layer that a gradient is read at; MethodError for a layer that is neither what it takes nor what it gives."""
    if layer.site.reads not in ("input", "output"):
        raise MethodError(
            f'Gradients are read at what a module takes or gives; "{layer.path}" (site {layer.site.name}) is neither. '
            "Use a layer of the site ff."
        )
    return dict(model.unet.named_modules())[layer.path]
