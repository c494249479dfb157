"""Scores: which neurons carry the concept?

A score module has `Parameters`, `NEEDS`, `UNIT` and one function, which gives larger values to neurons that do more for the concept:

score(target, reference, erased=None, layer=None)   -> (neuron,)

target, reference   the base model on prompts with the concept and without it;  erased   the erased model on those with it
layer               (neuron,) names of layers
NEEDS says which of the three arrays it reads, and what else:
    norm, row_norm   they hold this quantity in place of mean |a| (see QUANTITIES of workbench/registry.py)
    calls            they are (prompt, call, neuron); else (prompt, neuron), the mean over the calls of the window
    weights          keyword `weights`: {layer: (output, neuron)} of the linear layers that read the neurons
UNIT says what the values count, such as "standard errors of the difference": reports, axes and pages take it from there. A score
whose unit depends on its Parameters also has unit(parameters).
A score whose Parameters have fields takes them as keyword `parameters`; NEUTRAL (0 when missing) is its value for a neuron that
tells nothing.
"""

from dataclasses import dataclass, field

import numpy as np

from workbench import registry


@dataclass(frozen=True)
class Evidence:
    """What scores may read of one quantity; arrays (prompt, call, neuron) with prompts and calls in one order."""

    target: np.ndarray
    reference: np.ndarray | None = None
    erased: np.ndarray | None = None
    layer: np.ndarray | None = None
    weights: dict = field(default_factory=dict)


def listed(choose):
    """{name: Method} of the scores a study computes on the base model: the choosing ones and those they are compared with."""
    known = {name: method for name, method in registry.methods("scores").items() if "erased" not in method.needs}
    return {name: method for name, method in known.items() if choose.compare is None or name in (*choose.choosing, *choose.compare)}


def norms(choose):
    """Names of the norms that recording must keep for the listed scores."""
    return sorted({method.quantity for method in listed(choose).values()} - {"mean_abs"})


def evaluate(method, evidence, prompts=slice(None), call=None, parameters=None):
    """A score on some prompts: over the whole window of calls, or at one call of it (its position).

    prompts   boolean (prompt,) or a slice;  parameters   what is set, {name: value}
    returns   (neuron,) float64
    """
    needs, given, arrays = method.needs, {}, {}
    for name in ("target", "reference", "erased"):
        if name in needs:
            values = getattr(evidence, name)[prompts].astype(float)
            values = values if call is None else values[:, call : call + 1]
            arrays[name] = values if "calls" in needs else values.mean(axis=1)
    if "weights" in needs:
        given["weights"] = evidence.weights
    if method.parameters.model_fields:
        given["parameters"] = method.parameters(**(parameters or {}))
    return method.call(arrays["target"], arrays.get("reference"), arrays.get("erased"), evidence.layer, **given)
