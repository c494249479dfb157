"""FIA: weights whose input exceeds the reference by more than its spread, on average and again and again."""

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import MethodError
from workbench.methods.scores._weights import importance, through_weights


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    often: float = Field(0.05, gt=0, lt=1, description="r1: top share of a layer's weights that counts as a hit at a call")


NEEDS = ("target", "reference", "norm", "calls", "weights")


def weight_importance(weight, target, reference, often=0.05):
    """A = mean_t S / (2 max mean_t S) + mean_t 1[S > tau_t] / 2, tau_t such that the top `often` of the layer's S lie above it

    S_t[r, i] = |W[r, i]| * max(0, mean_target ||X_i|| - mean_reference ||X_i|| - sd_reference ||X_i||), over prompts

    This is the form of the authors' code. The paper has a cosine of input and output in S and no division by the maximum.

    Shapes   target, reference  (prompt, call, neuron) L2 norms over tokens
             returns            (output, neuron) in [0, 1]
    """
    excess = np.maximum(0, target.mean(axis=0) - reference.mean(axis=0) - reference.std(axis=0, ddof=1))
    mean, hits = importance(weight, excess.mean(axis=0)), np.zeros(weight.shape)
    n = min(max(1, round(often * weight.size)), weight.size - 1)
    for one in excess:
        size = importance(weight, one)
        hits += size > np.partition(size, -n - 1, axis=None)[-n - 1]
    return mean / (2 * mean.max() or 1) + hits / (2 * len(excess))


def weight_mask(important, share):
    """Q of one concept: in the top `share` of its row and of its layer, and above 0; (output, neuron) bool.

    share   r2; the authors' 0.007 to 0.03
    """
    rows, all_of_it = (max(1, round(share * n)) for n in (important.shape[1], important.size))
    in_row = np.partition(important, -rows, axis=1)[:, -rows, None]
    in_layer = np.partition(important, -all_of_it, axis=None)[-all_of_it]
    return (important >= in_row) & (important >= in_layer) & (important > 0)


def fused(masks, alpha=0.6):
    """What to prune for several concepts at once: weights of some concepts, those of at least ceil(alpha C) kept as agnostic.

    One concept (C = 1) is a case apart: its own mask. By the general rule every weight it names would count as agnostic, and
    nothing be pruned, as happens in the authors' script.

    masks    list of Q, (output, neuron) bool
    Raises   MethodError when nothing is left to prune
    """
    named, least = sum(mask.astype(int) for mask in masks), math.ceil(alpha * len(masks) - 1e-9)
    if len(masks) > 1 and least <= 1:
        raise MethodError(
            f"With alpha {alpha} and {len(masks)} concepts a weight of one concept already counts as agnostic, so nothing would be "
            f"pruned. Set alpha above {1 / len(masks):.2f}, or fuse fewer concepts."
        )
    pruned = named > 0 if len(masks) == 1 else (named > 0) & (named < least)
    if not pruned.any():
        raise MethodError(
            f"The fused mask of {len(masks)} concepts is empty: every weight they name is named by at least {least} of them, or none is "
            "named. Raise alpha or the share of weights."
        )
    return pruned


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `weight_importance` over the rows it writes to.

    Shapes   target, reference  (prompt, call, neuron) L2 norms over tokens
             returns            (neuron,) in [0, 1]; NaN where no linear layer reads it
    Source   arXiv 2601.06163, public code (SCIENCE 2.4); the column mean is ours
    """

    def column(weight, mine):
        return weight_importance(weight, target[..., mine], reference[..., mine], parameters.often).mean(axis=0)

    return through_weights(layer, weights, column)
