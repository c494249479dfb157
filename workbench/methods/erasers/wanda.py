"""Wanda: prune by the size of a weight times that of its input."""

from typing import Literal

from pydantic import Field

from workbench.methods.erasers._inputs import Sampled
from workbench.methods.erasers._layers import Share

CITATIONS = ("sun2023wanda",)
MASK = True
NO_PRESET = "it was published for language models (the smallest weights of each row, half of them); nothing was published for erasing."
VERSION = 2  # 1 rounded the number of weights


class Parameters(Share, Sampled):
    """What can be set."""

    take: Literal["smallest", "largest"] = Field(
        "largest",
        description="largest: the weights the concept prompts use most; smallest: those they use least, as published, to save memory",
    )
    group: Literal["row", "layer", "global"] = Field(
        "row", description="weights that compete with each other for this share; published: row"
    )


def learns_from(parameters):
    """Sides of the pairs it learns from."""
    return ("prompt",)


def erase(model, pairs, parameters, *, like=None, spare=None, **context):
    """Mask weights by S[r, i] = |W[r, i]| ||X_i||_2 over the tokens, calls and prompts with the concept; int(share n) of n weights.

    like       a mask: cut as many weights of each of its layers
    spare      {layer path: indices} of neurons whose weights are never cut
    returns    {"unet.<name>": bool tensor, True = pruned}
    Raises     MethodError when there are no pairs
    Source     arXiv 2306.11695, count and order as in its public code. Erasing by the largest is ours, in the spirit of 2406.18566
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._inputs import norm, sizes
    from workbench.methods.erasers._layers import candidates, cut, watched
    from workbench.neurons.weights import importance

    if not pairs:
        raise MethodError("Wanda needs prompts with the concept; the study gives none.")
    weights = candidates(model.unet, parameters.layers)
    seen = sizes(model, [pair[0] for pair in pairs], parameters, list(weights), norm)
    sign = -1 if parameters.take == "largest" else 1
    scores = {}
    for name, one in seen.items():
        size = one.square().sum(dim=(0, 1)).sqrt().numpy()
        scores[name] = sign * torch.from_numpy(importance(weights[name].float().cpu().numpy(), size))
    return cut(scores, parameters.share, parameters.group, weights, like, watched(weights, spare), whole=int)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of measuring, for the estimate."""
    from workbench.methods.erasers._inputs import sampling_passes

    return sampling_passes(parameters, n_pairs)
