"""Wanda contrast: how much more weight times input passes through a neuron when the concept is in the prompt."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import MethodError
from workbench.methods.scores._weights import through_weights
from workbench.neurons.weights import importance

CITATIONS = ("sun2023wanda",)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    group: Literal["row", "layer", "global"] = Field(
        "row",
        description="weights are compared within: the row they write to, as in Wanda; their layer; or all layers, unscaled",
    )


NEEDS = ("target", "reference", "norm", "calls", "weights")
UNIT = "multiples of the row's mean Wanda score"


def unit(parameters):
    """The unit by the group whose mean divides; weights of all layers are compared unscaled."""
    if parameters.group == "global":
        return "Wanda score, weight times activation units"
    return f"multiples of the {parameters.group}'s mean Wanda score"


def weight_contrast(weight, target, reference, group="row"):
    """(S_target - S_reference) / mean S of the group, with S[r, i] = |W[r, i]| * ||X_i||_2; a group without input stays 0.

    Shapes   weight, returns    (output, neuron)
             target, reference  (neuron,) ||X_i|| over tokens, prompts and calls
    """
    wanted, other = importance(weight, target), importance(weight, reference)
    both = (wanted + other) / 2
    scale = {"row": both.mean(axis=1, keepdims=True), "layer": both.mean(), "global": 1.0}[group]
    scale = np.broadcast_to(scale, both.shape)
    return np.divide(wanted - other, scale, out=np.zeros_like(both), where=scale > 0)


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `weight_contrast` over the rows it writes to.

    Shapes   target, reference  (prompt, call, neuron) L2 norms over tokens, as many prompts in both
             returns            (neuron,) mean Wanda scores of the group; 0 = no difference, NaN where no linear layer reads it
    Raises   MethodError when one set has more prompts: its norms would be larger for that alone
    Source   arXiv 2306.11695 for S; contrast and column mean are ours
    """
    if len(target) != len(reference):
        raise MethodError(
            f"wanda_contrast sums over prompts, so both sets need as many; found {len(target)} and {len(reference)}. Pair them by unit."
        )
    wanted, other = (np.sqrt(np.square(norms).sum(axis=(0, 1))) for norms in (target, reference))

    def column(weight, mine):
        return weight_contrast(weight, wanted[mine], other[mine], parameters.group).mean(axis=0)

    return through_weights(layer, weights, column)
